#include "dataplane/dpdk/worker.hpp"

#include "dataplane/dpdk/tunnels.hpp"

#include <mutex>
#include <rte_ethdev.h>

namespace godwit::dpdk {
namespace {

// How many of the frames were taken over: by the device, or to wait for it. Who waits goes first.
std::uint16_t send(Worker& worker, std::uint16_t port, Waiting* waiting, rte_mbuf** frames,
                   std::uint16_t count) {
    const auto queue = static_cast<std::uint16_t>(worker.number % worker.queues[port]);
    if (waiting && !waiting->empty())
        worker.counters.unsent += waiting->send(worker.device[port], worker.plane.tick);
    std::uint16_t sent = 0;
    if (count > 0 && (!waiting || waiting->empty()))
        sent = rte_eth_tx_burst(worker.device[port], queue, frames, count);
    if (waiting && sent < count)
        sent += waiting->keep(frames + sent, static_cast<std::uint16_t>(count - sent),
                              worker.plane.tick);
    return sent;
}

std::uint16_t send(Worker& worker, std::uint16_t port, rte_mbuf** frames, std::uint16_t count) {
    Outlet* outlet = worker.outlets[port].get();
    if (!outlet) return send(worker, port, nullptr, frames, count);
    if (!outlet->is_shared) return send(worker, port, outlet->waiting.get(), frames, count);
    const std::lock_guard alone(outlet->lock);
    return send(worker, port, outlet->waiting.get(), frames, count);
}

// Without the lock: who keeps frames now sends them itself, in its next round at the latest.
bool has_waiting(const Worker& worker, std::uint16_t port) {
    const Outlet* outlet = worker.outlets[port].get();
    return outlet && outlet->waiting && !outlet->waiting->empty();
}

}  // namespace

void tx_stage(Worker& worker) {
    for (std::uint16_t port = 0; port < worker.ports; ++port) {
        Departures& leaving = worker.departures[port];
        if (leaving.count == 0 && !has_waiting(worker, port)) continue;
        if (worker.tunnels && worker.tunnels->is_tunnel(port))
            worker.tunnels->wrap(worker, port, leaving);
        const std::uint16_t sent = send(worker, port, leaving.frames.data(), leaving.count);
        worker.counters.unsent += leaving.count - sent;
        rte_pktmbuf_free_bulk(leaving.frames.data() + sent, leaving.count - sent);
        leaving.count = 0;
    }
}

}  // namespace godwit::dpdk
