// How sessions end (rule 6), when a drain is over (rule 7), and the way back (rule 8).
#include "tests/packet/planes.hpp"

namespace godwit::test {

TYPED_TEST_SUITE(EveryPlane, Planes);

TYPED_TEST(EveryPlane, BothFinsAcknowledgedEndTheSession) {
    for (const Tcp& client : both_families()) {
        Tcp vm = client.reply();
        this->establish(client, kSource);
        this->from_client(client.fin());
        EXPECT_EQ(this->plane.sessions(kSource), 1u);
        this->from_source(vm.fin(0, 1));
        EXPECT_EQ(this->plane.sessions(kSource), 1u)
            << "the peer has not acknowledged the VM's FIN";
        EXPECT_TRUE(went_to(this->from_client(client.fin_acked()), kSourcePort, "session"));
        EXPECT_EQ(this->plane.sessions(kSource), 0u);
        EXPECT_TRUE(went_to(this->from_client(client.fin()), kSourcePort, "session")) << "linger";
        EXPECT_EQ(this->plane.sessions(kSource), 0u);
    }
}

TYPED_TEST(EveryPlane, VmThatClosesFirstEndsTheSessionToo) {
    for (const Tcp& client : both_families()) {
        Tcp vm = client.reply();
        this->establish(client, kSource);
        this->from_source(vm.data("bye"));
        this->from_source(vm.fin(3));
        this->from_client(client.fin(0, 4));
        EXPECT_EQ(this->plane.sessions(kSource), 1u);
        this->from_source(vm.fin_acked(4));
        EXPECT_EQ(this->plane.sessions(kSource), 0u);
    }
}

TYPED_TEST(EveryPlane, HalfClosedSessionLives) {
    for (const Tcp& client : both_families()) {
        Tcp vm = client.reply();
        this->plane.steer(steady(kSource));
        this->establish(client, kSource);
        this->from_client(client.fin());
        this->from_source(vm.fin_acked(0));
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(passed(this->from_source(vm.data("still sending")), "session"));
        EXPECT_EQ(this->plane.pinned_to(client), kSource);
    }
}

TYPED_TEST(EveryPlane, ForgedFinAcknowledgementOfNothingDoesNotEndIt) {
    Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    this->establish(client, kSource);
    this->from_client(client.fin(5000));
    this->from_client(client.fin_acked(5001, 99));
    EXPECT_EQ(this->plane.pinned_to(client), kSource);
}

TYPED_TEST(EveryPlane, ForgedFinDoesNotHideTheRealOne) {
    for (const Tcp& client : both_families()) {
        for (std::uint32_t offset : {0x40000000u, 1000u}) {  // outside the window, and inside it
            this->establish(client, kSource);
            this->from_source(client.reply().data("x"));
            this->from_client(client.fin(offset));
            this->from_client(client.fin(0, 1));
            this->from_source(client.reply().fin(1, 1));
            this->from_client(client.fin_acked(1, 2));
            EXPECT_EQ(this->plane.sessions(kSource), 0u) << offset;
            this->plane.advance_s(4);
            this->plane.sweep();
        }
    }
}

TYPED_TEST(EveryPlane, ForgedFinDoesNotShortenTheIdleLimit) {
    Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    this->establish(client, kSource);
    this->from_source(client.reply().data("x"));
    this->from_client(client.fin(0x40000000));
    this->plane.advance_s(300);
    this->plane.sweep();
    EXPECT_EQ(this->plane.pinned_to(client), kSource);
}

// The peer missed the last acknowledgement and repeats its FIN after the entry has gone; the VM, in
// TIME-WAIT, acknowledges again. That is no session to keep for hours.
TYPED_TEST(EveryPlane, RepeatedFinAfterTheEndMakesNoLongLivedEntry) {
    for (const Tcp& client : both_families()) {
        this->from_client(client.fin(0, 1));
        this->from_source(client.reply().fin_acked(1, 1));
        this->from_client(client.fin(0, 1));
        this->from_source(client.reply().fin_acked(1, 1));
        this->plane.advance_s(250);
        this->plane.sweep();
        EXPECT_EQ(this->plane.sessions(kSource), 0u);
    }
}

TYPED_TEST(EveryPlane, RstOfTheVmEndsTheSessionAtOnce) {
    for (const Tcp& client : both_families()) {
        this->establish(client, kSource);
        EXPECT_TRUE(passed(this->from_source(client.reply().rst()), "session"));
        EXPECT_EQ(this->plane.sessions(kSource), 0u);
    }
}

TYPED_TEST(EveryPlane, RstOfThePeerEndsTheSessionAfterTheLinger) {
    for (const Tcp& client : both_families()) {
        this->establish(client, kSource);
        this->from_source(client.reply().data("x"));
        EXPECT_TRUE(went_to(this->from_client(client.rst()), kSourcePort, "session"));
        EXPECT_EQ(this->plane.sessions(kSource), 1u) << "the VM may still deny it";
        this->plane.advance_s(4);
        this->plane.sweep();
        EXPECT_EQ(this->plane.sessions(kSource), 0u);
    }
}

TYPED_TEST(EveryPlane, ForgedRstOutsideTheWindowIsIgnored) {
    for (const Tcp& client : both_families()) {
        this->establish(client, kSource);
        this->from_source(client.reply().data("x"));
        this->from_client(client.rst(0x40000000));
        this->plane.advance_s(4);
        this->plane.sweep();
        EXPECT_EQ(this->plane.pinned_to(client), kSource);
    }
}

TYPED_TEST(EveryPlane, ForgedRstInsideTheWindowIsDeniedByTheVmsNextWord) {
    for (const Tcp& client : both_families()) {
        this->establish(client, kSource);
        this->from_client(client.rst(100));
        this->from_source(client.reply().fin_acked(0, 0));  // the challenge ACK
        this->plane.advance_s(4);
        this->plane.sweep();
        EXPECT_EQ(this->plane.pinned_to(client), kSource);
    }
}

// The VM's last words and the peer's RST cross: the VM has gone, nobody speaks any more.
TYPED_TEST(EveryPlane, EntryWhoseRstCrossedTheVmsLastWordsEndsSoon) {
    for (const Tcp& client : both_families()) {
        this->establish(client, kSource);
        this->from_client(client.rst());
        this->from_source(client.reply().data("on its way"));
        this->plane.advance_s(100);
        this->plane.sweep();
        EXPECT_EQ(this->plane.pinned_to(client), kSource) << "it may have been a forged RST";
        this->plane.advance_s(150);
        this->plane.sweep();
        EXPECT_EQ(this->plane.sessions(kSource), 0u);
    }
}

TYPED_TEST(EveryPlane, PeerThatSpeaksOnDispelsTheDoubt) {
    for (const Tcp& client : both_families()) {
        this->establish(client, kSource);
        this->from_client(client.rst(100));
        this->from_source(client.reply().fin_acked(0, 0));
        this->from_client(client.data("still here"));
        this->plane.advance_s(7000);
        this->plane.sweep();
        EXPECT_EQ(this->plane.pinned_to(client), kSource);
    }
}

TYPED_TEST(EveryPlane, RefusedOwnConnectionEnds) {
    for (const Tcp& peer : both_families()) {
        this->from_source(peer.reply().syn());
        this->from_client(peer.segment({0x14, 0, peer.peer_isn + 1, {}}));
        this->plane.advance_s(4);
        this->plane.sweep();
        EXPECT_EQ(this->plane.sessions(kSource), 0u);
    }
}

TYPED_TEST(EveryPlane, SynOnAClosedEntryIsANewSession) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(steady(kSource));
        this->establish(client, kSource);
        this->plane.steer(flipped(kSource, kDestination));
        this->from_source(client.reply().rst());
        Tcp again = client.restarted(777000);
        EXPECT_TRUE(went_to(this->from_client(again.syn()), kDestinationPort, "reopened"));
        EXPECT_TRUE(passed(this->from_destination(again.reply().syn_ack()), "handshake"));
        EXPECT_TRUE(went_to(this->from_client(again.ack()), kDestinationPort, "proven"));
        EXPECT_EQ(this->plane.pinned_to(client), kDestination);
    }
}

// The client's RST was lost, so the entry is live while neither end has the connection any more.
TYPED_TEST(EveryPlane, VmThatAcceptsAnewOnALiveEntryBeginsANewHandshake) {
    for (const Tcp& client : both_families()) {
        Tcp again = client.restarted(777000);
        again.peer_isn = 888000;
        this->establish(client, kSource);
        this->from_client(client.fin());
        EXPECT_TRUE(went_to(this->from_client(again.syn()), kSourcePort, "session"));
        EXPECT_TRUE(passed(this->from_source(again.reply().syn_ack()), "reopened"));
        EXPECT_EQ(this->plane.sessions(kSource), 0u);
        EXPECT_TRUE(went_to(this->from_client(again.ack()), kSourcePort, "proven"));
        this->from_client(again.fin());
        this->from_source(again.reply().fin(0, 1));
        this->from_client(again.fin_acked());
        EXPECT_EQ(this->plane.sessions(kSource), 0u) << "nothing of the old one is left";
        this->plane.advance_s(4);
        this->plane.sweep();
    }
}

TYPED_TEST(EveryPlane, RepeatedSynAckOfALiveSessionChangesNothing) {
    for (const Tcp& client : both_families()) {
        this->establish(client, kSource);
        EXPECT_TRUE(passed(this->from_source(client.reply().syn_ack()), "session"));
        EXPECT_EQ(this->plane.pinned_to(client), kSource);
    }
}

TYPED_TEST(EveryPlane, SynOnALiveEntryStaysWithItsOwner) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(steady(kSource));
        this->establish(client, kSource);
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(went_to(this->from_client(client.restarted(5).syn()), kSourcePort, "session"));
        EXPECT_EQ(this->plane.pinned_to(client), kSource);
    }
}

TYPED_TEST(EveryPlane, VmReusesAPortOfItsClosedConnection) {
    for (const Tcp& peer : both_families()) {
        this->from_source(peer.reply().syn());
        this->from_source(peer.reply().rst());
        EXPECT_TRUE(passed(this->from_source(peer.reply().restarted(5).syn()), "reopened"));
        EXPECT_EQ(this->plane.pinned_to(peer), kSource);
    }
}

TYPED_TEST(EveryPlane, IdleLimitsFollowTheStateOfTheSession) {
    Tcp established = tcp("10.0.0.9:4000", "10.1.0.1:80");
    Tcp opening = tcp("10.0.0.9:4001", "10.1.0.1:80");
    Udp flow = udp("10.0.0.9:5000", "10.1.0.1:53");
    Echo stream = echo("10.0.0.9", "10.1.0.1");
    this->establish(established, kSource);
    this->from_source(opening.reply().syn());
    this->from_source(flow.reply().datagram());
    this->from_client(stream.request());
    this->from_source(stream.reply());
    this->plane.advance_s(61);
    this->plane.sweep();
    EXPECT_FALSE(this->plane.pinned_to(stream)) << "60 s";
    EXPECT_EQ(this->plane.pinned_to(opening), kSource);
    this->plane.advance_s(200);
    this->plane.sweep();
    EXPECT_FALSE(this->plane.pinned_to(opening)) << "240 s";
    EXPECT_EQ(this->plane.pinned_to(flow), kSource);
    this->plane.advance_s(60);
    this->plane.sweep();
    EXPECT_FALSE(this->plane.pinned_to(flow)) << "300 s";
    this->plane.advance_s(7000);
    this->plane.sweep();
    EXPECT_EQ(this->plane.pinned_to(established), kSource);
    this->plane.advance_s(200);
    this->plane.sweep();
    EXPECT_FALSE(this->plane.pinned_to(established)) << "7440 s";
    EXPECT_EQ(this->plane.session_entries(), 0u);
}

// Of the VM where it serves, or of the peer where the VM asks; what is not open is as transitory as ever.
TYPED_TEST(EveryPlane, APortMayHaveAnIdleLimitOfItsOwn) {
    const std::uint32_t s = this->plane.ticks_per_s();
    vm_record& vm = this->plane.record(kVm);
    vm.port_limits[1] = steer_port_limit(WIRE_PROTOCOL_UDP, 53, /*of_peer=*/false, 10 * s);
    vm.port_limits[3] = steer_port_limit(WIRE_PROTOCOL_UDP, 123, /*of_peer=*/true, 20 * s);
    vm.port_limits[7] = steer_port_limit(WIRE_PROTOCOL_TCP, 80, /*of_peer=*/false, 9000 * s);
    Udp served = udp("10.0.0.9:123", "10.1.0.1:53"), asked = udp("10.0.0.9:123", "10.1.0.1:5353");
    Udp other = udp("10.0.0.9:53", "10.1.0.1:123");
    Udp wide = udp("[2001:db8::9]:7", "[2001:db8:1::1]:53");
    for (const Udp& flow : {served, asked, other, wide}) this->from_source(flow.reply().datagram());
    std::vector<Tcp> clients = both_families();
    for (const Tcp& client : clients) this->establish(client, kSource);
    Tcp opening = tcp("10.0.0.9:4001", "10.1.0.1:80");
    this->from_source(opening.reply().syn());
    this->plane.advance_s(11);
    this->plane.sweep();
    EXPECT_FALSE(this->plane.pinned_to(served)) << "the first limit that fits: 10 s";
    EXPECT_FALSE(this->plane.pinned_to(wide));
    EXPECT_TRUE(this->plane.pinned_to(asked));
    this->plane.advance_s(10);
    this->plane.sweep();
    EXPECT_FALSE(this->plane.pinned_to(asked)) << "20 s";
    EXPECT_TRUE(this->plane.pinned_to(other)) << "53 and 123 the other way round";
    this->plane.advance_s(300);
    this->plane.sweep();
    EXPECT_FALSE(this->plane.pinned_to(other)) << "300 s as ever";
    EXPECT_FALSE(this->plane.pinned_to(opening)) << "240 s as ever";
    this->plane.advance_s(8000);
    this->plane.sweep();
    for (const Tcp& client : clients) EXPECT_TRUE(this->plane.pinned_to(client)) << "beyond 7440 s";
    this->plane.advance_s(1000);
    this->plane.sweep();
    EXPECT_EQ(this->plane.session_entries(), 0u);
    EXPECT_EQ(this->plane.sessions(kSource), 0u);
}

TYPED_TEST(EveryPlane, TrafficKeepsASessionAlive) {
    Udp flow = udp("10.0.0.9:5000", "10.1.0.1:53");
    this->from_client(flow.datagram());
    this->from_source(flow.reply().datagram());
    for (int i = 0; i < 5; ++i) {
        this->plane.advance_s(200);
        this->plane.sweep();
        this->from_client(flow.datagram());
    }
    EXPECT_EQ(this->plane.pinned_to(flow), kSource);
}

TYPED_TEST(EveryPlane, HandshakeLimitIsNotRenewedByRepeatedSyns) {
    Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    this->from_client(client.syn());
    this->plane.steer(flipped(kSource, kDestination));
    for (int i = 0; i < 4; ++i) {
        this->plane.advance_s(7);
        EXPECT_TRUE(went_to(this->from_client(client.syn()), kSourcePort, "handshake"));
    }
    this->plane.advance_s(3);
    EXPECT_TRUE(went_to(this->from_client(client.syn()), kDestinationPort, "new-owner"));
    EXPECT_EQ(this->plane.handshakes(kSource), 0u);
}

// ---- drained ------------------------------------------------------------------------------------

TYPED_TEST(EveryPlane, DrainedIsAnnouncedWhenTheLastSessionEnds) {
    std::vector<Tcp> clients = both_families();
    for (const Tcp& client : clients) this->establish(client, kSource);
    this->plane.steer(flipped(kSource, kDestination));
    EXPECT_FALSE(this->plane.is_drained());
    this->from_source(clients[0].reply().rst());
    EXPECT_EQ(this->plane.drained_events(), 0u);
    this->from_source(clients[1].reply().rst());
    EXPECT_EQ(this->plane.drained_events(), 1u);
    EXPECT_TRUE(this->plane.is_drained());
}

TYPED_TEST(EveryPlane, OpenHandshakeOfTheSourceKeepsItFromBeingDrained) {
    Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    this->from_client(client.syn());
    this->plane.steer(flipped(kSource, kDestination));
    EXPECT_FALSE(this->plane.is_drained());
    this->plane.advance_s(31);
    this->plane.sweep();
    EXPECT_TRUE(this->plane.is_drained());
    EXPECT_EQ(this->plane.drained_events(), 1u);
}

TYPED_TEST(EveryPlane, BecomingASessionIsNoMomentOfBeingDrained) {
    Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    this->from_client(client.syn());
    this->from_source(client.reply().syn_ack());
    this->plane.steer(flipped(kSource, kDestination));
    this->from_client(client.ack());
    EXPECT_EQ(this->plane.drained_events(), 0u);
    EXPECT_FALSE(this->plane.is_drained());
}

TYPED_TEST(EveryPlane, EndsOfTheDestinationsSessionsAnnounceNothing) {
    Tcp old_client = tcp("10.0.0.9:4000", "10.1.0.1:80"),
        new_client = tcp("10.0.0.9:4001", "10.1.0.1:80");
    this->establish(old_client, kSource);
    this->plane.steer(flipped(kSource, kDestination));
    this->establish(new_client, kDestination);
    this->from_destination(new_client.reply().rst());
    EXPECT_EQ(this->plane.drained_events(), 0u);
    EXPECT_FALSE(this->plane.is_drained());
}

TYPED_TEST(EveryPlane, SourceThatOpensSomethingIsUndrainedAgain) {
    Tcp peer = tcp("10.0.0.9:4000", "10.1.0.1:80");
    this->plane.steer(flipped(kSource, kDestination));
    EXPECT_TRUE(this->plane.is_drained());
    this->from_source(peer.reply().syn());
    EXPECT_FALSE(this->plane.is_drained());
    this->from_source(peer.reply().rst());
    EXPECT_TRUE(this->plane.is_drained());
}

TYPED_TEST(EveryPlane, RollbackDrainsTheDestinationAndKeepsItsSessions) {
    for (const Tcp& client : both_families()) {
        Tcp newer = client.restarted(client.isn);
        newer.from.port = 4100;
        Tcp newest = newer;
        newest.from.port = 4200;
        this->plane.steer(steady(kSource));
        this->establish(client, kSource);
        this->plane.steer(flipped(kSource, kDestination));
        this->establish(newer, kDestination);
        this->plane.steer(flipped(kDestination, kSource));
        EXPECT_TRUE(went_to(this->from_client(client.data("a")), kSourcePort, "session"));
        EXPECT_TRUE(went_to(this->from_client(newer.data("a")), kDestinationPort, "session"));
        EXPECT_TRUE(went_to(this->from_client(newest.syn()), kSourcePort, "new-owner"));
        EXPECT_FALSE(this->plane.is_drained());
        this->from_destination(newer.reply().rst());
        EXPECT_TRUE(this->plane.is_drained());
        this->from_source(client.reply().rst());
        this->from_source(newest.reply().rst());
    }
}

// A clone holds a copy of every socket that was open when it was made. When the source closes such a
// session and the peer missed it, the peer's late segment must not reach the copy.
TYPED_TEST(EveryPlane, LateSegmentOfAClosedOldSessionDoesNotReachTheClone) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(steady(kSource));
        this->establish(client, kSource);
        this->plane.steer(flipped(kSource, kDestination));
        this->from_source(client.reply().rst());  // lost on its way to the client
        this->plane.advance_s(30);
        this->plane.sweep();
        EXPECT_TRUE(went_to(this->from_client(client.data("late")), kSourcePort, "session"));
        EXPECT_TRUE(passed(this->from_source(client.reply().rst()), "session"));
        EXPECT_TRUE(refused(this->from_destination(client.reply().data("copied")), kDestinationPort,
                            client));
        EXPECT_TRUE(this->plane.is_drained()) << "kept, but not counted";
    }
}

// After a rollback the clone is the one that drains, and it still must not be asked about what nobody
// remembers: it would answer for its copies.
TYPED_TEST(EveryPlane, RollbackDoesNotMakeTheCloneAnAuthority) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(steady(kSource));
        this->plane.steer(flipped(kSource, kDestination));
        this->plane.steer(flipped(kDestination, kSource));
        EXPECT_TRUE(went_to(this->from_client(client.data("old")), kSourcePort, "previous"));
        EXPECT_TRUE(dropped(this->from_destination(client.reply().data("copied")), "fenced"));
        EXPECT_TRUE(dropped(this->from_source(client.reply().refusal()), "rst-withheld"));
        EXPECT_TRUE(
            went_to(this->from_client(client.data("old")), kDestinationPort, "second-chance"));
        EXPECT_TRUE(passed(this->from_destination(client.reply().data("mine")), "second-chance"));
        EXPECT_EQ(this->plane.pinned_to(client), kDestination);
        this->from_destination(client.reply().rst());
    }
}

TYPED_TEST(EveryPlane, ClosedSessionOfTheSourceIsRememberedThroughARollback) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(steady(kSource));
        this->establish(client, kSource);
        this->plane.steer(flipped(kSource, kDestination));
        this->from_source(client.reply().rst());
        this->plane.steer(flipped(kDestination, kSource));
        this->plane.advance_s(60);
        this->plane.sweep();
        EXPECT_TRUE(went_to(this->from_client(client.data("late")), kSourcePort, "session"));
    }
}

TYPED_TEST(EveryPlane, EpochGrowsWithEachFlipAndOnlyThen) {
    auto epoch = [this] { return steer_epoch(this->plane.record(kVm).steer); };
    std::uint32_t first = epoch();
    this->plane.steer(hosted(kSource));
    EXPECT_EQ(epoch(), first);
    this->plane.steer(flipped(kSource, kDestination));
    this->plane.steer(flipped(kSource, kDestination));
    EXPECT_EQ(epoch(), first + 1);
    this->plane.steer(flipped(kDestination, kSource));
    EXPECT_EQ(epoch(), first + 2);
}

TYPED_TEST(EveryPlane, LongestWaitForAnyAnswerIsMeasured) {
    Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    this->establish(client, kSource);
    this->plane.steer(hosted(kSource));
    this->from_client(client.data("ping"));
    this->plane.advance_s(2);
    this->from_source(client.reply().data("pong"));
    std::uint32_t gap = this->plane.record(kVm).longest_gap;
    EXPECT_GE(gap, 2 * this->plane.ticks_per_s() - 1);
    EXPECT_LT(gap, 4 * this->plane.ticks_per_s());
    this->plane.advance_s(10);
    this->from_source(client.reply().data("nobody asked"));
    EXPECT_EQ(this->plane.record(kVm).longest_gap, gap);
}

}  // namespace godwit::test
