// ARP and Neighbour Discovery for hosted addresses, and a VM's own housekeeping.
#include "tests/packet/planes.hpp"

#include <algorithm>
#include <cstring>

namespace godwit::test {

TYPED_TEST_SUITE(EveryPlane, Planes);

constexpr const char* kV4 = "10.1.0.1";
constexpr const char* kV6 = "2001:db8:1::1";

Mac mac_at(const Bytes& frame, std::size_t at) {
    Mac mac;
    std::memcpy(mac.data(), &frame.at(at), 6);
    return mac;
}

TYPED_TEST(EveryPlane, HostedArpRequestIsAnsweredWithTheVmsMac) {
    this->plane.steer(hosted(kSource));
    Outcome out = this->from_client(arp_request("10.1.0.9", kV4));
    ASSERT_EQ(out.action, STEER_ANSWER);
    EXPECT_EQ(out.why, "arp-answered");
    EXPECT_EQ(out.to, std::vector{kUplink});
    out.frame.resize(42);
    EXPECT_EQ(out.frame, arp({2, kVmMac, kV4, kClientMac, "10.1.0.9", kClientMac}));
}

TYPED_TEST(EveryPlane, HostedSolicitationIsAnsweredWithTheVmsMac) {
    this->plane.steer(hosted(kSource));
    Outcome out = this->from_client(neighbour_solicit("2001:db8::9", kV6));
    ASSERT_EQ(out.action, STEER_ANSWER);
    EXPECT_EQ(out.why, "nd-answered");
    EXPECT_EQ(out.frame, neighbour_advert(kV6, "2001:db8::9", kVmMac, kClientMac, true));
    EXPECT_TRUE(icmpv6_checksum_is_right(out.frame));
}

TYPED_TEST(EveryPlane, DuplicateProbeForAHostedAddressIsAnsweredToAllNodes) {
    this->plane.steer(hosted(kSource));
    Outcome out = this->from_client(duplicate_probe(kV6, kClientMac));
    ASSERT_EQ(out.action, STEER_ANSWER);
    EXPECT_EQ(out.frame, neighbour_advert(kV6, "ff02::1", kVmMac, {0x33, 0x33, 0, 0, 0, 1}, false));
}

TYPED_TEST(EveryPlane, UnhostedRequestGoesToTheOwnerAlone) {
    EXPECT_TRUE(went_to(this->from_client(arp_request("10.1.0.9", kV4)), kSourcePort, "neighbour"));
    EXPECT_TRUE(went_to(this->from_client(neighbour_solicit("2001:db8::9", kV6)), kSourcePort,
                        "neighbour"));
    EXPECT_TRUE(passed(this->from_client(arp_request("10.1.0.9", "10.1.0.200")), "not-managed"));
    this->plane.steer(steady(kDestination));
    EXPECT_TRUE(
        went_to(this->from_client(arp_request("10.1.0.9", kV4)), kDestinationPort, "neighbour"));
}

// The source must refresh its own neighbours while it drains, and a reply does not say which of the two
// VMs with one MAC has asked.
TYPED_TEST(EveryPlane, RepliesToTheVmReachBothWhileTheSourceDrains) {
    Bytes reply = arp_reply_to_vm("10.1.0.254", kV4);
    Bytes advert = neighbour_advert("2001:db8:1::fe", kV6, kClientMac, kVmMac, true);
    EXPECT_TRUE(went_to(this->from_client(reply), kSourcePort, "neighbour"));
    EXPECT_TRUE(went_to(this->from_client(advert), kSourcePort, "neighbour"));
    this->plane.steer(flipped(kSource, kDestination));
    for (const Bytes& frame : {reply, advert}) {
        Outcome out = this->from_client(frame);
        EXPECT_EQ(out.action, STEER_BOTH);
        std::sort(out.to.begin(), out.to.end());
        EXPECT_EQ(out.to, (std::vector{kSourcePort, kDestinationPort}));
        EXPECT_EQ(out.why, "neighbour-both");
    }
}

TYPED_TEST(EveryPlane, BothMayAskForTheirNeighboursWhileTheSourceDrains) {
    this->plane.steer(flipped(kSource, kDestination));
    Bytes solicit = neighbour_solicit(kV6, "2001:db8:1::fe", kVmMac);
    EXPECT_TRUE(passed(this->from_source(arp_request_from_vm(kV4, "10.1.0.254")), "neighbour"));
    EXPECT_TRUE(
        passed(this->from_destination(arp_request_from_vm(kV4, "10.1.0.254")), "neighbour"));
    EXPECT_TRUE(passed(this->from_source(solicit), "neighbour"));
    EXPECT_TRUE(passed(this->from_destination(solicit), "neighbour"));
}

// A clone that was silenced altogether met the flip without its neighbours: the first SYN-ACK waited a
// second for ARP to try again.
TYPED_TEST(EveryPlane, ACloneLearnsItsNeighboursBeforeTheFlipAndSaysNothingElse) {
    Bytes solicit = neighbour_solicit(kV6, "2001:db8:1::fe", kVmMac);
    EXPECT_TRUE(dropped(this->from_destination(arp_request_from_vm(kV4, "10.1.0.254")), "fenced"));
    this->plane.steer(hosted(kSource));
    EXPECT_TRUE(
        passed(this->from_destination(arp_request_from_vm(kV4, "10.1.0.254")), "neighbour"));
    EXPECT_TRUE(passed(this->from_destination(solicit), "neighbour"));
    Outcome out = this->from_client(arp_reply_to_vm("10.1.0.254", kV4));
    EXPECT_EQ(out.action, STEER_BOTH);
    EXPECT_TRUE(dropped(this->from_destination(gratuitous_arp(kV4)), "fenced-announce"));
    EXPECT_TRUE(dropped(this->from_destination(arp_reply_from_vm(kV4, "10.1.0.9")), "fenced"));
}

TYPED_TEST(EveryPlane, OnlyTheOwnerAnnouncesTheAddress) {
    this->plane.steer(flipped(kSource, kDestination));
    Bytes advert = neighbour_advert(kV6, "ff02::1", kVmMac, {0x33, 0x33, 0, 0, 0, 1}, false);
    for (const Bytes& frame : {gratuitous_arp(kV4), rarp(), advert, duplicate_probe(kV6, kVmMac)}) {
        EXPECT_TRUE(dropped(this->from_source(frame), "fenced-announce"));
        EXPECT_EQ(this->from_destination(frame).action, STEER_PASS);
    }
}

TYPED_TEST(EveryPlane, RepliesForAHostedAddressComeFromTheSwitchAlone) {
    Bytes reply = arp_reply_from_vm(kV4, "10.1.0.9");
    Bytes advert = neighbour_advert(kV6, "2001:db8::9", kVmMac, kClientMac, true);
    EXPECT_TRUE(passed(this->from_source(reply), "neighbour"));
    EXPECT_TRUE(passed(this->from_source(advert), "neighbour"));
    this->plane.steer(flipped(kSource, kDestination));
    for (const Bytes& frame : {reply, advert}) {
        EXPECT_TRUE(dropped(this->from_source(frame), "fenced-reply"));
        EXPECT_TRUE(dropped(this->from_destination(frame), "fenced-reply"));
    }
}

TYPED_TEST(EveryPlane, SomebodyElseAnnouncingAHostedAddressIsStopped) {
    EXPECT_TRUE(dropped(this->from_client(gratuitous_arp(kV4, kClientMac)), "address-conflict"));
    Bytes advert = neighbour_advert(kV6, "ff02::1", kClientMac, {0x33, 0x33, 0, 0, 0, 1}, false);
    EXPECT_TRUE(dropped(this->from_client(advert), "address-conflict"));
    EXPECT_TRUE(passed(this->from_client(gratuitous_arp("10.1.0.77", kClientMac)), "not-managed"));
}

TYPED_TEST(EveryPlane, OnlyTheOwnerKeepsHouse) {
    this->plane.steer(flipped(kSource, kDestination));
    EXPECT_TRUE(dropped(this->from_source(router_solicit(kVmMac)), "fenced-housekeeping"));
    EXPECT_TRUE(passed(this->from_destination(router_solicit(kVmMac)), "housekeeping"));
}

// The lease is the original's. A clone has a copy of the client, timers included, and would renew or release it.
TYPED_TEST(EveryPlane, ACloneSaysNothingAboutTheLease) {
    Udp discover{{address("0.0.0.0"), 68, kVmMac}, {address("255.255.255.255"), 67, kBroadcast}};
    Udp renew{{address(kV4), 68, kVmMac}, {address("10.1.0.254"), 67, kClientMac}};
    Udp renew6{{address(kV6), 546, kVmMac}, {address("ff02::1:2"), 547, {0x33, 0x33, 0, 1, 0, 2}}};
    for (const Udp& dhcp : {discover, renew, renew6}) {
        this->plane.steer(steady(kSource));
        EXPECT_TRUE(passed(this->from_source(dhcp.datagram()), "housekeeping"));
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(passed(this->from_source(dhcp.datagram()), "housekeeping"));
        EXPECT_TRUE(dropped(this->from_destination(dhcp.datagram()), "fenced-dhcp"));
        this->plane.steer(steady(kDestination));
        EXPECT_TRUE(passed(this->from_destination(dhcp.datagram()), "housekeeping"));
        EXPECT_TRUE(dropped(this->from_source(dhcp.datagram()), "fenced"));
    }
    EXPECT_EQ(this->plane.session_entries(), 0u);
}

// While both are active the original asks, so it is told; the clone, which owns what is new, is not.
TYPED_TEST(EveryPlane, TheLeasesAnswerReachesTheOriginal) {
    Udp answer{{address("10.1.0.254"), 67, kClientMac}, {address(kV4), 68, kVmMac}};
    Udp answer6{{address("2001:db8::67"), 547, kClientMac}, {address(kV6), 546, kVmMac}};
    for (const Udp& dhcp : {answer, answer6}) {
        this->plane.steer(steady(kSource));
        EXPECT_TRUE(went_to(this->from_client(dhcp.datagram()), kSourcePort, "housekeeping"));
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(went_to(this->from_client(dhcp.datagram()), kSourcePort, "housekeeping"));
        this->plane.steer(steady(kDestination));
        EXPECT_TRUE(went_to(this->from_client(dhcp.datagram()), kDestinationPort, "housekeeping"));
    }
    EXPECT_EQ(this->plane.handshakes(kSource) + this->plane.handshakes(kDestination), 0u);
}

// For the VM's address, but to every station: only hosts that are wrong make such frames, and none of them a session.
TYPED_TEST(EveryPlane, HostedAddressInABroadcastFrameReachesEveryActiveVm) {
    Udp odd{{address("10.1.0.9"), 5000, kClientMac}, {address(kV4), 53, kBroadcast}};
    EXPECT_TRUE(went_to(this->from_client(odd.datagram()), kSourcePort, "group"));
    this->plane.steer(flipped(kSource, kDestination));
    Outcome out = this->from_client(odd.datagram());
    EXPECT_EQ(out.action, STEER_BOTH);
    EXPECT_EQ(out.why, "group");
    EXPECT_EQ(this->plane.handshakes(kSource) + this->plane.handshakes(kDestination), 0u);
}

TYPED_TEST(EveryPlane, SpeakingToAGroupMakesNoSessionAndIsForActiveOnes) {
    Udp mdns{{address(kV4), 5353, kVmMac},
             {address("224.0.0.251"), 5353, {1, 0, 0x5e, 0, 0, 0xfb}}};
    Udp subnet{{address(kV4), 9, kVmMac}, {address("10.1.255.255"), 9, kBroadcast}};
    Udp mdns6{{address(kV6), 5353, kVmMac},
              {address("ff02::fb"), 5353, {0x33, 0x33, 0, 0, 0, 0xfb}}};
    for (const Udp& said : {mdns, subnet, mdns6}) {
        this->plane.steer(steady(kSource));
        EXPECT_TRUE(passed(this->from_source(said.datagram()), "group"));
        EXPECT_TRUE(dropped(this->from_destination(said.datagram()), "fenced"));
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(passed(this->from_source(said.datagram()), "group"));
        EXPECT_TRUE(passed(this->from_destination(said.datagram()), "group"));
    }
    EXPECT_EQ(this->plane.session_entries(), 0u);
    EXPECT_EQ(this->plane.sessions(kSource), 0u) << "it would never drain";
    // From the network: ordinary switching lets every port hear it.
    Udp heard{{address("10.1.0.9"), 5353, kClientMac},
              {address("224.0.0.251"), 5353, {1, 0, 0x5e, 0, 0, 0xfb}}};
    EXPECT_TRUE(passed(this->from_client(heard.datagram()), "not-managed"));
}

TYPED_TEST(EveryPlane, NobodyElseSpeaksOfAHostedAddressAsItsOwn) {
    this->plane.manage({kOtherVm, {"10.1.0.2"}, {kOtherVmPort, kUplink}, kOtherVmMac});
    this->plane.steer(steady(kSource), kOtherVm);
    std::vector<Bytes> spoofed{
        arp({1, kClientMac, kV4, {}, "10.1.0.200"}),
        arp({2, kClientMac, kV4, kOtherVmMac, "10.1.0.200", kOtherVmMac}),
        arp({2, kClientMac, kV4, kOtherVmMac, "10.1.0.2", kOtherVmMac}),
        neighbour_solicit(kV6, "2001:db8:1::200", kClientMac),
        neighbour_advert(kV6, "2001:db8:1::200", kClientMac, kOtherVmMac, true),
    };
    for (const Plan& plan : {steady(kSource), flipped(kSource, kDestination)}) {
        this->plane.steer(plan);
        for (const Bytes& frame : spoofed) {
            EXPECT_TRUE(dropped(this->from_client(frame), "address-conflict"));
        }
    }
    EXPECT_TRUE(passed(this->from_client(arp({1, kClientMac, "10.1.0.9", {}, "10.1.0.200"})),
                       "not-managed"));
    this->plane.steer(steady(kSource));
    EXPECT_TRUE(passed(this->from_source(arp_request_from_vm(kV4, "10.1.0.200")), "neighbour"));
}

TYPED_TEST(EveryPlane, BroadcastOfAHostedRequestByAnotherVmIsAnsweredToo) {
    this->plane.manage({kOtherVm, {"10.1.0.2"}, {kOtherVmPort, kUplink}, kOtherVmMac});
    this->plane.steer(steady(kSource), kOtherVm);
    this->plane.steer(hosted(kSource));
    Outcome out = this->plane.send(kOtherVmPort, arp({1, kOtherVmMac, "10.1.0.2", {}, kV4}));
    ASSERT_EQ(out.action, STEER_ANSWER);
    EXPECT_EQ(out.to, std::vector{kOtherVmPort});
    EXPECT_EQ(mac_at(out.frame, 22), kVmMac);
}

}  // namespace godwit::test
