// QUIC clients that move on purpose take an id that nobody could see being issued. Who does not know it answers with a
// Stateless Reset, which original and clone make with one key: it must not end the other one's connection.
#include "tests/packet/planes.hpp"
#include "tests/packet/quic.hpp"

namespace godwit::test {

TYPED_TEST_SUITE(EveryPlane, Planes);

namespace {

const std::string kSecretId(18, 's');  // issued in NEW_CONNECTION_ID

std::vector<Udp> clients(unsigned port) {
    const std::string text = std::to_string(port);
    return {udp("10.0.0.9:" + text, "10.1.0.1:443"),
            udp("[2001:db8::9]:" + text, "[2001:db8:1::1]:443")};
}

// Both VMs draining, and a connection of `slot`, so that the port is known for a server's.
void begin(Plane& plane, const Udp& client, Slot slot) {
    const Port port = slot == kSource ? kSourcePort : kDestinationPort;
    plane.steer(slot == kSource ? steady(kSource) : flipped(kSource, kDestination));
    plane.send(kUplink, client.datagram(quic_long({"random-id", "client"})));
    plane.send(port, client.reply().datagram(quic_long({"client", std::string(18, 'a')})));
    plane.steer(flipped(kSource, kDestination));
}

}  // namespace

TYPED_TEST(EveryPlane, AConnectionOfTheDestinationOutlivesTheOriginalsResets) {
    for (std::size_t v6 = 0; v6 < 2; ++v6) {
        begin(this->plane, clients(5000)[v6], kDestination);
        const Udp moved = clients(6000)[v6];
        const Bytes asks = moved.datagram(quic_short(kSecretId));
        EXPECT_TRUE(went_to(this->from_client(asks), kSourcePort, "previous"));
        EXPECT_TRUE(
            dropped(this->from_source(moved.reply().datagram(quic_reset('t'))), "rst-withheld"));
        EXPECT_TRUE(went_to(this->from_client(asks), kSourcePort, "second-chance"));
        EXPECT_TRUE(dropped(this->from_source(moved.reply().datagram(quic_reset('t', 60, 'x'))),
                            "rst-withheld"));
        EXPECT_TRUE(went_to(this->from_client(asks), kDestinationPort, "second-chance"));
        EXPECT_TRUE(dropped(this->from_source(moved.reply().datagram(quic_reset('t'))), "fenced"));
        EXPECT_TRUE(passed(this->from_destination(moved.reply().datagram(quic_short("client"))),
                           "handshake"));
        EXPECT_EQ(this->plane.pinned_to(moved), kDestination);
        EXPECT_TRUE(went_to(this->from_client(asks), kDestinationPort, "session"));
        EXPECT_TRUE(this->plane.is_drained()) << "what is withheld holds no drain";
    }
}

TYPED_TEST(EveryPlane, AConnectionOfTheOriginalLosesOnePacketAtMost) {
    for (std::size_t v6 = 0; v6 < 2; ++v6) {
        begin(this->plane, clients(5000)[v6], kSource);
        const Udp moved = clients(6000)[v6], wordy = clients(6001)[v6], named = clients(6002)[v6];
        const Bytes asks = moved.datagram(quic_short(kSecretId));
        EXPECT_TRUE(went_to(this->from_client(asks), kSourcePort, "previous"));
        EXPECT_TRUE(dropped(this->from_source(moved.reply().datagram(quic_short("client", '1'))),
                            "rst-withheld"));
        EXPECT_TRUE(went_to(this->from_client(asks), kSourcePort, "second-chance"));
        EXPECT_TRUE(passed(this->from_source(moved.reply().datagram(quic_short("client", '2'))),
                           "handshake"));
        EXPECT_EQ(this->plane.pinned_to(moved), kSource);
        EXPECT_TRUE(passed(this->from_source(moved.reply().datagram(quic_short("client", '2'))),
                           "session"));
        // Longer than any reset, in a long header, or where the id is known: at once.
        this->from_client(wordy.datagram(quic_short(kSecretId)));
        EXPECT_TRUE(
            passed(this->from_source(wordy.reply().datagram(quic_reset('t', 129))), "opened"));
        this->from_client(named.datagram(quic_short(std::string(18, 'a'))));
        EXPECT_TRUE(
            passed(this->from_source(named.reply().datagram(quic_reset('t'))), "handshake"));
    }
}

TYPED_TEST(EveryPlane, AConnectionThatNobodyKnowsIsReset) {
    for (std::size_t v6 = 0; v6 < 2; ++v6) {
        begin(this->plane, clients(5000)[v6], kDestination);
        const Udp moved = clients(6000)[v6];
        for (int again = 0; again < 2; ++again) {
            this->from_client(moved.datagram(quic_short(kSecretId)));
            EXPECT_TRUE(dropped(this->from_source(moved.reply().datagram(quic_reset('t'))),
                                "rst-withheld"));
        }
        this->from_client(moved.datagram(quic_short(kSecretId)));
        EXPECT_TRUE(
            passed(this->from_destination(moved.reply().datagram(quic_reset('t'))), "handshake"));
    }
}

TYPED_TEST(EveryPlane, NothingIsWithheldOfOthers) {
    begin(this->plane, clients(5000)[0], kSource);
    const Udp elsewhere = udp("10.0.0.9:6000", "10.1.0.1:53");
    EXPECT_TRUE(passed(this->from_source(elsewhere.reply().datagram(quic_reset('t'))), "opened"))
        << "no QUIC server is known there";
    EXPECT_TRUE(
        passed(this->from_source(clients(6001)[0].reply().datagram(quic_reset('t', 20))), "opened"))
        << "too short";
    EXPECT_TRUE(passed(this->from_destination(clients(6002)[0].reply().datagram(quic_reset('t'))),
                       "opened"))
        << "it is nobody's original";
    this->plane.steer(steady(kSource));
    EXPECT_TRUE(
        passed(this->from_source(clients(6003)[0].reply().datagram(quic_reset('t'))), "opened"))
        << "there is no other";
}

}  // namespace godwit::test
