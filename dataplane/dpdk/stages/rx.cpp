#include "dataplane/dpdk/worker.hpp"

#include <rte_ethdev.h>

namespace godwit::dpdk {

bool rx_stage(Worker& worker, std::uint16_t port, Burst& burst, std::uint16_t queue) {
    burst.port = port;
    burst.count = rte_eth_rx_burst(worker.device[port], queue, burst.frames.data(), kBurstMax);
    return burst.count > 0;
}

}  // namespace godwit::dpdk
