// A host behind another switch than the one that steers (CN102932409A [0090]): the steering switch reaches it by a port
// that is a tunnel.
#pragma once

#include "controller/steps/step.hpp"

#include <string>

namespace godwit::controller {

// What is wrong with this steering for a host at this place, by the configuration alone; empty: nothing.
std::string complaint_about_way(const HostConfig& host, const std::string& steering);

// Both ends of the destination's tunnel as their switches have it: `at` is the status of the one that steers.
// Rejected no-tunnel and tunnel-down say what to write or to look at. Nothing to check for a host without one.
Task<void> check_tunnel(JobRun& run, protocol::SwitchStatus at);

}  // namespace godwit::controller
