// Who gets a packet: rules 1 to 4 of the steering contract. Sessions stay, newcomers go to the default owner.
#include "tests/packet/planes.hpp"

namespace godwit::test {

TYPED_TEST_SUITE(EveryPlane, Planes);

TYPED_TEST(EveryPlane, ConnectionOpenedBeforeTheFlipStaysWithTheSource) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(steady(kSource));
        this->establish(client, kSource);
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(went_to(this->from_client(client.data("hello")), kSourcePort, "session"));
        EXPECT_TRUE(passed(this->from_source(client.reply().data("hello")), "session"));
        EXPECT_EQ(this->plane.pinned_to(client), kSource);
    }
}

TYPED_TEST(EveryPlane, ConnectionOpenedAfterTheFlipGoesToTheDestination) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(went_to(this->from_client(client.syn()), kDestinationPort, "new-owner"));
        EXPECT_TRUE(passed(this->from_destination(client.reply().syn_ack()), "handshake"));
        EXPECT_TRUE(went_to(this->from_client(client.ack()), kDestinationPort, "proven"));
        EXPECT_EQ(this->plane.pinned_to(client), kDestination);
    }
}

TYPED_TEST(EveryPlane, HandshakeThatStraddlesTheFlipStaysWhereItBegan) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(steady(kSource));
        this->from_client(client.syn());
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(went_to(this->from_client(client.syn()), kSourcePort, "handshake"))
            << "repeated SYN";
        EXPECT_TRUE(passed(this->from_source(client.reply().syn_ack()), "handshake"));
        EXPECT_TRUE(went_to(this->from_client(client.ack()), kSourcePort, "proven"));
        EXPECT_EQ(this->plane.pinned_to(client), kSource);
    }
}

TYPED_TEST(EveryPlane, SynAloneMakesNoSession) {
    for (const Tcp& client : both_families()) this->from_client(client.syn());
    EXPECT_EQ(this->plane.session_entries(), 0u);
    EXPECT_EQ(this->plane.handshakes(kSource), 2u);
}

TYPED_TEST(EveryPlane, SynAckAloneMakesNoSession) {
    for (const Tcp& client : both_families()) {
        this->from_client(client.syn());
        this->from_source(client.reply().syn_ack());
    }
    EXPECT_EQ(this->plane.session_entries(), 0u);
}

// A server that waits for the client to speak says nothing after its SYN-ACK; the drain must see it.
TYPED_TEST(EveryPlane, IdleConnectionIsASessionOnceTheClientProvedTheSynAck) {
    for (const Tcp& client : both_families()) this->establish(client, kSource);
    EXPECT_EQ(this->plane.sessions(kSource), 2u);
    EXPECT_EQ(this->plane.handshakes(kSource), 0u);
}

TYPED_TEST(EveryPlane, AckOfAWrongNumberProvesNothing) {
    for (const Tcp& client : both_families()) {
        this->from_client(client.syn());
        this->from_source(client.reply().syn_ack());
        EXPECT_TRUE(
            went_to(this->from_client(client.ack_of(client.peer_isn)), kSourcePort, "handshake"));
        EXPECT_EQ(this->plane.session_entries(), 0u);
        EXPECT_TRUE(went_to(this->from_client(client.ack()), kSourcePort, "proven"));
        EXPECT_EQ(this->plane.session_entries(), 1u);
        this->from_source(client.reply().rst());
        this->plane.advance_s(60);
        this->plane.sweep();
    }
}

TYPED_TEST(EveryPlane, ServerThatSpeaksFirstConfirmsTheSessionItself) {
    for (const Tcp& client : both_families()) {
        this->from_client(client.syn());
        this->from_source(client.reply().syn_ack());
        EXPECT_TRUE(passed(this->from_source(client.reply().data("220 ready")), "handshake"));
        EXPECT_EQ(this->plane.pinned_to(client), kSource);
    }
}

TYPED_TEST(EveryPlane, ConnectionThatTheVmOpensIsItsOwn) {
    for (const Tcp& peer : both_families()) {
        Tcp vm = peer.reply();
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(passed(this->from_source(vm.syn()), "opened")) << "the source may still open";
        EXPECT_TRUE(went_to(this->from_client(peer.syn_ack()), kSourcePort, "session"));
        EXPECT_TRUE(passed(this->from_source(vm.ack()), "session"));
        EXPECT_EQ(this->plane.pinned_to(peer), kSource);
    }
}

TYPED_TEST(EveryPlane, MidStreamEgressOfTheSourceIsAnAuthority) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(went_to(this->from_client(client.data("old")), kSourcePort, "previous"));
        EXPECT_EQ(this->plane.session_entries() % 2, 0u) << "a peer alone makes no entry";
        EXPECT_TRUE(passed(this->from_source(client.reply().data("known")), "opened"));
        EXPECT_EQ(this->plane.pinned_to(client), kSource);
        this->from_source(client.reply().rst());
        this->plane.steer(steady(kSource));
        this->plane.advance_s(60);
        this->plane.sweep();
    }
}

TYPED_TEST(EveryPlane, UdpFlowStaysAndANewOneMoves) {
    struct Pair {
        const char *old_flow, *new_flow, *vm;
    };
    for (const Pair& p : {Pair{"10.0.0.9:5000", "10.0.0.9:5001", "10.1.0.1:53"},
                          Pair{"[2001:db8::9]:5000", "[2001:db8::9]:5001", "[2001:db8:1::1]:53"}}) {
        Udp old_flow = udp(p.old_flow, p.vm), new_flow = udp(p.new_flow, p.vm);
        this->plane.steer(steady(kSource));
        EXPECT_TRUE(went_to(this->from_client(old_flow.datagram()), kSourcePort, "new-owner"));
        EXPECT_TRUE(passed(this->from_source(old_flow.reply().datagram()), "handshake"));
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(went_to(this->from_client(old_flow.datagram()), kSourcePort, "session"));
        EXPECT_TRUE(went_to(this->from_client(new_flow.datagram()), kDestinationPort, "new-owner"));
        EXPECT_TRUE(passed(this->from_destination(new_flow.reply().datagram()), "handshake"));
        EXPECT_EQ(this->plane.pinned_to(old_flow), kSource);
        EXPECT_EQ(this->plane.pinned_to(new_flow), kDestination);
    }
}

TYPED_TEST(EveryPlane, UdpWithoutAnswerIsNoSession) {
    this->from_client(udp("10.0.0.9:5000", "10.1.0.1:9").datagram());
    EXPECT_EQ(this->plane.session_entries(), 0u);
    EXPECT_EQ(this->plane.handshakes(kSource), 1u);
}

TYPED_TEST(EveryPlane, EchoStreamStaysAndANewOneMoves) {
    for (auto [client, vm] :
         {std::pair{"10.0.0.9", "10.1.0.1"}, {"2001:db8::9", "2001:db8:1::1"}}) {
        Echo old_stream = echo(client, vm, 7), new_stream = echo(client, vm, 8);
        this->plane.steer(steady(kSource));
        this->from_client(old_stream.request());
        EXPECT_TRUE(passed(this->from_source(old_stream.reply()), "handshake"));
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(went_to(this->from_client(old_stream.request()), kSourcePort, "session"));
        EXPECT_TRUE(
            went_to(this->from_client(new_stream.request()), kDestinationPort, "new-owner"));
        EXPECT_EQ(this->plane.pinned_to(old_stream), kSource);
    }
}

TYPED_TEST(EveryPlane, PingOfTheVmAndPingByTheVmWithOneIdentifierAreTwoSessions) {
    Echo by_client = echo("10.0.0.9", "10.1.0.1", 7);
    Echo by_vm = echo_from_vm("10.1.0.1", "10.0.0.9", 7);
    this->from_source(by_vm.request());
    this->plane.steer(flipped(kSource, kDestination));
    EXPECT_TRUE(went_to(this->from_client(by_vm.reply()), kSourcePort, "session"));
    EXPECT_TRUE(went_to(this->from_client(by_client.request()), kDestinationPort, "new-owner"));
}

TYPED_TEST(EveryPlane, OtherProtocolIsKeyedByItsAddresses) {
    Address client = address("10.0.0.9"), vm = address("10.1.0.1");
    auto sctp = [&](const Address& from, const Address& to, const Mac& from_mac,
                    const Mac& to_mac) {
        return ethernet(to_mac, from_mac, 0x0800, ip(from, to, 132, Bytes(16, 0)));
    };
    Bytes in = sctp(client, vm, kClientMac, kVmMac), out = sctp(vm, client, kVmMac, kClientMac);
    EXPECT_TRUE(went_to(this->from_client(in), kSourcePort, "new-owner"));
    EXPECT_TRUE(passed(this->from_source(out), "handshake"));
    this->plane.steer(flipped(kSource, kDestination));
    EXPECT_TRUE(went_to(this->from_client(in), kSourcePort, "session"));
    EXPECT_TRUE(dropped(this->from_destination(out), "fenced"));
}

TYPED_TEST(EveryPlane, UnmanagedTrafficIsLeftAlone) {
    EXPECT_TRUE(passed(this->from_client(tcp("10.0.0.9:1", "10.0.0.77:80").syn()), "not-managed"));
    Tcp routed = tcp("10.0.0.9:1", "10.1.0.1:80");
    routed.to.mac = kOtherVmMac;
    EXPECT_TRUE(passed(this->from_client(routed.syn()), "not-managed")) << "on its way to a router";
    Bytes lldp = ethernet({0x01, 0x80, 0xc2, 0, 0, 0x0e}, kClientMac, 0x88cc, Bytes(46, 0));
    EXPECT_TRUE(passed(this->from_client(lldp), "not-managed"));
}

TYPED_TEST(EveryPlane, TwoVmsOnOneSwitchAreFencedAndSteeredEachByItsOwnWord) {
    this->plane.manage({kOtherVm, {"10.1.0.2"}, {kOtherVmPort, kUplink}, kOtherVmMac});
    this->plane.steer(steady(kSource), kOtherVm);
    this->plane.steer(flipped(kSource, kDestination));
    Tcp inside = tcp("10.1.0.2:4000", "10.1.0.1:80");
    inside.from.mac = kOtherVmMac;
    Outcome out = this->plane.send(kOtherVmPort, inside.syn());
    EXPECT_TRUE(went_to(out, kDestinationPort, "new-owner"));
    EXPECT_EQ(this->plane.sessions(kSource, kOtherVm), 1u) << "it opened a connection of its own";
    EXPECT_EQ(this->plane.handshakes(kDestination), 1u);
}

}  // namespace godwit::test
