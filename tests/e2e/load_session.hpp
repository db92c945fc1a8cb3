// One session of the load client: a socket, a protocol, and everything that went over it, checked.
// Times are of the monotonic clock, in milliseconds.
#pragma once

#include "tests/e2e/load_protocol.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <netinet/in.h>
#include <string>

namespace godwit::load {

std::int64_t now_ms();

struct Peer {
    sockaddr_storage address{};
    socklen_t length = 0;
};
// `text` is an IPv4 or IPv6 address.
Peer peer_of(const std::string& text, std::uint16_t port);

enum class SessionState { connecting, open, closing, closed, broken };

class Session {
public:
    Session(std::uint64_t id, std::unique_ptr<Protocol> protocol, std::string group);
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    void connect(const std::string& address);
    // Sends one request; the answer before it must be there.
    void ask(Ask ask);
    void close();  // in order: our FIN, then what is left to read, then the peer's FIN
    void on_event(std::uint32_t events);
    // An exchange if one is due; a datagram whose answer did not come counts as lost.
    void on_time(std::int64_t now);

    int fd() const { return fd_; }
    bool is_waiting() const { return waiting_; }
    bool is_settled() const {
        return state != SessionState::connecting && state != SessionState::closing && !waiting_;
    }

    const std::uint64_t id;
    const std::string group;
    const std::unique_ptr<Protocol> protocol;
    SessionState state = SessionState::connecting;
    std::string broken_by;  // "reset", "refused", "end of stream", or what was wrong
    std::string where;      // last identity heard
    std::int64_t busy_every_ms = 0, next_due_ms = 0;
    bool is_held = false;  // what is due waits
    std::uint64_t answers = 0, lost = 0;
    std::uint64_t bytes_unanswered = 0;  // of a request whose answer was cut off
    std::int64_t longest_gap_ms = 0;

private:
    void send_pending();
    void receive();
    void take_answers();
    void answered(const Reply& reply);
    void finish(SessionState how, std::string why);

    int fd_ = -1;
    bool waiting_ = false;
    std::string out_, in_;
    std::int64_t asked_ms_ = 0;
};

}  // namespace godwit::load
