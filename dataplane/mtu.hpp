// The longest packet that a port takes (MTU), in bytes with the IP header and without Ethernet's. A switch cannot cut
// packets: a VM that believes in longer ones than its uplink takes would lose them without a word.
#pragma once

#include "lib/error.hpp"

#include "dataplane/plane.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace godwit::dataplane {

// IPv6's smallest (RFC 8200 section 5), and what is called a jumbo frame.
inline constexpr std::uint32_t kMtuMin = 1280, kMtuMax = 9216, kMtuUsual = 1500;

struct PortMtu {
    std::string name;
    PortRole role = PortRole::uplink;
    std::uint32_t mtu = kMtuUsual;
};

// Ports of VMs whose MTU is more than that of an uplink, by their place in `ports`; 0 in mtu: not known, not compared.
std::vector<std::size_t> longer_than_uplink(const std::vector<PortMtu>& ports);
// Rejected: names the first such port, both figures, and what to do.
Result<void> check_mtus(const std::vector<PortMtu>& ports);

// What the kernel says of `interface`, in the network namespace of the caller. Rejected when the configuration says
// something else (`wanted`, 0: nothing).
Result<std::uint32_t> mtu_of(const std::string& interface, std::uint32_t wanted);

}  // namespace godwit::dataplane
