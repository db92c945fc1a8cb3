// The REST API of protocol/agent_api.hpp on top of an Agent.
#pragma once

#include "lib/http/server.hpp"

#include "vm_agent/agent.hpp"

#include <vector>

namespace godwit::agent {

// `agent` outlives the server.
std::vector<http::Route> agent_routes(Agent& agent);

}  // namespace godwit::agent
