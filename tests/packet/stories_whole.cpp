// A VM that has moved as a whole (method `whole`): nothing drains, because nothing is left behind. Sessions
// keep their slot; what turns is the slot's port.
#include "tests/packet/planes.hpp"

namespace godwit::test {

TYPED_TEST_SUITE(EveryPlane, Planes);

namespace {

ManagedVm moved() {
    ManagedVm vm;
    vm.ports[kSource] = kDestinationPort;
    vm.ports[kDestination] = kSourcePort;
    return vm;
}

}  // namespace

TYPED_TEST(EveryPlane, VmThatMovedAsAWholeTakesEverySessionAlong) {
    this->plane.steer(hosted(kSource));
    for (const Tcp& client : both_families()) this->establish(client, kSource);
    this->plane.manage(moved());
    for (const Tcp& client : both_families()) {
        EXPECT_TRUE(went_to(this->from_client(client.data("hello")), kDestinationPort, "session"));
        EXPECT_TRUE(passed(this->from_destination(client.reply().data("hello")), "session"));
        EXPECT_EQ(this->plane.pinned_to(client), kSource) << "the slot stays, its port has turned";
    }
    EXPECT_EQ(this->plane.sessions(kSource), 2u);
    EXPECT_EQ(this->plane.sessions(kDestination), 0u);
}

TYPED_TEST(EveryPlane, HandshakeGoesOnWithTheVmThatMovedAsAWhole) {
    for (const Tcp& client : both_families()) {
        this->plane.manage({});
        this->plane.steer(hosted(kSource));
        this->from_client(client.syn());
        this->from_source(client.reply().syn_ack());
        this->plane.manage(moved());
        EXPECT_TRUE(went_to(this->from_client(client.syn()), kDestinationPort, "handshake"));
        EXPECT_TRUE(passed(this->from_destination(client.reply().syn_ack()), "handshake"));
        EXPECT_TRUE(went_to(this->from_client(client.ack()), kDestinationPort, "proven"));
    }
}

TYPED_TEST(EveryPlane, WhereTheWholeVmWasNothingMaySpeakAnyMore) {
    this->plane.steer(hosted(kSource));
    for (const Tcp& client : both_families()) this->establish(client, kSource);
    this->plane.manage(moved());
    for (const Tcp& client : both_families()) {
        EXPECT_TRUE(dropped(this->from_source(client.reply().data("stale")), "fenced"));
        EXPECT_TRUE(dropped(this->from_source(client.reply().rst()), "fenced"));
    }
    const Tcp newcomer = tcp("10.0.0.7:5000", "10.1.0.1:80");
    EXPECT_TRUE(went_to(this->from_client(newcomer.syn()), kDestinationPort, "new-owner"));
}

}  // namespace godwit::test
