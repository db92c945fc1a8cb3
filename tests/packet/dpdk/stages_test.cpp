// What the stories cannot see of the DPDK plane's stages: bursts, ordinary switching, rx and tx.
#include "dataplane/dpdk/worker.hpp"

#include "tests/packet/dpdk/eal.hpp"
#include "tests/packet/frame.hpp"

#include <numeric>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include <gtest/gtest.h>

namespace godwit::test {

constexpr Mac kNeighbourMac{0x02, 0, 0, 0, 0, 0x0a};

// One managed VM of one address on ports 1 and 2; clients are behind port 0, others behind port 3.
class Stages : public testing::Test {
protected:
    static constexpr std::uint16_t kPorts = 4;
    Stages() : worker_(sized(), stations_, kPorts) {
        worker_.plane.directory = &directory_;
        worker_.uplink = 0;
        vm_record& vm = records_[0];
        for (std::uint32_t slot = 0; slot < STEER_SLOTS; ++slot)
            vm.backend[slot] = {slot + 2, {0x52, 0x54, 0, 0, 0, 1}, 0};
        vm.timeouts = {7440, 240, 300, 60, 30, 3, 900, 0};
        own(0);
    }
    ~Stages() override {
        worker_.outlets = {};
        EXPECT_EQ(Eal::instance().frames_out(), 0u) << "frames were lost";
    }

    void own(std::uint32_t slot) { records_[0].steer = steer_word(1, slot, slot, STEER_VALID, 3); }
    std::vector<std::string> burst(std::uint16_t port, const std::vector<Bytes>& frames) {
        burst_.port = port;
        burst_.count = 0;
        for (const Bytes& frame : frames)
            burst_.frames[burst_.count++] = Eal::instance().frame(frame);
        dpdk::run_stages(worker_, burst_);
        std::vector<std::string> whys;
        for (std::uint16_t i = 0; i < burst_.count; ++i)
            whys.push_back(steer_why_name(burst_.outcomes[i].verdict.why));
        return whys;
    }
    // How many frames left by each port.
    std::vector<unsigned> left() {
        std::vector<unsigned> counts;
        for (std::uint16_t port = 0; port < kPorts; ++port) {
            dpdk::Departures& leaving = worker_.departures[port];
            counts.push_back(leaving.count);
            rte_pktmbuf_free_bulk(leaving.frames.data(), leaving.count);
            leaving.count = 0;
        }
        return counts;
    }
    using Counts = std::vector<unsigned>;

    std::array<std::vector<struct steer_line>, STEER_TABLES> lines_;
    std::vector<vm_record> records_{1};
    dpdk::Tables tables_;
    dpdk::Directory directory_{{{0,
                                 {.mac = kVmMac,
                                  .addresses = {{4, address("10.1.0.1").words_be()}},
                                  .backends = {{{2, kVmMac, {}}, {3, kVmMac, {}}}}}}}};
    dpdk::Stations stations_{/*seed=*/7, /*ticks_per_s=*/1000};
    dpdk::Worker worker_;
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

TEST_F(Stages, TwoPacketsOfOneNewFlowInOneBurstMakeOneSession) {
    const Udp asker = udp("10.0.0.9:5000", "10.1.0.1:53");
    EXPECT_EQ(burst(0, {asker.datagram(), asker.datagram()}),
              (std::vector<std::string>{"new-owner", "handshake"}));
    EXPECT_EQ(left(), (Counts{0, 2, 0, 0}));
    const Bytes answer = asker.reply().datagram();
    EXPECT_EQ(burst(1, {answer, answer, answer}),
              (std::vector<std::string>{"handshake", "session", "session"}));
    EXPECT_EQ(records_[0].sessions[0], 1u);
    EXPECT_EQ(left(), (Counts{3, 0, 0, 0}));
}

TEST_F(Stages, AFullBurstKeepsItsOrder) {
    std::vector<Bytes> frames;
    for (int i = 0; i < dpdk::kBurstMax; ++i)
        frames.push_back(udp("10.0.0.9:5000", "10.1.0.1:53").datagram(std::to_string(i)));
    burst(0, frames);
    ASSERT_EQ(worker_.departures[1].count, dpdk::kBurstMax);
    for (std::size_t i = 0; i < frames.size(); ++i)
        EXPECT_EQ(bytes_of(worker_.departures[1].frames[i]), frames[i]);
    left();
}

TEST_F(Stages, HeadersInSeveralPiecesAreReadAsOne) {
    const Bytes whole = udp("10.0.0.9:5000", "10.1.0.1:53").datagram();
    const Bytes head(whole.begin(), whole.begin() + 20), tail(whole.begin() + 20, whole.end());
    rte_mbuf* first = Eal::instance().frame(head);
    ASSERT_EQ(rte_pktmbuf_chain(first, Eal::instance().frame(tail)), 0);
    burst_.port = 0;
    burst_.count = 1;
    burst_.frames[0] = first;
    dpdk::run_stages(worker_, burst_);
    ASSERT_EQ(worker_.departures[1].count, 1);
    EXPECT_EQ(bytes_of(worker_.departures[1].frames[0]), whole);
    left();
}

TEST_F(Stages, HeadersAreFoundHoweverTheFrameIsCut) {
    const Bytes whole = tcp("10.0.0.9:4000", "10.1.0.1:80").data(std::string(400, 'x'));
    for (std::size_t bytes : {1u, 3u, 14u, 60u, 191u}) {
        rte_mbuf* first = Eal::instance().frame({whole.begin(), whole.begin() + bytes});
        for (std::size_t at = bytes; at < whole.size(); at += bytes) {
            const std::size_t end = std::min(at + bytes, whole.size());
            rte_mbuf* next = Eal::instance().frame(Bytes(whole.begin() + at, whole.begin() + end));
            ASSERT_EQ(rte_pktmbuf_chain(first, next), 0);
        }
        burst_.count = 1;
        burst_.frames[0] = first;
        dpdk::run_stages(worker_, burst_);
        ASSERT_EQ(worker_.departures[1].count, 1) << "in pieces of " << bytes;
        EXPECT_EQ(bytes_of(worker_.departures[1].frames[0]), whole);
        EXPECT_EQ(rte_mbuf_check(worker_.departures[1].frames[0], 1, nullptr), 0);
        left();
    }
}

TEST_F(Stages, AJumboFramesPayloadStaysWhereItIs) {
    const Bytes jumbo = tcp("10.0.0.9:4000", "10.1.0.1:80").data(std::string(8900, 'x'));
    burst(0, {jumbo});
    ASSERT_EQ(worker_.departures[1].count, 1);
    EXPECT_EQ(worker_.departures[1].frames[0]->nb_segs, 5);
    EXPECT_EQ(bytes_of(worker_.departures[1].frames[0]), jumbo);
    left();
}

TEST_F(Stages, ADeviceThatTakesNoPiecesGetsOneOrNone) {
    worker_.whole_only[1] = true;
    const Bytes whole = udp("10.0.0.9:5000", "10.1.0.1:53").datagram(std::string(400, 'x'));
    rte_mbuf* first = Eal::instance().frame({whole.begin(), whole.begin() + 250});
    ASSERT_EQ(rte_pktmbuf_chain(first, Eal::instance().frame({whole.begin() + 250, whole.end()})),
              0);
    burst_.count = 1;
    burst_.frames[0] = first;
    dpdk::run_stages(worker_, burst_);
    ASSERT_EQ(worker_.departures[1].count, 1);
    EXPECT_EQ(worker_.departures[1].frames[0]->nb_segs, 1);
    EXPECT_EQ(bytes_of(worker_.departures[1].frames[0]), whole);
    left();
    burst(0, {udp("10.0.0.9:5000", "10.1.0.1:53").datagram(std::string(8900, 'x'))});
    EXPECT_EQ(left(), (Counts{0, 0, 0, 0}));
    EXPECT_EQ(worker_.counters.unsent, 1u);
}

TEST_F(Stages, AnUnknownStationIsFloodedAndAKnownOneIsNot) {
    const Bytes there = ethernet(kNeighbourMac, kClientMac, 0x88b5, Bytes(46, 1));
    const Bytes back = ethernet(kClientMac, kNeighbourMac, 0x88b5, Bytes(46, 2));
    burst(0, {there});
    EXPECT_EQ(left(), (Counts{0, 1, 1, 1}));
    burst(3, {back});
    EXPECT_EQ(left(), (Counts{1, 0, 0, 0}));
    burst(0, {there});
    EXPECT_EQ(left(), (Counts{0, 0, 0, 1}));
    burst(3, {ethernet(kNeighbourMac, Mac{2, 0, 0, 0, 0, 0x0b}, 0x88b5, Bytes(46, 3))});
    EXPECT_EQ(left(), (Counts{0, 0, 0, 0})) << "it is on that side already";
}

TEST_F(Stages, AVmsBroadcastNeverReachesItsSibling) {
    burst(1, {arp_request_from_vm("10.1.0.1", "10.1.0.254")});
    EXPECT_EQ(left(), (Counts{1, 0, 0, 1}));
}

TEST_F(Stages, AVmsFrameToAnUnknownStationLeavesByTheUplink) {
    burst(1, {udp("10.0.0.9:5000", "10.1.0.1:53").reply().datagram()});
    EXPECT_EQ(left(), (Counts{1, 0, 0, 0}));
    burst(3, {ethernet(kBroadcast, kClientMac, 0x88b5, Bytes(46, 1))});
    left();
    burst(1, {udp("10.0.0.9:5001", "10.1.0.1:53").reply().datagram()});
    EXPECT_EQ(left(), (Counts{0, 0, 0, 1})) << "the client was seen there";
}

TEST_F(Stages, ANeighbourThatSpeaksToTheVmAloneIsAnswered) {
    const Udp asker = udp("10.0.0.9:5000", "10.1.0.1:53");
    burst(3, {asker.datagram()});
    EXPECT_EQ(left(), (Counts{0, 1, 0, 0}));
    burst(1, {asker.reply().datagram()});
    EXPECT_EQ(left(), (Counts{0, 0, 0, 1})) << "and not by the uplink";
}

TEST_F(Stages, FencedFramesAreCountedForTheirSender) {
    burst(2, {udp("10.0.0.9:5000", "10.1.0.1:53").reply().datagram()});
    EXPECT_EQ(left(), (Counts{0, 0, 0, 0}));
    EXPECT_EQ(worker_.counters.backends[1].fenced, 1u);
    EXPECT_EQ(worker_.counters.backends[0].fenced, 0u);
}

// A ring is a far end that takes so many frames and then is away until somebody reads.
class PortThatWaits : public Stages {
protected:
    static constexpr unsigned kRoom = 1023;  // net_ring's rings have 1024 places
    PortThatWaits() {
        worker_.device[0] = Eal::instance().loop(0);
        worker_.ports = 1;
        worker_.outlets[0] = std::make_shared<dpdk::Outlet>();
        worker_.outlets[0]->waiting = std::make_unique<dpdk::Waiting>(/*ticks_per_s=*/100);
    }
    void send(unsigned count) {
        for (unsigned i = 0; i < count; ++i) {
            dpdk::Departures& leaving = worker_.departures[0];
            leaving.frames[leaving.count++] = Eal::instance().frame(
                {static_cast<std::uint8_t>(next_ >> 8), static_cast<std::uint8_t>(next_)});
            ++next_;
            dpdk::tx_stage(worker_);
        }
    }
    // The numbers of the frames that have come out, in order.
    std::vector<unsigned> read() {
        std::vector<unsigned> numbers;
        rte_mbuf* frame = nullptr;
        while (rte_eth_rx_burst(worker_.device[0], 0, &frame, 1) == 1) {
            numbers.push_back(bytes_of(frame)[0] * 256u + bytes_of(frame)[1]);
            rte_pktmbuf_free(frame);
        }
        return numbers;
    }
    static std::vector<unsigned> from(unsigned first, unsigned count) {
        std::vector<unsigned> numbers(count);
        std::iota(numbers.begin(), numbers.end(), first);
        return numbers;
    }
    unsigned next_ = 0;
};

TEST_F(PortThatWaits, GetsWhatItDidNotTakeInOrderWhenItIsBack) {
    send(kRoom + 37);
    EXPECT_EQ(read(), from(0, kRoom));
    send(10);
    EXPECT_EQ(read(), from(kRoom, 47)) << "what waits goes first";
    dpdk::tx_stage(worker_);
    EXPECT_EQ(read(), from(0, 0));
    EXPECT_EQ(worker_.counters.unsent, 0u);
}

TEST_F(PortThatWaits, IsNotWaitedForLongerThanItsTime) {
    send(kRoom + 37);
    worker_.plane.tick += dpdk::Waiting::kLongest_s * 100 - 1;
    send(10);
    worker_.plane.tick += 1;
    EXPECT_EQ(read().size(), kRoom);
    dpdk::tx_stage(worker_);
    EXPECT_EQ(read(), from(kRoom + 37, 10));
    EXPECT_EQ(worker_.counters.unsent, 37u);
}

TEST_F(PortThatWaits, HasRoomForSoManyAndDropsTheLatest) {
    send(kRoom + dpdk::Waiting::kMax + 5);
    EXPECT_EQ(worker_.counters.unsent, 5u);
    EXPECT_EQ(read().size(), kRoom);
}

TEST_F(Stages, WhatLeavesByTxComesInByRx) {
    worker_.device = {Eal::instance().loop(0), Eal::instance().loop(1)};
    worker_.ports = 2;
    std::vector<Bytes> frames;
    for (int i = 0; i < 5; ++i)
        frames.push_back(udp("10.0.0.9:5000", "10.1.0.1:53").datagram(std::to_string(i)));
    EXPECT_FALSE(dpdk::rx_stage(worker_, 1, burst_));
    burst(0, frames);
    dpdk::tx_stage(worker_);
    EXPECT_EQ(worker_.departures[1].count, 0);
    ASSERT_TRUE(dpdk::rx_stage(worker_, 1, burst_));
    ASSERT_EQ(burst_.count, frames.size());
    for (std::size_t i = 0; i < frames.size(); ++i) {
        EXPECT_EQ(bytes_of(burst_.frames[i]), frames[i]);
        rte_pktmbuf_free(burst_.frames[i]);
    }
}

class StationsTest : public testing::Test {
protected:
    dpdk::Stations stations{/*seed=*/3, /*ticks_per_s=*/10};
};

TEST_F(StationsTest, AStationIsFoundWhereItWasSeenLast) {
    EXPECT_EQ(stations.find(kClientMac.data(), 1), std::nullopt);
    stations.learn(kClientMac.data(), 2, 1);
    EXPECT_EQ(stations.find(kClientMac.data(), 1), 2);
    stations.learn(kClientMac.data(), 0, 1);
    EXPECT_EQ(stations.find(kClientMac.data(), 1), 0);
}

TEST_F(StationsTest, AStationIsForgottenWhenItsTimeIsOver) {
    stations.learn(kClientMac.data(), 2, 0xfffffff0);  // the tick wraps meanwhile
    EXPECT_EQ(stations.find(kClientMac.data(), 0xfffffff0 + 2999), 2);
    EXPECT_EQ(stations.find(kClientMac.data(), 0xfffffff0 + 3000), std::nullopt);
}

TEST_F(StationsTest, AGroupAddressIsNotLearnt) {
    stations.learn(kBroadcast.data(), 2, 1);
    EXPECT_EQ(stations.find(kBroadcast.data(), 1), std::nullopt);
}

TEST_F(StationsTest, OneThatIsSeenOutlivesAFloodOfOthers) {
    for (std::uint32_t i = 0; i < 100000; ++i) {
        const Mac other{0x06,
                        0,
                        static_cast<std::uint8_t>(i >> 16),
                        static_cast<std::uint8_t>(i >> 8),
                        static_cast<std::uint8_t>(i),
                        1};
        stations.learn(other.data(), 1, i);
        stations.learn(kClientMac.data(), 2, i);
    }
    EXPECT_EQ(stations.find(kClientMac.data(), 100000), 2);
}

}  // namespace godwit::test
