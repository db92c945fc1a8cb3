// A port that is a tunnel: VXLAN (RFC 7348) to one other switch. What is behind that switch is behind this port.
#pragma once

#include <cstdint>
#include <string>

namespace godwit::dataplane {

// Outer Ethernet without tags is the underlay's own; inner Ethernet 14, outer IPv4 20, UDP 8, VXLAN 8 bytes.
inline constexpr std::uint32_t kVxlanOverhead = 50;
inline constexpr std::uint32_t kVniMax = (1u << 24) - 1;

struct Tunnel {
    std::uint32_t local_be = 0, remote_be = 0;  // IPv4, the two ends
    std::uint32_t vni = 0;                      // 1 to kVniMax
    std::uint16_t udp_port = 4789;              // of both ends
    std::uint32_t mtu = 1500;                   // of the inner frames, as an interface counts it
    std::string underlay;                       // the port that carries it
    std::string bridge;  // plane ebpf: what makes its port one of a bridge; empty: none
    bool operator==(const Tunnel&) const = default;
};

}  // namespace godwit::dataplane
