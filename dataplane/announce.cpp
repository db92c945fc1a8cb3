#include "dataplane/announce.hpp"

#include "steering/rewrite.h"

#include <arpa/inet.h>
#include <cstring>
#include <linux/if_packet.h>
#include <sys/socket.h>
#include <unistd.h>

namespace godwit::dataplane {
namespace {

struct Socket {
    int fd;
    ~Socket() {
        if (fd >= 0) close(fd);
    }
};

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

Result<void> send_frame(int fd, const Frame& frame, const PortState& port) {
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    to.sll_ifindex = static_cast<int>(port.ifindex);
    to.sll_halen = 6;
    std::memcpy(to.sll_addr, frame.data(), 6);
    if (sendto(fd, frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&to), sizeof(to)) < 0)
        return fail_errno(Fault::Retry, "announce on port " + port.name);
    return {};
}

}  // namespace

Result<void> announce(const VmSetup& vm, const std::vector<PortState>& ports) {
    Socket socket{::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)};
    if (socket.fd < 0) return fail_errno(Fault::Retry, "open a packet socket");
    for (const PortState& port : ports) {
        if (port.role != PortRole::uplink || port.ifindex == 0) continue;
        for (const HostedAddress& address : vm.addresses) {
            Result<void> sent = send_frame(socket.fd, announcement(vm.mac, address), port);
            if (!sent) return sent;
        }
    }
    return {};
}

}  // namespace godwit::dataplane
