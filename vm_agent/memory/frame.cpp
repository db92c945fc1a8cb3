#include "vm_agent/memory/frame.hpp"

#include "lib/http/address.hpp"
#include "lib/json.hpp"

#include <algorithm>
#include <cstddef>

#include <xxhash.h>

namespace godwit::memory {

using namespace protocol::wire;
using std::chrono::steady_clock;

namespace {

// A TLS handshake record, 22 and 3, read as the first half of a magic number.
constexpr std::uint32_t kTlsRecordMagic = 0x0316;
constexpr std::size_t kPacedBytes = 64 * 1024;  // a sixteenth of a second at the lowest limit
constexpr std::chrono::milliseconds kRejoinEvery{100}, kLastWordsDeadline{200};

std::unexpected<Error> malformed(std::string cause) {
    return fail(Fault::Corrupt, "read a frame", std::move(cause), "malformed-frame");
}

std::unexpected<Error> cancelled() {
    return fail(Fault::Conflict, "talk to the other agent", "cancelled", "cancelled");
}

std::string name_of(FrameType type) {
    return json::enum_name(type);
}

// Nobody who could know the session is there any more.
bool is_final(std::string_view slug) {
    return slug == "peer-refused" || slug == "session-gone";
}

bool is_bulk(FrameType type) {
    return type == FrameType::zero || type == FrameType::base || type == FrameType::diff ||
           type == FrameType::devstate || type == FrameType::merge;
}

// In one piece: a TLS record or a packet of its own for a head of 24 bytes would be a waste.
std::vector<std::byte> frame_of(FrameType type, std::uint32_t sequence,
                                std::span<const std::byte> first,
                                std::span<const std::byte> second) {
    FrameHead head{kFrameMagic,
                   kFrameVersion,
                   static_cast<std::uint16_t>(type),
                   static_cast<std::uint32_t>(first.size() + second.size()),
                   sequence,
                   0};
    head.checksum = frame_checksum(head, first, second);
    std::vector<std::byte> frame;
    frame.reserve(sizeof(head) + head.payload_bytes);
    for (std::span<const std::byte> part : {bytes_of(head), first, second})
        frame.insert(frame.end(), part.begin(), part.end());
    return frame;
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
    if ((head.magic & 0xffff) == kTlsRecordMagic)
        return malformed(
            "the peer speaks TLS and this agent does not: its agent.yaml says tls: {mode: off}");
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

FrameChannel::FrameChannel(Descriptor socket)
    : transport_(std::make_shared<Transport>(std::move(socket))) {}

Result<std::unique_ptr<FrameChannel>> FrameChannel::connect(const Peer& peer,
                                                            std::shared_ptr<const tls::Context> tls,
                                                            std::chrono::milliseconds each) {
    const auto deadline = steady_clock::now() + each;
    Result<std::shared_ptr<Transport>> transport = Transport::dial(peer.address, deadline);
    if (!transport) return std::unexpected(std::move(transport).error());
    auto channel = std::make_unique<FrameChannel>(std::move(*transport));
    if (!tls) return channel;
    const std::string doing = "connect to agent " + peer.address;
    Result<void> secured =
        channel->transport_->secure(std::move(tls), Transport::Side::client, deadline);
    if (secured) {
        const std::string host =
            peer.host.empty() ? http::parse_address(peer.address)->host : peer.host;
        secured = channel->transport_->check_peer(host);
    }
    if (!secured) return std::unexpected(std::move(secured).error().within(doing));
    return channel;
}

Result<void> FrameChannel::take_tls(std::shared_ptr<const tls::Context> tls,
                                    std::chrono::milliseconds each) {
    return transport_->secure(std::move(tls), Transport::Side::server, steady_clock::now() + each);
}

void FrameChannel::begin_session(Rejoin rejoin) {
    rejoin_ = std::move(rejoin);
    next_sent_ = next_received_ = 0;
}

std::shared_ptr<Transport> FrameChannel::transport() const {
    std::lock_guard guard(mutex_);
    return transport_;
}

void FrameChannel::cancel() {
    std::lock_guard guard(mutex_);
    cancelled_ = true;
    transport_->drop();
    woken_.notify_all();
}

double FrameChannel::link_bytes_per_s() const {
    const double link = transport()->bytes_per_s();
    const double limit = pace_ ? static_cast<double>(pace_->limit()) : 0;
    if (link == 0 || limit == 0) return std::max(link, limit);
    return std::min(link, limit);
}

Result<void> FrameChannel::await_turn(std::size_t bytes) {
    const PaceTime when = pace_->take(bytes, steady_clock::now());
    std::unique_lock guard(mutex_);
    woken_.wait_until(guard, when, [this] { return cancelled_.load(); });
    return cancelled_ ? Result<void>(cancelled()) : Result<void>{};
}

// Time spent in waiting for our own turn is not the peer's.
Result<void> FrameChannel::write(std::span<const std::byte> bytes, Deadline deadline) {
    const std::chrono::nanoseconds left = deadline - steady_clock::now();
    std::size_t paid = pace_ ? 0 : bytes.size();
    while (!bytes.empty()) {
        if (paid == 0) {
            paid = std::min(bytes.size(), kPacedBytes);
            Result<void> turn = await_turn(paid);
            if (!turn) return turn;
            deadline = steady_clock::now() + left;
        }
        Result<std::size_t> sent = transport_->write_some(bytes.first(paid), deadline);
        if (!sent && cancelled_) return cancelled();
        if (!sent) return std::unexpected(std::move(sent).error());
        bytes_sent_ += *sent;
        paid -= *sent;
        bytes = bytes.subspan(*sent);
    }
    return {};
}

Result<void> FrameChannel::send(FrameType type, std::span<const std::byte> first,
                                std::span<const std::byte> second) {
    std::vector<std::byte> frame = frame_of(type, next_sent_, first, second);
    Result<void> done;
    if (!rejoin_) {
        ++next_sent_;
        done = write(frame, steady_clock::now() + deadline_);
    } else {
        done = await_acks(window_bytes_ - std::min(frame.size(), window_bytes_));
        if (!done) return done;
        ++next_sent_;
        unacknowledged_bytes_ += frame.size();
        unacknowledged_.push_back(std::move(frame));
        done = write(unacknowledged_.back(), steady_clock::now() + deadline_);
        if (!done) done = recover(std::move(done).error());
    }
    if (!done) return std::unexpected(std::move(done).error().within("send " + name_of(type)));
    return done;
}

Result<void> FrameChannel::await_acks(std::size_t bytes_left) {
    while (unacknowledged_bytes_ > bytes_left) {
        Result<std::optional<Frame>> frame = read_frame();
        if (!frame) return std::unexpected(std::move(frame).error());
        if (*frame) inbox_.push_back(std::move(**frame));
    }
    return {};
}

Result<void> FrameChannel::flush() {
    return await_acks(0);
}

Result<void> FrameChannel::take_ack(std::uint32_t count) {
    if (count < acknowledged_ || count > next_sent_)
        return malformed("frames up to " + std::to_string(count) + " are acknowledged, " +
                         std::to_string(acknowledged_) + " to " + std::to_string(next_sent_) +
                         " are possible");
    for (; acknowledged_ < count; ++acknowledged_) {
        unacknowledged_bytes_ -= unacknowledged_.front().size();
        unacknowledged_.pop_front();
    }
    return {};
}

void FrameChannel::acknowledge(FrameType type, std::size_t bytes) {
    unconfirmed_bytes_ += bytes;
    if (is_bulk(type) && unconfirmed_bytes_ < kAckEveryBytes) return;
    unconfirmed_bytes_ = 0;
    // When it cannot be said now, the next greeting says it.
    (void)write(frame_of(FrameType::ack, next_received_, {}, {}), steady_clock::now() + deadline_);
}

// A cut connection is no end of a session. What was not acknowledged is sent again, the rest never.
Result<void> FrameChannel::recover(Error cut) {
    if (!rejoin_ || cancelled_ || cut.fault != Fault::Lost || cut.slug != "peer-unreachable")
        return std::unexpected(std::move(cut));
    Result<void> back = read_what_came();
    if (!back) return back;
    reconnecting_ = true;
    transport_->drop();
    back = rejoin_until(steady_clock::now() + patience_);
    reconnecting_ = false;
    if (cancelled_) return cancelled();
    if (!back)
        return std::unexpected(
            std::move(back).error().within("take the connection up again after: " + cut.cause));
    ++resumes_;
    return {};
}

// The peer may have said why it hung up.
Result<void> FrameChannel::read_what_came() {
    const auto deadline = steady_clock::now() + kLastWordsDeadline;
    while (true) {
        Result<std::optional<Frame>> frame = read_frame_once(deadline);
        if (!frame && frame.error().fault == Fault::Lost) return {};
        if (!frame) return std::unexpected(std::move(frame).error());
        if (*frame) inbox_.push_back(std::move(**frame));
    }
}

Result<void> FrameChannel::rejoin_until(Deadline deadline) {
    while (true) {
        Result<Rejoined> back = rejoin_(next_received_, deadline);
        if (!back && (back.error().fault != Fault::Lost || is_final(back.error().slug)))
            return std::unexpected(std::move(back).error());
        std::unique_lock guard(mutex_);
        if (cancelled_) return cancelled();
        if (back) {
            transport_ = back->transport;
            guard.unlock();
            Result<void> replayed = replay(back->received);
            if (replayed || replayed.error().fault != Fault::Lost) return replayed;
            guard.lock();
        }
        if (steady_clock::now() >= deadline)
            return fail(Fault::Lost, "greet the other agent again",
                        back ? "it was cut again" : back.error().cause, "peer-unreachable");
        woken_.wait_for(guard, kRejoinEvery, [this] { return cancelled_.load(); });
    }
}

Result<void> FrameChannel::replay(std::uint32_t received) {
    Result<void> known = take_ack(received);
    if (!known) return known;
    unconfirmed_bytes_ = 0;
    const auto deadline = steady_clock::now() + deadline_;
    for (const std::vector<std::byte>& frame : unacknowledged_) {
        Result<void> sent = write(frame, deadline);
        if (!sent) return sent;
        bytes_resent_ += frame.size();
    }
    return {};
}

Result<void> FrameChannel::send_text(FrameType type, std::string_view text) {
    return send(type, std::as_bytes(std::span(text)));
}

Result<void> FrameChannel::read_exactly(std::span<std::byte> into, Deadline deadline) {
    while (!into.empty()) {
        Result<std::size_t> got = transport_->read_some(into, deadline);
        if (!got && cancelled_) return cancelled();
        if (!got) return std::unexpected(std::move(got).error());
        into = into.subspan(*got);
    }
    return {};
}

Result<std::optional<Frame>> FrameChannel::read_frame_once(Deadline deadline) {
    FrameHead head{};
    Result<void> got = read_exactly(std::as_writable_bytes(std::span(&head, 1)), deadline);
    if (!got) return std::unexpected(std::move(got).error());
    const bool is_ack = head.type == static_cast<std::uint16_t>(FrameType::ack);
    Result<void> good =
        check_head(head, is_ack ? head.sequence : next_received_, is_ack ? 0 : payload_max_);
    if (!good) return std::unexpected(std::move(good).error());
    std::vector<std::byte> payload(head.payload_bytes);
    got = read_exactly(payload, deadline);
    if (!got) return std::unexpected(std::move(got).error());
    return take_frame(head, std::move(payload));
}

Result<std::optional<Frame>> FrameChannel::take_frame(const FrameHead& head,
                                                      std::vector<std::byte> payload) {
    Frame frame{static_cast<FrameType>(head.type), std::move(payload)};
    if (frame_checksum(head, frame.payload) != head.checksum)
        return malformed("the checksum of a " + name_of(frame.type) + " frame is wrong");
    if (frame.type == FrameType::ack) {
        if (!rejoin_) return malformed("an ACK before the session");
        Result<void> taken = take_ack(head.sequence);
        if (!taken) return std::unexpected(std::move(taken).error());
        return std::nullopt;
    }
    ++next_received_;
    if (frame.type == FrameType::abort)
        return fail(Fault::Conflict, "the other agent gave up", std::string(frame.text()),
                    "peer-aborted");
    if (rejoin_) acknowledge(frame.type, sizeof(head) + frame.payload.size());
    return frame;
}

Result<std::optional<Frame>> FrameChannel::read_frame() {
    Result<std::optional<Frame>> frame = read_frame_once(steady_clock::now() + deadline_);
    if (frame) return frame;
    Result<void> back = recover(std::move(frame).error());
    if (!back) return std::unexpected(std::move(back).error());
    // The greeting acknowledges as well: what the caller waits for may have come by it.
    return std::nullopt;
}

Result<Frame> FrameChannel::receive() {
    while (inbox_.empty()) {
        Result<std::optional<Frame>> frame = read_frame();
        if (!frame) return std::unexpected(std::move(frame).error());
        if (*frame) return std::move(**frame);
    }
    Frame first = std::move(inbox_.front());
    inbox_.pop_front();
    return first;
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
    // Best effort, on the connection there is: the peer hears of it by this frame or not at all.
    const std::vector<std::byte> frame =
        frame_of(FrameType::abort, next_sent_, std::as_bytes(std::span(text)), {});
    (void)write(frame, steady_clock::now() + std::chrono::seconds(1));
    transport_->finish();
}

Error FrameChannel::reason_of(Error send_error) {
    // A session has looked for the peer's last words already.
    if (rejoin_ || send_error.slug == "cancelled") return send_error;
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
