// Between parse and steer, when there are several workers: what another one decides about goes to it by its ring,
// and is parsed again there, because by then its headers have to be in that core's cache anyway.
#include "dataplane/dpdk/worker.hpp"

#include "dataplane/dpdk/shard.hpp"

#include <rte_mbuf.h>
#include <rte_ring.h>

namespace godwit::dpdk {
namespace {

// Frames of a burst, by their place in it.
struct Places {
    std::uint16_t count = 0;
    std::array<std::uint8_t, kBurstMax> of;
    void add(std::uint16_t place) { of[count++] = static_cast<std::uint8_t>(place); }
};

void drop(Worker& worker, const Burst& burst, std::uint16_t place) {
    const struct steer_verdict verdict =
        ::steer_verdict(STEER_DROP, 0, STEER_KEEP, STEER_WHY_WORKER_BUSY);
    if (worker.tap && worker.tap->is_watched())
        worker.tap->look(worker.number, burst.parsed[place], verdict, STEER_FLOW_NO_VM,
                         {burst.port + 1u, 0}, burst.frames[place]);
    struct steer_tally& tally = worker.counters.tallies[worker.counters.number_of_port[burst.port]];
    ++tally.packets[steer_tally_cell(verdict.action, verdict.why)];
    rte_pktmbuf_free(burst.frames[place]);
}

void hand_over(Worker& worker, const Burst& burst, unsigned to, const Places& places) {
    std::array<void*, kBurstMax> frames;
    for (std::uint16_t i = 0; i < places.count; ++i) {
        frames[i] = burst.frames[places.of[i]];
        burst.frames[places.of[i]]->port = burst.port;
    }
    const unsigned taken =
        rte_ring_enqueue_burst(worker.to[to], frames.data(), places.count, nullptr);
    for (unsigned i = taken; i < places.count; ++i) drop(worker, burst, places.of[i]);
}

void keep(Burst& burst, const Places& places) {
    for (std::uint16_t i = 0; i < places.count; ++i) {
        if (places.of[i] == i) continue;
        burst.frames[i] = burst.frames[places.of[i]];
        burst.parsed[i] = burst.parsed[places.of[i]];
    }
    burst.count = places.count;
}

}  // namespace

void spread_stage(Worker& worker, Burst& burst) {
    if (worker.workers == 1) return;
    std::array<Places, kWorkersMax> places;
    for (std::uint16_t i = 0; i < burst.count; ++i) {
        const unsigned owner = worker_of(worker.plane, burst.parsed[i], worker.workers);
        places[owner == kAnyWorker ? worker.number : owner].add(i);
    }
    for (unsigned to = 0; to < worker.workers; ++to)
        if (to != worker.number && places[to].count > 0) hand_over(worker, burst, to, places[to]);
    keep(burst, places[worker.number]);
}

}  // namespace godwit::dpdk
