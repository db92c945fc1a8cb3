// Tunnels of a configuration on plane dpdk: which device carries each, and whether that has room for its headers.
#pragma once

#include "lib/error.hpp"

#include "dataplane/dpdk/plane.hpp"
#include "dataplane/dpdk/tunnels.hpp"

#include <array>
#include <cstdint>
#include <vector>

namespace godwit::dpdk {

// By port; of a tunnel they are its underlay's.
struct PortDevices {
    std::array<std::uint16_t, kPortsMax> ethdev{}, queues{};
};
// `ethdevs` and `queues`: of the ports that have a device of their own, in their order.
PortDevices devices_of(const std::vector<PlaneOptions::Port>& ports,
                       const std::vector<std::uint16_t>& ethdevs,
                       const std::vector<std::uint16_t>& queues);
// The port's own place, or that of the port that carries it.
std::size_t carrier_of(const std::vector<PlaneOptions::Port>& ports, std::size_t number);

// Rejected/tunnel-mtu: an underlay's interface takes less than its port says.
Result<std::vector<TunnelEnd>> tunnel_ends(const std::vector<PlaneOptions::Port>& ports,
                                           const PortDevices& devices);

}  // namespace godwit::dpdk
