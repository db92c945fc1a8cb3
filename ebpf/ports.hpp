// The ports of a configuration on this machine: interfaces, the tunnels among them made, programs put on.
#pragma once

#include "lib/error.hpp"

#include "dataplane/plane.hpp"
#include "ebpf/layout.h"

#include <string>
#include <vector>

namespace godwit::ebpf {

// Errors name the port; of tunnels ebpf/vxlan_device.hpp. A VM port whose frames a tunnel could not take is
// Rejected/tunnel-mtu.
Result<std::vector<dataplane::PortState>> find_ports(
    const std::vector<dataplane::PortSetup>& wanted);

// XDP cannot send out of a tunnel, and what it has decided must not be decided again by tc: a switch with tunnels has
// tc on its uplinks and nothing else.
bool is_all_tc(const std::vector<dataplane::PortState>& ports);

void fill_settings(plane_settings& set, const std::vector<dataplane::PortState>& ports);

// A port that is no longer configured, or no longer an uplink, must not go on steering by itself.
void remove_other_links(const std::string& links, const std::vector<dataplane::PortState>& ports);

}  // namespace godwit::ebpf
