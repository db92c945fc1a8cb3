// A tunnel as a network device of the kernel. It is the kernel's: packets go on through it when the switch is killed,
// and the next process finds it.
#pragma once

#include "lib/error.hpp"

#include "dataplane/plane.hpp"

#include <cstdint>
#include <string>

namespace godwit::ebpf {

// Makes the device `name`, up and in its bridge, unless it is there. What is there must be the same tunnel; its MTU
// and bridge are made right. Rejected/tunnel-differs names what differs, tunnel-mtu both lengths, tunnel-address a
// local end that the underlay's interface does not have. `underlay`: the interface's name. `learns`: whether the bridge
// learns who is behind the tunnel.
Result<std::uint32_t> ensure_vxlan(const std::string& name, const dataplane::Tunnel& tunnel,
                                   const std::string& underlay, bool learns);

}  // namespace godwit::ebpf
