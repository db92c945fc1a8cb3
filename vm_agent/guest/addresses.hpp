// Which commands change a guest's addresses. Pure; the guest's answer may be anything.
#pragma once

#include "lib/json.hpp"

#include "protocol/agent_api.hpp"

#include <string>

namespace godwit::guest {

// A shell script for the interface that has `mac` in the answer to guest-network-get-interfaces; empty when
// everything is as `wanted`. Lost guest-silent while there is no such interface: it is still starting.
Result<std::string> address_script(const json::bj::value& interfaces, const std::string& mac,
                                   const protocol::AddressRequest& wanted);

}  // namespace godwit::guest
