#include "dataplane/announce.hpp"

#include "steering/rewrite.h"

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

}  // namespace

Result<void> announce(const VmSetup& vm, Plane& plane) {
    for (const PortState& port : plane.ports()) {
        if (port.role != PortRole::uplink || port.ifindex == 0) continue;
        for (const HostedAddress& address : vm.addresses) {
            Result<void> sent = plane.transmit(port.ifindex, announcement(vm.mac, address));
            if (!sent) return std::unexpected(std::move(sent).error().within("port " + port.name));
        }
    }
    return {};
}

}  // namespace godwit::dataplane
