#include "dataplane/dpdk/worker.hpp"

#include <rte_ethdev.h>

namespace godwit::dpdk {
namespace {

// How many of the frames were taken over: by the device, or to wait for it. Who waits goes first.
std::uint16_t send(Worker& worker, std::uint16_t port, rte_mbuf** frames, std::uint16_t count) {
    Waiting* waiting = worker.waiting[port].get();
    if (waiting && !waiting->empty())
        worker.counters.unsent += waiting->send(worker.device[port], worker.plane.tick);
    std::uint16_t sent = 0;
    if (count > 0 && (!waiting || waiting->empty()))
        sent = rte_eth_tx_burst(worker.device[port], 0, frames, count);
    if (waiting && sent < count)
        sent += waiting->keep(frames + sent, static_cast<std::uint16_t>(count - sent),
                              worker.plane.tick);
    return sent;
}

}  // namespace

void tx_stage(Worker& worker) {
    for (std::uint16_t port = 0; port < worker.ports; ++port) {
        Departures& leaving = worker.departures[port];
        const Waiting* waiting = worker.waiting[port].get();
        if (leaving.count == 0 && (!waiting || waiting->empty())) continue;
        const std::uint16_t sent = send(worker, port, leaving.frames.data(), leaving.count);
        worker.counters.unsent += leaving.count - sent;
        rte_pktmbuf_free_bulk(leaving.frames.data() + sent, leaving.count - sent);
        leaving.count = 0;
    }
}

}  // namespace godwit::dpdk
