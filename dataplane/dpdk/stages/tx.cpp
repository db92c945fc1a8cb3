#include "dataplane/dpdk/worker.hpp"

#include <rte_ethdev.h>

namespace godwit::dpdk {

void tx_stage(Worker& worker) {
    for (std::uint16_t port = 0; port < worker.ports; ++port) {
        Departures& leaving = worker.departures[port];
        if (leaving.count == 0) continue;
        const std::uint16_t sent =
            rte_eth_tx_burst(worker.device[port], 0, leaving.frames.data(), leaving.count);
        worker.counters.unsent += leaving.count - sent;
        rte_pktmbuf_free_bulk(leaving.frames.data() + sent, leaving.count - sent);
        leaving.count = 0;
    }
}

}  // namespace godwit::dpdk
