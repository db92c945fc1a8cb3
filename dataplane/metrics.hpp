// godwit-switch's figures for Prometheus, read from the plane's counters when asked.
#pragma once

#include "lib/metrics.hpp"

#include "dataplane/steering.hpp"

namespace godwit::dataplane {

// `metrics`, `plane` and `steerings` outlive the registration.
void register_metrics(Metrics& metrics, Plane& plane, Steerings& steerings);

}  // namespace godwit::dataplane
