// Packets whose ports lie behind options or extension headers, or in another fragment, find their session all the
// same (rule 9).
#include "tests/packet/planes.hpp"

namespace godwit::test {

TYPED_TEST_SUITE(EveryPlane, Planes);

const std::string kLong(100, 'x');

std::vector<Udp> datagrams(std::uint16_t port) {
    const std::string text = std::to_string(port);
    return {udp("10.0.0.9:" + text, "10.1.0.1:53"),
            udp("[2001:db8::9]:" + text, "[2001:db8:1::1]:53")};
}
Bytes replaced(Bytes frame, std::size_t at, std::uint8_t value) {
    frame.at(at) = value;
    return frame;
}
testing::AssertionResult reached_both_early(const Outcome& out) {
    if (out.action == STEER_BOTH && out.why == "fragment-early") return testing::AssertionSuccess();
    return testing::AssertionFailure() << "action " << out.action << ", why " << out.why;
}

TYPED_TEST(EveryPlane, LaterFragmentsFollowTheirFirstOneInAnyOrder) {
    for (std::size_t i = 0; i < 2; ++i) {
        Udp old = datagrams(5000)[i], young = datagrams(5001)[i];
        this->plane.steer(steady(kSource));
        this->from_client(old.datagram());
        this->from_source(old.reply().datagram());
        this->plane.steer(flipped(kSource, kDestination));
        std::vector<Bytes> of_old = pieces_of(old.datagram(kLong), 7, 32);
        std::vector<Bytes> of_young = pieces_of(young.datagram(kLong), 8, 32);
        EXPECT_TRUE(went_to(this->from_client(of_old[0]), kSourcePort, "session"));
        EXPECT_TRUE(went_to(this->from_client(of_young[0]), kDestinationPort, "new-owner"));
        for (std::size_t piece : {3u, 1u, 2u, 1u}) {
            EXPECT_TRUE(went_to(this->from_client(of_old[piece]), kSourcePort, "fragment"));
            EXPECT_TRUE(went_to(this->from_client(of_young[piece]), kDestinationPort, "fragment"));
        }
    }
}

TYPED_TEST(EveryPlane, AFragmentBeforeItsFirstOneGoesToWhoeverMayGetThatOne) {
    for (const Udp& flow : datagrams(5000)) {
        std::vector<Bytes> pieces = pieces_of(flow.datagram(kLong), 9, 48);
        this->plane.steer(steady(kSource));
        EXPECT_TRUE(went_to(this->from_client(pieces[1]), kSourcePort, "fragment-early"));
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(reached_both_early(this->from_client(pieces[1])));
        EXPECT_TRUE(went_to(this->from_client(pieces[0]), kDestinationPort, "new-owner"));
        EXPECT_TRUE(went_to(this->from_client(pieces[2]), kDestinationPort, "fragment"));
    }
}

TYPED_TEST(EveryPlane, AnIdentificationThatIsUsedAgainBelongsToTheNewestFirstFragment) {
    for (std::size_t i = 0; i < 2; ++i) {
        Udp old = datagrams(5000)[i], young = datagrams(5001)[i];
        this->plane.steer(steady(kSource));
        this->from_client(old.datagram());
        this->from_source(old.reply().datagram());
        this->plane.steer(flipped(kSource, kDestination));
        this->from_client(pieces_of(old.datagram(kLong), 7, 48)[0]);
        this->from_client(pieces_of(young.datagram(kLong), 7, 48)[0]);
        EXPECT_TRUE(went_to(this->from_client(pieces_of(young.datagram(kLong), 7, 48)[1]),
                            kDestinationPort, "fragment"));
    }
}

TYPED_TEST(EveryPlane, AFirstFragmentIsForgottenAfterItsLimitAndCountsNowhere) {
    std::vector<Bytes> pieces =
        pieces_of(udp("10.0.0.9:5000", "10.1.0.1:53").datagram(kLong), 7, 48);
    this->from_client(pieces[0]);
    EXPECT_TRUE(went_to(this->from_client(pieces[1]), kSourcePort, "fragment"));
    EXPECT_EQ(this->plane.entries({STEER_FRAGMENTS4}), 1u);
    EXPECT_EQ(this->plane.handshakes(kSource), 1u) << "the datagram's own";
    this->plane.advance_s(31);
    EXPECT_TRUE(went_to(this->from_client(pieces[1]), kSourcePort, "fragment-early"));
    this->from_client(pieces[0]);
    this->plane.advance_s(31);
    this->plane.sweep();
    EXPECT_EQ(this->plane.entries({STEER_FRAGMENTS4}), 0u);
    EXPECT_EQ(this->plane.handshakes(kSource), 0u);
}

TYPED_TEST(EveryPlane, AVmSendsFragmentsOnlyOfWhatItMaySend) {
    for (std::size_t i = 0; i < 2; ++i) {
        Udp old = datagrams(5000)[i], young = datagrams(5001)[i];
        this->plane.steer(steady(kSource));
        this->from_client(old.datagram());
        this->from_source(old.reply().datagram());
        this->plane.steer(flipped(kSource, kDestination));
        this->from_client(young.datagram());
        // The same identification: a clone counts on where the original was.
        std::vector<Bytes> of_old = pieces_of(old.reply().datagram(kLong), 7, 48);
        std::vector<Bytes> of_young = pieces_of(young.reply().datagram(kLong), 7, 48);
        EXPECT_TRUE(dropped(this->from_destination(of_old[0]), "fenced"));
        EXPECT_TRUE(dropped(this->from_destination(of_old[1]), "fragment-early"));
        EXPECT_TRUE(passed(this->from_source(of_old[0]), "session"));
        EXPECT_TRUE(passed(this->from_destination(of_young[0]), "handshake"));
        EXPECT_TRUE(passed(this->from_source(of_old[1]), "fragment"));
        EXPECT_TRUE(passed(this->from_destination(of_young[1]), "fragment"));
        this->plane.steer(steady(kDestination));
        EXPECT_TRUE(dropped(this->from_source(of_old[1]), "fenced"));
    }
}

TYPED_TEST(EveryPlane, FragmentsThatNoHostMayPutTogetherAreDropped) {
    for (const Tcp& client : both_families()) {
        std::vector<Bytes> pieces = pieces_of(client.data(kLong), 7, 48);
        bool v4 = client.from.ip.family == 4;
        Bytes tiny =
            pieces_of(client.data(kLong), 7, 16)[0];  // RFC 1858: no flags in the first one
        EXPECT_TRUE(dropped(this->from_client(tiny), "truncated"));
        Bytes beyond = replaced(replaced(pieces[2], v4 ? 20 : 56, v4 ? 0x1f : 0xff), v4 ? 21 : 57,
                                v4 ? 0xff : 0xf8);
        EXPECT_TRUE(dropped(this->from_client(beyond), "bad-header"))
            << "longer than a packet can be";
        Bytes uneven = pieces[0];
        uneven.pop_back();
        uneven.at(v4 ? 17 : 19) = static_cast<std::uint8_t>(uneven.at(v4 ? 17 : 19) - 1);
        EXPECT_TRUE(dropped(this->from_client(uneven), "bad-header"))
            << "not a whole number of words";
    }
    Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    EXPECT_TRUE(dropped(this->from_client(fragment_of(client.data(kLong), 0x0001)), "bad-header"));
    Bytes twice = pieces_of(pieces_of(datagrams(5000)[1].datagram(kLong), 7, 64)[0], 8, 64)[0];
    EXPECT_TRUE(dropped(this->from_client(twice), "bad-header"));
    EXPECT_EQ(this->plane.entries({STEER_FRAGMENTS4, STEER_FRAGMENTS6}), 0u);
}

TYPED_TEST(EveryPlane, ProtocolsWithoutPortsNeedNoFirstFragment) {
    Bytes whole = ethernet(kVmMac, kClientMac, 0x0800,
                           ip(address("10.0.0.9"), address("10.1.0.1"), 47, Bytes(64, 1)));
    std::vector<Bytes> pieces = pieces_of(whole, 7, 32);
    EXPECT_TRUE(went_to(this->from_client(pieces[1]), kSourcePort, "new-owner"));
    this->plane.steer(flipped(kSource, kDestination));
    EXPECT_TRUE(went_to(this->from_client(pieces[0]), kSourcePort, "handshake"));
}

TYPED_TEST(EveryPlane, FloodOfFirstFragmentsTakesNothingFromSessions) {
    Udp flow = udp("10.0.0.9:5000", "10.1.0.1:53");
    this->from_client(flow.datagram());
    this->from_source(flow.reply().datagram());
    for (std::uint32_t id = 0; id < 20000; ++id)
        this->from_client(pieces_of(flow.datagram(kLong), id, 48)[0]);
    EXPECT_EQ(this->plane.session_entries(), 1u);
    std::vector<Bytes> last = pieces_of(flow.datagram(kLong), 19999, 48);
    EXPECT_TRUE(went_to(this->from_client(last[1]), kSourcePort, "fragment"));
}

// ---- options and extension headers ------------------------------------------------------------------

TYPED_TEST(EveryPlane, Ipv4OptionsAreSkipped) {
    Bytes frame = tcp("10.0.0.9:4000", "10.1.0.1:80").syn();
    for (unsigned words : {6u, 10u, 15u}) {
        Bytes longer = frame;
        const std::size_t options = (words - 5) * 4;
        longer[14] = static_cast<std::uint8_t>(0x40 | words);
        longer[17] = static_cast<std::uint8_t>(longer[17] + options);
        longer.insert(longer.begin() + 34, options, 1);
        EXPECT_TRUE(went_to(this->from_client(longer), kSourcePort,
                            words == 6 ? "new-owner" : "handshake"));
    }
}

TYPED_TEST(EveryPlane, ExtensionHeadersAreSkipped) {
    Tcp client = tcp("[2001:db8::9]:4000", "[2001:db8:1::1]:80");
    this->establish(client, kSource);
    this->plane.steer(flipped(kSource, kDestination));
    for (const std::vector<std::uint8_t>& chain :
         std::vector<std::vector<std::uint8_t>>{{0}, {60}, {43}, {51}, {0, 60, 43, 51, 60}}) {
        EXPECT_TRUE(went_to(this->from_client(with_extensions(client.data("x"), chain)),
                            kSourcePort, "session"));
        EXPECT_TRUE(
            passed(this->from_source(with_extensions(client.reply().data("x"), chain)), "session"));
        EXPECT_NE(this->from_destination(with_extensions(client.reply().data("x"), chain)).action,
                  STEER_PASS);
    }
    Tcp v4 = tcp("10.0.0.9:4000", "10.1.0.1:80");
    EXPECT_TRUE(
        went_to(this->from_client(with_extensions(v4.syn(), {51})), kDestinationPort, "new-owner"));
    EXPECT_TRUE(went_to(this->from_client(v4.syn()), kDestinationPort, "handshake"));
}

TYPED_TEST(EveryPlane, ExtensionsAndFragmentsTogether) {
    Udp flow = udp("[2001:db8::9]:5000", "[2001:db8:1::1]:53");
    std::vector<Bytes> pieces = pieces_of(with_extensions(flow.datagram(kLong), {60}), 7, 48);
    EXPECT_TRUE(went_to(this->from_client(pieces[0]), kSourcePort, "new-owner"));
    this->plane.steer(flipped(kSource, kDestination));
    EXPECT_TRUE(went_to(this->from_client(pieces[1]), kSourcePort, "fragment"));
    Bytes error =
        icmp_error({with_extensions(flow.reply().datagram(), {60}), "2001:db8:9::9", 0, 24});
    EXPECT_TRUE(went_to(this->from_client(error), kSourcePort, "icmp-error"));
}

TYPED_TEST(EveryPlane, ChainsOfExtensionsThatLieHaveTheirReason) {
    Tcp client = tcp("[2001:db8::9]:4000", "[2001:db8:1::1]:80");
    Bytes endless = with_extensions(client.syn(), std::vector<std::uint8_t>(9, 60));
    EXPECT_TRUE(dropped(this->from_client(endless), "extension-chain"));
    EXPECT_TRUE(dropped(
        this->from_source(with_extensions(client.reply().syn(), std::vector<std::uint8_t>(9, 60))),
        "extension-chain"));
    Bytes late = with_extensions(client.syn(), {60, 0});
    EXPECT_TRUE(dropped(this->from_client(late), "bad-header")) << "hop-by-hop is not first";
    Bytes lies = replaced(with_extensions(client.syn(), {60}), 55, 200);
    EXPECT_TRUE(dropped(this->from_client(lies), "truncated"));
    Bytes source_route = replaced(with_extensions(client.syn(), {43}), 57, 1);
    EXPECT_TRUE(dropped(this->from_client(source_route), "bad-header")) << "RFC 5095";
    Bytes cut = with_extensions(client.syn(), {60});
    cut.resize(58);
    EXPECT_TRUE(dropped(this->from_client(cut), "truncated"));
    EXPECT_EQ(this->plane.handshakes(kSource), 0u);
}

}  // namespace godwit::test
