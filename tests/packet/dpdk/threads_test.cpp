// The stages by two threads over one memory, for ThreadSanitizer: two workers that each take frames of both directions,
// with no care for who should have them, while a third thread ages, ends and flips. Shards only make races rare; the
// memories must bear them. What crosses rte_ring is left out: its ordering is in the processor's instructions, which
// ThreadSanitizer does not read.
#include "dataplane/dpdk/worker.hpp"

#include "dataplane/dpdk/ending.hpp"
#include "dataplane/dpdk/resets.hpp"
#include "tests/packet/dpdk/eal.hpp"
#include "tests/packet/frame.hpp"

#include <atomic>
#include <cstring>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <thread>

#include <gtest/gtest.h>

namespace godwit::test {
namespace {

constexpr std::uint16_t kPortCount = 3;
constexpr unsigned kRounds = 300, kClients = 24;

// VM 0 with its source on port 1 and its destination on port 2; clients are behind port 0.
class TwoThreads : public testing::Test {
protected:
    TwoThreads() {
        Eal::instance();
        vms_[0].mac = kVmMac;
        vms_[0].addresses = {{4, address("10.1.0.1").words_be()}};
        vms_[0].backends = {{{2, kVmMac, {}}, {3, kVmMac, {}}}};
        directory_ = dpdk::Directory(vms_);
        for (unsigned t = 0; t < STEER_TABLES; ++t) {
            tables_.config.table[t] = {63, 7};  // small, so that everybody meets in the same lines
            lines_[t].resize(72);
            tables_.lines[t] = lines_[t];
        }
        tables_.vms = records_;
        tables_.resets = resets_.get();
        vm_record& vm = records_[0];
        for (std::uint32_t slot = 0; slot < STEER_SLOTS; ++slot) {
            vm.backend[slot] = {slot + 2, {}, 0};
            std::memcpy(vm.backend[slot].mac, kVmMac.data(), 6);
        }
        vm.timeouts = {7440, 240, 300, 60, 30, 3, 900, 30};
        vm.steer = steer_word(1, 0, 0, STEER_VALID, 3);
        tap_ = std::move(*dpdk::DpdkTap::make(1 << 16, 2));
        tap_->watch().every = 7;
        tap_->watch().budget = 100'000;
        tap_->watch().on = 1;
        for (unsigned number = 0; number < 2; ++number) {
            workers_.push_back(
                std::make_unique<dpdk::Worker>(tables_, stations_, kPortCount, number));
            workers_.back()->plane.directory = &directory_;
            workers_.back()->tap = tap_.get();
        }
    }
    // Every frame there is of a client's sessions, in an order of `round`'s own.
    static std::vector<std::pair<std::uint16_t, Bytes>> story(unsigned client) {
        const std::string peer = "20.0.0." + std::to_string(client);
        const Tcp session = tcp(peer + ":4000", "10.1.0.1:80");
        const Udp question = udp(peer + ":5000", "10.1.0.1:53");
        std::vector<std::pair<std::uint16_t, Bytes>> frames{{0, session.syn()},
                                                            {1, session.reply().syn_ack()},
                                                            {0, session.ack()},
                                                            {0, session.data("x")},
                                                            {1, session.reply().ack()},
                                                            {0, session.fin()},
                                                            {1, session.reply().fin()},
                                                            {0, session.rst()},
                                                            {0, question.datagram()},
                                                            {1, question.reply().datagram()},
                                                            {2, question.reply().datagram()},
                                                            {0, echo(peer, "10.1.0.1").request()},
                                                            {1, echo(peer, "10.1.0.1").reply()},
                                                            {0, arp_request(peer, "10.1.0.1")}};
        for (const Bytes& piece :
             pieces_of(question.datagram(std::string(2000, 'x')), client, 1400))
            frames.emplace_back(0, piece);
        return frames;
    }
    void forward(unsigned number,
                 const std::vector<std::vector<std::pair<std::uint16_t, Bytes>>>& all) {
        rte_mempool* pool = Eal::instance().pool(number);
        dpdk::Worker& worker = *workers_[number];
        auto burst = std::make_unique<dpdk::Burst>();
        for (unsigned round = 0; round < kRounds; ++round)
            for (unsigned i = 0; i < kClients; ++i) {
                const auto& frames = all[(i * (number == 0 ? 1u : 5u) + round) % kClients];
                worker.plane.tick = 1 + round / 8;
                for (const auto& [port, frame] : frames) one(worker, pool, *burst, port, frame);
                worker.tap->tell(number);
            }
    }
    static void one(dpdk::Worker& worker, rte_mempool* pool, dpdk::Burst& burst, std::uint16_t port,
                    const Bytes& frame) {
        rte_mbuf* buffer = rte_pktmbuf_alloc(pool);
        if (!buffer) std::abort();
        std::memcpy(rte_pktmbuf_append(buffer, static_cast<std::uint16_t>(frame.size())),
                    frame.data(), frame.size());
        burst.port = port;
        burst.count = 1;
        burst.frames[0] = buffer;
        dpdk::run_stages(worker, burst);
        for (dpdk::Departures& leaving : worker.departures) {
            rte_pktmbuf_free_bulk(leaving.frames.data(), leaving.count);
            leaving.count = 0;
        }
    }
    // The control thread's: flips, ages, ends, and reads what is written down.
    void command(const std::atomic<bool>& done) {
        steer_plane control{.tables = &tables_, .directory = &directory_};
        dpdk::Sweeper sweeper;
        for (std::uint32_t round = 0; !done.load(); ++round) {
            control.tick = 1 + round / 8;
            std::uint64_t& word = records_[0].steer;
            const std::uint32_t owner = round & 1;
            __atomic_store_n(&word,
                             steer_word_next(steer_load64(&word), owner, true, 1 - owner, true, 3),
                             __ATOMIC_SEQ_CST);
            sweeper.sweep(control, 16);
            if (round % 16 == 0)
                dpdk::end_sessions(control, 0, 1 - owner, dataplane::Plane::Tell::peers);
            tap_->read(64, [](const steer_flow&, std::span<const std::uint8_t>) {});
            std::this_thread::yield();
        }
    }
    static std::uint32_t live(std::span<const struct steer_line> lines, std::uint32_t owner) {
        std::uint32_t count = 0;
        for (const struct steer_line& line : lines)
            for (const steer_slot& slot : line.slot)
                count += steer_meta_life(slot.meta) == STEER_LIVE &&
                         !(slot.meta & STEER_META_CLOSED) && steer_meta_owner(slot.meta) == owner;
        return count;
    }

    dpdk::Vms vms_;
    dpdk::Directory directory_;
    std::array<std::vector<struct steer_line>, STEER_TABLES> lines_;
    std::vector<vm_record> records_{1};
    std::unique_ptr<dpdk::Resets> resets_ = std::make_unique<dpdk::Resets>();
    dpdk::Tables tables_;
    dpdk::Stations stations_{/*seed=*/7, /*ticks_per_s=*/1};
    std::unique_ptr<dpdk::DpdkTap> tap_;
    std::vector<std::unique_ptr<dpdk::Worker>> workers_;
};

TEST_F(TwoThreads, MeetInEveryMemoryAndTheCountersAreExactAfterwards) {
    std::vector<std::vector<std::pair<std::uint16_t, Bytes>>> all;
    std::uint64_t frames = 0;
    for (unsigned client = 0; client < kClients; ++client) {
        all.push_back(story(client));
        frames += all.back().size();
    }
    std::atomic<bool> done{false};
    std::thread control([&] { command(done); });
    std::thread other([&] { forward(1, all); });
    forward(0, all);
    other.join();
    done.store(true);
    control.join();
    std::uint64_t counted = 0;
    for (const auto& worker : workers_)
        for (std::uint32_t why = 0; why < STEER_WHYS; ++why)
            counted += worker->counters.reason(static_cast<steer_why>(why));
    EXPECT_EQ(counted, 2 * kRounds * frames) << "every packet has one reason";
    for (std::uint32_t owner = 0; owner < STEER_SLOTS; ++owner) {
        EXPECT_EQ(records_[0].sessions[owner], live(lines_[STEER_SESSIONS4], owner)) << owner;
        EXPECT_EQ(records_[0].handshakes[owner],
                  live(lines_[STEER_HANDSHAKES4], owner) + live(lines_[STEER_CHANCES4], owner))
            << owner;
    }
}

}  // namespace
}  // namespace godwit::test
