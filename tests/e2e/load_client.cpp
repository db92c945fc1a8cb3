// Opens sessions to the lab's guest, keeps them busy or idle, and checks every byte that comes
// back. Commands come as lines on stdin, each is answered by one line of JSON on stdout:
//
//   open GROUP KIND COUNT ADDRESS      KIND: record, redis, http, udp; answered when all are there
//   busy GROUP EVERY_MS PAYLOAD_BYTES  exchanges from now on; EVERY_MS 0 stops them
//   exchange GROUP                     one exchange on each session, idle ones included
//   identity GROUP                     who answers on each session
//   close GROUP                        in order, answered when every peer has closed as well
//   forget GROUP                       its records need not be at the server any more
//   stats GROUP                        what happened so far ("*": all groups)
//   records ADDRESS                    the server's records against what every session sent
//
// A command waits for its sessions at most kPatienceMs; what is missing then is told, not waited
// for.
#include "lab/guest/recordd.h"
#include "tests/e2e/load_session.hpp"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <iostream>
#include <poll.h>
#include <random>
#include <sstream>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

namespace godwit::load {
namespace {

constexpr std::int64_t kPatienceMs = 30000;
constexpr int kEventsMax = 256;
constexpr int kTickMs = 5;

// The guest's kernel answers SYNs faster than its programs accept: so many at a time stay within
// every server's backlog.
constexpr int kConnectingMax = 64;

struct Totals {
    std::uint64_t sessions = 0, open = 0, closed = 0, answers = 0, lost = 0, missing_bytes = 0;
    std::int64_t longest_gap_ms = 0;
    std::map<std::string, std::uint64_t> broken, where;

    void add(const Session& session) {
        ++sessions;
        open += session.state == SessionState::open;
        closed += session.state == SessionState::closed;
        answers += session.answers;
        lost += session.lost;
        missing_bytes += session.bytes_unanswered;
        longest_gap_ms = std::max(longest_gap_ms, session.longest_gap_ms);
        if (session.state == SessionState::broken) ++broken[session.broken_by];
        if (!session.where.empty()) ++where[session.where];
    }
};

std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (char c : text)
        if (c == '"' || c == '\\' || static_cast<unsigned char>(c) < 32)
            out += '?';
        else
            out += c;
    return out + "\"";
}

std::string counts_json(const std::map<std::string, std::uint64_t>& counts) {
    std::string text = "{";
    for (const auto& [name, count] : counts)
        text += (text.size() > 1 ? "," : "") + quoted(name) + ":" + std::to_string(count);
    return text + "}";
}

std::string totals_json(const Totals& t) {
    std::ostringstream text;
    text << "{\"sessions\":" << t.sessions << ",\"open\":" << t.open << ",\"closed\":" << t.closed
         << ",\"answers\":" << t.answers << ",\"lost\":" << t.lost
         << ",\"missing_bytes\":" << t.missing_bytes << ",\"longest_gap_ms\":" << t.longest_gap_ms
         << ",\"broken\":" << counts_json(t.broken) << ",\"where\":" << counts_json(t.where) << "}";
    return text.str();
}

// While this lives nothing new is sent on these sessions: whoever counts them sees them settled.
class Hold {
public:
    explicit Hold(std::vector<Session*> sessions) : sessions_(std::move(sessions)) {
        for (Session* session : sessions_) session->is_held = true;
    }
    ~Hold() {
        for (Session* session : sessions_) session->is_held = false;
    }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

private:
    std::vector<Session*> sessions_;
};

// Blocking, on a connection of its own: asked when the load is held.
class RecordQuery {
public:
    explicit RecordQuery(const std::string& address) {
        const Peer peer = peer_of(address, RECORDD_TCP_PORT);
        fd_ = socket(peer.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const timeval patience{10, 0};
        setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        if (connect(fd_, reinterpret_cast<const sockaddr*>(&peer.address), peer.length) != 0)
            throw std::runtime_error("records: cannot connect to " + address);
    }
    ~RecordQuery() { ::close(fd_); }
    RecordQuery(const RecordQuery&) = delete;
    RecordQuery& operator=(const RecordQuery&) = delete;

    std::map<std::uint64_t, recordd_record> all() {
        const char query[RECORDD_HEADER_BYTES] = {'Q', 0, 0, 0};
        if (send(fd_, query, sizeof(query), MSG_NOSIGNAL) != sizeof(query))
            throw std::runtime_error("records: send");
        std::map<std::uint64_t, recordd_record> records;
        for (;;) {
            std::uint8_t header[RECORDD_HEADER_BYTES];
            read_exactly(header, sizeof(header));
            if (header[0] != 'R') return records;
            recordd_record record;
            read_exactly(&record, sizeof(record));
            records[record.session] = record;
        }
    }

private:
    void read_exactly(void* to, std::size_t length) {
        if (recv(fd_, to, length, MSG_WAITALL) != static_cast<ssize_t>(length))
            throw std::runtime_error("records: the answer was cut off");
    }
    int fd_ = -1;
};

class Client {
public:
    int run() {
        poll_ = epoll_create1(EPOLL_CLOEXEC);
        pollfd input{STDIN_FILENO, POLLIN, 0};
        while (!ended_) {
            turn();
            while (!ended_ && ::poll(&input, 1, 0) > 0) read_input();
        }
        return 0;
    }

private:
    using Sessions = std::vector<Session*>;

    void turn() {
        epoll_event events[kEventsMax];
        const int count = epoll_wait(poll_, events, kEventsMax, kTickMs);
        for (int i = 0; i < count; ++i)
            static_cast<Session*>(events[i].data.ptr)->on_event(events[i].events);
        const std::int64_t now = now_ms();
        for (auto& session : sessions_) session->on_time(now);
    }

    void read_input() {
        char buffer[4096];
        const ssize_t got = ::read(STDIN_FILENO, buffer, sizeof(buffer));
        if (got <= 0) {
            ended_ = true;
            return;
        }
        input_.append(buffer, static_cast<std::size_t>(got));
        for (std::size_t end; (end = input_.find('\n')) != input_.npos;) {
            const std::string line = input_.substr(0, end);
            input_.erase(0, end + 1);
            answer(line);
        }
    }

    void answer(const std::string& line) {
        std::string reply;
        try {
            reply = obey(line);
        } catch (const std::exception& error) {
            reply = "{\"error\":" + quoted(error.what()) + "}";
        }
        std::cout << reply << std::endl;
    }

    std::string obey(const std::string& line) {
        std::istringstream words(line);
        std::string command, group;
        words >> command >> group;
        if (command == "open") return open(group, words);
        if (command == "busy") return busy(group, words);
        if (command == "exchange") return ask(group, Ask::exchange);
        if (command == "identity") return ask(group, Ask::identity);
        if (command == "close") return close(group);
        if (command == "forget") return forget(group);
        if (command == "stats") return totals(group);
        if (command == "records") return records(group);
        throw std::runtime_error("unknown command: " + line);
    }

    Sessions of(const std::string& group) {
        Sessions found;
        for (auto& session : sessions_)
            if (group == "*" || session->group == group) found.push_back(session.get());
        return found;
    }

    // Turns until every session is settled, for so long and no longer.
    void settle(const Sessions& some) {
        const std::int64_t end = now_ms() + kPatienceMs;
        while (now_ms() < end && !std::all_of(some.begin(), some.end(), [](const Session* session) {
                   return session->is_settled();
               }))
            turn();
    }

    std::string open(const std::string& group, std::istringstream& words) {
        std::string kind, address;
        int count = 0;
        words >> kind >> count >> address;
        Sessions fresh;
        for (int i = 0; i < count; ++i) {
            const std::uint64_t id = next_id_++;
            std::unique_ptr<Protocol> protocol = make_protocol(kind, id);
            if (!protocol) throw std::runtime_error("unknown kind of session: " + kind);
            fresh.push_back(
                sessions_.emplace_back(std::make_unique<Session>(id, std::move(protocol), group))
                    .get());
            fresh.back()->connect(address);
            epoll_event event{EPOLLIN | EPOLLOUT | EPOLLET, {fresh.back()}};
            if (fresh.back()->fd() >= 0)
                epoll_ctl(poll_, EPOLL_CTL_ADD, fresh.back()->fd(), &event);
            if (fresh.size() % kConnectingMax == 0) settle(fresh);
        }
        settle(fresh);
        return totals(group);
    }

    std::string busy(const std::string& group, std::istringstream& words) {
        std::int64_t every_ms = 0;
        std::size_t payload_bytes = 0;
        words >> every_ms >> payload_bytes;
        std::int64_t due = now_ms();
        for (Session* session : of(group)) {
            session->busy_every_ms = every_ms;
            session->next_due_ms = due++;  // spread, not in step
            if (payload_bytes) session->protocol->payload_bytes = payload_bytes;
        }
        if (every_ms == 0) settle(of(group));
        return totals(group);
    }

    std::string ask(const std::string& group, Ask what) {
        const Sessions some = of(group);
        const Hold hold(some);
        settle(some);
        for (Session* session : some) {
            if (what == Ask::identity) session->where.clear();
            session->ask(what);
        }
        settle(some);
        return totals(group);
    }

    std::string close(const std::string& group) {
        const Sessions some = of(group);
        for (Session* session : some) session->busy_every_ms = 0;
        settle(some);
        for (Session* session : some) session->close();
        settle(some);
        return totals(group);
    }

    std::string forget(const std::string& group) {
        std::erase_if(sessions_, [&](const auto& session) { return session->group == group; });
        return totals(group);
    }

    std::string totals(const std::string& group) {
        Totals sum;
        for (const Session* session : of(group)) sum.add(*session);
        return totals_json(sum);
    }

    std::string records(const std::string& address) {
        const Sessions all = of("*");
        const Hold hold(all);
        settle(all);
        const std::map<std::uint64_t, recordd_record> kept = RecordQuery(address).all();
        std::uint64_t right = 0, wrong = 0, missing = 0, closed = 0;
        std::map<std::string, std::uint64_t> made_by;
        for (const auto& session : sessions_) {
            const std::optional<Protocol::Expected> expected = session->protocol->expected();
            if (!expected) continue;
            const auto found = kept.find(session->id);
            if (found == kept.end()) {
                ++missing;
                continue;
            }
            const recordd_record& record = found->second;
            const bool same = record.bytes == expected->bytes &&
                              record.messages == expected->messages &&
                              record.checksum == expected->checksum;
            (same ? right : wrong) += 1;
            closed += record.state == RECORDD_CLOSED;
            static constexpr const char* kRoles[] = {"sole", "source", "clone"};
            ++made_by[record.role < 3 ? kRoles[record.role] : "unknown"];
        }
        std::ostringstream text;
        text << "{\"records\":" << kept.size() << ",\"right\":" << right << ",\"wrong\":" << wrong
             << ",\"missing\":" << missing << ",\"closed\":" << closed
             << ",\"made_by\":" << counts_json(made_by) << "}";
        return text.str();
    }

    int poll_ = -1;
    bool ended_ = false;
    std::string input_;
    std::vector<std::unique_ptr<Session>> sessions_;
    // Distinct from every earlier run against the same guest.
    std::uint64_t next_id_ = (static_cast<std::uint64_t>(std::random_device{}()) << 24) + 1;
};

}  // namespace
}  // namespace godwit::load

int main() {
    const rlimit files{8192, 8192};
    setrlimit(RLIMIT_NOFILE, &files);
    return godwit::load::Client().run();
}
