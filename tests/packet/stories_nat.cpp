// Mode nat with the addresses of the patent's example (CN102932409A [0073]-[0075]): 10.9.1.10 is hosted, the
// source is 10.9.1.30 and the destination 10.9.1.31. What arrives must be byte for byte what a peer of the temporary
// address would have sent, checksums and all, and what leaves what the hosted address would have.
#include "tests/packet/planes.hpp"

namespace godwit::test {

constexpr Mac kSourceMac{0x52, 0x54, 0, 0, 0, 0x30}, kDestinationMac{0x52, 0x54, 0, 0, 0, 0x31};

enum class Modes { L2ToNat, Nat, NatOnOnePort };

constexpr const char* kHosted[] = {"10.9.1.10", "2001:db8:9::10"};
constexpr const char* kTemporary[2][2] = {{"10.9.1.30", "2001:db8:9::30"},
                                          {"10.9.1.31", "2001:db8:9::31"}};
constexpr const char* kPeer[] = {"10.0.0.9", "2001:db8::9"};

ManagedVm patents_vm(Modes modes) {
    ManagedVm vm;
    vm.addresses = {kHosted[0], kHosted[1]};
    if (modes != Modes::L2ToNat)
        vm.nat[kSource] = {kSourceMac, {kTemporary[kSource][0], kTemporary[kSource][1]}};
    vm.nat[kDestination] = {kDestinationMac,
                            {kTemporary[kDestination][0], kTemporary[kDestination][1]}};
    if (modes == Modes::NatOnOnePort) vm.ports[kDestination] = kSourcePort;
    return vm;
}

template <typename P>
class Nat : public EveryPlane<P> {
protected:
    void manage(Modes modes) {
        vm = patents_vm(modes);
        this->plane.manage(vm);
        this->plane.steer(hosted(kSource));
    }
    // A backend's own name at its end of a conversation.
    Endpoint name(Slot slot, int family, std::uint16_t port = 80) const {
        const bool nat = vm.nat[slot].has_value();
        return {address(nat ? kTemporary[slot][family] : kHosted[family]), port, vm.mac_of(slot)};
    }
    static Tcp client(int family, std::uint16_t port = 4000) {
        return {{address(kPeer[family]), port, kClientMac}, {address(kHosted[family]), 80, kVmMac}};
    }
    // The same conversation as the backend sees it.
    Tcp seen_by(Slot slot, Tcp conversation) const {
        const int family = conversation.to.ip.family == 6;
        conversation.to = name(slot, family, conversation.to.port);
        return conversation;
    }
    // What the peer of the hosted address gets: the backend's MAC stays.
    Tcp seen_outside(Slot slot, Tcp conversation) const {
        conversation.to.mac = vm.mac_of(slot);
        return conversation;
    }
    Outcome from(Slot slot, const Bytes& frame) { return this->plane.send(vm.ports[slot], frame); }

    testing::AssertionResult arrives(const Outcome& out, Slot slot, const Bytes& as,
                                     const std::string& why) {
        testing::AssertionResult went = went_to(out, vm.ports[slot], why);
        if (!went) return went;
        if (out.frame != as) return testing::AssertionFailure() << "not the bytes expected";
        return testing::AssertionSuccess();
    }
    testing::AssertionResult leaves(const Outcome& out, const Bytes& as, const std::string& why) {
        testing::AssertionResult went = passed(out, why);
        if (!went) return went;
        if (out.frame != as) return testing::AssertionFailure() << "not the bytes expected";
        return testing::AssertionSuccess();
    }
    // The whole handshake and a word each way, every byte looked at.
    void converse(const Tcp& c, Slot slot) {
        const Tcp there = seen_by(slot, c), outside = seen_outside(slot, c);
        EXPECT_TRUE(arrives(this->from_client(c.syn()), slot, there.syn(), "new-owner"));
        EXPECT_TRUE(
            leaves(from(slot, there.reply().syn_ack()), outside.reply().syn_ack(), "handshake"));
        EXPECT_TRUE(arrives(this->from_client(c.ack()), slot, there.ack(), "proven"));
        talk(c, slot);
    }
    void talk(const Tcp& c, Slot slot) {
        const Tcp there = seen_by(slot, c), outside = seen_outside(slot, c);
        EXPECT_TRUE(arrives(this->from_client(c.data("odd")), slot, there.data("odd"), "session"));
        EXPECT_TRUE(leaves(from(slot, there.reply().data("answer")), outside.reply().data("answer"),
                           "session"));
        EXPECT_EQ(this->plane.pinned_to(c), slot);
    }

    ManagedVm vm;
};
TYPED_TEST_SUITE(Nat, Planes);

constexpr Modes kAllModes[] = {Modes::L2ToNat, Modes::Nat, Modes::NatOnOnePort};

TYPED_TEST(Nat, OldSessionsStayWithTheSourceAndNewOnesGoToTheDestination) {
    for (Modes modes : kAllModes)
        for (int family : {0, 1}) {
            SCOPED_TRACE(testing::Message() << "modes " << int(modes) << ", family " << family);
            const auto port = static_cast<std::uint16_t>(4000 + 100 * int(modes));
            this->manage(modes);
            const Tcp old = this->client(family, port), fresh = this->client(family, port + 1);
            this->converse(old, kSource);
            this->plane.steer(flipped(kSource, kDestination));
            this->converse(fresh, kDestination);
            this->talk(old, kSource);
            EXPECT_EQ(this->plane.audit(), (std::array{1u, 1u, 0u, 0u}));
            this->from_client(old.rst(3));
            this->from(kSource, this->seen_by(kSource, old).reply().rst(6));
            this->plane.advance_s(5);
            EXPECT_TRUE(this->plane.is_drained());
            this->plane.steer(hosted(kSource));
            this->from(kSource, this->seen_by(kSource, old).reply().rst(6));
            this->plane.advance_s(10000);
            this->plane.sweep();
        }
}

TYPED_TEST(Nat, DatagramsAndPingsAreRewrittenBothWays) {
    this->manage(Modes::Nat);
    for (int family : {0, 1}) {
        const Endpoint peer{address(kPeer[family]), 5353, kClientMac};
        const Endpoint outside{address(kHosted[family]), 53, kVmMac};
        const Endpoint there = this->name(kSource, family, 53);
        EXPECT_TRUE(this->arrives(this->from_client(Udp{peer, outside}.datagram()), kSource,
                                  Udp{peer, there}.datagram(), "new-owner"));
        const Endpoint said{outside.ip, 53, kSourceMac};
        EXPECT_TRUE(this->leaves(this->from(kSource, Udp{there, peer}.datagram()),
                                 Udp{said, peer}.datagram(), "handshake"));
        const Echo ping{peer.ip, outside.ip, kClientMac, kVmMac, 7};
        const Echo seen{peer.ip, there.ip, kClientMac, kSourceMac, 7};
        const Echo answered{peer.ip, outside.ip, kClientMac, kSourceMac, 7};
        EXPECT_TRUE(
            this->arrives(this->from_client(ping.request()), kSource, seen.request(), "new-owner"));
        EXPECT_TRUE(this->leaves(this->from(kSource, seen.reply()), answered.reply(), "handshake"));
    }
}

TYPED_TEST(Nat, ADatagramWithoutAChecksumStaysWithoutOne) {
    this->manage(Modes::Nat);
    const auto without_sum = [](Bytes frame) {
        frame[40] = frame[41] = 0;
        return frame;
    };
    const Endpoint peer{address(kPeer[0]), 5353, kClientMac},
        outside{address(kHosted[0]), 53, kVmMac};
    const Udp there{peer, this->name(kSource, 0, 53)};
    EXPECT_TRUE(this->arrives(this->from_client(without_sum(Udp{peer, outside}.datagram())),
                              kSource, without_sum(there.datagram()), "new-owner"));
    const Endpoint said{outside.ip, 53, kSourceMac};
    EXPECT_TRUE(this->leaves(this->from(kSource, without_sum(there.reply().datagram())),
                             without_sum(Udp{said, peer}.datagram()), "handshake"));
}

// A sum that comes out as zero is sent as all ones (RFC 768): zero would say that there is none.
TYPED_TEST(Nat, ADatagramsChecksumNeverBecomesNone) {
    this->manage(Modes::Nat);
    const Endpoint outside{address(kHosted[0]), 53, kVmMac}, said{outside.ip, 53, kSourceMac};
    const Endpoint there = this->name(kSource, 0, 53);
    const auto all_ones = [](Bytes frame) {
        if (frame[40] == 0 && frame[41] == 0) frame[40] = frame[41] = 0xff;
        return frame;
    };
    unsigned zeros = 0;
    for (unsigned port = 1; port < 0x10000; ++port) {
        const Endpoint peer{address(kPeer[0]), static_cast<std::uint16_t>(port), kClientMac};
        const Bytes in = Udp{peer, there}.datagram(""), out = Udp{said, peer}.datagram("");
        if ((in[40] | in[41]) != 0 && (out[40] | out[41]) != 0) continue;
        ++zeros;
        EXPECT_TRUE(this->arrives(this->from_client(all_ones(Udp{peer, outside}.datagram(""))),
                                  kSource, all_ones(in), "new-owner"));
        EXPECT_TRUE(this->leaves(this->from(kSource, all_ones(Udp{there, peer}.datagram(""))),
                                 all_ones(out), "handshake"));
    }
    EXPECT_GE(zeros, 1u) << "no port makes the sum zero";
}

// The transport checksum of the packet inside an error is its sender's: no receiver of a piece can check it, and
// it stays as it is. Here it is one number, so that the rest can be compared byte by byte.
Bytes with_sum_inside(Bytes sent, std::size_t l4_offset) {
    const std::size_t at = (sent[12] == 0x08 ? 34 : 54) + l4_offset;
    sent[at] = sent[at + 1] = 0x55;
    return sent;
}

TYPED_TEST(Nat, AnErrorOfARouterIsAboutThePacketThatTheBackendSent) {
    std::uint16_t port = 4000;
    for (Modes modes : {Modes::Nat, Modes::L2ToNat})
        for (int family : {0, 1}) {
            this->manage(modes);
            this->plane.steer(hosted(kDestination));
            const Tcp c = this->client(family, ++port), there = this->seen_by(kDestination, c);
            this->converse(c, kDestination);
            const Address router = address(family ? "2001:db8::1" : "10.0.0.1");
            const Bytes sent = with_sum_inside(c.reply().data("too long"), 16);
            const Bytes known = with_sum_inside(there.reply().data("too long"), 16);
            Outcome out = this->from_client(error_about(router, c.to, sent));
            ASSERT_EQ(out.action, STEER_FORWARD) << out.why;
            EXPECT_EQ(out.to, std::vector{this->vm.ports[kDestination]});
            EXPECT_EQ(out.frame, error_about(router, there.to, known));
        }
}

TYPED_TEST(Nat, AnErrorOfTheBackendIsAboutThePacketThatThePeerSent) {
    this->manage(Modes::Nat);
    for (int family : {0, 1}) {
        const Endpoint peer{address(kPeer[family]), 5353, kClientMac};
        const Endpoint outside{address(kHosted[family]), 53, kSourceMac};
        const Endpoint there = this->name(kSource, family, 53);
        this->from_client(Udp{peer, {outside.ip, 53, kVmMac}}.datagram());
        // From the backend to the peer: the router of error_about is the backend itself.
        const auto error = [&](const Endpoint& backend) {
            Bytes frame = error_about(
                backend.ip, peer, with_sum_inside(Udp{peer, backend}.datagram("long enough."), 6));
            std::copy(kSourceMac.begin(), kSourceMac.end(), frame.begin() + 6);
            return frame;
        };
        Outcome out = this->from(kSource, error(there));
        ASSERT_EQ(out.action, STEER_PASS) << out.why;
        EXPECT_EQ(out.frame, error(outside));
    }
}

TYPED_TEST(Nat, AnErrorGoesToBothInTheNameOfEach) {
    this->manage(Modes::L2ToNat);
    this->plane.steer(flipped(kSource, kDestination));
    const Tcp c = this->client(0), there = this->seen_by(kDestination, c);
    const Bytes error = error_about(address("10.0.0.1"), c.to, c.reply().data("?"));
    Outcome out = this->from_client(error);
    if (out.action != STEER_BOTH) GTEST_SKIP() << "errors find their session: " << out.why;
    ASSERT_EQ(out.to, (std::vector{kSourcePort, kDestinationPort}));
    EXPECT_EQ(out.copies[0], error);
    EXPECT_EQ(out.copies[1], error_about(address("10.0.0.1"), there.to, there.reply().data("?")));
}

TYPED_TEST(Nat, WhatTheOwnerBeginsIsTheHostedAddresss) {
    this->manage(Modes::L2ToNat);
    this->plane.steer(flipped(kSource, kDestination));
    for (int family : {0, 1}) {
        // A connection of the VM to a peer's port 443.
        const Tcp c{{address(kPeer[family]), 443, kClientMac},
                    {address(kHosted[family]), 5000, kVmMac}};
        const Tcp there = this->seen_by(kDestination, c),
                  outside = this->seen_outside(kDestination, c);
        EXPECT_TRUE(this->leaves(this->from(kDestination, there.reply().syn()),
                                 outside.reply().syn(), "opened"));
        EXPECT_TRUE(this->arrives(this->from_client(c.syn_ack()), kDestination, there.syn_ack(),
                                  "session"));
        EXPECT_EQ(this->plane.pinned_to(c), kDestination);
    }
}

TYPED_TEST(Nat, WhatAnotherThanTheOwnerBeginsIsItsOwnAndStaysSo) {
    this->manage(Modes::Nat);
    for (int family : {0, 1}) {
        const Endpoint peer{address(kPeer[family]), 443, kClientMac};
        const Tcp there{peer, this->name(kDestination, family, 5000)};
        EXPECT_TRUE(this->leaves(this->from(kDestination, there.reply().syn()), there.reply().syn(),
                                 "temporary"));
        EXPECT_TRUE(this->arrives(this->from_client(there.syn_ack()), kDestination, there.syn_ack(),
                                  "temporary"));
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(this->leaves(this->from(kDestination, there.reply().data("still mine")),
                                 there.reply().data("still mine"), "temporary"));
        EXPECT_EQ(this->plane.session_entries(), 0u);
        this->plane.steer(hosted(kSource));
    }
    // The source begins something of its own while it drains: nothing it would have to be waited for.
    this->plane.steer(flipped(kSource, kDestination));
    const Tcp late{{address(kPeer[0]), 443, kClientMac}, this->name(kSource, 0, 5000)};
    EXPECT_TRUE(passed(this->from(kSource, late.reply().syn()), "temporary"));
    EXPECT_TRUE(this->plane.is_drained());
}

TYPED_TEST(Nat, WhoAddressesTheTemporaryAddressIsAnsweredByIt) {
    this->manage(Modes::Nat);
    for (int family : {0, 1}) {
        const Endpoint there = this->name(kSource, family, 22);
        const Tcp direct{{address(kPeer[family]), 4100, kClientMac}, there};
        EXPECT_TRUE(
            this->arrives(this->from_client(direct.syn()), kSource, direct.syn(), "temporary"));
        EXPECT_TRUE(this->leaves(this->from(kSource, direct.reply().syn_ack()),
                                 direct.reply().syn_ack(), "temporary"));
        const Udp question{{address(kPeer[family]), 4100, kClientMac},
                           this->name(kSource, family, 53)};
        EXPECT_TRUE(this->arrives(this->from_client(question.datagram()), kSource,
                                  question.datagram(), "temporary"));
        EXPECT_TRUE(this->leaves(this->from(kSource, question.reply().datagram()),
                                 question.reply().datagram(), "temporary"));
        EXPECT_FALSE(this->plane.pinned_to(direct) || this->plane.pinned_to(question))
            << "nothing that a drain would wait for";
        // Until it has been silent for longer than a session may be.
        this->plane.advance_s(8000);
        EXPECT_TRUE(passed(this->from(kSource, question.reply().datagram()), "opened"));
    }
}

// The same ports once more, now of the hosted address: that one goes first, or the client would be answered by a
// stranger.
TYPED_TEST(Nat, TheHostedAddressGoesFirst) {
    this->manage(Modes::Nat);
    const Tcp c = this->client(0), there = this->seen_by(kSource, c);
    EXPECT_EQ(this->from_client(there.ack()).why, "temporary");
    this->converse(c, kSource);
}

TYPED_TEST(Nat, NoBackendSpeaksInTheHostedAddresssName) {
    this->manage(Modes::L2ToNat);
    for (const Plan& plan : {hosted(kSource), flipped(kSource, kDestination)}) {
        this->plane.steer(plan);
        const Tcp c{{address(kPeer[0]), 443, kClientMac},
                    {address(kHosted[0]), 5000, kDestinationMac}};
        EXPECT_TRUE(dropped(this->from(kDestination, c.reply().syn()), "fenced"));
        EXPECT_TRUE(dropped(this->from(kDestination, gratuitous_arp(kHosted[0], kDestinationMac)),
                            "fenced-announce"));
        EXPECT_TRUE(dropped(this->from(kDestination, duplicate_probe(kHosted[1], kDestinationMac)),
                            "fenced-announce"));
        EXPECT_TRUE(dropped(this->from(kDestination, arp({2, kDestinationMac, kHosted[0],
                                                          kClientMac, kPeer[0], kClientMac})),
                            "fenced-reply"));
        const Tcp stolen{{address(kPeer[0]), 443, kClientMac},
                         {address("10.9.1.31"), 5000, kVmMac}};
        EXPECT_TRUE(dropped(this->from(kSource, stolen.reply().syn()), "spoofed-source"));
    }
}

TYPED_TEST(Nat, ABackendKeepsHouseForItsTemporaryAddress) {
    this->manage(Modes::L2ToNat);
    for (const Plan& plan : {hosted(kSource), flipped(kSource, kDestination)}) {
        this->plane.steer(plan);
        for (const Bytes& frame :
             {gratuitous_arp("10.9.1.31", kDestinationMac),
              duplicate_probe("2001:db8:9::31", kDestinationMac),
              arp({1, kDestinationMac, "10.9.1.31", {}, kPeer[0]}),
              arp({2, kDestinationMac, "10.9.1.31", kClientMac, kPeer[0], kClientMac})}) {
            Outcome out = this->from(kDestination, frame);
            EXPECT_TRUE(passed(out, "temporary"));
            EXPECT_EQ(out.frame, frame);
        }
        EXPECT_TRUE(
            passed(this->from(kDestination, router_solicit(kDestinationMac)), "not-managed"));
        // Who asks for its MAC is heard by the backend itself.
        EXPECT_TRUE(passed(this->from_client(arp_request("10.9.1.9", "10.9.1.31")), "not-managed"));
        EXPECT_EQ(this->from_client(arp_request("10.9.1.9", kHosted[0])).action, STEER_ANSWER);
    }
}

TYPED_TEST(Nat, ADestinationThatIsNeitherOwnerNorDrainingHasNoSessionsOfTheHostedAddress) {
    this->manage(Modes::Nat);
    this->plane.steer(hosted(kDestination));
    const Tcp c = this->client(0);
    this->converse(c, kDestination);
    this->plane.steer(hosted(kSource));  // cut off, its sessions with it
    const Tcp there = this->seen_by(kDestination, c);
    EXPECT_TRUE(dropped(this->from(kDestination, there.reply().data("ghost")), "fenced"));
}

TYPED_TEST(Nat, AFragmentIsRewrittenAndOnlyTheFirstHasAChecksum) {
    this->manage(Modes::Nat);
    const Endpoint peer{address(kPeer[0]), 5353, kClientMac},
        outside{address(kHosted[0]), 53, kVmMac};
    const Bytes whole = Udp{peer, outside}.datagram("sixteen letters.");
    const Bytes there = Udp{peer, this->name(kSource, 0, 53)}.datagram("sixteen letters.");
    const Bytes first = fragment_of(whole, 0x2000);
    Outcome out = this->from_client(first);
    ASSERT_EQ(out.action, STEER_FORWARD) << out.why;
    EXPECT_EQ(out.frame, fragment_of(there, 0x2000));
    // A later one has data where the header was: left alone.
    Outcome later = this->from_client(fragment_of(whole, 0x0010));
    ASSERT_EQ(later.action, STEER_FORWARD) << later.why;
    Bytes expected = fragment_of(there, 0x0010);
    std::copy(whole.begin() + 34, whole.end(), expected.begin() + 34);
    EXPECT_EQ(later.frame, expected);
}

TYPED_TEST(Nat, WhatCannotBeRewrittenIsDroppedAndNamed) {
    this->manage(Modes::Nat);
    const Address peer = address(kPeer[0]), there = address(kHosted[0]);
    const Bytes plain = ethernet(kVmMac, kClientMac, 0x0800, ip(peer, there, 47, Bytes(32, 6)));
    const Bytes authenticated = with_extensions(plain, {51});
    EXPECT_TRUE(dropped(this->from_client(authenticated), "untranslatable"));
    // A first fragment that ends before its checksum; padding lies where it would be.
    Bytes tiny = ethernet(kVmMac, kClientMac, 0x0800, ip(peer, there, 6, Bytes(8, 1), 0x2000));
    tiny.resize(60);
    EXPECT_TRUE(dropped(this->from_client(tiny), "truncated"));
}

TYPED_TEST(Nat, TwoManagedVmsKnowEachOtherByTheirHostedAddresses) {
    this->manage(Modes::Nat);
    ManagedVm other{kOtherVm, {"10.9.2.10"}, {kOtherVmPort, kUplink}, kOtherVmMac};
    other.nat[kSource] = {kOtherVmMac, {"10.9.2.30"}};
    this->plane.manage(other);
    this->plane.steer(hosted(kSource), kOtherVm);
    const Tcp sent{{address("10.9.2.30"), 4000, kOtherVmMac}, {address(kHosted[0]), 80, kVmMac}};
    const Tcp seen{{address("10.9.2.10"), 4000, kOtherVmMac}, this->name(kSource, 0)};
    EXPECT_TRUE(this->arrives(this->plane.send(kOtherVmPort, sent.syn()), kSource, seen.syn(),
                              "new-owner"));
    Tcp answer = seen.reply(), heard = sent.reply();
    heard.from.mac = kSourceMac;
    Outcome out = this->from(kSource, answer.syn_ack());
    EXPECT_TRUE(went_to(out, kOtherVmPort, "session"));
    EXPECT_EQ(out.frame, heard.syn_ack());
}

// The way back: peers have learnt the MAC of the backend in mode nat, and still send to it.
TYPED_TEST(Nat, ADestinationInModeL2GetsWhatIsSentToTheSourcesMac) {
    this->vm.addresses = {kHosted[0], kHosted[1]};
    this->vm.nat[kSource] = {kSourceMac, {kTemporary[kSource][0], kTemporary[kSource][1]}};
    this->plane.manage(this->vm);
    this->plane.steer(hosted(kSource));
    for (int family : {0, 1}) {
        Tcp old = this->client(family, 4000), fresh = this->client(family, 4001);
        old.to.mac = fresh.to.mac = kSourceMac;
        this->plane.steer(hosted(kSource));
        this->converse(old, kSource);
        this->plane.steer(flipped(kSource, kDestination));
        Tcp there = fresh;
        there.to.mac = kVmMac;
        EXPECT_TRUE(
            this->arrives(this->from_client(fresh.syn()), kDestination, there.syn(), "new-owner"));
        EXPECT_TRUE(this->leaves(this->from(kDestination, there.reply().syn_ack()),
                                 there.reply().syn_ack(), "handshake"));
        EXPECT_TRUE(this->arrives(this->from_client(fresh.data("ack")), kDestination,
                                  there.data("ack"), "proven"));
        this->talk(old, kSource);
    }
}

// What the backend says about a packet that it was sent, and from which address, follows that packet.
TYPED_TEST(Nat, AnErrorAboutAPacketToTheTemporaryAddressItselfComesFromThere) {
    this->manage(Modes::Nat);
    for (int family : {0, 1}) {
        const Endpoint peer{address(kPeer[family]), 5353, kClientMac};
        const Endpoint there = this->name(kSource, family, 53);
        const Bytes question = Udp{peer, there}.datagram("long enough.");
        EXPECT_EQ(this->from_client(question).why, "temporary");
        Bytes error = error_about(there.ip, peer, question);
        std::copy(kSourceMac.begin(), kSourceMac.end(), error.begin() + 6);
        EXPECT_TRUE(this->leaves(this->from(kSource, error), error, "temporary"));
    }
}

TYPED_TEST(Nat, TheLaterFragmentsOfAnAnswerLeaveAsItsFirstOneDid) {
    this->manage(Modes::Nat);
    const Endpoint peer{address(kPeer[0]), 5353, kClientMac};
    const Endpoint outside{address(kHosted[0]), 53, kVmMac}, said{outside.ip, 53, kSourceMac};
    const Endpoint there = this->name(kSource, 0, 53);
    const Bytes answer = Udp{there, peer}.datagram("sixteen letters."),
                translated = Udp{said, peer}.datagram("sixteen letters.");
    const auto later_of = [](const Bytes& frame, const Bytes& body) {
        Bytes later = fragment_of(frame, 0x0003);
        std::copy(body.begin() + 34, body.end(), later.begin() + 34);
        return later;
    };
    this->from_client(Udp{peer, outside}.datagram());
    EXPECT_TRUE(passed(this->from(kSource, fragment_of(answer, 0x2000)), "handshake"));
    Outcome out = this->from(kSource, fragment_of(answer, 0x0003));
    EXPECT_TRUE(this->leaves(out, later_of(translated, answer), "fragment"));
    // And of the temporary address itself, another peer, another packet.
    const Endpoint other{address("10.0.0.8"), 5353, kClientMac};
    const Bytes direct = Udp{there, other}.datagram("sixteen letters.");
    this->from_client(Udp{other, there}.datagram());
    for (unsigned place : {0x2000u, 0x0003u}) {
        const Bytes piece = fragment_of(direct, static_cast<std::uint16_t>(place));
        EXPECT_TRUE(this->leaves(this->from(kSource, piece), piece, "temporary"));
    }
}

TYPED_TEST(Nat, AnErrorOfOneManagedVmReachesTheOthersSession) {
    this->manage(Modes::Nat);
    ManagedVm other{kOtherVm, {"10.9.2.10"}, {kOtherVmPort, kUplink}, kOtherVmMac};
    other.nat[kSource] = {kOtherVmMac, {"10.9.2.30"}};
    this->plane.manage(other);
    this->plane.steer(hosted(kSource), kOtherVm);
    const Endpoint asker{address("10.9.2.30"), 4000, kOtherVmMac};
    const Endpoint asked{address(kHosted[0]), 53, kVmMac}, there = this->name(kSource, 0, 53);
    this->plane.send(kOtherVmPort, Udp{asker, asked}.datagram("long enough."));
    const Endpoint seen{address("10.9.2.10"), 4000, kOtherVmMac};
    Bytes error =
        error_about(there.ip, seen, with_sum_inside(Udp{seen, there}.datagram("long enough."), 6));
    std::copy(kSourceMac.begin(), kSourceMac.end(), error.begin() + 6);
    Outcome out = this->from(kSource, error);
    EXPECT_TRUE(went_to(out, kOtherVmPort, "icmp-error"));
    Bytes expected = error_about(asked.ip, asker,
                                 with_sum_inside(Udp{asker, asked}.datagram("long enough."), 6));
    std::copy(kSourceMac.begin(), kSourceMac.end(), expected.begin() + 6);
    EXPECT_EQ(out.frame, expected);
}

}  // namespace godwit::test
