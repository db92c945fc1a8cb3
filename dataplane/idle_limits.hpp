// Idle limits from what is written down into the plane's words.
#pragma once

#include "steering/wire.h"

#include "dataplane/plane.hpp"
#include "protocol/idle_limits.hpp"

namespace godwit::dataplane {

static_assert(2 * protocol::kPortLimitsMax <= STEER_PORT_LIMITS, "a VM's and the switch's");

inline IdleLimits limits_of(const protocol::IdleLimits& of) {
    const auto given = [](const std::optional<std::uint32_t>& value) { return value.value_or(0); };
    IdleLimits limits{{given(of.established_s), given(of.transitory_s), given(of.udp_s),
                       given(of.icmp_s), given(of.handshake_s), given(of.linger_s),
                       given(of.tombstone_s), given(of.fragment_s)}};
    for (const protocol::PortLimit& one : of.ports) {
        const bool tcp = one.protocol == protocol::PortProtocol::tcp;
        limits.ports.push_back(
            {static_cast<std::uint8_t>(tcp ? WIRE_PROTOCOL_TCP : WIRE_PROTOCOL_UDP), one.port,
             one.side == protocol::PortSide::peer, one.idle_s});
    }
    return limits;
}

}  // namespace godwit::dataplane
