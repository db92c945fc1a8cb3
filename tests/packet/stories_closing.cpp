// How single TCP connections end as RFC 9293, 5961 and 5382 say, and how many end at once by command.
#include "tests/packet/planes.hpp"

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
