#include "dataplane/announce.hpp"

#include "steering/rewrite.h"

#include <algorithm>
#include <cstring>

namespace godwit::dataplane {
namespace {

using Frame = std::vector<std::uint8_t>;

Frame announcement(const Mac& mac, const HostedAddress& address) {
    if (address.family == 4) {
        Frame frame(STEER_ARP_FRAME_BYTES);
        steer_write_arp_announcement(frame.data(), mac.data(), address.words_be[0]);
        return frame;
    }
    Frame frame(STEER_NA_FRAME_BYTES);
    std::array<std::uint8_t, 16> bytes;
    std::memcpy(bytes.data(), address.words_be.data(), bytes.size());
    steer_write_nd_announcement(frame.data(), mac.data(), bytes.data());
    return frame;
}

// The tags of the VM's place; the outer one of two is a service tag (IEEE 802.1ad).
Frame in_vlan(Frame frame, std::uint32_t vlan) {
    const auto insert = [&](std::uint16_t type, std::uint32_t tag) {
        std::array<std::uint8_t, 4> bytes;
        wire_store16(bytes.data(), type);
        wire_store16(bytes.data() + 2, static_cast<std::uint16_t>(tag & 0xfff));
        frame.insert(frame.begin() + 12, bytes.begin(), bytes.end());
    };
    if (vlan != 0) insert(WIRE_ETHERTYPE_VLAN, vlan);
    if (vlan >> 12 != 0) insert(WIRE_ETHERTYPE_QINQ, vlan >> 12);
    return frame;
}

// Uplinks, and tunnels that the VM is not behind: the switch there may still have it behind a port of its own.
bool is_told(const PortState& port, const VmSetup& vm) {
    if (port.ifindex == 0) return false;
    const bool is_there = std::ranges::any_of(
        vm.backends, [&](const BackendSetup& backend) { return backend.ifindex == port.ifindex; });
    return port.role == PortRole::uplink || (port.tunnel && !is_there);
}

}  // namespace

Result<void> announce(const VmSetup& vm, Plane& plane) {
    for (const PortState& port : plane.ports()) {
        if (!is_told(port, vm)) continue;
        for (const HostedAddress& address : vm.addresses) {
            Result<void> sent =
                plane.transmit(port.ifindex, in_vlan(announcement(vm.mac, address), vm.vlan));
            if (!sent) return std::unexpected(std::move(sent).error().within("port " + port.name));
        }
    }
    return {};
}

}  // namespace godwit::dataplane
