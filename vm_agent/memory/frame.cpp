#include "vm_agent/memory/frame.hpp"

#include "lib/http/address.hpp"
#include "lib/json.hpp"

#include <cstddef>

#include <xxhash.h>

namespace godwit::memory {

using namespace protocol::wire;
using std::chrono::steady_clock;

namespace {

// A TLS handshake record, 22 and 3, read as the first half of a magic number.
constexpr std::uint32_t kTlsRecordMagic = 0x0316;

std::unexpected<Error> malformed(std::string cause) {
    return fail(Fault::Corrupt, "read a frame", std::move(cause), "malformed-frame");
}

std::string name_of(FrameType type) {
    return json::enum_name(type);
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

Result<void> FrameChannel::send(FrameType type, std::span<const std::byte> first,
                                std::span<const std::byte> second) {
    FrameHead head{kFrameMagic,
                   kFrameVersion,
                   static_cast<std::uint16_t>(type),
                   static_cast<std::uint32_t>(first.size() + second.size()),
                   next_sent_++,
                   0};
    head.checksum = frame_checksum(head, first, second);
    // In one piece: a TLS record or a packet of its own for 24 bytes would be a waste.
    outgoing_.clear();
    for (std::span<const std::byte> part : {bytes_of(head), first, second})
        outgoing_.insert(outgoing_.end(), part.begin(), part.end());
    const auto deadline = steady_clock::now() + deadline_;
    for (std::span<const std::byte> left = outgoing_; !left.empty();) {
        Result<std::size_t> sent = transport_->write_some(left, deadline);
        if (!sent) return std::unexpected(std::move(sent).error().within("send " + name_of(type)));
        bytes_sent_ += *sent;
        left = left.subspan(*sent);
    }
    return {};
}

Result<void> FrameChannel::send_text(FrameType type, std::string_view text) {
    return send(type, std::as_bytes(std::span(text)));
}

Result<void> FrameChannel::read_exactly(std::span<std::byte> into, Deadline deadline) {
    while (!into.empty()) {
        Result<std::size_t> got = transport_->read_some(into, deadline);
        if (!got) return std::unexpected(std::move(got).error());
        into = into.subspan(*got);
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
    transport_->finish();
}

Error FrameChannel::reason_of(Error send_error) {
    if (send_error.slug == "cancelled") return send_error;
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
