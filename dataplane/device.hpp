// The DPDK device of a port, as the YAML says it, and the words DPDK's environment wants for it.
#pragma once

#include "lib/error.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace godwit::dataplane {

inline constexpr unsigned kDpdkWorkersMax = 8;

// Forms: "af_packet:IFACE", "af_xdp:IFACE", "tap:NAME", "vhost-user:/PATH", "memif:/PATH",
// "pci:0000:01:00.0".
struct Device {
    enum class Kind { af_packet, af_xdp, tap, vhost_user, memif, pci };
    Kind kind = Kind::af_packet;
    std::string where;         // an interface, a path or a PCI address
    std::uint32_t mtu = 1500;  // dataplane/mtu.hpp

    // Existing network interfaces; the others come into being with the plane, or are no interface.
    bool is_interface() const { return kind == Kind::af_packet || kind == Kind::af_xdp; }
    // How DPDK names the device of port `number`.
    std::string name(unsigned number) const;
    // One argument of rte_eal_init().
    std::string argument(unsigned number) const;
    // af_packet: bytes for one frame of its rings, what the kernel writes before it included. Such a device takes no
    // frame in pieces.
    std::uint32_t ring_frame_bytes() const;
};

// Rejected with what to write instead.
Result<Device> parse_device(std::string_view text);

}  // namespace godwit::dataplane
