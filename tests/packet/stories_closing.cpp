// How single TCP connections end as RFC 9293, 5961 and 5382 say, and how many end at once by command.
#include "tests/packet/planes.hpp"

#include <algorithm>

namespace godwit::test {

TYPED_TEST_SUITE(EveryPlane, Planes);

// Dropped, and an RST went back that the sender of `segment` believes.
testing::AssertionResult told(const Outcome& out, const Tcp& client) {
    struct steer_packet rst;
    const std::uint8_t* data = out.frame.data();
    steer_parse(&rst, data, data + out.frame.size(), static_cast<std::uint32_t>(out.frame.size()));
    const bool believed = rst.kind == STEER_RST && rst.seq == client.peer_isn + 1 &&
                          rst.source_port == client.to.port &&
                          rst.destination_port == client.from.port;
    if (out.action == STEER_REFUSE && out.why == "reset-told" && believed)
        return testing::AssertionSuccess();
    return testing::AssertionFailure() << "action " << out.action << ", why " << out.why
                                       << ", RST kind " << int{rst.kind} << " number " << rst.seq;
}

// ---- FINs ---------------------------------------------------------------------------------------

TYPED_TEST(EveryPlane, SimultaneousCloseEndsWhenBothFinsAreAcknowledged) {
    for (const Tcp& client : both_families()) {
        Tcp vm = client.reply();
        this->establish(client, kSource);
        this->from_client(client.fin());
        this->from_source(vm.fin());  // sent before the client's came
        this->from_client(client.fin_acked());
        EXPECT_EQ(this->plane.sessions(kSource), 1u) << "the client's FIN is not acknowledged";
        this->from_source(vm.fin_acked());
        EXPECT_EQ(this->plane.sessions(kSource), 0u);
        EXPECT_EQ(this->plane.session_entries(), client.from.ip.family == 4 ? 1u : 2u) << "linger";
    }
}

TYPED_TEST(EveryPlane, RepeatedFinOfOneSideIsNotTheOthers) {
    for (const Tcp& client : both_families()) {
        this->establish(client, kSource);
        for (int i = 0; i < 3; ++i) {
            this->from_client(client.fin());
            this->from_source(client.reply().fin_acked(0));
        }
        EXPECT_EQ(this->plane.pinned_to(client), kSource);
        EXPECT_NE(this->plane.sessions(kSource), 0u);
    }
}

// The client has said all it will say, and the VM works on the answer for hours.
TYPED_TEST(EveryPlane, SessionThatThePeerHasHalfClosedLivesOnTheLongLimit) {
    for (const Tcp& client : both_families()) {
        this->establish(client, kSource);
        this->from_client(client.fin());
        this->from_source(client.reply().fin_acked(0));
        this->plane.advance_s(7000);
        this->plane.sweep();
        EXPECT_EQ(this->plane.pinned_to(client), kSource) << "7000 s in silence";
        this->from_source(client.reply().data("answer"));
        this->plane.advance_s(7000);
        this->plane.sweep();
        EXPECT_EQ(this->plane.pinned_to(client), kSource) << "as long after the answer";
        this->plane.advance_s(500);
        this->plane.sweep();
        EXPECT_FALSE(this->plane.pinned_to(client)) << "7440 s";
    }
}

// A VM that closes may have left, and a client that vanished then holds nothing open. One that sends does.
TYPED_TEST(EveryPlane, SessionThatTheVmHasHalfClosedLivesAsLongAsThePeerSends) {
    for (const Tcp& client : both_families()) {
        Tcp silent = client;
        silent.from.port = 4100;
        for (const Tcp& each : {client, silent}) {
            this->establish(each, kSource);
            this->from_source(each.reply().fin());
            this->from_client(each.fin_acked(0));
        }
        this->from_client(client.data("an upload"));
        this->plane.advance_s(250);
        this->plane.sweep();
        EXPECT_EQ(this->plane.pinned_to(client), kSource);
        EXPECT_FALSE(this->plane.pinned_to(silent)) << "240 s";
        this->from_client(client.data("goes on", 9));
        this->plane.advance_s(7000);
        this->plane.sweep();
        EXPECT_EQ(this->plane.pinned_to(client), kSource);
        this->from_client(client.fin(16, 1));
        this->plane.advance_s(250);
        this->plane.sweep();
        EXPECT_FALSE(this->plane.pinned_to(client)) << "both have closed: 240 s";
    }
}

// ---- RSTs ---------------------------------------------------------------------------------------

TYPED_TEST(EveryPlane, RstOutsideTheWindowPassesAndEndsNothing) {
    for (const Tcp& client : both_families()) {
        this->establish(client, kSource);
        this->from_source(client.reply().data("x"));
        for (std::uint32_t offset : {0xffffffffu, 0x80000000u, 0x00200000u}) {
            EXPECT_TRUE(went_to(this->from_client(client.rst(offset)), kSourcePort, "session"));
            this->plane.advance_s(10);
            this->plane.sweep();
            EXPECT_EQ(this->plane.pinned_to(client), kSource) << offset;
        }
        this->plane.advance_s(7000);
        this->plane.sweep();
        EXPECT_EQ(this->plane.pinned_to(client), kSource) << "nor does one shorten the idle limit";
        this->from_client(client.rst());
        this->plane.advance_s(4);
        this->plane.sweep();
        EXPECT_FALSE(this->plane.pinned_to(client));
    }
}

// In SYN-SENT a VM refuses a SYN-ACK that acknowledges something else and goes on waiting for the right one.
TYPED_TEST(EveryPlane, ForgedSynAckDoesNotEndAConnectionThatTheVmOpens) {
    for (const Tcp& peer : both_families()) {
        const Tcp vm = peer.reply();
        this->from_source(vm.syn());
        this->plane.steer(flipped(kSource, kDestination));
        this->from_client(peer.segment({0x12, 77, vm.isn + 1000000, {}}));
        EXPECT_TRUE(
            passed(this->from_source(vm.segment({0x04, vm.isn + 1000000, 0, {}})), "session"));
        EXPECT_EQ(this->plane.sessions(kSource), 1u);
        this->plane.advance_s(200);
        this->plane.sweep();
        EXPECT_TRUE(went_to(this->from_client(peer.syn_ack()), kSourcePort, "session"));
        EXPECT_TRUE(passed(this->from_source(vm.ack()), "session"));
        this->plane.advance_s(7000);
        this->plane.sweep();
        EXPECT_EQ(this->plane.pinned_to(peer), kSource);
        this->from_source(vm.rst());
        this->plane.steer(steady(kSource));
    }
}

TYPED_TEST(EveryPlane, ForgedSynAckDoesNotMakeAnOpeningSessionAnEstablishedOne) {
    for (const Tcp& peer : both_families()) {
        this->from_source(peer.reply().syn());
        this->from_client(peer.segment({0x12, 77, peer.peer_isn + 1000000, {}}));
        this->plane.advance_s(250);
        this->plane.sweep();
        EXPECT_FALSE(this->plane.pinned_to(peer)) << "240 s";
    }
}

TYPED_TEST(EveryPlane, RstThatAcknowledgesSomethingElseDoesNotEndAConnectionThatTheVmOpens) {
    for (const Tcp& peer : both_families()) {
        this->from_source(peer.reply().syn());
        this->from_client(peer.segment({0x14, 0, peer.peer_isn + 0x100000, {}}));
        this->from_client(peer.segment({0x04, 0, 0, {}}));
        this->plane.advance_s(4);
        this->plane.sweep();
        EXPECT_EQ(this->plane.pinned_to(peer), kSource);
    }
}

TYPED_TEST(EveryPlane, VmThatHasGivenUpOpeningEndsTheSessionByItsRst) {
    for (const Tcp& peer : both_families()) {
        this->from_source(peer.reply().syn());
        this->from_client(peer.syn_ack());
        this->from_source(peer.reply().segment({0x04, peer.peer_isn + 1, 0, {}}));
        EXPECT_EQ(this->plane.sessions(kSource), 0u);
    }
}

// ---- the same ports again -----------------------------------------------------------------------

// The client's last acknowledgement was lost, so the VM waits in LAST-ACK while the client is through.
TYPED_TEST(EveryPlane, SynBeyondTheOldNumbersOnAClosingSessionIsANewOne) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(steady(kSource));
        this->establish(client, kSource);
        this->from_client(client.fin());
        this->from_source(client.reply().fin(0, 1));
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_EQ(this->plane.sessions(kSource), 1u);
        Tcp again = client.restarted(client.isn + 2);
        EXPECT_TRUE(went_to(this->from_client(again.syn()), kDestinationPort, "reopened"));
        EXPECT_TRUE(this->plane.is_drained()) << "nothing of the old one is counted";
        EXPECT_TRUE(passed(this->from_destination(again.reply().syn_ack()), "handshake"));
        EXPECT_TRUE(went_to(this->from_client(again.ack()), kDestinationPort, "proven"));
        EXPECT_EQ(this->plane.pinned_to(client), kDestination);
        EXPECT_TRUE(dropped(this->from_source(client.reply().fin(0, 1)), "fenced"))
            << "the old VM's repeated FIN";
    }
}

TYPED_TEST(EveryPlane, OldDuplicateOfASynDoesNotEndAClosingSession) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(steady(kSource));
        this->establish(client, kSource);
        this->from_client(client.fin());
        this->from_source(client.reply().fin(0, 1));
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(went_to(this->from_client(client.syn()), kSourcePort, "session"));
        EXPECT_EQ(this->plane.pinned_to(client), kSource);
    }
}

// Half closed, the VM has more to say: whoever asks for the same ports is told so by the VM itself.
TYPED_TEST(EveryPlane, SynOnAHalfClosedSessionStaysWithItsOwner) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(steady(kSource));
        this->establish(client, kSource);
        this->from_client(client.fin());
        this->from_source(client.reply().fin_acked(0));
        this->plane.steer(flipped(kSource, kDestination));
        Tcp again = client.restarted(client.isn + 100000);
        EXPECT_TRUE(went_to(this->from_client(again.syn()), kSourcePort, "session"));
        EXPECT_EQ(this->plane.pinned_to(client), kSource);
    }
}

// ---- data with the SYN (RFC 7413) -----------------------------------------------------------------

TYPED_TEST(EveryPlane, DataInTheSynAndBeforeTheHandshakeIsOverFollowsTheSession) {
    for (const Tcp& client : both_families()) {
        const Tcp vm = client.reply();
        this->plane.steer(steady(kSource));
        EXPECT_TRUE(went_to(this->from_client(client.segment({0x02, client.isn, 0, "hello"})),
                            kSourcePort, "new-owner"));
        this->plane.steer(flipped(kSource, kDestination));
        const std::uint32_t behind = client.isn + 1 + 5;
        EXPECT_TRUE(passed(this->from_source(vm.segment({0x12, vm.isn, behind, {}})), "handshake"));
        EXPECT_TRUE(passed(this->from_source(vm.segment({0x18, vm.isn + 1, behind, "answer"})),
                           "handshake"))
            << "before the client's ACK";
        EXPECT_EQ(this->plane.pinned_to(client), kSource);
        EXPECT_TRUE(went_to(this->from_client(client.segment({0x10, behind, vm.isn + 1 + 6, {}})),
                            kSourcePort, "session"));
        EXPECT_EQ(this->plane.handshakes(kSource), 0u);
        this->from_source(vm.rst());
    }
}

// A server that does not take the data acknowledges the SYN alone, and the client sends it again.
TYPED_TEST(EveryPlane, DataInTheSynThatIsNotTakenComesAgain) {
    for (const Tcp& client : both_families()) {
        const Tcp vm = client.reply();
        this->plane.steer(steady(kSource));
        this->from_client(client.segment({0x02, client.isn, 0, "hello"}));
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(went_to(this->from_client(client.syn()), kSourcePort, "handshake"))
            << "the second try goes without data";
        EXPECT_TRUE(passed(this->from_source(vm.syn_ack()), "handshake"));
        EXPECT_TRUE(went_to(this->from_client(client.data("hello")), kSourcePort, "proven"));
        EXPECT_EQ(this->plane.pinned_to(client), kSource);
        this->from_source(vm.rst());
    }
}

TYPED_TEST(EveryPlane, RefusedSynWithDataLeavesNothingOpen) {
    for (const Tcp& client : both_families()) {
        this->from_client(client.segment({0x02, client.isn, 0, "hello"}));
        EXPECT_EQ(this->plane.handshakes(kSource), 1u);
        this->from_source(client.reply().segment({0x14, 0, client.isn + 6, {}}));
        EXPECT_EQ(this->plane.handshakes(kSource), 0u);
    }
}

TYPED_TEST(EveryPlane, VmThatOpensWithDataKeepsItsSession) {
    for (const Tcp& peer : both_families()) {
        const Tcp vm = peer.reply();
        this->from_source(vm.segment({0x02, vm.isn, 0, "hello"}));
        this->from_client(peer.segment({0x12, peer.isn, vm.isn + 6, {}}));
        this->from_source(vm.segment({0x10, vm.isn + 6, peer.isn + 1, {}}));
        this->plane.advance_s(7000);
        this->plane.sweep();
        EXPECT_EQ(this->plane.pinned_to(peer), kSource);
    }
}

// ---- ICMP errors --------------------------------------------------------------------------------

// RFC 1122 section 4.2.3.9 and RFC 5927: hard or soft, an error does not abort a connection; RFC 5508 REQ-4: nor
// does one keep it.
TYPED_TEST(EveryPlane, UnreachableNeitherEndsNorProlongsASession) {
    for (const Tcp& client : both_families()) {
        const bool v4 = client.from.ip.family == 4;
        this->plane.steer(steady(kSource));
        this->establish(client, kSource);
        this->plane.steer(flipped(kSource, kDestination));
        const auto error = [&](std::uint8_t code) {
            return icmp_error({client.reply().data("x"), v4 ? "10.0.0.1" : "2001:db8::1",
                               static_cast<std::uint8_t>(v4 ? 3 : 1), 8, code});
        };
        for (std::uint8_t code : Bytes{0, 1, 3, 4})  // net, host, port unreachable, ...
            EXPECT_TRUE(went_to(this->from_client(error(code)), kSourcePort, "icmp-error"));
        this->plane.advance_s(7000);
        this->plane.sweep();
        EXPECT_EQ(this->plane.pinned_to(client), kSource);
        this->from_client(error(3));
        this->plane.advance_s(500);
        this->plane.sweep();
        EXPECT_FALSE(this->plane.pinned_to(client)) << "7440 s since somebody spoke";
    }
}

// ---- ended by command ---------------------------------------------------------------------------

TYPED_TEST(EveryPlane, WhoSpeaksOnASessionThatWasEndedIsTold) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(steady(kSource));
        this->establish(client, kSource);
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_EQ(this->plane.end_sessions(kDestination), 0u);
        EXPECT_EQ(this->plane.pinned_to(client), kSource) << "another owner's";
        EXPECT_EQ(this->plane.end_sessions(kSource), 1u);
        EXPECT_EQ(this->plane.sessions(kSource), 0u);
        EXPECT_TRUE(told(this->from_client(client.data("x")), client));
        EXPECT_TRUE(told(this->from_client(client.ack()), client));
        EXPECT_TRUE(told(this->plane.send(kOtherVmPort, client.ack()), client))
            << "a station behind a VM port";
        EXPECT_TRUE(went_to(this->from_client(client.syn()), kDestinationPort, "new-owner"));
        EXPECT_TRUE(went_to(this->from_client(client.ack()), kDestinationPort, "handshake"))
            << "a new connection of the same ports";
    }
}

// The one session of `table`: its key and its stamp.
template <typename P>
std::pair<steer_key, std::uint64_t> only_session(P& plane, steer_table table) {
    for (const steer_line& line : plane.lines(table))
        for (const steer_slot& slot : std::span(line.slot, steer_is_v6_table(table) ? 1 : 2)) {
            if (steer_meta_life(slot.meta) != STEER_LIVE) continue;
            steer_key key{
                slot.peer_be, slot.peer_port, slot.vm_port, slot.address_id, slot.protocol, 0, {}};
            if (steer_is_v6_table(table))
                std::ranges::copy(line.wide.peer_rest, std::begin(key.peer_rest));
            return {key, steer_session_stamp(&slot)};
        }
    ADD_FAILURE() << "no session in table " << table;
    return {};
}

// What the guest has lost is ended, unless a packet has passed since somebody looked.
TYPED_TEST(EveryPlane, ALostSessionIsEndedIfNothingHasHappenedToItSince) {
    for (const Tcp& client : both_families()) {
        const steer_table table = client.from.ip.family == 4 ? STEER_SESSIONS4 : STEER_SESSIONS6;
        this->plane.steer(steady(kSource));
        this->establish(client, kSource);
        this->plane.steer(flipped(kSource, kDestination));
        auto [key, stamp] = only_session(this->plane, table);
        this->plane.advance_s(5);
        auto later = only_session(this->plane, table).second;
        this->from_client(client.data("still here"));
        EXPECT_FALSE(this->plane.end_untouched(table, key, later)) << "a packet has passed";
        EXPECT_EQ(this->plane.pinned_to(client), kSource);
        stamp = only_session(this->plane, table).second;
        EXPECT_FALSE(this->plane.end_untouched(table, key, stamp ^ 1ull << 32));
        EXPECT_TRUE(this->plane.end_untouched(table, key, stamp));
        EXPECT_TRUE(this->plane.is_drained());
        EXPECT_FALSE(this->plane.end_untouched(table, key, stamp)) << "twice";
        EXPECT_TRUE(this->plane.is_drained()) << "counted once";
        EXPECT_TRUE(went_to(this->from_client(client.data("x")), kSourcePort, "previous"))
            << "the authority says what becomes of it";
    }
}

TYPED_TEST(EveryPlane, WhatHasNoResetIsEndedInSilence) {
    Udp flow = udp("10.0.0.9:5000", "10.1.0.1:53");
    Tcp closed = tcp("10.0.0.9:4000", "10.1.0.1:80");
    this->from_source(flow.reply().datagram());
    this->establish(closed, kSource);
    this->from_source(closed.reply().rst());
    EXPECT_EQ(this->plane.end_sessions(kSource), 0u);
    EXPECT_EQ(this->plane.session_entries(), 0u);
    EXPECT_TRUE(went_to(this->from_client(flow.datagram()), kSourcePort, "new-owner"));
    EXPECT_TRUE(went_to(this->from_client(closed.data("x")), kSourcePort, "new-owner"));
}

}  // namespace godwit::test
