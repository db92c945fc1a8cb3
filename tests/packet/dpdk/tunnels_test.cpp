// Tunnels of the DPDK plane: outer headers off and on, byte for byte as RFC 7348 section 5 has them; who the other end is.
#include "dataplane/dpdk/tunnels.hpp"

#include "tests/packet/dpdk/eal.hpp"
#include "tests/packet/frame.hpp"

#include <arpa/inet.h>
#include <rte_mbuf.h>
#include <set>

#include <gtest/gtest.h>

namespace godwit::test {
namespace {

constexpr Mac kOwn{0x02, 0, 0, 0, 0, 0x41}, kOther{0x02, 0, 0, 0, 0, 0x42},
    kStranger{0x02, 0, 0, 0, 0, 0x66}, kStation{0x02, 0, 0, 0, 0, 0x0a};
constexpr std::uint16_t kUplink = 0, kFabric = 1, kTunnel = 2, kSecond = 3;
constexpr std::uint32_t kSecond_ticks = 1000;

const std::uint32_t kLocal = inet_addr("10.98.0.1"), kRemote = inet_addr("10.98.0.2"),
                    kElsewhere = inet_addr("10.98.0.3");

struct Outer {  // what the fields of a right header are; a test changes one
    std::uint32_t source = kRemote, destination = kLocal;
    std::uint32_t vni = 0x123456;
    std::uint16_t udp_port = 4789, source_port = 50000;
    std::uint8_t flags = 0x08, version = 0x45, protocol = 17;
    std::uint16_t fragment = 0x4000;
    int length_off = 0, total_off = 0;
    Mac to = kOwn, from = kOther;
};

void put16(Bytes& to, unsigned value) {
    to.push_back(static_cast<std::uint8_t>(value >> 8));
    to.push_back(static_cast<std::uint8_t>(value));
}
void put(Bytes& to, const void* from, std::size_t bytes) {
    const auto* first = static_cast<const std::uint8_t*>(from);
    to.insert(to.end(), first, first + bytes);
}

// By hand, from the RFC's picture, and not with the code under test.
Bytes wrapped(const Bytes& inner, const Outer& o = {}) {
    Bytes frame(o.to.begin(), o.to.end());
    put(frame, o.from.data(), 6);
    put16(frame, 0x0800);
    const auto datagram = static_cast<int>(8 + 8 + inner.size());
    Bytes ip{o.version, 0};
    put16(ip, static_cast<unsigned>(20 + datagram + o.total_off));
    put16(ip, 0);
    put16(ip, o.fragment);
    ip.insert(ip.end(), {64, o.protocol, 0, 0});
    put(ip, &o.source, 4);
    put(ip, &o.destination, 4);
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < 20; i += 2)
        sum += static_cast<std::uint32_t>(ip[i] << 8 | ip[i + 1]);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~(sum + (sum >> 16)) & 0xffff;
    ip[10] = static_cast<std::uint8_t>(sum >> 8);
    ip[11] = static_cast<std::uint8_t>(sum);
    put(frame, ip.data(), ip.size());
    put16(frame, o.source_port);
    put16(frame, o.udp_port);
    put16(frame, static_cast<unsigned>(datagram + o.length_off));
    put16(frame, 0);
    frame.insert(frame.end(),
                 {o.flags, 0, 0, 0, static_cast<std::uint8_t>(o.vni >> 16),
                  static_cast<std::uint8_t>(o.vni >> 8), static_cast<std::uint8_t>(o.vni), 0});
    put(frame, inner.data(), inner.size());
    return frame;
}

Bytes arp(unsigned operation, const Mac& to, const Mac& sender, std::uint32_t sender_address,
          std::uint32_t target_address, const Mac& target = {}) {
    Bytes frame(to.begin(), to.end());
    put(frame, sender.data(), 6);
    for (unsigned word : {0x0806u, 1u, 0x0800u, 0x0604u, operation}) put16(frame, word);
    put(frame, sender.data(), 6);
    put(frame, &sender_address, 4);
    put(frame, target.data(), 6);
    put(frame, &target_address, 4);
    return frame;
}

class TunnelStages : public testing::Test {
protected:
    TunnelStages() : worker_(sized(), stations_, 4) {
        const dataplane::Tunnel first{kLocal, kRemote, 0x123456, 4789, 1500, "fabric", ""};
        dataplane::Tunnel second = first;
        second.vni = 0x654321;
        second.remote_be = kElsewhere;
        tunnels_ = std::make_unique<dpdk::Tunnels>(
            std::vector<dpdk::TunnelEnd>{{first, kTunnel, kFabric, 1550, kOwn},
                                         {second, kSecond, kFabric, 1550, kOwn}},
            Eal::instance().pool(), kSecond_ticks);
        worker_.tunnels = tunnels_.get();
        worker_.plane.directory = &directory_;
        worker_.uplink = kUplink;
    }
    ~TunnelStages() override {
        left();
        EXPECT_EQ(Eal::instance().frames_out(), 0u) << "frames were lost";
    }
    void receive(std::uint16_t port, const std::vector<Bytes>& frames) {
        burst_.port = port;
        burst_.count = 0;
        for (const Bytes& frame : frames)
            burst_.frames[burst_.count++] = Eal::instance().frame(frame);
        dpdk::run_burst(worker_, burst_);
    }
    // What is about to leave by a port, taken.
    std::vector<Bytes> leaving(std::uint16_t port) {
        dpdk::Departures& departures = worker_.departures[port];
        if (tunnels_->is_tunnel(port)) tunnels_->wrap(worker_, port, departures);
        std::vector<Bytes> frames;
        for (std::uint16_t i = 0; i < departures.count; ++i) {
            frames.push_back(bytes_of(departures.frames[i]));
            rte_pktmbuf_free(departures.frames[i]);
        }
        departures.count = 0;
        return frames;
    }
    void left() {
        for (std::uint16_t port = 0; port < 4; ++port) leaving(port);
    }
    std::uint64_t reason(steer_why why) { return worker_.counters.reason(why); }
    void at(std::uint32_t tick) { worker_.plane.tick = tick; }
    std::vector<Bytes> questions(std::uint32_t tick) {
        at(tick);
        std::array<void*, 8> asked;
        const std::size_t count = tunnels_->ask(tick, asked);
        std::vector<Bytes> frames;
        for (std::size_t i = 0; i < count; ++i) {
            auto* question = static_cast<rte_mbuf*>(asked[i]);
            EXPECT_EQ(question->port, kFabric);
            frames.push_back(bytes_of(question));
            rte_pktmbuf_free(question);
        }
        return frames;
    }
    // The other ends are known from here on.
    void meet(std::uint32_t tick = 1) {
        questions(tick);
        receive(kFabric, {arp(2, kOwn, kOther, kRemote, kLocal, kOwn),
                          arp(2, kOwn, kOther, kElsewhere, kLocal, kOwn)});
        ASSERT_TRUE(tunnels_->seen(kTunnel).reachable);
    }

    const Bytes inner_ =
        ethernet(Mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, kStation, 0x88b5, Bytes(46, 7));
    std::array<std::vector<struct steer_line>, STEER_TABLES> lines_;
    std::vector<vm_record> records_{1};
    dpdk::Tables tables_;
    dpdk::Directory directory_;
    dpdk::Stations stations_{/*seed=*/7, /*ticks_per_s=*/kSecond_ticks};
    dpdk::Worker worker_;
    std::unique_ptr<dpdk::Tunnels> tunnels_;
    dpdk::Burst burst_;

private:
    dpdk::Tables& sized() {
        Eal::instance();
        for (unsigned t = 0; t < STEER_TABLES; ++t) {
            tables_.config.table[t] = {255, 31};
            lines_[t].resize(288);
            tables_.lines[t] = lines_[t];
        }
        tables_.vms = records_;
        return tables_;
    }
};

TEST_F(TunnelStages, AFrameOfTheTunnelComesInAsItsPortsWithoutTheOuterHeader) {
    receive(kFabric, {wrapped(inner_)});
    EXPECT_EQ(leaving(kUplink), std::vector<Bytes>{inner_});
    EXPECT_EQ(leaving(kFabric), std::vector<Bytes>{})
        << "an underlay carries tunnels and nothing else";
    EXPECT_EQ(tunnels_->seen(kTunnel).packets, 1u);
}

TEST_F(TunnelStages, PaddingBehindTheDatagramIsNoPartOfTheFrame) {
    Bytes padded = wrapped(inner_);
    padded.resize(padded.size() + 9, 0xee);
    receive(kFabric, {padded});
    EXPECT_EQ(leaving(kUplink), std::vector<Bytes>{inner_});
}

TEST_F(TunnelStages, ABurstOfTwoTunnelsIsSortedAndKeepsItsOrder) {
    Outer second;
    second.vni = 0x654321;
    second.source = kElsewhere;
    receive(kFabric, {wrapped(inner_), wrapped(inner_, second), wrapped(inner_)});
    EXPECT_EQ(tunnels_->seen(kTunnel).packets, 2u);
    EXPECT_EQ(tunnels_->seen(kSecond).packets, 1u);
}

TEST_F(TunnelStages, WhatLeavesByTheTunnelHasTheHeaderOfTheRfc) {
    meet();
    receive(kUplink, {inner_});
    const std::vector<Bytes> frames = leaving(kTunnel);
    ASSERT_EQ(frames.size(), 1u);
    ASSERT_EQ(frames[0].size(), inner_.size() + 50);
    Outer wanted;
    std::swap(wanted.source, wanted.destination);
    std::swap(wanted.to, wanted.from);
    wanted.source_port = static_cast<std::uint16_t>(frames[0][34] << 8 | frames[0][35]);
    EXPECT_GE(wanted.source_port, 49152);
    EXPECT_EQ(frames[0], wrapped(inner_, wanted));
}

TEST_F(TunnelStages, TheSourcePortIsTheFlows) {
    const auto port_of = [](const Bytes& frame) {
        return steer_outer_port(frame.data(), frame.data() + frame.size());
    };
    std::set<std::uint16_t> ports;
    for (int i = 0; i < 100; ++i)
        ports.insert(
            port_of(udp("10.0.0.9:" + std::to_string(5000 + i), "10.1.0.1:53").datagram()));
    EXPECT_GT(ports.size(), 90u);
    const Udp flow = udp("[fd00::9]:5000", "[fd00::1]:53");
    EXPECT_EQ(port_of(flow.datagram("one")), port_of(flow.datagram("another one")));
    EXPECT_EQ(port_of(Bytes(13)), 49152) << "shorter than any header";
}

TEST_F(TunnelStages, WrongOuterHeadersHaveTheirReasons) {
    const auto dropped = [&](auto change, steer_why why) {
        Outer outer;
        change(outer);
        const std::uint64_t before = reason(why);
        receive(kFabric, {wrapped(inner_, outer)});
        EXPECT_EQ(leaving(kUplink), std::vector<Bytes>{});
        return reason(why) == before + 1;
    };
    EXPECT_TRUE(dropped([](Outer& o) { o.source = kElsewhere; }, STEER_WHY_TUNNEL_FOREIGN));
    EXPECT_TRUE(dropped([](Outer& o) { o.vni = 7; }, STEER_WHY_TUNNEL_UNKNOWN));
    EXPECT_TRUE(dropped([](Outer& o) { o.flags = 0; }, STEER_WHY_TUNNEL_UNKNOWN));
    for (int off : {-1, 1, 1000}) {
        EXPECT_TRUE(dropped([&](Outer& o) { o.length_off = off; }, STEER_WHY_TUNNEL_HEADER));
        EXPECT_TRUE(dropped([&](Outer& o) { o.total_off = off; }, STEER_WHY_TUNNEL_HEADER));
        EXPECT_TRUE(dropped([&](Outer& o) { o.length_off = o.total_off = off > 0 ? off : -70; },
                            STEER_WHY_TUNNEL_HEADER));
    }
    EXPECT_TRUE(dropped([](Outer& o) { o.udp_port = 53; }, STEER_WHY_NOT_MANAGED));
    EXPECT_TRUE(dropped([](Outer& o) { o.destination = kElsewhere; }, STEER_WHY_NOT_MANAGED));
    EXPECT_TRUE(dropped([](Outer& o) { o.protocol = 6; }, STEER_WHY_NOT_MANAGED));
    EXPECT_TRUE(dropped([](Outer& o) { o.version = 0x44; }, STEER_WHY_NOT_MANAGED));
    EXPECT_TRUE(dropped([](Outer& o) { o.fragment = 0x2000; }, STEER_WHY_TUNNEL_HEADER));
    EXPECT_TRUE(dropped([](Outer& o) { o.fragment = 0x0001; }, STEER_WHY_TUNNEL_HEADER));
}

TEST_F(TunnelStages, AFrameThatIsCutOffAnywhereIsDroppedAndNothingIsReadBehindIt) {
    const Bytes whole = wrapped(inner_);
    for (std::size_t length = 1; length < whole.size(); ++length) {
        receive(kFabric,
                {Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length))});
        EXPECT_EQ(leaving(kUplink), std::vector<Bytes>{}) << length;
    }
}

TEST_F(TunnelStages, WhatTheUnderlayCannotTakeIsDroppedByName) {
    meet();
    receive(kUplink,
            {ethernet(Mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, kStation, 0x88b5, Bytes(1500, 1)),
             ethernet(Mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, kStation, 0x88b5, Bytes(1501, 1))});
    const std::vector<Bytes> frames = leaving(kTunnel);
    ASSERT_EQ(frames.size(), 1u);
    EXPECT_EQ(frames[0].size(), 14u + 1550u);
    EXPECT_EQ(reason(STEER_WHY_TUNNEL_LENGTH), 1u);
    EXPECT_EQ(tunnels_->seen(kTunnel).drops, 1u);
}

TEST_F(TunnelStages, TheEndIsAnsweredForAndNothingElse) {
    receive(kFabric,
            {arp(1, Mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, kStranger, kElsewhere, kLocal)});
    EXPECT_EQ(leaving(kFabric),
              std::vector<Bytes>{arp(2, kStranger, kOwn, kLocal, kElsewhere, kStranger)});
    receive(kFabric,
            {arp(1, Mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, kStranger, kRemote, kElsewhere)});
    EXPECT_EQ(leaving(kFabric), std::vector<Bytes>{});
    receive(kUplink, {arp(1, Mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, kStranger, kRemote, kLocal)});
    EXPECT_EQ(leaving(kFabric), std::vector<Bytes>{}) << "asked where it is not";
}

TEST_F(TunnelStages, UntilTheOtherEndIsKnownNothingLeavesAndItIsAskedOnceASecond) {
    EXPECT_EQ(questions(1).size(), 2u);
    receive(kUplink, {inner_});
    EXPECT_EQ(leaving(kTunnel), std::vector<Bytes>{});
    EXPECT_EQ(reason(STEER_WHY_TUNNEL_DOWN), 1u);
    EXPECT_EQ(questions(500).size(), 0u);
    EXPECT_EQ(questions(1001),
              (std::vector<Bytes>{
                  arp(1, Mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, kOwn, kLocal, kRemote),
                  arp(1, Mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, kOwn, kLocal, kElsewhere)}));
}

TEST_F(TunnelStages, OnlyAnAnswerThatWasAskedForMakesItKnown) {
    receive(kFabric, {arp(2, kOwn, kStranger, kRemote, kLocal, kOwn)});  // before any question
    EXPECT_FALSE(tunnels_->seen(kTunnel).reachable);
    questions(1);
    receive(kFabric, {arp(1, Mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, kStranger, kRemote, kLocal),
                      arp(2, Mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, kStranger, kRemote, kLocal),
                      wrapped(inner_)});
    EXPECT_FALSE(tunnels_->seen(kTunnel).reachable);
    receive(kFabric, {arp(2, kOwn, kOther, kRemote, kLocal, kOwn)});
    EXPECT_TRUE(tunnels_->seen(kTunnel).reachable);
}

TEST_F(TunnelStages, WhileTheKnownOneAnswersNobodyTakesItsPlace) {
    meet();
    receive(kFabric, {arp(2, kOwn, kStranger, kRemote, kLocal, kOwn)});
    EXPECT_EQ(reason(STEER_WHY_TUNNEL_NEIGHBOUR), 1u);
    // It is asked itself at once, and answers.
    EXPECT_EQ(questions(2), (std::vector<Bytes>{arp(1, kOther, kOwn, kLocal, kRemote)}));
    receive(kFabric, {arp(2, kOwn, kStranger, kRemote, kLocal, kOwn),
                      arp(2, kOwn, kOther, kRemote, kLocal, kOwn)});
    EXPECT_EQ(reason(STEER_WHY_TUNNEL_NEIGHBOUR), 2u);
    EXPECT_EQ(questions(2000).size(), 0u);
    receive(kUplink, {inner_});
    const std::vector<Bytes> frames = leaving(kTunnel);
    EXPECT_TRUE(std::equal(kOther.begin(), kOther.end(), frames.at(0).begin()));
}

TEST_F(TunnelStages, OneThatIsGoneIsReplacedByWhoAnswersNext) {
    meet();
    receive(kFabric, {arp(2, kOwn, kStranger, kRemote, kLocal, kOwn)});
    for (std::uint32_t tick : {2u, 1002u, 2002u}) EXPECT_EQ(questions(tick).size(), 1u);
    EXPECT_EQ(questions(3002), (std::vector<Bytes>{arp(1, Mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
                                                       kOwn, kLocal, kRemote)}));
    receive(kFabric, {arp(2, kOwn, kStranger, kRemote, kLocal, kOwn)});
    EXPECT_TRUE(tunnels_->seen(kTunnel).reachable);
}

TEST_F(TunnelStages, FramesOfTheTunnelKeepItKnownWithoutQuestions) {
    meet();
    at(29'000);
    Outer second;
    second.vni = 0x654321;
    second.source = kElsewhere;
    receive(kFabric, {wrapped(inner_), wrapped(inner_, second)});
    left();
    EXPECT_EQ(questions(31'000).size(), 0u);
    EXPECT_EQ(questions(59'001).size(), 2u);
}

// What steers at the other end lets a VM be on either side of the tunnel under one MAC.
TEST_F(TunnelStages, ARelayLearnsNothingOfTheTunnel) {
    worker_.relays = true;
    worker_.uplink = kTunnel;
    meet();
    const Bytes up = ethernet(kStranger, kStation, 0x88b5, Bytes(46, 1)),
                down = ethernet(kStation, kStranger, 0x88b5, Bytes(46, 2));
    receive(kUplink, {up});
    EXPECT_EQ(leaving(kTunnel).size(), 1u);
    EXPECT_EQ(leaving(kSecond).size(), 0u) << "what goes up is for nobody else";
    receive(kFabric, {wrapped(down)});
    EXPECT_EQ(leaving(kUplink), std::vector<Bytes>{down});
    receive(kUplink, {up});
    EXPECT_EQ(leaving(kTunnel).size(), 1u);
    receive(kFabric, {wrapped(ethernet(kBroadcast, kStation, 0x88b5, Bytes(46, 3)))});
    left();
    receive(kFabric,
            {wrapped(down)});  // it has spoken from the tunnel, so it may be behind any port
    EXPECT_EQ(leaving(kUplink), std::vector<Bytes>{down});
    EXPECT_EQ(leaving(kSecond).size(), 1u);
}

}  // namespace
}  // namespace godwit::test
