/* The lab's load on memory, which checks itself: writes pages at a given rate, each line of 64 bytes with a pattern
 * that says which write it is, and looks before each write whether the line still holds what was written last.
 * Whatever a migration loses, swaps or tears is an error that is counted.
 *
 * usage: churnd MIB        line by line on TCP port 7001:
 *   rate MIB_PER_S LINES   from now on so many MiB of pages a second (0: stop), LINES of 64 bytes written in each
 *   stat                   answers "pages N errors N ns N": written so far, wrong so far, the guest's monotonic clock
 *   check                  looks at every page, then answers as stat does
 */
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, LINE = 64, LINES = PAGE / LINE, WORDS = LINE / 8, SLOT_NS = 10000000, PORT = 7001 };

struct churn {
    uint64_t *memory;
    uint64_t pages;
    uint32_t *written; /* how often each line was: what it must say, in every word */
    _Atomic uint64_t rate_pages, lines;
    _Atomic uint64_t done, errors;
    pthread_mutex_t turn; /* between a page's write and a check of all */
};

static struct churn churn = {.turn = PTHREAD_MUTEX_INITIALIZER, .lines = LINES};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t pattern(uint64_t line, uint64_t word, uint64_t count)
{
    return (line * 0x9e3779b97f4a7c15u) ^ (word << 56) ^ (count * 0xbf58476d1ce4e5b9u);
}

static int line_is_right(uint64_t line)
{
    const uint64_t *words = churn.memory + line * WORDS;
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < WORDS; ++i) wrong |= words[i] ^ pattern(line, i, churn.written[line]);
    return wrong == 0;
}

static void write_line(uint64_t line)
{
    uint64_t *words = churn.memory + line * WORDS;
    for (uint64_t i = 0; i < WORDS; ++i) words[i] = pattern(line, i, churn.written[line]);
}

static void write_page(uint64_t page, uint64_t lines)
{
    for (uint64_t line = page * LINES; line < page * LINES + lines; ++line) {
        churn.errors += !line_is_right(line);
        ++churn.written[line];
        write_line(line);
    }
}

static void check_all(void)
{
    for (uint64_t page = 0; page < churn.pages; ++page) {
        pthread_mutex_lock(&churn.turn);
        for (uint64_t line = page * LINES; line < (page + 1) * LINES; ++line)
            churn.errors += !line_is_right(line);
        pthread_mutex_unlock(&churn.turn);
    }
}

/* In slots of 10 ms; what a slot did not manage is not made up for. */
static void *churn_for_ever(void *unused)
{
    uint64_t page = 0, due = now_ns();
    for (;;) {
        const uint64_t slots_per_s = 1000000000u / SLOT_NS;
        for (uint64_t left = churn.rate_pages / slots_per_s; left > 0 && now_ns() < due + SLOT_NS; --left) {
            pthread_mutex_lock(&churn.turn);
            write_page(page, churn.lines);
            pthread_mutex_unlock(&churn.turn);
            page = (page + 1) % churn.pages;
            ++churn.done;
        }
        due += SLOT_NS;
        const uint64_t now = now_ns();
        if (now > due)
            due = now;
        const struct timespec until = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }
    return unused;
}

static void serve(FILE *peer)
{
    char text[128];
    while (fgets(text, sizeof(text), peer)) {
        unsigned long mib = 0, lines = 0;
        if (sscanf(text, "rate %lu %lu", &mib, &lines) == 2 && lines >= 1 && lines <= LINES) {
            churn.lines = lines;
            churn.rate_pages = mib * (1u << 20) / PAGE;
        } else if (strcmp(text, "check\n") == 0) {
            check_all();
        } else if (strcmp(text, "stat\n") != 0) {
            fprintf(peer, "rate MIB_PER_S LINES(1..64) | stat | check\n");
            continue;
        }
        fprintf(peer, "pages %lu errors %lu ns %lu\n", (unsigned long)churn.done, (unsigned long)churn.errors,
                (unsigned long)now_ns());
    }
}

static void *serve_one(void *descriptor)
{
    FILE *peer = fdopen((int)(intptr_t)descriptor, "r+");
    if (!peer)
        return NULL;
    setvbuf(peer, NULL, _IOLBF, 0);
    serve(peer);
    fclose(peer);
    return NULL;
}

static void *map(uint64_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("churnd: mmap");
        exit(1);
    }
    return memory;
}

int main(int argc, char **argv)
{
    const unsigned long mib = argc == 2 ? strtoul(argv[1], NULL, 10) : 0;
    if (mib == 0) {
        fprintf(stderr, "usage: churnd MIB\n");
        return 2;
    }
    churn.pages = mib * (1u << 20) / PAGE;
    churn.memory = map(churn.pages * PAGE);
    churn.written = map(churn.pages * LINES * sizeof(*churn.written));
    for (uint64_t line = 0; line < churn.pages * LINES; ++line) write_line(line);
    const int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    const struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(listener, (const struct sockaddr *)&here, sizeof(here)) != 0 || listen(listener, 16) != 0) {
        perror("churnd: port 7001");
        return 1;
    }
    pthread_t thread;
    pthread_create(&thread, NULL, churn_for_ever, NULL);
    for (;;) {
        const int peer = accept(listener, NULL, NULL);
        if (peer >= 0 && pthread_create(&thread, NULL, serve_one, (void *)(intptr_t)peer) == 0)
            pthread_detach(thread);
    }
}
