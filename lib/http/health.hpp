// The three open routes every daemon has: /livez, /readyz, /metrics.
#pragma once

#include "lib/http/server.hpp"
#include "lib/metrics.hpp"

#include <functional>
#include <string>
#include <vector>

namespace godwit::http {

// `not_ready` says why the program cannot serve now (503 not-ready), or nothing when it can.
// `metrics` outlives the server.
std::vector<Route> health_routes(std::function<std::string()> not_ready, Metrics& metrics);

}  // namespace godwit::http
