// How long sessions may be idle, as it is written down for a switch and for single VMs.
#pragma once

#include "lib/error.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/describe.hpp>

namespace godwit::protocol {

// Whose port a limit is about: the VM's, where it serves, or the peer's, where the VM asks.
enum class PortSide { vm, peer };
BOOST_DESCRIBE_ENUM(PortSide, vm, peer)
enum class PortProtocol { tcp, udp };
BOOST_DESCRIBE_ENUM(PortProtocol, tcp, udp)

// For open TCP sessions and for UDP ones with this port: instead of established_s, or udp_s.
struct PortLimit {
    PortProtocol protocol = PortProtocol::tcp;
    std::uint16_t port = 0;
    std::uint32_t idle_s = 0;
    PortSide side = PortSide::vm;
    bool operator==(const PortLimit&) const = default;
    static constexpr std::string_view kRequired[] = {"protocol", "port", "idle_s"};
};
BOOST_DESCRIBE_STRUCT(PortLimit, (), (protocol, port, idle_s, side))

inline constexpr std::size_t kPortLimitsMax = 4;

// Idle seconds of one VM; what is absent is the switch's own. steering/types.h names the RFC of each default.
struct IdleLimits {
    std::optional<std::uint32_t> established_s, transitory_s, udp_s, icmp_s, handshake_s, linger_s,
        tombstone_s, fragment_s;
    std::vector<PortLimit>
        ports;  // at most kPortLimitsMax, before the switch's own; the first that fits counts
    bool operator==(const IdleLimits&) const = default;
};
BOOST_DESCRIBE_STRUCT(IdleLimits, (),
                      (established_s, transitory_s, udp_s, icmp_s, handshake_s, linger_s,
                       tombstone_s, fragment_s, ports))

// `at` is the pointer of the limits themselves.
void check_idle_limits(const IdleLimits& limits, const std::string& at,
                       std::vector<FieldError>& errors);

}  // namespace godwit::protocol
