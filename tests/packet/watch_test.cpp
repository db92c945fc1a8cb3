// Looking into the planes of production: frames in, records out. On eBPF it needs root.
#include "tests/packet/planes.hpp"

#include <algorithm>
#include <cstring>

namespace godwit::test {
namespace {

struct Seen {
    steer_flow flow;
    Bytes bytes;
};

class Watched : public EveryPlane<GODWIT_PLANE> {
protected:
    steer_watch& watch() { return plane.tap().watch(); }
    // Every packet, with room for `budget` of them.
    void sample(std::uint32_t every, std::int32_t budget = 1'000'000) {
        watch().every = every;
        watch().budget = budget;
        watch().on = STEER_WATCH_SAMPLES;
    }
    std::vector<Seen> seen() {
        std::vector<Seen> all;
        const auto take = [&](const steer_flow& flow, std::span<const std::uint8_t> bytes) {
            all.push_back({flow, {bytes.begin(), bytes.end()}});
        };
        while (plane.tap().read(64, take) > 0) {
        }
        return all;
    }
    std::string said(const Seen& one) {
        static constexpr const char* kActions[] = {"pass",   "forward", "both",
                                                   "answer", "drop",    "refuse"};
        const auto port = [this](std::uint32_t ifindex) {
            static constexpr const char* kNames[] = {"uplink", "source", "destination", "other"};
            const Port at = plane.port_of(ifindex);
            return std::string(at < 4 ? kNames[at] : "-");
        };
        return port(one.flow.in) + ">" + port(one.flow.out) + " " +
               kActions[one.flow.verdict.action] + " " + steer_why_name(one.flow.verdict.why);
    }
    std::vector<std::string> told() {
        std::vector<std::string> all;
        for (const Seen& one : seen()) all.push_back(said(one));
        return all;
    }
};
using Words = std::vector<std::string>;

TEST_F(Watched, NothingIsWrittenDownWhenNobodyWatches) {
    watch().every = 1;
    watch().budget = 100;
    establish(tcp("10.0.0.9:4000", "10.1.0.1:80"), kSource);
    EXPECT_EQ(told(), Words{});
    EXPECT_EQ(watch().budget, 100);
}

TEST_F(Watched, EveryPacketIsToldWithPortsVerdictAndReason) {
    for (const Tcp& client : both_families()) {
        plane.steer(steady(kSource));
        sample(1);
        establish(client, kSource);
        EXPECT_EQ(told(), (Words{"uplink>source forward new-owner", "source>uplink pass handshake",
                                 "uplink>source forward proven"}));
        plane.steer(flipped(kSource, kDestination));
        from_destination(client.reply().rst());
        from_destination(client.reply().data("copied"));
        from_client(client.data("more"));
        EXPECT_EQ(told(),
                  (Words{"destination>- drop fenced", "destination>destination refuse copy-refused",
                         "uplink>source forward session"}));
    }
}

TEST_F(Watched, RecordHoldsTheFiveTupleAndNoPayload) {
    for (const Tcp& client : both_families()) {
        sample(1);
        const Bytes frame = client.syn();
        from_client(frame);
        const std::vector<Seen> all = seen();
        ASSERT_EQ(all.size(), 1u);
        const steer_flow& flow = all[0].flow;
        EXPECT_EQ(flow.family, client.from.ip.family);
        EXPECT_EQ(flow.protocol, 6);
        EXPECT_EQ(flow.tcp_flags, 0x02);
        EXPECT_EQ(flow.source_port, 4000);
        EXPECT_EQ(flow.destination_port, 80);
        EXPECT_TRUE(std::ranges::equal(flow.source, client.from.ip.words_be()));
        EXPECT_TRUE(std::ranges::equal(flow.destination, client.to.ip.words_be()));
        EXPECT_TRUE(std::ranges::equal(flow.source_mac, kClientMac));
        EXPECT_TRUE(std::ranges::equal(flow.destination_mac, kVmMac));
        EXPECT_EQ(flow.vm, kVm);
        EXPECT_EQ(flow.verdict.slot, kSource);
        EXPECT_EQ(flow.length, frame.size());
        EXPECT_EQ(flow.captured, 0) << "no byte of the frame is kept";
    }
}

TEST_F(Watched, WhatTheSwitchAnswersAndWhatIsNobodysIsToldToo) {
    plane.steer(hosted(kSource));
    sample(1);
    from_client(arp_request("10.0.0.9", "10.1.0.1"));
    from_client(tcp("10.0.0.9:4000", "10.1.0.77:80").syn());
    std::vector<Seen> all = seen();
    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(said(all[0]), "uplink>uplink answer arp-answered");
    EXPECT_EQ(said(all[1]), "uplink>- pass not-managed");
    EXPECT_EQ(all[1].flow.vm, STEER_FLOW_NO_VM);
}

TEST_F(Watched, ReasonThatIsAlwaysToldNeedsNoLuck) {
    const Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    establish(client, kSource);
    sample(0);
    watch().always[STEER_WHY_FENCED / 64] |= 1ull << (STEER_WHY_FENCED % 64);
    plane.steer(flipped(kSource, kDestination));
    for (int i = 0; i < 3; ++i) {
        from_client(client.data("x"));
        from_destination(client.reply().rst());
    }
    EXPECT_EQ(told(), Words(3, "destination>- drop fenced"));
}

TEST_F(Watched, OneInSoManyIsAboutOneInSoMany) {
    const Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    establish(client, kSource);
    sample(16);
    const Bytes frame = client.data("x");
    for (int i = 0; i < 8000; ++i) from_client(frame);
    // 500 are expected; six standard deviations are 130, which happens once in a thousand million runs.
    EXPECT_NEAR(static_cast<double>(seen().size()), 500.0, 130.0);
    EXPECT_EQ(watch().lost, 0u);
}

TEST_F(Watched, WhatTheBudgetDoesNotAllowIsCounted) {
    sample(1, 5);
    const Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    for (int i = 0; i < 12; ++i) from_client(client.syn());
    EXPECT_EQ(seen().size(), 5u);
    EXPECT_EQ(watch().lost, 7u);
    EXPECT_EQ(watch().budget, 0);
}

TEST_F(Watched, RingThatNobodyReadsLosesAndCounts) {
    const Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    establish(client, kSource);
    sample(1);
    watch().capture[2].vm = STEER_FLOW_NO_VM;
    watch().capture[2].left = 1'000'000;
    watch().capture[2].snap = STEER_SNAP_MAX;
    watch().on |= STEER_WATCH_CAPTURES;
    const Bytes frame = client.data("x");
    constexpr unsigned kFrames = 2500;
    for (unsigned i = 0; i < kFrames; ++i) from_client(frame);
    const std::size_t read = seen().size();
    EXPECT_GT(watch().lost, 0u);
    EXPECT_EQ(read + watch().lost, kFrames);
    EXPECT_EQ(watch().capture[2].lost, watch().lost);
    EXPECT_EQ(watch().capture[2].left, 1'000'000 - static_cast<int>(read));
    from_client(frame);
    EXPECT_EQ(seen().size(), 1u) << "it goes on once there is room";
}

void narrow(steer_capture& capture, const Endpoint& one, const Endpoint& other,
            std::uint32_t snap) {
    capture.vm = kVm;
    capture.protocol = 6;
    std::ranges::copy(one.ip.words_be(), capture.address[0]);
    std::ranges::copy(other.ip.words_be(), capture.address[1]);
    capture.port[0] = one.port;
    capture.port[1] = other.port;
    capture.left = 100;
    capture.snap = snap;
}

TEST_F(Watched, CaptureTakesOneSessionInBothDirectionsAndNothingElse) {
    for (const Tcp& client : both_families()) {
        plane.steer(steady(kSource));
        narrow(watch().capture[1], client.to, client.from, 100);
        watch().on = STEER_WATCH_CAPTURES;
        Tcp other = client;
        other.from.port = 4001;
        const std::vector<std::pair<Port, Bytes>> story = {
            {kUplink, client.syn()},
            {kUplink, other.syn()},
            {kSourcePort, client.reply().syn_ack()},
            {kSourcePort, other.reply().syn_ack()},
            {kUplink, client.data(std::string(200, 'x'))},
            {kUplink, error_about(client.from.ip, client.to, client.reply().data("y"))},
            {kUplink, udp("10.0.0.9:4000", "10.1.0.1:80").datagram()}};
        for (const auto& [port, frame] : story) plane.send(port, frame);
        const std::vector<Seen> all = seen();
        ASSERT_EQ(all.size(), 4u);
        const std::size_t wanted[] = {0, 2, 4, 5};
        for (std::size_t i = 0; i < 4; ++i) {
            const Bytes& frame = story[wanted[i]].second;
            EXPECT_EQ(all[i].flow.wanted, 1u << 1);
            EXPECT_EQ(all[i].flow.length, frame.size());
            EXPECT_EQ(all[i].bytes,
                      Bytes(frame.begin(),
                            frame.begin() + std::min<std::ptrdiff_t>(std::ssize(frame), 100)))
                << "frame " << wanted[i];
        }
        watch() = {};
    }
}

TEST_F(Watched, CaptureEndsWithItsCount) {
    const Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    narrow(watch().capture[0], client.from, client.to, STEER_SNAP_MAX);
    watch().capture[0].left = 2;
    watch().on = STEER_WATCH_CAPTURES;
    for (int i = 0; i < 5; ++i) from_client(client.syn());
    const std::vector<Seen> all = seen();
    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(all[0].bytes, client.syn());
    EXPECT_EQ(watch().capture[0].lost, 0u) << "what comes after the end is not lost";
}

}  // namespace
}  // namespace godwit::test
