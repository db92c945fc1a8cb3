// Frames that are short, broken or not steered yet: each has its named reason and does no harm (rules 9, 10).
#include "tests/packet/planes.hpp"

#include <random>

namespace godwit::test {

TYPED_TEST_SUITE(EveryPlane, Planes);

Bytes cut(Bytes frame, std::size_t length) {
    frame.resize(length);
    return frame;
}
Bytes with(Bytes frame, std::size_t at, std::uint8_t value) {
    frame.at(at) = value;
    return frame;
}

TYPED_TEST(EveryPlane, FrameShorterThanItsHeadersIsDropped) {
    for (const Tcp& client : both_families()) {
        Bytes whole = client.data("hello");
        for (std::size_t length = 14; length < whole.size(); ++length) {
            EXPECT_TRUE(dropped(this->from_client(cut(whole, length)), "truncated")) << length;
            EXPECT_TRUE(
                dropped(this->from_source(cut(client.reply().data("hello"), length)), "truncated"));
        }
        EXPECT_EQ(this->plane.session_entries(), 0u);
        EXPECT_TRUE(went_to(this->from_client(whole), kSourcePort, "new-owner"));
    }
}

TYPED_TEST(EveryPlane, HeaderThatContradictsItselfIsDropped) {
    Bytes v4 = tcp("10.0.0.9:4000", "10.1.0.1:80").data("hello");
    Bytes v6 = tcp("[2001:db8::9]:4000", "[2001:db8:1::1]:80").data("hello");
    EXPECT_TRUE(dropped(this->from_client(with(v4, 14, 0x55)), "bad-header")) << "version";
    EXPECT_TRUE(dropped(this->from_client(with(v4, 14, 0x44)), "bad-header")) << "header length";
    EXPECT_TRUE(dropped(this->from_client(with(v4, 17, 19)), "bad-header")) << "total length";
    EXPECT_TRUE(dropped(this->from_client(with(v6, 14, 0x40)), "bad-header")) << "version";
    EXPECT_TRUE(dropped(this->from_client(with(v4, 46, 0x40)), "bad-header")) << "data offset";
    EXPECT_TRUE(dropped(this->from_client(with(v4, 46, 0xf0)), "bad-header")) << "data offset";
    EXPECT_TRUE(dropped(this->from_client(with(v4, 47, 0x03)), "bad-header")) << "SYN and FIN";
    EXPECT_TRUE(dropped(this->from_client(with(v4, 47, 0x00)), "bad-header")) << "no flags";
    EXPECT_TRUE(dropped(this->from_source(with(v4, 14, 0x55)), "not-managed") ||
                dropped(this->from_source(with(v4, 14, 0x55)), "bad-header"));
    EXPECT_TRUE(
        dropped(this->from_client(with(arp_request("10.1.0.9", "10.1.0.1"), 18, 8)), "bad-header"));
}

TYPED_TEST(EveryPlane, PathMtuErrorsReachWhoeverMayNeedThem) {
    Bytes v4 = icmp_error("10.0.0.1", "10.1.0.1"),
          v6 = icmpv6_error("2001:db8::1", "2001:db8:1::1");
    for (const Bytes& frame : {v4, v6}) {
        this->plane.steer(steady(kSource));
        EXPECT_TRUE(went_to(this->from_client(frame), kSourcePort, "icmp-error-default"));
        this->plane.steer(flipped(kSource, kDestination));
        Outcome out = this->from_client(frame);
        EXPECT_EQ(out.action, STEER_BOTH);
        EXPECT_EQ(out.why, "icmp-error-both");
    }
}

// Whatever bytes come from a fenced backend, none leaves; whatever bytes come at all, the counters stay exact.
TYPED_TEST(EveryPlane, MutatedFramesOfAFencedBackendNeverLeave) {
    std::mt19937 random(7);
    std::vector<Bytes> seeds{gratuitous_arp("10.1.0.1"),
                             neighbour_solicit("2001:db8:1::1", "2001:db8::9", kVmMac)};
    for (const Tcp& client : both_families()) {
        seeds.push_back(client.reply().data("hello"));
        seeds.push_back(client.reply().rst());
    }
    this->plane.steer(steady(kSource));
    for (int round = 0; round < 3000; ++round) {
        Bytes frame = seeds[random() % seeds.size()];
        for (unsigned i = 0; i < 1 + random() % 4; ++i)
            frame[12 + random() % (frame.size() - 12)] = static_cast<std::uint8_t>(random());
        if (random() % 3 == 0) frame.resize(14 + random() % (frame.size() - 14));
        EXPECT_EQ(this->from_destination(frame).action, STEER_DROP);
    }
}

TYPED_TEST(EveryPlane, MutatedFramesKeepTheCountersExact) {
    std::mt19937 random(8);
    this->plane.steer(flipped(kSource, kDestination));
    for (int round = 0; round < 5000; ++round) {
        Tcp client = both_families(static_cast<std::uint16_t>(random() % 8))[random() % 2];
        bool from_vm = random() % 2;
        Bytes frame = from_vm ? client.reply().data("hello") : client.data("hello");
        std::size_t flags_at = client.from.ip.family == 4 ? 47 : 67;
        frame[flags_at] = static_cast<std::uint8_t>(random());
        if (random() % 2)
            frame[12 + random() % (frame.size() - 12)] = static_cast<std::uint8_t>(random());
        this->plane.send(from_vm ? (random() % 2 ? kSourcePort : kDestinationPort) : kUplink,
                         frame);
    }
    std::array<std::uint32_t, 4> counted = this->plane.audit();
    EXPECT_EQ(counted[0], this->plane.sessions(kSource));
    EXPECT_EQ(counted[1], this->plane.sessions(kDestination));
    EXPECT_EQ(counted[2], this->plane.handshakes(kSource));
    EXPECT_EQ(counted[3], this->plane.handshakes(kDestination));
}

}  // namespace godwit::test
