/* The lab's stateful server: one record per TCP session, in the VM's migration region and nowhere
 * else, so that the destination has them all once the region is patched. Also a UDP echo. A VM with a
 * second region has what belongs to no session in it: totals, the longest message, who began.
 * Relies on vm_agent/region for the slots and for knowing whether it runs on a clone. */
#include "lab/guest/recordd.h"

#include "vm_agent/region/godwit_region.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_MAX = 64, SESSIONS_MAX = 4096, OUT_BYTES = 1 << 14, ROLE_POLL_MS = 50 };
#define REGION_PATH "/dev/dax0.0"
#define SECOND_PATH "/dev/dax1.0"

static const struct godwit_class_spec classes[] = {
    {"sessions", GODWIT_SOURCE_WINS, GODWIT_ALLOCATED, sizeof(struct recordd_record), 16384},
};

enum { TOTALS, LONGEST, BEGUN, SECOND_CLASSES };
static const struct godwit_class_spec second_classes[SECOND_CLASSES] = {
    {"totals", GODWIT_ADD_DELTA, GODWIT_FIXED, 64, 1}, /* messages, bytes */
    {"longest", GODWIT_MAX, GODWIT_FIXED, 64, 1},
    {"begun", GODWIT_APPEND, GODWIT_LOG, sizeof(uint64_t), 4096}, /* session ids */
};

struct session {
    int fd;
    int64_t slot; /* -1 before its hello */
    size_t in_length, out_start, out_end;
    uint8_t in[RECORDD_HEADER_BYTES + RECORDD_PAYLOAD_MAX];
    uint8_t out[OUT_BYTES];
    /* A query is answered as the socket takes it: the next slot to look at, or -1. */
    int64_t query_next;
    uint64_t query_count;
};

struct server {
    struct godwit_region region, second; /* the second has no page if the VM has none */
    int poll, tcp, udp;
    enum godwit_role role;
    uint64_t epoch;
    struct session *sessions[SESSIONS_MAX]; /* by file descriptor */
};

static void die(const char *what)
{
    fprintf(stderr, "recordd: %s: %s\n", what, strerror(errno));
    exit(1);
}

static struct recordd_record *record_of(struct server *server, const struct session *session)
{
    if (session->slot < 0 || !godwit_slot_is_mine(&server->region, 0, (uint64_t)session->slot))
        return NULL;
    return godwit_slot_payload(&server->region, 0, (uint64_t)session->slot);
}

/* Forgets the session. Its record stays, as closed, unless it is the other side's to close. */
static void session_end(struct server *server, struct session *session)
{
    struct recordd_record *record = record_of(server, session);
    if (record)
        record->state = RECORDD_CLOSED;
    server->sessions[session->fd] = NULL;
    close(session->fd);
    free(session);
}

/* In repair mode a socket is closed without a word to its peer: no FIN that the switch would drop
 * and the kernel would send again for minutes. */
static void drop_copy(struct server *server, struct session *session)
{
    int on = TCP_REPAIR_ON;
    setsockopt(session->fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on));
    session_end(server, session);
}

/* A clone holds copies of the source's sockets. They are dropped here without touching a record;
 * whatever the kernel sends for them never leaves the switch. */
static void follow_role(struct server *server)
{
    uint64_t epoch = godwit_region_epoch(&server->region);
    enum godwit_role role = godwit_region_role(&server->region);
    if (role == server->role && epoch == server->epoch)
        return;
    if (role == GODWIT_CLONE)
        for (int fd = 0; fd < SESSIONS_MAX; ++fd)
            if (server->sessions[fd])
                drop_copy(server, server->sessions[fd]);
    server->role = role;
    server->epoch = epoch;
}

static int has_room(const struct session *session, size_t payload)
{
    return OUT_BYTES - session->out_end >= RECORDD_HEADER_BYTES + payload;
}

static void reply(struct session *session, char type, const void *payload, size_t length)
{
    uint8_t *at = session->out + session->out_end;
    at[0] = (uint8_t)type;
    at[1] = 0;
    at[2] = (uint8_t)(length >> 8);
    at[3] = (uint8_t)length;
    memcpy(at + RECORDD_HEADER_BYTES, payload, length);
    session->out_end += RECORDD_HEADER_BYTES + length;
}

static struct recordd_identity identity(const struct server *server, int64_t slot)
{
    struct recordd_identity self = {server->role, server->epoch, (uint64_t)slot};
    return self;
}

static int begin_record(struct server *server, struct session *session, const uint8_t *payload)
{
    uint64_t id;
    memcpy(&id, payload, sizeof(id));
    if (session->slot >= 0)
        return 0;
    session->slot = godwit_slot_allocate(&server->region, 0, id);
    struct recordd_record *record = record_of(server, session);
    if (!record)
        return 0;
    if (server->second.page)
        godwit_log_append(&server->second, BEGUN, &id, sizeof(id));
    record->session = id;
    record->state = RECORDD_OPEN;
    record->checksum = RECORDD_CHECKSUM_START;
    record->role = server->role;
    record->epoch = server->epoch;
    return 1;
}

static int add_to_record(struct server *server, struct session *session, const uint8_t *payload,
                         size_t length)
{
    struct recordd_record *record = record_of(server, session);
    if (!record)
        return 0;
    if (server->second.page) {
        uint64_t *totals = godwit_slot_payload(&server->second, TOTALS, 0);
        godwit_word_add(&totals[0], 1);
        godwit_word_add(&totals[1], length);
        godwit_word_raise(godwit_slot_payload(&server->second, LONGEST, 0), length);
    }
    record->bytes += length;
    record->messages += 1;
    record->checksum = recordd_checksum(record->checksum, payload, length);
    return 1;
}

/* As many records as there is room for; the rest when the socket has taken these. */
static void continue_query(struct server *server, struct session *session)
{
    int64_t end = (int64_t)godwit_slot_count(&server->region, 0);
    while (session->query_next < end && has_room(session, sizeof(struct recordd_record))) {
        uint64_t slot = (uint64_t)session->query_next++;
        if (!godwit_slot_in_use(&server->region, 0, slot))
            continue;
        reply(session, 'R', godwit_slot_payload(&server->region, 0, slot), sizeof(struct recordd_record));
        session->query_count++;
    }
    if (session->query_next == end && has_room(session, sizeof(session->query_count))) {
        reply(session, 'E', &session->query_count, sizeof(session->query_count));
        session->query_next = -1;
    }
}

/* 0 ends the session: the client does not speak the protocol, or its record is not ours. */
static int answer(struct server *server, struct session *session, char type, const uint8_t *payload,
                  size_t length)
{
    struct recordd_identity self;
    switch (type) {
    case 'H':
        if (length != sizeof(uint64_t) || !begin_record(server, session, payload))
            return 0;
        break;
    case 'I':
        break;
    case 'D':
        if (!add_to_record(server, session, payload, length))
            return 0;
        reply(session, 'D', payload, length);
        return 1;
    case 'Q':
        session->query_next = 0;
        session->query_count = 0;
        continue_query(server, session);
        return 1;
    default:
        return 0;
    }
    self = identity(server, session->slot);
    reply(session, 'W', &self, sizeof(self));
    return 1;
}

/* Answers the whole frames in the input, as long as their answers fit. */
static int answer_frames(struct server *server, struct session *session)
{
    size_t at = 0;
    while (session->query_next < 0 && session->in_length - at >= RECORDD_HEADER_BYTES) {
        const uint8_t *frame = session->in + at;
        size_t length = (size_t)frame[2] << 8 | frame[3];
        if (length > RECORDD_PAYLOAD_MAX)
            return 0;
        if (session->in_length - at < RECORDD_HEADER_BYTES + length ||
            !has_room(session, RECORDD_PAYLOAD_MAX))
            break;
        if (!answer(server, session, (char)frame[0], frame + RECORDD_HEADER_BYTES, length))
            return 0;
        at += RECORDD_HEADER_BYTES + length;
    }
    memmove(session->in, session->in + at, session->in_length - at);
    session->in_length -= at;
    return 1;
}

static int flush(struct session *session)
{
    while (session->out_start < session->out_end) {
        ssize_t sent = send(session->fd, session->out + session->out_start,
                            session->out_end - session->out_start, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN;
        session->out_start += (size_t)sent;
    }
    session->out_start = session->out_end = 0;
    return 1;
}

static void watch(struct server *server, int fd, uint32_t events, int operation)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(server->poll, operation, fd, &event) != 0)
        die("epoll_ctl");
}

/* Reads only while there is room to answer; 0 when the session has ended. */
static int serve(struct server *server, struct session *session)
{
    for (;;) {
        if (!flush(session))
            return 0;
        if (session->out_end != 0)
            break;
        if (session->query_next >= 0)
            continue_query(server, session);
        else if (!answer_frames(server, session))
            return 0;
        if (session->out_end != 0)
            continue;
        ssize_t got =
            recv(session->fd, session->in + session->in_length, sizeof(session->in) - session->in_length, 0);
        if (got < 0 && errno == EAGAIN)
            break;
        if (got <= 0)
            return 0;
        session->in_length += (size_t)got;
    }
    watch(server, session->fd, session->out_end ? EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
    return 1;
}

static void accept_all(struct server *server)
{
    int fd;
    while ((fd = accept4(server->tcp, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct session *session = fd < SESSIONS_MAX ? calloc(1, sizeof(*session)) : NULL;
        if (!session) {
            close(fd);
            continue;
        }
        int yes = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
        session->fd = fd;
        session->slot = session->query_next = -1;
        server->sessions[fd] = session;
        watch(server, fd, EPOLLIN, EPOLL_CTL_ADD);
    }
}

static void echo_datagrams(struct server *server)
{
    struct {
        struct recordd_identity self;
        uint8_t payload[2048];
    } answer;
    struct sockaddr_in6 peer;
    for (;;) {
        socklen_t peer_length = sizeof(peer);
        ssize_t got = recvfrom(server->udp, answer.payload, sizeof(answer.payload), 0,
                               (struct sockaddr *)&peer, &peer_length);
        if (got < 0)
            return;
        answer.self = identity(server, -1);
        sendto(server->udp, &answer, sizeof(answer.self) + (size_t)got, 0, (struct sockaddr *)&peer,
               peer_length);
    }
}

static int listen_on(int type, uint16_t port)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int yes = 1, fd = socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        (type == SOCK_STREAM && listen(fd, 2048) != 0))
        die("listen");
    return fd;
}

static void handle_event(struct server *server, int fd)
{
    /* Before each event, not once a turn: the fork may come between two of them. */
    follow_role(server);
    if (fd == server->tcp)
        accept_all(server);
    else if (fd == server->udp)
        echo_datagrams(server);
    else if (server->sessions[fd] && !serve(server, server->sessions[fd]))
        session_end(server, server->sessions[fd]);
}

static void open_region(struct godwit_region *region, const char *path,
                        const struct godwit_class_spec *wanted, unsigned count)
{
    int error = godwit_region_open(region, path, wanted, count);
    if (error) {
        fprintf(stderr, "recordd: %s: %s: %s\n", path, region->error, strerror(-error));
        exit(1);
    }
}

static int print_role(void)
{
    static const char *const names[] = {"sole", "source", "clone"};
    struct godwit_region region;
    open_region(&region, REGION_PATH, classes, 1);
    puts(names[godwit_region_role(&region)]);
    return 0;
}

int main(int argc, char **argv)
{
    static struct server server;
    struct epoll_event events[EVENTS_MAX];
    struct rlimit files = {SESSIONS_MAX, SESSIONS_MAX};
    if (argc == 2 && strcmp(argv[1], "--role") == 0)
        return print_role();
    open_region(&server.region, REGION_PATH, classes, 1);
    if (access(SECOND_PATH, F_OK) == 0)
        open_region(&server.second, SECOND_PATH, second_classes, SECOND_CLASSES);
    server.role = godwit_region_role(&server.region);
    server.epoch = godwit_region_epoch(&server.region);
    if (setrlimit(RLIMIT_NOFILE, &files) != 0 || (server.poll = epoll_create1(EPOLL_CLOEXEC)) < 0)
        die("start");
    server.tcp = listen_on(SOCK_STREAM, RECORDD_TCP_PORT);
    server.udp = listen_on(SOCK_DGRAM, RECORDD_UDP_PORT);
    watch(&server, server.tcp, EPOLLIN, EPOLL_CTL_ADD);
    watch(&server, server.udp, EPOLLIN, EPOLL_CTL_ADD);
    for (;;) {
        /* The role word changes while the VM is paused, without an event: idle turns look too. */
        int count = epoll_wait(server.poll, events, EVENTS_MAX, ROLE_POLL_MS);
        follow_role(&server);
        for (int i = 0; i < count; ++i) handle_event(&server, events[i].data.fd);
    }
}
