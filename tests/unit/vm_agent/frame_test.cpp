// Frames between agents over a real socket pair: what is said arrives, what is damaged, out of
// order or too large is refused by name, and a peer that says nothing costs its deadline and no
// more.
#include "vm_agent/memory/frame.hpp"

#include "lib/json.hpp"

#include "vm_agent/memory/handshake.hpp"

#include <algorithm>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>

namespace {

using namespace godwit;
using namespace godwit::memory;
using namespace godwit::protocol::wire;

struct Pair {
    Pair() {
        int fds[2];
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0) std::abort();
        raw = Descriptor(dup(fds[0]));
        here = std::make_unique<FrameChannel>(Descriptor(fds[0]));
        there = std::make_unique<FrameChannel>(Descriptor(fds[1]));
        there->set_deadline(std::chrono::milliseconds(200));
    }
    void send_raw(const void* bytes, std::size_t length) {
        ASSERT_EQ(::send(raw.get(), bytes, length, MSG_NOSIGNAL), static_cast<ssize_t>(length));
    }
    std::string refusal_of(FrameHead head, std::string_view payload = "") {
        send_raw(&head, sizeof(head));
        if (!payload.empty()) send_raw(payload.data(), payload.size());
        Result<Frame> frame = there->receive();
        if (frame) return "taken";
        EXPECT_EQ(frame.error().fault, Fault::Corrupt);
        EXPECT_EQ(frame.error().slug, "malformed-frame");
        return frame.error().cause;
    }

    Descriptor raw;
    std::unique_ptr<FrameChannel> here, there;
};

FrameHead good_head(std::string_view payload) {
    FrameHead head{kFrameMagic,
                   kFrameVersion,
                   static_cast<std::uint16_t>(FrameType::merge_end),
                   static_cast<std::uint32_t>(payload.size()),
                   0,
                   0};
    head.checksum = frame_checksum(head, std::as_bytes(std::span(payload)));
    return head;
}

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

TEST(Frame, ArrivesAsItWasSent) {
    Pair pair;
    const std::vector<std::byte> body(100'000, std::byte{7});
    const RangeHead head{1, Codec::raw, 4096, body.size()};
    ASSERT_TRUE(pair.here->send(FrameType::base, bytes_of(head), body));
    Result<Frame> frame = pair.there->expect(FrameType::base);
    ASSERT_TRUE(frame) << frame.error().text();
    std::span<const std::byte> payload = frame->payload;
    Result<RangeHead> taken = take<RangeHead>(payload, "range");
    ASSERT_TRUE(taken);
    EXPECT_EQ(taken->offset, 4096u);
    EXPECT_TRUE(std::ranges::equal(payload, body));
    EXPECT_FALSE(take<RangeHead>(payload = payload.first(3), "range"));
}

TEST(Frame, DamagedOnesAreRefusedByName) {
    const std::string_view text = "hello";
    auto refusal = [&](auto change) {
        FrameHead head = good_head(text);
        change(head);
        Pair pair;
        return pair.refusal_of(head, text);
    };
    EXPECT_EQ(refusal([](FrameHead&) {}), "taken");
    EXPECT_TRUE(contains(refusal([](auto& h) { h.magic = 1; }), "does not speak"));
    EXPECT_TRUE(contains(refusal([](auto& h) { h.version = 9; }), "version 9"));
    EXPECT_TRUE(contains(refusal([](auto& h) { h.type = 99; }), "frame type 99"));
    EXPECT_TRUE(contains(refusal([](auto& h) { h.type = 0; }), "frame type 0"));
    EXPECT_TRUE(contains(refusal([](auto& h) { h.sequence = 5; }), "frame 5"));
    EXPECT_TRUE(contains(refusal([](auto& h) { h.payload_bytes = kPayloadMax + 1; }), "at most"));
    EXPECT_TRUE(contains(refusal([](auto& h) { h.checksum ^= 1; }), "checksum"));
    EXPECT_TRUE(contains(refusal([](auto& h) { h.type = 13; }), "checksum"));
}

TEST(Frame, EveryFlippedBitIsSeen) {
    const std::string text = "sixteen bytes ok";
    for (std::size_t bit = 0; bit < 8 * (sizeof(FrameHead) + text.size()); ++bit) {
        std::vector<unsigned char> bytes(sizeof(FrameHead) + text.size());
        const FrameHead head = good_head(text);
        std::memcpy(bytes.data(), &head, sizeof(head));
        std::memcpy(bytes.data() + sizeof(head), text.data(), text.size());
        bytes[bit / 8] ^= static_cast<unsigned char>(1u << (bit % 8));
        Pair pair;
        pair.there->set_deadline(std::chrono::milliseconds(5));
        pair.send_raw(bytes.data(), bytes.size());
        EXPECT_FALSE(pair.there->receive()) << "bit " << bit;
    }
}

TEST(Frame, HalfAFrameAndThenNothingIsLost) {
    Pair pair;
    const FrameHead head = good_head("hello");
    pair.send_raw(&head, 10);
    Result<Frame> frame = pair.there->receive();
    ASSERT_FALSE(frame);
    EXPECT_EQ(frame.error().fault, Fault::Lost);
}

TEST(Frame, ClosedConnectionIsLost) {
    Pair pair;
    pair.raw.reset();
    pair.here.reset();
    Result<Frame> frame = pair.there->receive();
    ASSERT_FALSE(frame);
    EXPECT_EQ(frame.error().fault, Fault::Lost);
    EXPECT_TRUE(contains(frame.error().cause, "closed"));
}

TEST(Frame, AbortCarriesThePeersWords) {
    Pair pair;
    pair.here->abort({Fault::Conflict, "take VM web-1", "no room"});
    Result<Frame> frame = pair.there->receive();
    ASSERT_FALSE(frame);
    EXPECT_EQ(frame.error().slug, "peer-aborted");
    EXPECT_TRUE(contains(frame.error().cause, "no room"));
}

TEST(Frame, PeerThatClosedSaidWhyBefore) {
    Pair pair;
    pair.here->abort({Fault::Conflict, "take VM web-1", "no room"});
    const Error reason = pair.there->reason_of({Fault::Lost, "send", "Broken pipe"});
    EXPECT_TRUE(contains(reason.cause, "no room"));
}

TEST(Frame, CancelEndsAWaitFromAnotherThread) {
    Pair pair;
    pair.there->set_deadline(std::chrono::minutes(10));
    std::thread canceller([&] { pair.there->cancel(); });
    Result<Frame> frame = pair.there->receive();
    canceller.join();
    ASSERT_FALSE(frame);
    EXPECT_EQ(frame.error().slug, "cancelled");
}

Hello hello_for(std::string job) {
    Hello hello;
    hello.command = {3, std::move(job), "copying"};
    hello.vm = "web-1";
    hello.blocks = {{"ram", 1 << 20}};
    return hello;
}

struct Greeting {
    Result<Welcome> source;
    Result<Caller> destination;
};
Greeting greet(const std::string& source_secret, const std::string& destination_secret) {
    Pair pair;
    Greeting both{fail(Fault::Lost, "", ""), fail(Fault::Lost, "", "")};
    pair.here->set_deadline(std::chrono::milliseconds(2000));
    pair.there->set_deadline(std::chrono::milliseconds(2000));
    std::thread there([&] {
        both.destination = hear_hello(*pair.there, destination_secret);
        if (both.destination)
            (void)welcome(*pair.there, *both.destination, "host-b", destination_secret);
        else
            pair.there->abort(both.destination.error());
    });
    both.source = say_hello(*pair.here, hello_for("j-1"), source_secret);
    there.join();
    return both;
}

TEST(Handshake, BothWhoKnowTheTokenMeet) {
    Greeting both = greet("the peers' secret", "the peers' secret");
    ASSERT_TRUE(both.source) << both.source.error().text();
    ASSERT_TRUE(both.destination);
    EXPECT_EQ(both.source->host, "host-b");
    EXPECT_EQ(both.destination->hello.vm, "web-1");
    EXPECT_EQ(both.destination->hello.command.token, 3u);
}

TEST(Handshake, StrangerIsDeniedBeforeAnythingIsLookedAt) {
    Greeting both = greet("a guess", "the peers' secret");
    ASSERT_FALSE(both.destination);
    EXPECT_EQ(both.destination.error().fault, Fault::Denied);
    ASSERT_FALSE(both.source);
    EXPECT_TRUE(contains(both.source.error().cause, "peer_token_file"));
}

TEST(Handshake, RecordedHelloIsWorthNothing) {
    const std::string secret = "the peers' secret";
    Hello recorded = hello_for("j-1");
    recorded.nonce = random_nonce();
    recorded.proof = hmac_sha256_hex(secret, proof_text("source", random_nonce(), recorded, 0));
    Pair pair;
    ASSERT_TRUE(pair.here->send_text(FrameType::hello, json::to_text(recorded)));
    Result<Caller> caller = hear_hello(*pair.there, secret);
    ASSERT_FALSE(caller);
    EXPECT_EQ(caller.error().fault, Fault::Denied);
}

TEST(Handshake, ProofIsHmacSha256) {
    // RFC 4231, test case 2.
    EXPECT_EQ(hmac_sha256_hex("Jefe", "what do ya want for nothing?"),
              "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

}  // namespace
