// VLAN and QinQ: a VM's place is its VLAN, its sessions are found behind one or two tags, and the tags stay.
#include "tests/packet/planes.hpp"

namespace godwit::test {

constexpr const char* kV4 = "10.1.0.1";
constexpr const char* kV6 = "2001:db8:1::1";

// The tags of a place, put around a frame.
struct Place {
    std::vector<std::uint16_t> tags;  // outermost first
    std::uint32_t vlan() const {
        std::uint32_t place = 0;
        for (std::uint16_t tag : tags) place = place << 12 | tag;
        return place;
    }
    Bytes operator()(Bytes frame) const {
        for (auto tag = tags.rbegin(); tag != tags.rend(); ++tag) frame = vlan_tagged(frame, *tag);
        return frame;
    }
};

template <typename P>
class Vlan : public EveryPlane<P> {
protected:
    void manage(const Place& place) {
        ManagedVm vm;
        vm.vlan = place.vlan();
        this->plane.manage(vm);
        this->plane.steer(steady(kSource));
    }
    static inline const std::vector<Place> kPlaces = {{{5}}, {{100, 5}}};
};
TYPED_TEST_SUITE(Vlan, Planes);

TYPED_TEST(Vlan, SessionsInsideTagsFindTheirOwnerAndTheTagsStay) {
    for (const Place& in : this->kPlaces) {
        this->manage(in);
        const auto n = static_cast<std::uint16_t>(in.tags.size());  // not the sessions of before
        for (const Tcp& client : both_families(4000 + n)) {
            this->plane.steer(steady(kSource));
            Tcp vm = client.reply(), later = client;
            later.from.port = 4100 + n;
            this->from_client(in(client.syn()));
            EXPECT_TRUE(passed(this->from_source(in(vm.syn_ack())), "handshake"));
            EXPECT_TRUE(went_to(this->from_client(in(client.ack())), kSourcePort, "proven"));
            this->plane.steer(flipped(kSource, kDestination));
            const Bytes sent = in(client.data("hello"));
            Outcome out = this->from_client(sent);
            EXPECT_TRUE(went_to(out, kSourcePort, "session"));
            EXPECT_EQ(out.frame, sent);
            EXPECT_TRUE(passed(this->from_source(in(vm.data("hello"))), "session"));
            EXPECT_TRUE(went_to(this->from_client(in(later.syn())), kDestinationPort, "new-owner"));
            this->from_source(in(vm.rst()));
        }
    }
}

TYPED_TEST(Vlan, UdpEchoAndErrorsInsideTagsFindTheirSession) {
    for (const Place& in : this->kPlaces) {
        this->manage(in);
        const auto n = static_cast<std::uint16_t>(in.tags.size());  // not the sessions of before
        Udp flow = udp("10.0.0.9:5000", "10.1.0.1:53");
        flow.from.port += n;
        Echo ping = echo("10.0.0.9", kV4, n);
        this->plane.steer(steady(kSource));
        for (const Bytes& frame : {flow.reply().datagram(), ping.reply()})
            EXPECT_TRUE(passed(this->from_source(in(frame)), "opened"));
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(went_to(this->from_client(in(flow.datagram())), kSourcePort, "session"));
        EXPECT_TRUE(went_to(this->from_client(in(ping.request())), kSourcePort, "session"));
        Bytes error = icmp_error({flow.reply().datagram(), "10.0.0.1"});
        EXPECT_TRUE(went_to(this->from_client(in(error)), kSourcePort, "icmp-error"));
    }
}

TYPED_TEST(Vlan, OutsideItsVlanAnAddressIsNotTheVms) {
    Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    for (const Place& in : this->kPlaces) {
        this->manage(in);
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(passed(this->from_client(client.syn()), "not-managed"));
        for (const Place& other : {Place{{6}}, Place{{100}}, Place{{5, 100}}, Place{{100, 6}}})
            EXPECT_TRUE(passed(this->from_client(other(client.syn())), "other-vlan"));
        EXPECT_TRUE(
            passed(this->from_client(Place{{7}}(arp_request("10.1.0.9", kV4))), "other-vlan"));
    }
    this->manage({});
    EXPECT_TRUE(passed(this->from_client(vlan_tagged(client.syn(), 5)), "other-vlan"));
    EXPECT_EQ(this->plane.session_entries(), 0u);
}

// It has no sessions there; a clone would speak in the original's name all the same.
TYPED_TEST(Vlan, InAnotherVlanOnlyTheOriginalSpeaks) {
    Bytes elsewhere = vlan_tagged(tcp("10.0.0.9:4000", "10.1.0.1:80").reply().syn(), 9);
    Bytes untagged = gratuitous_arp(kV4);
    this->manage({{5}});
    for (const Bytes& frame : {elsewhere, untagged}) {
        this->plane.steer(steady(kSource));
        EXPECT_TRUE(passed(this->from_source(frame), "other-vlan"));
        EXPECT_TRUE(dropped(this->from_destination(frame), "other-vlan"));
        this->plane.steer(flipped(kSource, kDestination));
        EXPECT_TRUE(passed(this->from_source(frame), "other-vlan"));
        EXPECT_TRUE(dropped(this->from_destination(frame), "other-vlan"));
    }
    EXPECT_EQ(this->plane.session_entries(), 0u);
}

TYPED_TEST(Vlan, TwoVlansMayHaveOneAddress) {
    Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    this->manage({{5}});
    ManagedVm tenant{kOtherVm, {kV4, kV6}, {kOtherVmPort, kUplink}, kOtherVmMac};
    tenant.vlan = 6;
    this->plane.manage(tenant);
    this->plane.steer(steady(kSource), kOtherVm);
    Tcp other = client;
    other.to.mac = kOtherVmMac;
    EXPECT_TRUE(went_to(this->from_client(vlan_tagged(client.syn(), 5)), kSourcePort, "new-owner"));
    EXPECT_TRUE(went_to(this->from_client(vlan_tagged(other.syn(), 6)), kOtherVmPort, "new-owner"));
    EXPECT_EQ(this->plane.handshakes(kSource), 1u);
    EXPECT_EQ(this->plane.handshakes(kSource, kOtherVm), 1u);
}

TYPED_TEST(Vlan, ATagOfVlanZeroIsAPriorityAndNoPlace) {
    Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    Bytes urgent = vlan_tagged(client.syn(), 0xe000);
    Outcome out = this->from_client(urgent);
    EXPECT_TRUE(went_to(out, kSourcePort, "new-owner"));
    EXPECT_EQ(out.frame, urgent);
    this->manage({{5}});
    client.from.port = 4001;
    EXPECT_TRUE(
        went_to(this->from_client(vlan_tagged(client.syn(), 0xe005)), kSourcePort, "new-owner"));
}

TYPED_TEST(Vlan, HostedAddressesAreAnsweredBehindTheTags) {
    for (const Place& in : this->kPlaces) {
        this->manage(in);
        this->plane.steer(hosted(kSource));
        Outcome out = this->from_client(in(arp_request("10.1.0.9", kV4)));
        ASSERT_EQ(out.action, STEER_ANSWER);
        out.frame.resize(42 + 4 * in.tags.size());
        EXPECT_EQ(out.frame, in(arp({2, kVmMac, kV4, kClientMac, "10.1.0.9", kClientMac})));
        out = this->from_client(in(neighbour_solicit("2001:db8::9", kV6)));
        ASSERT_EQ(out.action, STEER_ANSWER);
        EXPECT_EQ(out.frame, in(neighbour_advert(kV6, "2001:db8::9", kVmMac, kClientMac, true)));
    }
}

TYPED_TEST(Vlan, ACopiedSocketIsRefusedBehindTheTags) {
    for (const Place& in : this->kPlaces) {
        this->manage(in);
        for (const Tcp& client : both_families()) {
            this->plane.steer(steady(kSource));
            this->from_source(in(client.reply().data("old")));
            this->plane.steer(flipped(kSource, kDestination));
            Outcome out = this->from_destination(in(client.reply().data("copied")));
            ASSERT_EQ(out.action, STEER_REFUSE);
            Bytes rst = client.segment({0x04, client.isn + 1, 0, {}});
            ASSERT_EQ(out.frame.size(), in(rst).size());
            EXPECT_TRUE(std::equal(out.frame.begin(), out.frame.begin() + 12, rst.begin()));
            const std::ptrdiff_t tags = 12 + static_cast<std::ptrdiff_t>(4 * in.tags.size());
            Bytes bare(out.frame.begin(), out.frame.begin() + 12);
            bare.insert(bare.end(), out.frame.begin() + tags, out.frame.end());
            EXPECT_EQ(in(bare), out.frame) << "the tags";
            EXPECT_TRUE(tcp_checksum_is_right(bare));
            this->from_source(in(client.reply().rst()));
        }
    }
}

TYPED_TEST(Vlan, MoreTagsThanTwoAreNamedAndCutOnesDropped) {
    Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    const Bytes three = Place{{3, 4, 5}}(client.syn()), two = Place{{4, 5}}(client.syn());
    EXPECT_TRUE(passed(this->from_client(three), "vlan-unsupported"));
    EXPECT_TRUE(
        passed(this->from_source(Place{{3, 4, 5}}(client.reply().syn())), "vlan-unsupported"));
    this->plane.steer(flipped(kSource, kDestination));
    EXPECT_TRUE(dropped(this->from_destination(Place{{3, 4, 5}}(client.reply().syn())),
                        "vlan-unsupported"));
    this->manage({{4, 5}});
    for (std::size_t length = 14; length < two.size(); ++length)
        EXPECT_TRUE(
            dropped(this->from_client(Bytes(two.begin(), two.begin() + length)), "truncated"))
            << length;
    EXPECT_TRUE(went_to(this->from_client(two), kSourcePort, "new-owner"));
}

}  // namespace godwit::test
