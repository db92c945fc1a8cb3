// Jumbo frames: headers in the first piece, payload in others. They follow their sessions like any frame, and mode nat
// keeps their checksums right. Plane eBPF: the source's port takes frames in pieces from XDP, the destination's does
// not, and gets them by tc.
#include "tests/packet/planes.hpp"

namespace godwit::test {

TYPED_TEST_SUITE(EveryPlane, Planes);

namespace {

const std::string kLong(8900, 'j');
constexpr Mac kSourceMac{0x52, 0x54, 0, 0, 0, 0x30}, kDestinationMac{0x52, 0x54, 0, 0, 0, 0x31};

}  // namespace

TYPED_TEST(EveryPlane, AJumboFrameFollowsItsSession) {
    for (const Tcp& old : both_families(4000)) {
        this->plane.steer(steady(kSource));
        this->establish(old, kSource);
        this->plane.steer(flipped(kSource, kDestination));
        Tcp fresh = old;
        fresh.from.port = 4001;
        this->establish(fresh, kDestination);
        EXPECT_TRUE(went_to(this->from_client(old.data(kLong)), kSourcePort, "session"));
        EXPECT_TRUE(went_to(this->from_client(fresh.data(kLong)), kDestinationPort, "session"));
        EXPECT_TRUE(passed(this->from_source(old.reply().data(kLong)), "session"));
        EXPECT_TRUE(passed(this->from_destination(fresh.reply().data(kLong)), "session"));
    }
}

TYPED_TEST(EveryPlane, AJumboDatagramOpensASessionLikeAnyOther) {
    for (const char* vm : {"10.1.0.1:53", "[2001:db8:1::1]:53"}) {
        const char* peer = vm[0] == '[' ? "[2001:db8::9]:5000" : "10.0.0.9:5000";
        const char* later = vm[0] == '[' ? "[2001:db8::9]:5001" : "10.0.0.9:5001";
        this->plane.steer(steady(kSource));
        EXPECT_TRUE(
            went_to(this->from_client(udp(peer, vm).datagram(kLong)), kSourcePort, "new-owner"));
        EXPECT_TRUE(passed(this->from_source(udp(peer, vm).reply().datagram(kLong)), "handshake"));
        this->plane.steer(flipped(kSource, kDestination));
        const Bytes frame = udp(later, vm).datagram(kLong);
        const Outcome out = this->from_client(frame);
        EXPECT_EQ(out.to, std::vector{kDestinationPort});
        EXPECT_EQ(out.frame, frame) << "not a byte is changed";
        EXPECT_EQ(this->plane.pinned_to(udp(peer, vm)), kSource);
        EXPECT_EQ(this->plane.handshakes(kDestination), vm[0] == '[' ? 2u : 1u);
    }
}

TYPED_TEST(EveryPlane, AJumboFrameOfAFencedBackendIsDropped) {
    for (const Tcp& client : both_families())
        EXPECT_TRUE(dropped(this->from_destination(client.reply().data(kLong)), "fenced"));
}

TYPED_TEST(EveryPlane, AJumboFrameThatEndsTooEarlyIsTruncated) {
    for (const Tcp& client : both_families()) {
        Bytes frame = client.data(kLong);
        frame.resize(frame.size() - 1);
        EXPECT_TRUE(dropped(this->from_client(frame), "truncated"));
    }
}

TYPED_TEST(EveryPlane, InModeNatAJumboFramesChecksumsStayRight) {
    ManagedVm vm;
    vm.nat[kSource] = ManagedVm::Nat{kSourceMac, {"10.1.0.30", "2001:db8:1::30"}};
    vm.nat[kDestination] = ManagedVm::Nat{kDestinationMac, {"10.1.0.31", "2001:db8:1::31"}};
    this->plane.manage(vm);
    this->plane.steer(hosted(kSource));
    const Tcp inside[] = {tcp("10.0.0.9:4000", "10.1.0.30:80"),
                          tcp("[2001:db8::9]:4000", "[2001:db8:1::30]:80")};
    const std::vector<Tcp> clients = both_families();
    for (std::size_t i = 0; i < clients.size(); ++i) {
        Tcp seen = inside[i], outside = clients[i];
        seen.to.mac = outside.to.mac = kSourceMac;
        this->from_client(clients[i].syn());
        this->from_source(seen.reply().syn_ack());
        const Outcome in = this->from_client(clients[i].data(kLong));
        EXPECT_TRUE(went_to(in, kSourcePort, "proven"));
        EXPECT_EQ(in.frame, seen.data(kLong));
        const Outcome out = this->from_source(seen.reply().data(kLong));
        EXPECT_TRUE(passed(out, "session"));
        EXPECT_EQ(out.frame, outside.reply().data(kLong));
    }
    this->plane.steer(flipped(kSource, kDestination));
    Tcp fresh = clients[0], seen = tcp("10.0.0.9:4001", "10.1.0.31:80");
    fresh.from.port = 4001;
    seen.to.mac = kDestinationMac;
    this->from_client(fresh.syn());
    this->from_destination(seen.reply().syn_ack());
    const Outcome in = this->from_client(fresh.data(kLong));
    EXPECT_TRUE(went_to(in, kDestinationPort, "proven"));
    EXPECT_EQ(in.frame, seen.data(kLong));
}

}  // namespace godwit::test
