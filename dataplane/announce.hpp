// Frames the switch sends of its own accord out of the uplinks: whose the hosted addresses
// are (RFC 5227 section 3, RFC 4861 section 7.2.6).
#pragma once

#include "lib/error.hpp"

#include "dataplane/plane.hpp"

namespace godwit::dataplane {

// One gratuitous ARP or unsolicited neighbour advertisement per address and uplink.
Result<void> announce(const VmSetup& vm, Plane& plane);

}  // namespace godwit::dataplane
