// Which worker decides: the same for everything between a peer and a VM, and all of them are used.
#include "dataplane/dpdk/worker.hpp"

#include "tests/packet/dpdk/eal.hpp"
#include "tests/packet/frame.hpp"

#include <array>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <string>

#include <gtest/gtest.h>

namespace godwit::test {
namespace {

constexpr Mac kTwinMac{0x52, 0x54, 0, 0, 0, 0x31};

// VM 5 on port 1, in mode nat also as 10.1.0.31 behind port 2; VM 6 on port 3. Clients are behind port 0.
dpdk::Vms vms() {
    dpdk::Vms vms;
    vms[5].mac = kVmMac;
    vms[5].addresses = {{4, address("10.1.0.1").words_be()},
                        {6, address("2001:db8:1::1").words_be()}};
    vms[5].backends = {{{2, kVmMac, {}}, {3, kTwinMac, {{4, address("10.1.0.31").words_be()}}}}};
    vms[6].mac = Mac{0x52, 0x54, 0, 0, 0, 6};
    vms[6].addresses = {{4, address("10.1.0.6").words_be()}};
    vms[6].backends[0] = {4, vms[6].mac, {}};
    return vms;
}

class Shards : public testing::Test {
protected:
    Shards() {
        for (std::uint32_t& word : tables_.config.seed) word = next_ = next_ * 1664525 + 1013904223;
        plane_.tables = &tables_;
        plane_.directory = &directory_;
    }
    unsigned of(const Bytes& frame, unsigned workers = 8) {
        struct steer_packet packet;
        steer_parse(&packet, frame.data(), frame.data() + frame.size(),
                    static_cast<std::uint32_t>(frame.size()));
        return dpdk::worker_of(plane_, packet, workers);
    }
    static std::string client(unsigned number) {
        return "20.0." + std::to_string(number >> 8) + "." + std::to_string(number & 255);
    }
    std::uint32_t next_ = 0x9e3779b9;
    dpdk::Tables tables_;
    dpdk::Directory directory_{vms()};
    steer_plane plane_;
};

TEST_F(Shards, BothDirectionsAreOneWorkers) {
    for (unsigned i = 0; i < 500; ++i) {
        const Tcp session = tcp(client(i) + ":4000", "10.1.0.1:80");
        EXPECT_EQ(of(session.syn()), of(session.reply().syn_ack())) << client(i);
        const Tcp wide = tcp("[2001:db8::" + std::to_string(i) + "]:4000", "[2001:db8:1::1]:80");
        EXPECT_EQ(of(wide.syn()), of(wide.reply().syn_ack())) << i;
    }
}

TEST_F(Shards, FragmentsErrorsAndEchoesAreTheirSessionsWorkers) {
    for (unsigned i = 0; i < 200; ++i) {
        const Udp session = udp(client(i) + ":4000", "10.1.0.1:53");
        const Bytes large = session.datagram(std::string(3000, 'x'));
        const unsigned worker = of(session.datagram());
        for (const Bytes& piece : pieces_of(large, 77, 1400)) EXPECT_EQ(of(piece), worker);
        for (const Bytes& piece :
             pieces_of(session.reply().datagram(std::string(3000, 'y')), 9, 1400))
            EXPECT_EQ(of(piece), worker);
        // A router on the way, and the client itself, about what the VM has sent; and the VM about what it got.
        const Bytes from_vm = session.reply().datagram();
        EXPECT_EQ(of(icmp_error({from_vm, "30.0.0.1"})), worker);
        EXPECT_EQ(of(icmp_error({from_vm, client(i)})), worker);
        EXPECT_EQ(of(icmp_error({session.datagram(), "10.1.0.1"})), worker);
        EXPECT_EQ(of(echo(client(i), "10.1.0.1").request()), worker);
        EXPECT_EQ(of(echo(client(i), "10.1.0.1").reply()), worker);
    }
}

// The client speaks to the hosted address, the backend answers from its temporary one.
TEST_F(Shards, ATemporaryAddressIsItsVms) {
    for (unsigned i = 0; i < 200; ++i)
        EXPECT_EQ(of(tcp(client(i) + ":4000", "10.1.0.1:80").syn()),
                  of(tcp(client(i) + ":4000", "10.1.0.31:80").reply().syn_ack()));
}

TEST_F(Shards, TwoManagedVmsHaveOneWorkerBetweenThem) {
    const Tcp session = tcp("10.1.0.6:4000", "10.1.0.1:80");
    EXPECT_EQ(of(session.syn()), of(session.reply().syn_ack()));
    EXPECT_NE(of(session.syn()), dpdk::kAnyWorker);
}

TEST_F(Shards, EveryWorkerHasItsShare) {
    constexpr unsigned kClients = 4000;
    for (const unsigned workers : {2u, 3u, 8u}) {
        std::array<unsigned, dpdk::kWorkersMax> share{};
        for (unsigned i = 0; i < kClients; ++i)
            ++share.at(of(tcp(client(i) + ":4000", "10.1.0.1:80").syn(), workers));
        for (unsigned worker = 0; worker < workers; ++worker) {
            EXPECT_GT(share[worker], kClients / workers * 8 / 10) << worker << " of " << workers;
            EXPECT_LT(share[worker], kClients / workers * 12 / 10) << worker << " of " << workers;
        }
    }
}

TEST_F(Shards, WhatIsNobodysStaysWhereItCame) {
    EXPECT_EQ(of(tcp("20.0.0.9:4000", "30.0.0.9:80").syn()), dpdk::kAnyWorker);
    EXPECT_EQ(of(arp_request("20.0.0.9", "10.1.0.1")), dpdk::kAnyWorker);
    EXPECT_EQ(of(Bytes(20, 1)), dpdk::kAnyWorker);
    EXPECT_EQ(of(vlan_tagged(tcp("20.0.0.9:4000", "10.1.0.1:80").syn(), 7)), dpdk::kAnyWorker);
}

// Two workers of these VMs; the second one never reads what it is handed.
class Spread : public Shards {
protected:
    static constexpr unsigned kRoom = 15;
    Spread() {
        Eal::instance();
        tables_.vms = records_;
        for (unsigned number = 0; number < 2; ++number)
            workers_.push_back(std::make_unique<dpdk::Worker>(tables_, stations_, 4, number, 2));
        for (const auto& worker : workers_) worker->plane.directory = &directory_;
        ring_ = workers_[0]->to[1] = Eal::instance().ring(kRoom + 1);
        tap_ = std::move(*dpdk::DpdkTap::make(1 << 17, 2));
        workers_[0]->tap = tap_.get();
    }
    ~Spread() override {
        void* frame = nullptr;
        while (rte_ring_dequeue(ring_, &frame) == 0)
            rte_pktmbuf_free(static_cast<rte_mbuf*>(frame));
        rte_ring_free(ring_);
        EXPECT_EQ(Eal::instance().frames_out(), 0u) << "frames were lost";
    }
    // The n-th client of whom worker `owner` of two decides.
    std::string client_of(unsigned owner, unsigned n) {
        for (unsigned i = 0;; ++i)
            if (of(tcp(client(i) + ":4000", "10.1.0.1:80").syn(), 2) == owner && n-- == 0)
                return client(i);
    }
    void parse(const std::vector<Bytes>& frames) {
        burst_.port = 0;
        burst_.count = 0;
        for (const Bytes& frame : frames)
            burst_.frames[burst_.count++] = Eal::instance().frame(frame);
        dpdk::parse_stage(burst_);
    }
    std::vector<Bytes> take_kept() {
        std::vector<Bytes> kept;
        for (std::uint16_t i = 0; i < burst_.count; ++i) {
            kept.push_back(bytes_of(burst_.frames[i]));
            rte_pktmbuf_free(burst_.frames[i]);
        }
        return kept;
    }
    std::vector<vm_record> records_{8};
    dpdk::Stations stations_{/*seed=*/7, /*ticks_per_s=*/1000};
    std::vector<std::unique_ptr<dpdk::Worker>> workers_;
    std::unique_ptr<dpdk::DpdkTap> tap_;
    dpdk::Burst burst_;
    rte_ring* ring_;
};

TEST_F(Spread, KeepsItsOwnInOrderAndHandsTheOthersOverInOrder) {
    std::vector<Bytes> own, others, all;
    for (unsigned i = 0; i < 12; ++i) {
        const unsigned owner = i % 3 == 0 ? 0 : 1;
        const Bytes frame = tcp(client_of(owner, i) + ":4000", "10.1.0.1:80").syn();
        (owner == 0 ? own : others).push_back(frame);
        all.push_back(frame);
    }
    parse(all);
    dpdk::spread_stage(*workers_[0], burst_);
    for (std::uint16_t i = 0; i < burst_.count; ++i) {
        const std::uint32_t source = burst_.parsed[i].source[0];
        EXPECT_EQ(std::memcmp(&source, own[i].data() + 26, 4), 0) << "parsed is another frame's";
    }
    EXPECT_EQ(take_kept(), own);
    for (const Bytes& frame : others) {
        void* got = nullptr;
        ASSERT_EQ(rte_ring_dequeue(ring_, &got), 0);
        EXPECT_EQ(bytes_of(static_cast<rte_mbuf*>(got)), frame);
        EXPECT_EQ(static_cast<rte_mbuf*>(got)->port, 0) << "where it came in";
        rte_pktmbuf_free(static_cast<rte_mbuf*>(got));
    }
}

TEST_F(Spread, WhatABusyWorkersRingDoesNotTakeIsDroppedByName) {
    std::vector<Bytes> frames;
    for (unsigned i = 0; i < 20; ++i)
        frames.push_back(tcp(client_of(1, i) + ":4000", "10.1.0.1:80").syn());
    steer_watch& watch = tap_->watch();
    watch.always[STEER_WHY_WORKER_BUSY / 64] |= std::uint64_t{1} << STEER_WHY_WORKER_BUSY % 64;
    watch.budget = 100;
    watch.on = 1;
    parse(frames);
    dpdk::spread_stage(*workers_[0], burst_);
    EXPECT_EQ(burst_.count, 0);
    EXPECT_EQ(rte_ring_count(ring_), kRoom);
    EXPECT_EQ(workers_[0]->counters.reason(STEER_WHY_WORKER_BUSY), 20u - kRoom);
    unsigned told = 0;
    tap_->read(100, [&](const steer_flow& flow, std::span<const std::uint8_t>) {
        EXPECT_EQ(std::memcmp(flow.source, frames[kRoom + told].data() + 26, 4), 0);
        ++told;
    });
    EXPECT_EQ(told, 20u - kRoom) << "the latest are the ones that go";
}

TEST_F(Spread, RecordsOfAllWorkersAreReadOldestFirst) {
    const Bytes frame = tcp("20.0.0.9:4000", "10.1.0.1:80").syn();
    tap_->watch().every = 1;
    tap_->watch().budget = 100;
    tap_->watch().on = 1;
    rte_mbuf* one = Eal::instance().frame(frame);
    struct steer_packet packet;
    steer_parse(&packet, frame.data(), frame.data() + frame.size(), 64);
    for (std::uint32_t i = 0; i < 40; ++i) {
        packet.source_port = static_cast<std::uint16_t>(i);
        tap_->look(i * 7 % 3 == 0 ? 0 : 1, packet, {}, 5, {1, 2}, one);
    }
    std::uint16_t next = 0;
    EXPECT_EQ(
        tap_->read(15, [&](const steer_flow& flow, auto) { EXPECT_EQ(flow.source_port, next++); }),
        15u);
    EXPECT_EQ(
        tap_->read(99, [&](const steer_flow& flow, auto) { EXPECT_EQ(flow.source_port, next++); }),
        25u);
    rte_pktmbuf_free(one);
}

}  // namespace
}  // namespace godwit::test
