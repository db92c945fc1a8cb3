// Frames of protocol/agent_wire.hpp over one transport, plain or TLS, with deadlines. One thread uses
// a channel; cancel() may come from any other.
#pragma once

#include "lib/error.hpp"

#include "protocol/agent_wire.hpp"
#include "vm_agent/memory/transport.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace godwit::memory {

using protocol::wire::FrameHead;
using protocol::wire::FrameType;

struct Frame {
    FrameType type = FrameType::abort;
    std::vector<std::byte> payload;
    std::string_view text() const {
        return {reinterpret_cast<const char*>(payload.data()), payload.size()};
    }
};

// Pure parts, for the channel and for tests.
std::uint64_t frame_checksum(const FrameHead& head, std::span<const std::byte> first,
                             std::span<const std::byte> second = {});
// Everything about a head that can be judged before its payload is read. Corrupt/malformed-frame.
Result<void> check_head(const FrameHead& head, std::uint32_t expected_sequence,
                        std::uint32_t payload_max);

class FrameChannel {
public:
    explicit FrameChannel(Descriptor socket);
    explicit FrameChannel(std::shared_ptr<Transport> transport)
        : transport_(std::move(transport)) {}
    // Lost when nobody listens there in time. With TLS, Denied/peer-untrusted when the peer is not
    // who it should be; no TLS: plain TCP.
    static Result<std::unique_ptr<FrameChannel>> connect(const Peer& peer,
                                                         std::shared_ptr<const tls::Context> tls,
                                                         std::chrono::milliseconds each);
    // As the one who listened: before the first frame.
    Result<void> take_tls(std::shared_ptr<const tls::Context> tls, std::chrono::milliseconds each);
    Result<void> check_peer(const std::string& host) const { return transport_->check_peer(host); }
    // No frame may take longer than this, in either direction.
    void set_deadline(std::chrono::milliseconds each) { deadline_ = each; }
    void set_payload_max(std::uint32_t bytes) { payload_max_ = bytes; }

    Result<void> send(FrameType type, std::span<const std::byte> first,
                      std::span<const std::byte> second = {});
    Result<void> send_text(FrameType type, std::string_view text);
    // An ABORT of the peer comes back as an error with its text.
    Result<Frame> receive();
    Result<Frame> expect(FrameType type);
    // Says why and closes; the peer's own error, if it said one, is gone with the connection.
    void abort(const Error& why);
    // When sending failed, the peer may have said why before it closed.
    Error reason_of(Error send_error);

    void cancel() { transport_->cancel(); }  // both directions end now, from any thread
    std::uint64_t bytes_sent() const { return bytes_sent_; }

private:
    Result<void> read_exactly(std::span<std::byte> into, Deadline deadline);

    std::shared_ptr<Transport> transport_;
    std::vector<std::byte> outgoing_;  // the frame that is being written
    std::chrono::milliseconds deadline_{30'000};
    std::uint32_t payload_max_ = protocol::wire::kPayloadMax;
    std::uint32_t next_sent_ = 0, next_received_ = 0;
    std::atomic<std::uint64_t> bytes_sent_ = 0;
};

template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    return std::as_bytes(std::span<const T, 1>(&value, 1));
}

// Reads a fixed head off the front of a payload; Corrupt when it is too short.
template <typename T>
Result<T> take(std::span<const std::byte>& payload, std::string_view what) {
    if (payload.size() < sizeof(T))
        return fail(Fault::Corrupt, "read a frame", std::string(what) + " is cut short",
                    "malformed-frame");
    T value;
    std::memcpy(&value, payload.data(), sizeof(T));
    payload = payload.subspan(sizeof(T));
    return value;
}

}  // namespace godwit::memory
