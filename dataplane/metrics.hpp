// godwit-switch's figures for Prometheus, read from the plane's counters when asked.
#pragma once

#include "lib/metrics.hpp"

#include "dataplane/flows.hpp"
#include "dataplane/steering.hpp"

namespace godwit::dataplane {

// All of it outlives the registration.
void register_metrics(Metrics& metrics, Plane& plane, Steerings& steerings, const Flows& flows);

}  // namespace godwit::dataplane
