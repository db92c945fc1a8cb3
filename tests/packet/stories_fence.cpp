// Who may speak: the egress fence (rule 5), second chances (rule 3), and source addresses.
#include "tests/packet/planes.hpp"

namespace godwit::test {

TYPED_TEST_SUITE(EveryPlane, Planes);

TYPED_TEST(EveryPlane, CloneMayNotSpeakOnACopiedSessionAndIsToldSo) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(steady(kSource));
        this->establish(client, kSource);
        this->plane.steer(flipped(kSource, kDestination));
        Tcp vm = client.reply();
        EXPECT_TRUE(refused(this->from_destination(vm.data("copied")), kDestinationPort, client));
        EXPECT_TRUE(refused(this->from_destination(vm.fin()), kDestinationPort, client));
        EXPECT_TRUE(refused(this->from_destination(vm.syn_ack()), kDestinationPort, client))
            << "copied before the handshake was done";
        EXPECT_TRUE(dropped(this->from_destination(vm.rst()), "fenced")) << "it is dead already";
        EXPECT_TRUE(passed(this->from_source(vm.data("original")), "session"));
        EXPECT_EQ(this->plane.pinned_to(client), kSource);
    }
}

TYPED_TEST(EveryPlane, OnlyACloneIsToldThatItsSocketIsDead) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(steady(kSource));
        this->plane.steer(flipped(kSource, kDestination));
        this->establish(client, kDestination);
        Tcp vm = client.reply();
        EXPECT_TRUE(dropped(this->from_source(vm.data("x")), "fenced")) << "the original";
        this->plane.steer(flipped(kDestination, kSource));
        EXPECT_TRUE(dropped(this->from_source(vm.data("x")), "fenced")) << "after a rollback too";
        this->plane.steer(steady(kSource));
        EXPECT_TRUE(dropped(this->from_destination(vm.data("x")), "fenced"))
            << "nobody is told while only one backend is active";
    }
}

TYPED_TEST(EveryPlane, CopyOfASessionThatHasEndedIsToldSo) {
    Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    this->establish(client, kSource);
    this->plane.steer(flipped(kSource, kDestination));
    this->from_client(client.rst());
    this->from_source(client.reply().rst());
    EXPECT_EQ(this->plane.sessions(kSource), 0u);
    EXPECT_TRUE(
        refused(this->from_destination(client.reply().data("copied")), kDestinationPort, client));
}

TYPED_TEST(EveryPlane, CloneMayNotSpeakOnASessionThatTheSwitchDoesNotKnow) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(flipped(kSource, kDestination));
        Tcp vm = client.reply();
        EXPECT_TRUE(dropped(this->from_destination(vm.data("keepalive")), "fenced"));
        EXPECT_TRUE(dropped(this->from_destination(vm.syn_ack()), "fenced"))
            << "a copied half-open socket";
        EXPECT_TRUE(dropped(this->from_destination(vm.rst()), "fenced"));
        EXPECT_EQ(this->plane.session_entries(), 0u);
    }
}

TYPED_TEST(EveryPlane, CloneMayOpenANewConnection) {
    for (const Tcp& peer : both_families()) {
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(passed(this->from_destination(peer.reply().syn()), "opened"));
        EXPECT_EQ(this->plane.pinned_to(peer), kDestination);
    }
}

TYPED_TEST(EveryPlane, SourceMayNotSpeakOnAConnectionOfTheDestination) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(flipped(kSource, kDestination));
        this->from_client(client.syn());
        EXPECT_TRUE(dropped(this->from_source(client.reply().syn_ack()), "fenced"));
        EXPECT_TRUE(dropped(this->from_source(client.reply().rst()), "fenced"));
        EXPECT_TRUE(dropped(this->from_source(client.reply().data("x")), "fenced"));
        EXPECT_TRUE(passed(this->from_destination(client.reply().syn_ack()), "handshake"));
    }
}

TYPED_TEST(EveryPlane, BackendThatIsNeitherOwnerNorPreviousIsSilent) {
    Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    for (const Plan& plan : {steady(kSource), hosted(kSource)}) {
        this->plane.steer(plan);
        EXPECT_TRUE(dropped(this->from_destination(client.reply().syn()), "fenced"));
        EXPECT_TRUE(dropped(
            this->from_destination(udp("10.0.0.9:1", "10.1.0.1:2").reply().datagram()), "fenced"));
        EXPECT_TRUE(dropped(this->from_destination(gratuitous_arp("10.1.0.1")), "fenced-announce"));
        EXPECT_TRUE(dropped(this->from_destination(rarp()), "fenced-announce"));
        EXPECT_TRUE(
            dropped(this->from_destination(arp_reply_from_vm("10.1.0.1", "10.1.0.254")), "fenced"));
        EXPECT_TRUE(dropped(this->from_destination(echo_from_vm("10.1.0.99", "10.0.0.9").request()),
                            "fenced"))
            << "not with another address either";
        EXPECT_TRUE(dropped(
            this->from_destination(ethernet(kBroadcast, kVmMac, 0x88cc, Bytes(46, 0))), "fenced"));
    }
    EXPECT_TRUE(passed(this->from_source(client.reply().syn()), "opened"));
}

TYPED_TEST(EveryPlane, SourceIsSilentAfterTheHandover) {
    Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    this->establish(client, kSource);
    this->plane.steer(flipped(kSource, kDestination));
    this->plane.steer(steady(kDestination));
    EXPECT_TRUE(dropped(this->from_source(client.reply().data("late")), "fenced"));
    EXPECT_TRUE(went_to(this->from_client(client.data("late")), kDestinationPort, "new-owner"));
}

TYPED_TEST(EveryPlane, CopiedUdpSocketMayNotAnswerAnOldFlow) {
    Udp flow = udp("10.0.0.9:5000", "10.1.0.1:53");
    this->from_client(flow.datagram());
    this->from_source(flow.reply().datagram());
    this->plane.steer(flipped(kSource, kDestination));
    EXPECT_TRUE(dropped(this->from_destination(flow.reply().datagram()), "fenced"));
    EXPECT_TRUE(passed(this->from_source(flow.reply().datagram()), "session"));
}

TYPED_TEST(EveryPlane, UdpNewcomerIsAnsweredOnlyByWhoWasGivenIt) {
    Udp flow = udp("10.0.0.9:5000", "10.1.0.1:53");
    this->plane.steer(flipped(kSource, kDestination));
    this->from_client(flow.datagram());
    EXPECT_TRUE(dropped(this->from_source(flow.reply().datagram()), "fenced"));
    EXPECT_TRUE(passed(this->from_destination(flow.reply().datagram()), "handshake"));
}

TYPED_TEST(EveryPlane, AnotherVmsAddressIsNoSource) {
    this->plane.manage(
        {kOtherVm, {"10.1.0.2", "2001:db8:1::2"}, {kOtherVmPort, kUplink}, kOtherVmMac});
    this->plane.steer(steady(kSource), kOtherVm);
    Tcp forged = tcp("10.0.0.9:4000", "10.1.0.2:80");
    forged.to.mac = kVmMac;
    EXPECT_TRUE(dropped(this->from_source(forged.reply().syn()), "spoofed-source"));
    Tcp forged6 = tcp("[2001:db8::9]:4000", "[2001:db8:1::2]:80");
    EXPECT_TRUE(dropped(this->from_source(forged6.reply().syn()), "spoofed-source"));
    EXPECT_TRUE(dropped(this->from_source(arp_request_from_vm("10.1.0.2", "10.1.0.254")),
                        "spoofed-source"));
    EXPECT_TRUE(dropped(this->from_source(gratuitous_arp("10.1.0.2")), "spoofed-source"));
    EXPECT_TRUE(
        passed(this->from_source(tcp("10.0.0.9:4000", "10.1.0.1:80").reply().syn()), "opened"));
}

TYPED_TEST(EveryPlane, UnsteeredAddressOfAnActiveVmIsLeftAlone) {
    EXPECT_TRUE(
        passed(this->from_source(echo_from_vm("10.1.0.30", "10.0.0.9").request()), "not-managed"));
}

// Second chance: an entry or a handshake record was lost, and the previous owner refuses what is the
// destination's.
TYPED_TEST(EveryPlane, RefusalByTheSourceIsWithheldAndTheDestinationIsAsked) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(went_to(this->from_client(client.data("whose?")), kSourcePort, "previous"));
        EXPECT_TRUE(dropped(this->from_source(client.reply().refusal()), "rst-withheld"));
        EXPECT_TRUE(
            went_to(this->from_client(client.data("whose?")), kDestinationPort, "second-chance"));
        EXPECT_TRUE(passed(this->from_destination(client.reply().data("mine")), "second-chance"));
        EXPECT_EQ(this->plane.pinned_to(client), kDestination);
        EXPECT_EQ(this->plane.handshakes(kDestination), 0u);
    }
}

TYPED_TEST(EveryPlane, RefusedForgeryGivesNoChanceToTheClientsOwnSegments) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(flipped(kSource, kDestination));
        this->from_client(client.ack_of(0x70000000));
        EXPECT_TRUE(dropped(this->from_source(client.reply().segment({0x04, 0x70000000, 0, {}})),
                            "rst-withheld"));
        EXPECT_TRUE(went_to(this->from_client(client.data("mine")), kSourcePort, "previous"));
        EXPECT_TRUE(dropped(this->from_source(client.reply().refusal()), "rst-withheld"))
            << "and this one counts";
        EXPECT_TRUE(
            went_to(this->from_client(client.data("mine")), kDestinationPort, "second-chance"));
        EXPECT_TRUE(passed(this->from_destination(client.reply().rst()), "second-chance"));
    }
}

// A session that the switch does not know, and the source aborts it: no second chance, or the peer's next
// segment would find the clone's copy of the socket.
TYPED_TEST(EveryPlane, AbortByTheSourceIsNoRefusal) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(passed(this->from_source(client.reply().rst()), "opened"));
        EXPECT_EQ(this->plane.sessions(kSource), 0u);
        this->plane.advance_s(60);
        this->plane.sweep();
        EXPECT_TRUE(went_to(this->from_client(client.data("late")), kSourcePort, "session"));
        EXPECT_TRUE(passed(this->from_source(client.reply().refusal()), "session"));
    }
}

TYPED_TEST(EveryPlane, WhenBothRefuseThePeerHearsIt) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(flipped(kSource, kDestination));
        this->from_client(client.data("whose?"));
        this->from_source(client.reply().refusal());
        this->from_client(client.data("whose?"));
        EXPECT_TRUE(passed(this->from_destination(client.reply().rst()), "second-chance"));
        EXPECT_EQ(this->plane.handshakes(kDestination), 0u) << "the chance is used up";
    }
}

TYPED_TEST(EveryPlane, SynAfterARefusalIsAnOrdinaryNewcomer) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(flipped(kSource, kDestination));
        this->from_client(client.data("whose?"));
        this->from_source(client.reply().refusal());
        EXPECT_TRUE(went_to(this->from_client(client.syn()), kDestinationPort, "new-owner"));
        this->from_destination(client.reply().syn_ack());
        EXPECT_TRUE(went_to(this->from_client(client.ack()), kDestinationPort, "proven"));
        EXPECT_EQ(this->plane.handshakes(kDestination), 0u);
    }
}

TYPED_TEST(EveryPlane, RefusedSynIsToldAtOnce) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(flipped(kSource, kDestination));
        this->from_client(client.syn());
        EXPECT_TRUE(passed(this->from_destination(client.reply().rst()), "handshake"))
            << "closed port";
        EXPECT_EQ(this->plane.handshakes(kDestination), 0u);
    }
    for (const Tcp& client : both_families(4001)) {
        this->plane.steer(steady(kSource));
        this->from_client(client.syn());
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(passed(this->from_source(client.reply().rst()), "handshake"));
        EXPECT_EQ(this->plane.handshakes(kSource), 0u);
    }
}

TYPED_TEST(EveryPlane, AnswerToAForgedAckDoesNotEndTheHandshake) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(flipped(kSource, kDestination));
        this->from_client(client.syn());
        this->from_destination(client.reply().syn_ack());
        this->from_client(client.ack_of(4711));
        Outcome refusal = this->from_destination(client.reply().segment({0x04, 4711, 0, {}}));
        EXPECT_TRUE(dropped(refusal, "fenced")) << "nobody who is honest waits for it";
        EXPECT_TRUE(went_to(this->from_client(client.ack()), kDestinationPort, "proven"));
        this->from_destination(client.reply().rst());
    }
}

// The client comes again on ports of which the clone holds a copied socket: the clone's challenge and the
// client's RST clear it away, and the next SYN is accepted.
TYPED_TEST(EveryPlane, CopiedSocketInTheWayOfANewConnectionIsClearedByItsChallenge) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(flipped(kSource, kDestination));
        Tcp again = client.restarted(0x70000000);
        this->from_client(again.syn());
        EXPECT_TRUE(dropped(this->from_destination(client.reply().data("copied")), "fenced"));
        EXPECT_TRUE(passed(this->from_destination(client.reply().ack()), "handshake"))
            << "the challenge";
        Outcome clears = this->from_client(again.segment({0x04, client.isn + 1, 0, {}}));
        EXPECT_TRUE(went_to(clears, kDestinationPort, "handshake"));
        EXPECT_TRUE(went_to(this->from_client(again.syn()), kDestinationPort, "handshake"));
        EXPECT_TRUE(passed(this->from_destination(again.reply().syn_ack()), "handshake"));
        EXPECT_TRUE(went_to(this->from_client(again.ack()), kDestinationPort, "proven"));
        this->from_destination(again.reply().rst());
        this->plane.advance_s(4);
        this->plane.sweep();
    }
}

TYPED_TEST(EveryPlane, RstOfASteadyVmIsNotHeldBack) {
    EXPECT_TRUE(
        passed(this->from_source(tcp("10.0.0.9:4000", "10.1.0.1:80").reply().rst()), "opened"));
}

}  // namespace godwit::test
