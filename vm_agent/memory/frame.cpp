#include "vm_agent/memory/frame.hpp"

#include "lib/http/address.hpp"
#include "lib/json.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <xxhash.h>

namespace godwit::memory {

using namespace protocol::wire;
using std::chrono::steady_clock;

namespace {

std::unexpected<Error> malformed(std::string cause) {
    return fail(Fault::Corrupt, "read a frame", std::move(cause), "malformed-frame");
}

std::string name_of(FrameType type) {
    return json::enum_name(type);
}

// A connected, non-blocking socket, or why not.
Result<Descriptor> connect_to(const addrinfo& where, std::chrono::milliseconds deadline) {
    Descriptor socket(
        ::socket(where.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, where.ai_protocol));
    if (!socket) return fail_errno(Fault::Retry, "make a socket");
    if (::connect(socket.get(), where.ai_addr, where.ai_addrlen) == 0) return socket;
    if (errno != EINPROGRESS) return fail_errno(Fault::Lost, "connect");
    pollfd waiting{socket.get(), POLLOUT, 0};
    const int ready = poll(&waiting, 1, static_cast<int>(deadline.count()));
    if (ready == 0) return fail(Fault::Lost, "connect", "no answer before the deadline");
    int error = 0;
    socklen_t length = sizeof(error);
    getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    errno = error;
    if (ready < 0 || error != 0) return fail_errno(Fault::Lost, "connect");
    return socket;
}

}  // namespace

std::uint64_t frame_checksum(const FrameHead& head, std::span<const std::byte> first,
                             std::span<const std::byte> second) {
    struct StateFree {
        void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
    };
    // One per thread: a channel belongs to one, and a frame is no reason to allocate.
    static thread_local const std::unique_ptr<XXH3_state_t, StateFree> state(XXH3_createState());
    XXH3_64bits_reset(state.get());
    XXH3_64bits_update(state.get(), &head, offsetof(FrameHead, checksum));
    XXH3_64bits_update(state.get(), first.data(), first.size());
    XXH3_64bits_update(state.get(), second.data(), second.size());
    return XXH3_64bits_digest(state.get());
}

Result<void> check_head(const FrameHead& head, std::uint32_t expected_sequence,
                        std::uint32_t payload_max) {
    if (head.magic != kFrameMagic)
        return malformed("the peer does not speak Godwit's agent protocol");
    if (head.version != kFrameVersion)
        return malformed("protocol version " + std::to_string(head.version) +
                         ", this agent speaks " + std::to_string(kFrameVersion));
    if (head.type == 0 || head.type > kFrameTypeLast)
        return malformed("unknown frame type " + std::to_string(head.type));
    if (head.payload_bytes > payload_max)
        return malformed("payload of " + std::to_string(head.payload_bytes) + " bytes, at most " +
                         std::to_string(payload_max) + " are taken here");
    if (head.sequence != expected_sequence)
        return malformed("frame " + std::to_string(head.sequence) + " came instead of frame " +
                         std::to_string(expected_sequence));
    return {};
}

FrameChannel::FrameChannel(Descriptor socket) : socket_(std::move(socket)) {
    const int flags = fcntl(socket_.get(), F_GETFL);
    fcntl(socket_.get(), F_SETFL, flags | O_NONBLOCK);
    const int on = 1;
    setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

Result<std::unique_ptr<FrameChannel>> FrameChannel::connect(const std::string& address,
                                                            std::chrono::milliseconds deadline) {
    const std::string doing = "connect to agent " + address;
    Result<http::Address> parsed = http::parse_address(address);
    if (!parsed) return std::unexpected(std::move(parsed).error().within(doing));
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV;
    addrinfo* found = nullptr;
    const int error =
        getaddrinfo(parsed->host.c_str(), std::to_string(parsed->port).c_str(), &hints, &found);
    if (error != 0) return fail(Fault::Lost, doing, gai_strerror(error), "peer-unreachable");
    Result<Descriptor> socket = connect_to(*found, deadline);
    freeaddrinfo(found);
    if (!socket) {
        socket.error().slug = "peer-unreachable";
        return std::unexpected(std::move(socket).error().within(doing));
    }
    return std::make_unique<FrameChannel>(std::move(*socket));
}

void FrameChannel::cancel() {
    cancelled_ = true;
    ::shutdown(socket_.get(), SHUT_RDWR);
}

Result<void> FrameChannel::wait_for(short events, steady_clock::time_point deadline) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - steady_clock::now());
    pollfd waiting{socket_.get(), events, 0};
    const int ready = poll(&waiting, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
    if (cancelled_)
        return fail(Fault::Conflict, "talk to the other agent", "cancelled", "cancelled");
    if (ready < 0 && errno != EINTR) return fail_errno(Fault::Lost, "wait for the other agent");
    if (ready == 0 && steady_clock::now() >= deadline)
        return fail(Fault::Lost, "wait for the other agent", "nothing came before the deadline",
                    "peer-unreachable");
    return {};
}

Result<void> FrameChannel::send(FrameType type, std::span<const std::byte> first,
                                std::span<const std::byte> second) {
    FrameHead head{kFrameMagic,
                   kFrameVersion,
                   static_cast<std::uint16_t>(type),
                   static_cast<std::uint32_t>(first.size() + second.size()),
                   next_sent_++,
                   0};
    head.checksum = frame_checksum(head, first, second);
    std::array<std::span<const std::byte>, 3> parts{bytes_of(head), first, second};
    const auto deadline = steady_clock::now() + deadline_;
    std::size_t at = 0;
    while (at < parts.size()) {
        if (parts[at].empty()) {
            ++at;
            continue;
        }
        std::array<iovec, 3> vectors{};
        for (std::size_t i = at; i < parts.size(); ++i)
            vectors[i - at] = {const_cast<std::byte*>(parts[i].data()), parts[i].size()};
        msghdr message{};
        message.msg_iov = vectors.data();
        message.msg_iovlen = parts.size() - at;
        const ssize_t sent = sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            Result<void> ready = wait_for(POLLOUT, deadline);
            if (!ready) return ready;
            continue;
        }
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) {
            if (cancelled_) return fail(Fault::Conflict, "send memory", "cancelled", "cancelled");
            auto lost = fail_errno(Fault::Lost, "send " + name_of(type) + " to the other agent");
            lost.error().slug = "peer-unreachable";
            return lost;
        }
        bytes_sent_ += static_cast<std::uint64_t>(sent);
        auto left = static_cast<std::size_t>(sent);
        for (std::size_t i = at; i < parts.size() && left > 0; ++i) {
            const std::size_t part = std::min(left, parts[i].size());
            parts[i] = parts[i].subspan(part);
            left -= part;
        }
    }
    return {};
}

Result<void> FrameChannel::send_text(FrameType type, std::string_view text) {
    return send(type, std::as_bytes(std::span(text)));
}

Result<void> FrameChannel::read_exactly(std::span<std::byte> into,
                                        steady_clock::time_point deadline) {
    while (!into.empty()) {
        const ssize_t got = ::recv(socket_.get(), into.data(), into.size(), 0);
        if (got > 0) {
            into = into.subspan(static_cast<std::size_t>(got));
            continue;
        }
        if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
            if (cancelled_)
                return fail(Fault::Conflict, "talk to the other agent", "cancelled", "cancelled");
            return fail(Fault::Lost, "hear from the other agent", "the connection was closed",
                        "peer-unreachable");
        }
        Result<void> ready = wait_for(POLLIN, deadline);
        if (!ready) return ready;
    }
    return {};
}

Result<Frame> FrameChannel::receive() {
    const auto deadline = steady_clock::now() + deadline_;
    FrameHead head{};
    Result<void> got = read_exactly(std::as_writable_bytes(std::span(&head, 1)), deadline);
    if (!got) return std::unexpected(std::move(got).error());
    Result<void> good = check_head(head, next_received_, payload_max_);
    if (!good) return std::unexpected(std::move(good).error());
    ++next_received_;
    Frame frame;
    frame.type = static_cast<FrameType>(head.type);
    frame.payload.resize(head.payload_bytes);
    got = read_exactly(frame.payload, deadline);
    if (!got) return std::unexpected(std::move(got).error());
    if (frame_checksum(head, frame.payload) != head.checksum)
        return malformed("the checksum of a " + name_of(frame.type) + " frame is wrong");
    if (frame.type == FrameType::abort)
        return fail(Fault::Conflict, "the other agent gave up", std::string(frame.text()),
                    "peer-aborted");
    return frame;
}

Result<Frame> FrameChannel::expect(FrameType type) {
    Result<Frame> frame = receive();
    if (frame && frame->type != type)
        return malformed("a " + name_of(frame->type) + " frame came where " + name_of(type) +
                         " was due");
    return frame;
}

void FrameChannel::abort(const Error& why) {
    std::string text = why.text();
    if (text.size() > 4096) text.resize(4096);
    set_deadline(std::chrono::seconds(1));
    // Best effort: the peer hears of it either way, by this frame or by the end of the connection.
    (void)send_text(FrameType::abort, text);
    ::shutdown(socket_.get(), SHUT_WR);
}

Error FrameChannel::reason_of(Error send_error) {
    if (cancelled_) return send_error;
    deadline_ = std::chrono::milliseconds(1000);
    for (int frames = 0; frames < 4; ++frames) {
        Result<Frame> frame = receive();
        if (frame) continue;
        return frame.error().slug == "peer-aborted" ? std::move(frame).error()
                                                    : std::move(send_error);
    }
    return send_error;
}

}  // namespace godwit::memory
