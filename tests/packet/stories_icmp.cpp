// ICMP errors follow the session that they are about (rule 9): a path MTU message that reaches the wrong one of
// two VMs is lost, and with it the connection.
#include "tests/packet/planes.hpp"

namespace godwit::test {

TYPED_TEST_SUITE(EveryPlane, Planes);

const char* router_of(const Bytes& about) {
    return about.at(12) == 0x08 ? "10.9.9.9" : "2001:db8:9::9";
}
Bytes too_big(const Bytes& about, std::size_t l4_bytes = 8) {
    return icmp_error({about, router_of(about), 0, l4_bytes});
}
Bytes with_byte(Bytes frame, std::size_t at, std::uint8_t value) {
    frame.at(at) = value;
    return frame;
}
testing::AssertionResult reached_both(const Outcome& out) {
    if (out.action == STEER_BOTH && out.why == "icmp-error-both")
        return testing::AssertionSuccess();
    return testing::AssertionFailure() << "action " << out.action << ", why " << out.why;
}
// Every error of RFC 792 and RFC 4443: unreachable, time exceeded, parameter problem (too big is type 0 here).
std::vector<std::uint8_t> error_types(const Tcp& client) {
    return client.from.ip.family == 4 ? std::vector<std::uint8_t>{0, 3, 11, 12}
                                      : std::vector<std::uint8_t>{0, 1, 3, 4};
}

TYPED_TEST(EveryPlane, PathMtuErrorReachesOnlyTheOwnerOfTheSession) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(steady(kSource));
        Tcp later = client;
        later.from.port = 4001;
        this->establish(client, kSource);
        this->plane.steer(flipped(kSource, kDestination));
        this->establish(later, kDestination);
        for (std::uint8_t type : error_types(client))
            for (std::size_t l4_bytes : {8u, 20u, 1000u}) {
                Bytes old = client.reply().data("hello"), young = later.reply().data("hello");
                Bytes of_old = icmp_error({old, router_of(old), type, l4_bytes});
                Bytes of_young = icmp_error({young, router_of(young), type, l4_bytes});
                EXPECT_TRUE(went_to(this->from_client(of_old), kSourcePort, "icmp-error"));
                EXPECT_TRUE(went_to(this->from_client(of_young), kDestinationPort, "icmp-error"));
            }
    }
}

TYPED_TEST(EveryPlane, ErrorAboutAnUnknownSessionIsGivenToBothAsEver) {
    for (const Tcp& client : both_families()) {
        Bytes error = too_big(client.reply().data("hello"));
        this->plane.steer(steady(kSource));
        EXPECT_TRUE(went_to(this->from_client(error), kSourcePort, "icmp-error-default"));
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(reached_both(this->from_client(error)));
    }
    EXPECT_EQ(this->plane.session_entries(), 0u);
}

TYPED_TEST(EveryPlane, ErrorAboutAHandshakeGoesToWhomItWasGiven) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(steady(kSource));
        this->from_client(client.syn());
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(went_to(this->from_client(too_big(client.reply().syn_ack())), kSourcePort,
                            "icmp-error"));
    }
}

TYPED_TEST(EveryPlane, ErrorsAboutDatagramsAndEchoesFindTheirSession) {
    Udp flow4 = udp("10.0.0.9:5353", "10.1.0.1:53"),
        flow6 = udp("[2001:db8::9]:5353", "[2001:db8:1::1]:53");
    Echo asked = echo("10.0.0.9", "10.1.0.1", 9), asks = echo_from_vm("10.1.0.1", "10.0.0.9", 9);
    Echo asked6 = echo("2001:db8::9", "2001:db8:1::1", 9);
    std::vector<Bytes> about{flow4.reply().datagram(), flow6.reply().datagram(), asked.reply(),
                             asks.request(), asked6.reply()};
    for (const Bytes& in : {flow4.datagram(), flow6.datagram(), asked.request(), asked6.request()})
        this->from_client(in);
    for (const Bytes& out : about) EXPECT_EQ(this->from_source(out).action, STEER_PASS);
    this->plane.steer(flipped(kSource, kDestination));
    for (const Bytes& out : about)
        EXPECT_TRUE(went_to(this->from_client(too_big(out)), kSourcePort, "icmp-error"));
    // The answer to its own ping and the ping of the peer with the same identifier are two sessions.
    EXPECT_TRUE(reached_both(
        this->from_client(too_big(echo_from_vm("10.1.0.1", "10.0.0.9", 10).request()))));
}

TYPED_TEST(EveryPlane, ErrorDoesNotKeepASessionAlive) {
    Udp flow = udp("10.0.0.9:5353", "10.1.0.1:53");
    this->from_client(flow.datagram());
    this->from_source(flow.reply().datagram());
    this->plane.advance_s(200);
    EXPECT_TRUE(
        went_to(this->from_client(too_big(flow.reply().datagram())), kSourcePort, "icmp-error"));
    this->plane.advance_s(200);
    this->plane.sweep();
    EXPECT_EQ(this->plane.sessions(kSource), 0u);
}

TYPED_TEST(EveryPlane, ErrorAboutAPacketThatItsAddresseeHasNotSentIsStopped) {
    for (const Tcp& client : both_families()) {
        this->establish(client, kSource);
        Bytes about = client.reply().data("hello");
        bool v4 = client.from.ip.family == 4;
        // The embedded source is another address of the same network, the error is still sent to the VM.
        Bytes forged = with_byte(too_big(about), v4 ? 14 + 20 + 8 + 15 : 14 + 40 + 8 + 23, 77);
        EXPECT_TRUE(dropped(this->from_client(forged), "icmp-error-foreign"));
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(dropped(this->from_client(forged), "icmp-error-foreign"));
        EXPECT_TRUE(went_to(this->from_client(too_big(about)), kSourcePort, "icmp-error"));
        this->plane.steer(steady(kSource));
    }
}

TYPED_TEST(EveryPlane, ErrorWhoseEmbeddedHeaderCannotBeReadNamesNoSession) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(steady(kSource));
        this->establish(client, kSource);
        bool v4 = client.from.ip.family == 4;
        std::size_t inner = v4 ? 42 : 62;
        Bytes about = client.reply().data("hello");
        std::vector<Bytes> unreadable{
            too_big(about, 0), too_big(about, 7),    // shorter than RFC 792 promises
            with_byte(too_big(about), inner, 0x55),  // of another version
        };
        if (v4) {
            unreadable.push_back(with_byte(too_big(about), inner, 0x44));  // shorter than itself
            unreadable.push_back(with_byte(too_big(about), inner, 0x4f));  // longer than the error
            unreadable.push_back(with_byte(too_big(about), inner + 7, 0x10));  // a later fragment
        }
        this->plane.steer(flipped(kSource, kDestination));
        for (const Bytes& frame : unreadable)
            EXPECT_TRUE(reached_both(this->from_client(frame))) << (&frame - unreadable.data());
        // What the embedded header says of the original packet's length proves nothing.
        Bytes lies = with_byte(too_big(about), inner + (v4 ? 2 : 4), 0xff);
        EXPECT_TRUE(went_to(this->from_client(lies), kSourcePort, "icmp-error"));
        this->plane.steer(steady(kSource));
    }
}

TYPED_TEST(EveryPlane, EmbeddedOptionsAreSkipped) {
    Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    this->establish(client, kSource);
    Bytes about = client.reply().data("hello");
    about[14] = 0x46;
    about.insert(about.begin() + 34, {1, 1, 1, 1});
    EXPECT_TRUE(went_to(this->from_client(too_big(about)), kSourcePort, "icmp-error"));
}

TYPED_TEST(EveryPlane, WhatAVmSaysAboutASessionObeysTheFence) {
    for (const Tcp& client : both_families()) {
        this->plane.steer(steady(kSource));
        this->establish(client, kSource);
        const char* own = client.from.ip.family == 4 ? "10.1.0.1" : "2001:db8:1::1";
        std::uint8_t unreachable = client.from.ip.family == 4 ? 3 : 1;
        auto about = [&](const Bytes& packet) { return icmp_error({packet, own, unreachable, 8}); };
        this->plane.steer(flipped(kSource, kDestination));
        Udp closed = client.from.ip.family == 4 ? udp("10.0.0.9:6000", "10.1.0.1:9")
                                                : udp("[2001:db8::9]:6000", "[2001:db8:1::1]:9");
        EXPECT_TRUE(passed(this->from_source(about(client.data("x"))), "icmp-error"));
        EXPECT_TRUE(dropped(this->from_destination(about(client.data("x"))), "fenced"));
        // A port nobody listens on: the datagram was the destination's, and so is the refusal.
        EXPECT_TRUE(went_to(this->from_client(closed.datagram()), kDestinationPort, "new-owner"));
        EXPECT_TRUE(passed(this->from_destination(about(closed.datagram())), "icmp-error"));
        EXPECT_TRUE(dropped(this->from_source(about(closed.datagram())), "fenced"));
        // About nobody's: the original may, a clone may not.
        Tcp unknown = client;
        unknown.from.port = 4999;
        EXPECT_TRUE(passed(this->from_source(about(unknown.data("x"))), "icmp-error-default"));
        EXPECT_TRUE(
            dropped(this->from_destination(about(unknown.data("x"))), "icmp-error-default"));
        // From an address that the packet did not go to.
        Bytes other = icmp_error({client.data("x"),
                                  client.from.ip.family == 4 ? "10.1.0.77" : "2001:db8:1::77",
                                  unreachable, 8});
        EXPECT_EQ(this->from_destination(other).why, "not-managed");
        this->plane.steer(steady(kSource));
    }
}

}  // namespace godwit::test
