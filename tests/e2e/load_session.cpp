#include "tests/e2e/load_session.hpp"

#include <arpa/inet.h>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <netinet/tcp.h>
#include <stdexcept>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace godwit::load {
namespace {
constexpr std::int64_t kDatagramPatienceMs = 3000;
}

std::int64_t now_ms() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

Peer peer_of(const std::string& text, std::uint16_t port) {
    Peer peer;
    auto* v4 = reinterpret_cast<sockaddr_in*>(&peer.address);
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&peer.address);
    if (inet_pton(AF_INET, text.c_str(), &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        peer.length = sizeof(*v4);
    } else if (inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        peer.length = sizeof(*v6);
    } else {
        throw std::runtime_error(text + " is not an address");
    }
    return peer;
}

Session::Session(std::uint64_t session_id, std::unique_ptr<Protocol> session_protocol,
                 std::string session_group)
    : id(session_id), group(std::move(session_group)), protocol(std::move(session_protocol)) {}

Session::~Session() {
    if (fd_ >= 0) ::close(fd_);
}

void Session::connect(const std::string& address) {
    const Peer peer = peer_of(address, protocol->port());
    const int type = protocol->is_datagram() ? SOCK_DGRAM : SOCK_STREAM;
    fd_ = socket(peer.address.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd_ < 0) throw std::runtime_error(std::string("socket: ") + std::strerror(errno));
    asked_ms_ = now_ms();
    const int yes = 1;
    if (!protocol->is_datagram()) setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    if (::connect(fd_, reinterpret_cast<const sockaddr*>(&peer.address), peer.length) != 0 &&
        errno != EINPROGRESS)
        finish(SessionState::broken, std::string("connect: ") + std::strerror(errno));
}

void Session::ask(Ask what) {
    if (state != SessionState::open || waiting_) return;
    out_ += protocol->request(what);
    bytes_unanswered = out_.size();
    waiting_ = true;
    // The first answer is waited for from the connection's own beginning.
    if (what != Ask::begin) asked_ms_ = now_ms();
    send_pending();
}

void Session::send_pending() {
    while (!out_.empty()) {
        const ssize_t sent = ::send(fd_, out_.data(), out_.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) return;
        if (sent < 0) {
            finish(SessionState::broken,
                   errno == ECONNRESET || errno == EPIPE ? "reset" : std::strerror(errno));
            return;
        }
        out_.erase(0, static_cast<std::size_t>(sent));
    }
}

void Session::receive() {
    char buffer[16384];
    for (;;) {
        const ssize_t got = ::recv(fd_, buffer, sizeof(buffer), 0);
        if (got < 0 && errno == EAGAIN) return;
        if (got < 0) {
            finish(SessionState::broken, errno == ECONNRESET ? "reset" : std::strerror(errno));
            return;
        }
        if (got == 0) {
            const bool wanted = state == SessionState::closing && !waiting_;
            finish(wanted ? SessionState::closed : SessionState::broken,
                   wanted ? "" : "end of stream");
            return;
        }
        if (protocol->is_datagram()) in_.clear();
        in_.append(buffer, static_cast<std::size_t>(got));
        take_answers();
        if (state == SessionState::broken) return;
    }
}

void Session::take_answers() {
    while (!in_.empty()) {
        if (!waiting_) {
            if (!protocol->is_datagram())
                finish(SessionState::broken, "bytes that nobody asked for");
            return;
        }
        const Reply reply = protocol->parse(in_);
        if (reply.consumed == 0) return;
        in_.erase(0, reply.consumed);
        answered(reply);
    }
}

void Session::answered(const Reply& reply) {
    waiting_ = false;
    bytes_unanswered = 0;
    ++answers;
    longest_gap_ms = std::max(longest_gap_ms, now_ms() - asked_ms_);
    if (!reply.where.empty()) where = reply.where;
    if (!reply.wrong.empty()) finish(SessionState::broken, reply.wrong);
}

void Session::on_event(std::uint32_t events) {
    if (state == SessionState::connecting && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
        int error = 0;
        socklen_t length = sizeof(error);
        getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &length);
        if (error != 0) {
            finish(SessionState::broken, error == ECONNREFUSED ? "refused" : std::strerror(error));
            return;
        }
        state = SessionState::open;
        ask(Ask::begin);
    }
    if (events & EPOLLOUT) send_pending();
    if (state != SessionState::broken && (events & (EPOLLIN | EPOLLERR | EPOLLHUP))) receive();
}

void Session::on_time(std::int64_t now) {
    if (state != SessionState::open) return;
    if (waiting_ && protocol->is_datagram() && now - asked_ms_ > kDatagramPatienceMs) {
        waiting_ = false;
        ++lost;
    }
    if (busy_every_ms == 0 || is_held || now < next_due_ms || waiting_) return;
    next_due_ms = now + busy_every_ms;
    ask(Ask::exchange);
}

void Session::close() {
    if (state != SessionState::open) return;
    busy_every_ms = 0;
    if (protocol->is_datagram()) {
        finish(SessionState::closed, "");
        return;
    }
    state = SessionState::closing;
    shutdown(fd_, SHUT_WR);
}

void Session::finish(SessionState how, std::string why) {
    state = how;
    broken_by = std::move(why);
    waiting_ = false;
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
}

}  // namespace godwit::load
