// What attackers and full tables cannot do (rules 1, 3 and 11).
#include "tests/packet/planes.hpp"

namespace godwit::test {

TYPED_TEST_SUITE(EveryPlane, Planes);

Tcp forged_client(unsigned i, bool v6 = false) {
    std::string low = std::to_string(i & 255), high = std::to_string(i >> 8 & 255);
    if (v6) return tcp("[2001:db8:bad::" + high + ":" + low + "]:4000", "[2001:db8:1::1]:80");
    return tcp("10.9." + high + "." + low + ":4000", "10.1.0.1:80");
}

TYPED_TEST(EveryPlane, SynFloodMakesNoEntriesAndLosesNoSession) {
    std::vector<Tcp> clients = both_families();
    for (const Tcp& client : clients) this->establish(client, kSource);
    this->plane.steer(flipped(kSource, kDestination));
    for (unsigned i = 0; i < 5000; ++i) this->from_client(forged_client(i, i & 1).syn());
    EXPECT_EQ(this->plane.session_entries(), 2u);
    for (const Tcp& client : clients)
        EXPECT_TRUE(went_to(this->from_client(client.data("a")), kSourcePort, "session"));
    EXPECT_EQ(this->plane.audit()[3], this->plane.handshakes(kDestination))
        << "evictions are counted exactly";
}

TYPED_TEST(EveryPlane, SpoofedAckFloodMakesNoEntriesAndLosesNoSession) {
    Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    this->establish(client, kSource);
    this->plane.steer(flipped(kSource, kDestination));
    for (unsigned i = 0; i < 5000; ++i) {
        Tcp forged = forged_client(i, i & 1);
        EXPECT_TRUE(went_to(this->from_client(forged.ack()), kSourcePort, "previous"));
        EXPECT_TRUE(dropped(this->from_source(forged.reply().refusal()), "rst-withheld"));
    }
    EXPECT_EQ(this->plane.session_entries(), 1u);
    EXPECT_TRUE(went_to(this->from_client(client.data("a")), kSourcePort, "session"));
    EXPECT_EQ(this->plane.audit()[3], this->plane.handshakes(kDestination));
}

// A half-open VM acknowledges what does not fit (RFC 9293 section 3.10.7.4); that proves nothing.
TYPED_TEST(EveryPlane, ForgedSynAndForgedAckTogetherMakeNoEntry) {
    for (const Tcp& client : both_families()) {
        this->from_client(client.syn());
        this->from_source(client.reply().syn_ack());
        this->from_client(client.segment({0x10, 77, 88, {}}));
        EXPECT_TRUE(passed(this->from_source(client.reply().ack()), "handshake"));
        EXPECT_EQ(this->plane.session_entries(), 0u);
        EXPECT_TRUE(passed(this->from_source(client.reply().fin_acked(0, 5)), "handshake"))
            << "took 5 bytes";
        EXPECT_EQ(this->plane.session_entries(), 1u);
        this->from_source(client.reply().rst());
        this->plane.advance_s(4);
        this->plane.sweep();
    }
}

// The source's record was lost, and somebody forges a SYN for exactly the client's ports.
TYPED_TEST(EveryPlane, ForgedSynDoesNotLeadAClientAstray) {
    for (const Tcp& client : both_families()) {
        Tcp forged = client.restarted(0x70000000);
        forged.peer_isn = 0x50000000;
        this->plane.steer(flipped(kSource, kDestination));
        this->from_client(forged.syn());
        this->from_destination(forged.reply().syn_ack());
        EXPECT_TRUE(went_to(this->from_client(client.data("mine")), kSourcePort, "previous"));
        EXPECT_TRUE(passed(this->from_source(client.reply().fin_acked(0, 4)), "previous"));
        EXPECT_FALSE(this->plane.pinned_to(client))
            << "the forged SYN might have been the true one";
        this->plane.advance_s(31);
        EXPECT_TRUE(passed(this->from_source(client.reply().fin_acked(0, 4)), "opened"));
        EXPECT_EQ(this->plane.pinned_to(client), kSource);
        this->from_source(client.reply().rst());
        this->plane.steer(steady(kSource));
        this->plane.advance_s(4);
        this->plane.sweep();
    }
}

TYPED_TEST(EveryPlane, RefusalOfSomethingElseIsNotTheRefusalOfAForgedSyn) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(flipped(kSource, kDestination));
        this->plane.steer(flipped(kDestination, kSource));
        this->from_client(client.restarted(0x70000000).syn());
        Outcome refusal =
            this->from_source(client.reply().segment({0x04, client.peer_isn + 1, 0, {}}));
        EXPECT_TRUE(dropped(refusal, "rst-withheld"));
        EXPECT_TRUE(
            went_to(this->from_client(client.data("mine")), kDestinationPort, "second-chance"));
        this->plane.advance_s(31);
        this->plane.sweep();
    }
}

TYPED_TEST(EveryPlane, SynFloodAfterTheFlipCannotPushOutAHandshakeOfTheSource) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(steady(kSource));
        this->from_client(client.syn());
        this->from_source(client.reply().syn_ack());
        this->plane.steer(flipped(kSource, kDestination));
        for (unsigned i = 0; i < 4000; ++i) this->from_client(forged_client(i, i & 1).syn());
        EXPECT_FALSE(this->plane.is_drained());
        EXPECT_TRUE(went_to(this->from_client(client.ack()), kSourcePort, "proven"));
    }
}

TYPED_TEST(EveryPlane, HandshakeOfTheSourceEvictedBeforeTheFlipSurvivesThroughItsAuthority) {
    Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    this->from_client(client.syn());
    this->from_source(client.reply().syn_ack());
    for (unsigned i = 0; i < 4000; ++i) this->from_client(forged_client(i).syn());
    this->plane.steer(flipped(kSource, kDestination));
    EXPECT_TRUE(went_to(this->from_client(client.ack()), kSourcePort, "previous"));
    EXPECT_TRUE(passed(this->from_source(client.reply().data("hello")), "opened"));
    EXPECT_EQ(this->plane.pinned_to(client), kSource);
}

TYPED_TEST(EveryPlane, HandshakeOfTheDestinationThatWasForgottenGetsASecondChance) {
    Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    this->plane.steer(flipped(kSource, kDestination));
    this->from_client(client.syn());
    this->from_destination(client.reply().syn_ack());
    for (unsigned i = 0; i < 4000; ++i) this->from_client(forged_client(i).syn());
    EXPECT_TRUE(went_to(this->from_client(client.ack()), kSourcePort, "previous"));
    EXPECT_TRUE(dropped(this->from_source(client.reply().refusal()), "rst-withheld"));
    EXPECT_TRUE(
        went_to(this->from_client(client.data("hello")), kDestinationPort, "second-chance"));
    EXPECT_TRUE(passed(this->from_destination(client.reply().data("hello")), "second-chance"));
    EXPECT_EQ(this->plane.pinned_to(client), kDestination);
}

// A table of 4 + 1 lines: ten IPv4 sessions at the very most.
template <typename P>
class SmallTable : public EveryPlane<P> {};
TYPED_TEST_SUITE(SmallTable, Planes);

TYPED_TEST(SmallTable, FullTableKeepsWhatItHasAndCountsTheNewcomer) {
    TypeParam small(TableSizes{4, 1, 256});
    small.manage({});
    small.steer(steady(kSource));
    unsigned untracked = 0;
    std::vector<Tcp> kept;
    for (unsigned i = 0; i < 32; ++i) {
        Tcp client = forged_client(i);
        Outcome out = small.send(kSourcePort, client.reply().data("x"));
        EXPECT_EQ(out.action, STEER_PASS) << "forwarded all the same";
        if (out.why == "untracked")
            ++untracked;
        else
            kept.push_back(client);
    }
    EXPECT_GE(untracked, 22u);
    EXPECT_EQ(small.record(kVm).untracked, untracked);
    EXPECT_EQ(small.sessions(kSource), kept.size());
    small.steer(flipped(kSource, kDestination));
    for (const Tcp& client : kept)
        EXPECT_TRUE(went_to(small.send(kUplink, client.data("y")), kSourcePort, "session"));
}

TYPED_TEST(SmallTable, ClosedEntriesMakeRoom) {
    TypeParam small(TableSizes{4, 1, 256});
    small.manage({});
    small.steer(hosted(kSource));
    for (unsigned i = 0; i < 200; ++i) {
        Tcp client = forged_client(i);
        EXPECT_EQ(small.send(kSourcePort, client.reply().data("x")).why, "opened") << i;
        small.send(kSourcePort, client.reply().rst());
        small.advance_s(4);
    }
    EXPECT_EQ(small.record(kVm).untracked, 0u);
    EXPECT_EQ(small.sessions(kSource), 0u);
}

// Four at once and one a second: the flood costs its own newcomers, and nobody who was there before.
TYPED_TEST(EveryPlane, ACapOnNewFlowsTouchesNothingThatIsKnown) {
    const std::uint32_t s = this->plane.ticks_per_s();
    std::vector<Tcp> clients = both_families();
    for (const Tcp& client : clients) this->establish(client, kSource);
    Tcp waiting = tcp("10.0.0.8:4000", "10.1.0.1:80");
    this->from_client(waiting.syn());
    this->from_source(waiting.reply().syn_ack());
    Tcp unknown = tcp("10.0.0.7:4000", "10.1.0.1:80");
    vm_record& vm = this->plane.record(kVm);
    vm.new_flows.bucket = 0;
    vm.new_flows.burst = 4 * STEER_NEW_FLOW_TOKEN;
    vm.new_flows.per_tick = STEER_NEW_FLOW_TOKEN / s;
    unsigned refused = 0;
    for (unsigned i = 0; i < 400; ++i) {
        const Outcome out = this->from_client(forged_client(i, i & 1).syn());
        refused += out.why == "new-flow-limit";
        EXPECT_TRUE(out.why == "new-flow-limit" ? out.action == STEER_DROP
                                                : went_to(out, kSourcePort, "new-owner"));
    }
    EXPECT_GE(refused, 400u - 40);
    EXPECT_EQ(this->plane.handshakes(kSource), 1 + 400 - refused)
        << "who is refused is not remembered";
    EXPECT_EQ(this->plane.reason(STEER_WHY_NEW_FLOW_LIMIT), refused);
    for (const Tcp& client : clients)
        EXPECT_TRUE(went_to(this->from_client(client.data("a")), kSourcePort, "session"));
    EXPECT_TRUE(went_to(this->from_client(waiting.syn()), kSourcePort, "handshake")) << "repeated";
    EXPECT_TRUE(went_to(this->from_client(waiting.ack()), kSourcePort, "proven"));
    EXPECT_TRUE(passed(this->from_source(unknown.reply().data("x")), "opened")) << "its middle";
}

TYPED_TEST(EveryPlane, WhatAVmBeginsItselfIsCappedTooAndTheBucketFillsUpAgain) {
    const std::uint32_t s = this->plane.ticks_per_s();
    vm_record& vm = this->plane.record(kVm);
    vm.new_flows.bucket = 0;
    vm.new_flows.burst = 2 * STEER_NEW_FLOW_TOKEN;
    vm.new_flows.per_tick = 1;  // 4096 ticks a token
    const auto open = [&](std::uint16_t port) {
        return this->from_source(
            udp("10.0.0.9:" + std::to_string(port), "10.1.0.1:53").reply().datagram());
    };
    EXPECT_TRUE(passed(open(1), "opened"));
    EXPECT_TRUE(passed(open(2), "opened"));
    EXPECT_TRUE(dropped(open(3), "new-flow-limit"));
    EXPECT_TRUE(passed(open(1), "session"));
    EXPECT_EQ(this->plane.sessions(kSource), 2u);
    const std::uint32_t then = static_cast<std::uint32_t>(vm.new_flows.bucket >> 32);
    vm.new_flows.bucket = std::uint64_t{then - 300 * s}
                          << 32;  // as if it had been empty for so long
    EXPECT_TRUE(passed(open(3), "opened"));
    EXPECT_TRUE(passed(open(4), "opened"));
    EXPECT_TRUE(dropped(open(5), "new-flow-limit")) << "never more than the burst";
}

TYPED_TEST(EveryPlane, ReasonsAreCounted) {
    Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    std::uint64_t before = this->plane.reason(STEER_WHY_NEW_OWNER);
    this->from_client(client.syn());
    EXPECT_EQ(this->plane.reason(STEER_WHY_NEW_OWNER), before + 1);
}

}  // namespace godwit::test
