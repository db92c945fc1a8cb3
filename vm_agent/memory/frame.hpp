// Frames of protocol/agent_wire.hpp over one transport, plain or TLS, with deadlines. One thread uses
// a channel; cancel() and disconnect() may come from any other.
#pragma once

#include "lib/error.hpp"

#include "protocol/agent_wire.hpp"
#include "vm_agent/memory/pace.hpp"
#include "vm_agent/memory/transport.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
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

// A connection that takes a cut session up again.
struct Rejoined {
    std::shared_ptr<Transport> transport;
    std::uint32_t received = 0;  // frames of the session that the peer has
};
// Blocking, until the deadline: greets the peer anew, or waits for it to do so, and tells it how many
// frames came. Asked again while the fault is Lost, unless nobody listens there (peer-refused) or who
// listens does not know the session (session-gone).
using Rejoin = std::function<Result<Rejoined>(std::uint32_t received, Deadline deadline)>;

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
    FrameChannel(const FrameChannel&) = delete;
    FrameChannel& operator=(const FrameChannel&) = delete;
    // Lost when nobody listens there in time. With TLS, Denied/peer-untrusted when the peer is not
    // who it should be; no TLS: plain TCP.
    static Result<std::unique_ptr<FrameChannel>> connect(const Peer& peer,
                                                         std::shared_ptr<const tls::Context> tls,
                                                         std::chrono::milliseconds each);
    // As the one who listened: before the first frame.
    Result<void> take_tls(std::shared_ptr<const tls::Context> tls, std::chrono::milliseconds each);
    Result<void> check_peer(const std::string& host) const { return transport()->check_peer(host); }

    // Both greeted: from now on frames are counted from 0, kept until they are acknowledged, and
    // survive the connection.
    void begin_session(Rejoin rejoin);
    // How long a cut may last before it is an error.
    void set_patience(std::chrono::milliseconds patience) { patience_ = patience; }
    void set_window(std::size_t bytes) { window_bytes_ = bytes; }
    // What may be sent from now on is shared with everybody who has the same pace.
    void set_pace(std::shared_ptr<Pace> pace) { pace_ = std::move(pace); }
    // What the link takes as last measured, or the pace where that is less; 0: not known yet.
    double link_bytes_per_s() const;
    // Until everything sent is acknowledged.
    Result<void> flush();
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

    // From any thread: all ends now; or only this connection does.
    void cancel();
    void disconnect() { transport()->drop(); }
    std::shared_ptr<Transport> transport() const;
    std::uint64_t bytes_sent() const { return bytes_sent_; }
    std::uint64_t bytes_resent() const { return bytes_resent_; }
    std::uint64_t resumes() const { return resumes_; }
    bool is_reconnecting() const { return reconnecting_; }

private:
    Result<void> read_exactly(std::span<std::byte> into, Deadline deadline);

    Result<void> write(std::span<const std::byte> bytes, Deadline deadline);
    // Reads until at most so many bytes are sent and not acknowledged.
    Result<void> await_acks(std::size_t bytes_left);
    // The next frame; none: an ACK came, or another connection did.
    Result<std::optional<Frame>> read_frame();
    Result<std::optional<Frame>> read_frame_once(Deadline deadline);
    Result<std::optional<Frame>> take_frame(const FrameHead& head, std::vector<std::byte> payload);
    Result<void> take_ack(std::uint32_t count);
    void acknowledge(FrameType type, std::size_t bytes);
    Result<void> await_turn(std::size_t bytes);
    Result<void> recover(Error cut);
    Result<void> read_what_came();
    Result<void> rejoin_until(Deadline deadline);
    Result<void> replay(std::uint32_t received);

    mutable std::mutex mutex_;  // guards the pointer: another thread may end what it points to
    std::condition_variable woken_;
    std::shared_ptr<Transport> transport_;
    std::shared_ptr<Pace> pace_;  // none: as fast as it goes
    Rejoin rejoin_;               // none before the session
    std::chrono::milliseconds patience_{20'000};
    std::size_t window_bytes_ = protocol::wire::kWindowBytes;
    std::deque<std::vector<std::byte>> unacknowledged_;  // whole frames, the oldest first
    std::size_t unacknowledged_bytes_ = 0;
    std::uint32_t acknowledged_ = 0;     // frames the peer has for sure
    std::size_t unconfirmed_bytes_ = 0;  // received since our last ACK
    std::deque<Frame> inbox_;            // came while we waited for ACKs
    std::chrono::milliseconds deadline_{30'000};
    std::uint32_t payload_max_ = protocol::wire::kPayloadMax;
    std::uint32_t next_sent_ = 0, next_received_ = 0;
    std::atomic<std::uint64_t> bytes_sent_ = 0, bytes_resent_ = 0, resumes_ = 0;
    std::atomic<bool> reconnecting_ = false, cancelled_ = false;
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
