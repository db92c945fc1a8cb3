// Two workers on their lcores over real ethdevs: the rings between them, order, and a flip while packets flow.
#include "dataplane/dpdk/workers.hpp"

#include "dataplane/table_config.hpp"
#include "tests/packet/dpdk/eal.hpp"
#include "tests/packet/frame.hpp"

#include <bit>
#include <cstring>
#include <map>
#include <mutex>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <sys/eventfd.h>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>

namespace godwit::test {
namespace {

enum : std::uint16_t { kClients, kSourceVm, kDestinationVm, kPortCount };
constexpr unsigned kCount = 2;
constexpr std::uint32_t kFirstClient = 0x14000000;  // 20.0.0.0

// A VM with its source on port 1 and its destination on port 2. The ports' far ends are rings of the test; worker 0
// polls ports 0 and 2, worker 1 port 1.
class TwoWorkers : public testing::Test {
protected:
    explicit TwoWorkers(std::uint32_t sessions = 65536) {
        auto file = dpdk::TableFile::open(path_, {sessions, 1024, 65536});
        EXPECT_TRUE(file) << file.error().text();
        file_ = std::move(*file);
        vms_[0].mac = kVmMac;
        vms_[0].addresses = {{4, address("10.1.0.1").words_be()}};
        vms_[0].backends = {{{kSourceVm + 1u, kVmMac, {}}, {kDestinationVm + 1u, kVmMac, {}}}};
        directory_ = dpdk::Directory(vms_);
        for (std::uint16_t port = 0; port < kPortCount; ++port) {
            devices_[port] = Eal::instance().wire(port);
            outlets_[port] = std::make_shared<dpdk::Outlet>();
            outlets_[port]->is_shared = true;
        }
        host();
        for (unsigned number = 0; number < kCount; ++number) make_worker(number);
        auto workers = dpdk::Workers::make({workers_[0].get(), workers_[1].get()}, *file_, events_);
        EXPECT_TRUE(workers) << workers.error().text();
        all_ = std::move(*workers);
    }
    ~TwoWorkers() override {
        all_.reset();
        for (std::uint16_t port = 0; port < kPortCount; ++port) Eal::instance().wire(port);
        EXPECT_EQ(Eal::instance().frames_out(), 0u) << "frames were lost";
        close(events_);
        unlink(path_.c_str());
    }
    void make_worker(unsigned number) {
        workers_.push_back(
            std::make_unique<dpdk::Worker>(file_->tables(), stations_, kPortCount, number, kCount));
        dpdk::Worker& worker = *workers_.back();
        worker.plane.directory = &directory_;
        worker.uplink = kClients;
        worker.outlets = outlets_;
        for (std::uint16_t port = 0; port < kPortCount; ++port)
            worker.device[port] = devices_[port].ethdev;
    }
    void host() {
        vm_record& vm = file_->tables().vms[0];
        const dataplane::IdleLimits limits{STEER_TIMEOUTS_DEFAULT_S};
        dataplane::write_limits(vm, {}, limits, dpdk::kTicksPerSecond);
        std::memcpy(vm.mac, kVmMac.data(), 6);
        for (std::uint32_t slot = 0; slot < STEER_SLOTS; ++slot) {
            vm.backend[slot].ifindex = kSourceVm + 1u + slot;
            std::memcpy(vm.backend[slot].mac, kVmMac.data(), 6);
        }
        own(0, 0, /*draining=*/false);
    }
    void own(std::uint32_t owner, std::uint32_t previous, bool draining) {
        std::uint64_t& word = file_->tables().vms[0].steer;
        const std::uint64_t next =
            steer_word_next(steer_load64(&word), owner, draining, previous, draining, 3);
        __atomic_store_n(&word, next, __ATOMIC_SEQ_CST);
    }
    // Into a port from its far end; waits while there is no room.
    void send(std::uint16_t port, const Bytes& frame) {
        rte_mbuf* one = Eal::instance().frame(frame);
        while (rte_ring_enqueue(devices_[port].in, one) != 0) usleep(50);
        ++sent_;
    }
    // What has left by a port since, as it is.
    std::vector<Bytes> receive(std::uint16_t port) {
        std::vector<Bytes> frames;
        void* one = nullptr;
        while (rte_ring_dequeue(devices_[port].out, &one) == 0) {
            frames.push_back(bytes_of(static_cast<rte_mbuf*>(one)));
            rte_pktmbuf_free(static_cast<rte_mbuf*>(one));
        }
        received_ += frames.size();
        return frames;
    }
    std::uint64_t reason(steer_why why) {
        std::uint64_t sum = 0;
        for (const auto& worker : workers_) sum += worker->counters.reason(why);
        return sum;
    }
    std::uint64_t unsent() {
        std::uint64_t sum = 0;
        for (const auto& worker : workers_)
            sum += __atomic_load_n(&worker->counters.unsent, __ATOMIC_RELAXED);
        return sum;
    }
    unsigned worker_of(const Bytes& frame) {
        struct steer_packet packet;
        steer_parse(&packet, frame.data(), frame.data() + frame.size(),
                    static_cast<std::uint32_t>(frame.size()));
        return dpdk::worker_of(workers_[0]->plane, packet, kCount);
    }
    static std::string client(std::uint32_t number) {
        std::string text;
        for (int shift = 24; shift >= 0; shift -= 8)
            text +=
                (shift < 24 ? "." : "") + std::to_string((kFirstClient + number) >> shift & 255);
        return text;
    }
    static std::uint32_t client_in(const Bytes& frame) {
        return wire_load32(frame.data() + 26) - kFirstClient;
    }

    std::string path_ = "/dev/shm/gwt" + std::to_string(getpid()) + "-workers";
    int events_ = eventfd(0, EFD_NONBLOCK);
    dpdk::Vms vms_;
    dpdk::Directory directory_;
    dpdk::Stations stations_{/*seed=*/7, dpdk::kTicksPerSecond};
    std::unique_ptr<dpdk::TableFile> file_;
    std::array<Eal::Wire, kPortCount> devices_;
    std::array<std::shared_ptr<dpdk::Outlet>, dpdk::kPortsMax> outlets_;
    std::vector<std::unique_ptr<dpdk::Worker>> workers_;
    std::unique_ptr<dpdk::Workers> all_;
    std::uint64_t sent_ = 0, received_ = 0;
};

TEST_F(TwoWorkers, KeepTheOrderOfEveryFlowInBothDirections) {
    constexpr std::uint32_t kFlows = 61, kPackets = 20'000;
    ASSERT_TRUE(all_->start());
    std::map<std::uint32_t, int> next_to_vm, next_to_client;
    const auto look = [&] {
        for (const Bytes& frame : receive(kSourceVm))
            EXPECT_EQ(next_to_vm[client_in(frame)]++,
                      std::stoi(std::string(frame.begin() + 42, frame.end())));
        for (const Bytes& frame : receive(kClients)) {
            const std::uint32_t to = wire_load32(frame.data() + 30) - kFirstClient;
            EXPECT_EQ(next_to_client[to]++,
                      std::stoi(std::string(frame.begin() + 42, frame.end())));
        }
        EXPECT_TRUE(receive(kDestinationVm).empty());
    };
    std::uint64_t expected[kCount] = {};
    for (std::uint32_t i = 0; i < kPackets; ++i) {
        const Udp flow = udp(client(i % kFlows) + ":4000", "10.1.0.1:53");
        const std::string number = std::to_string(1'000'000 + i / kFlows).substr(1);
        send(kClients, flow.datagram(number));
        send(kSourceVm, flow.reply().datagram(number));
        expected[worker_of(flow.datagram())] += 2;
        while (sent_ - received_ > 256) look();
    }
    while (received_ < sent_) look();
    for (unsigned worker = 0; worker < kCount; ++worker) {
        std::uint64_t decided = 0;
        for (std::uint32_t why = 0; why < STEER_WHYS; ++why)
            decided += workers_[worker]->counters.reason(static_cast<steer_why>(why));
        EXPECT_GT(expected[worker], 0u);
        EXPECT_EQ(decided, expected[worker])
            << "both directions of a flow are decided about by its worker " << worker;
    }
    EXPECT_EQ(reason(STEER_WHY_WORKER_BUSY) + unsent(), 0u);
    EXPECT_EQ(file_->tables().vms[0].sessions[0], kFlows);
}

// Worker 1 cannot send, for somebody else holds the port: what worker 0 has for it fills the ring.
TEST_F(TwoWorkers, AFullRingIsCountedAndTheRestArrives) {
    constexpr std::uint32_t kPackets = 2000;
    ASSERT_TRUE(all_->start());
    std::uint32_t peer = 0;
    while (worker_of(udp(client(peer) + ":4000", "10.1.0.1:53").datagram()) != 1) ++peer;
    const Bytes frame = udp(client(peer) + ":4000", "10.1.0.1:53").datagram();
    {
        const std::lock_guard held(outlets_[kSourceVm]->lock);
        for (std::uint32_t i = 0; i < kPackets; ++i) send(kClients, frame);
        while (rte_ring_count(devices_[kClients].in) > 0) usleep(100);
    }
    while (received_ + reason(STEER_WHY_WORKER_BUSY) + unsent() < sent_) receive(kSourceVm);
    EXPECT_GE(reason(STEER_WHY_WORKER_BUSY),
              kPackets - dpdk::kBetweenWorkers - 2 * dpdk::kBurstMax);
    EXPECT_GE(received_, dpdk::kBetweenWorkers - 1);
    EXPECT_EQ(unsent(), 0u);
}

TEST_F(TwoWorkers, StandStillTogetherAndASleeperKeepsNobodyWaiting) {
    ASSERT_TRUE(all_->start());
    for (int round = 0; round < 200; ++round) {
        send(kClients,
             udp(client(static_cast<std::uint32_t>(round)) + ":4000", "10.1.0.1:53").datagram());
        const dpdk::Quiet::Pause pause(all_->quiet());
        const std::uint64_t then = reason(STEER_WHY_NEW_OWNER);
        directory_ = dpdk::Directory(vms_);  // a burst on its way would be reading it
        all_->quiet().wait();                // who stands by keeps nobody waiting
        ASSERT_EQ(reason(STEER_WHY_NEW_OWNER), then);
    }
    while (received_ < sent_) receive(kSourceVm);
}

// A worker is in the middle of a burst for as long as somebody else holds the port it sends to.
TEST_F(TwoWorkers, GraceIsOverWhenTheLastBurstThatBeganBeforeHasLeft) {
    std::uint32_t peer = 0;
    while (worker_of(udp(client(peer) + ":4000", "10.1.0.1:53").datagram()) != 1) ++peer;
    ASSERT_TRUE(all_->start());
    std::atomic<bool> waits{false}, released{false};
    bool left_before = false;
    std::unique_lock held(outlets_[kSourceVm]->lock);
    send(kClients, udp(client(peer) + ":4000", "10.1.0.1:53").datagram());
    while (reason(STEER_WHY_NEW_OWNER) == 0) std::this_thread::yield();
    std::thread control([&] {
        waits.store(true);
        all_->quiet().wait();
        left_before = released.load();
    });
    while (!waits.load()) std::this_thread::yield();
    for (int i = 0; i < 1000; ++i)
        std::this_thread::yield();  // room for a mistake, not for the truth
    released.store(true);
    held.unlock();
    control.join();
    EXPECT_TRUE(left_before);
    while (received_ < sent_) receive(kSourceVm);
}

// Every directory that has been exchanged is gone at once: AddressSanitizer sees a worker that still looks into one.
TEST_F(TwoWorkers, ADirectoryGoesWhenNobodyLooksAtItAnyMore) {
    auto directory = std::make_unique<const dpdk::Directory>(vms_);
    std::atomic<const dpdk::Directory*> published{directory.get()};
    for (const auto& worker : workers_) worker->published = &published;
    ASSERT_TRUE(all_->start());
    std::atomic<bool> done{false};
    std::thread control([&] {
        while (!done.load()) {
            auto next = std::make_unique<const dpdk::Directory>(vms_);
            published.store(next.get(), std::memory_order_release);
            all_->quiet().wait();
            directory = std::move(next);
        }
    });
    for (std::uint32_t i = 0; i < 10'000; ++i) {
        send(kClients, udp(client(i % 61) + ":4000", "10.1.0.1:53").datagram());
        while (sent_ - received_ > 256) receive(kSourceVm);
    }
    while (received_ < sent_) receive(kSourceVm);
    done.store(true);
    control.join();
    EXPECT_EQ(reason(STEER_WHY_NOT_MANAGED), 0u) << "every packet has met one";
    all_->stop();
}

class FlipUnderLoad : public TwoWorkers {
protected:
    static constexpr std::uint32_t kSessions = 1'000'000;
    FlipUnderLoad() : TwoWorkers(kSessions) {}
    // Client 0 to kSessions - 1 have one with the source.
    void establish() {
        steer_plane plane{
            .tables = &file_->tables(), .directory = &directory_, .tick = dpdk::tick_now()};
        for (std::uint32_t i = 0; i < kSessions; ++i) {
            steer_key key{std::byteswap(kFirstClient + i), 4000, 80, 0, WIRE_PROTOCOL_TCP, 0, {}};
            steer_fresh fresh{
                STEER_META_HEARD_VM | STEER_META_HEARD_PEER, plane.tick, 1, 1, 0, 0, 0};
            ASSERT_EQ(steer_session_pin(&plane, STEER_SESSIONS4, &key, &fresh), STEER_INSERTED)
                << i;
        }
    }
    // An established client's data, or the SYN of one that nobody has heard of.
    static Bytes old_data(std::uint32_t number) {
        static const Bytes whole = tcp("20.0.0.0:4000", "10.1.0.1:80").data("");
        return of(whole, number);
    }
    static Bytes new_syn(std::uint32_t number) {
        static const Bytes whole = tcp("20.0.0.0:4000", "10.1.0.1:80").syn();
        return of(whole, kSessions + number);
    }
    static Bytes of(Bytes frame, std::uint32_t number) {
        wire_store32(frame.data() + 26, kFirstClient + number);
        return frame;
    }
};

TEST_F(FlipUnderLoad, NoOldSessionGoesToTheDestinationAndNoNewOneToTheSource) {
    constexpr std::uint32_t kPairs = 60'000;
    establish();
    ASSERT_EQ(file_->tables().vms[0].sessions[0], kSessions);
    ASSERT_TRUE(all_->start());
    std::atomic<std::uint32_t> pairs{0};
    std::atomic<bool> flipped{false};
    std::thread control([&] {
        while (pairs.load() < kPairs / 2) std::this_thread::yield();
        own(1, 0, /*draining=*/true);
        flipped.store(true);
        all_->quiet().wait();
    });
    std::uint32_t first_after =
        UINT32_MAX;  // the first newcomer that was sent when it had been said
    std::uint64_t old_at_destination = 0, new_at_source = 0, old = 0, given[2] = {};
    const auto look = [&](std::uint16_t port) {
        for (const Bytes& frame : receive(port)) {
            const std::uint32_t who = client_in(frame);
            if (who < kSessions) {
                ++old;
                old_at_destination += port == kDestinationVm ? 1 : 0;
            } else {
                ++given[port - kSourceVm];
                new_at_source += port == kSourceVm && who - kSessions >= first_after ? 1 : 0;
            }
        }
    };
    for (std::uint32_t i = 0; i < kPairs; ++i) {
        if (first_after == UINT32_MAX && flipped.load()) first_after = i;
        send(kClients, old_data(static_cast<std::uint32_t>(i * 2654435761u % kSessions)));
        send(kClients, new_syn(i));
        pairs.store(i + 1);
        while (sent_ - received_ > 256) {
            look(kSourceVm);
            look(kDestinationVm);
        }
    }
    while (received_ < sent_) {
        look(kSourceVm);
        look(kDestinationVm);
    }
    control.join();
    EXPECT_EQ(old_at_destination, 0u);
    EXPECT_EQ(new_at_source, 0u);
    EXPECT_EQ(old, kPairs);
    EXPECT_LT(first_after, kPairs) << "the flip was in the middle of it";
    EXPECT_GT(given[0], 0u);
    EXPECT_GE(given[1], kPairs - first_after);
    EXPECT_EQ(reason(STEER_WHY_WORKER_BUSY) + unsent(), 0u);
    EXPECT_EQ(file_->tables().vms[0].sessions[0], kSessions) << "all are the source's still";
}

}  // namespace
}  // namespace godwit::test
