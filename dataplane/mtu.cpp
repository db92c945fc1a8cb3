#include "dataplane/mtu.hpp"

#include <algorithm>
#include <cstring>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace godwit::dataplane {
namespace {

// The least that any uplink takes; 0: nobody knows.
std::uint32_t uplink_mtu(const std::vector<PortMtu>& ports) {
    std::uint32_t least = 0;
    for (const PortMtu& port : ports)
        if (port.role == PortRole::uplink && port.mtu != 0)
            least = least == 0 ? port.mtu : std::min(least, port.mtu);
    return least;
}

}  // namespace

std::vector<std::size_t> longer_than_uplink(const std::vector<PortMtu>& ports) {
    std::vector<std::size_t> longer;
    const std::uint32_t most = uplink_mtu(ports);
    for (std::size_t i = 0; i < ports.size(); ++i)
        if (most != 0 && ports[i].role == PortRole::vm && ports[i].mtu > most) longer.push_back(i);
    return longer;
}

Result<void> check_mtus(const std::vector<PortMtu>& ports) {
    const std::vector<std::size_t> longer = longer_than_uplink(ports);
    if (longer.empty()) return {};
    const PortMtu& port = ports[longer.front()];
    const std::string most = std::to_string(uplink_mtu(ports));
    return fail(Fault::Rejected, "port " + port.name,
                "its MTU is " + std::to_string(port.mtu) + " and the uplink's " + most +
                    ": packets in between would be lost; give it " + most +
                    ", or more to the uplink",
                "mtu");
}

Result<std::uint32_t> mtu_of(const std::string& interface, std::uint32_t wanted) {
    const int socket = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (socket < 0) return fail_errno(Fault::Retry, "open a socket");
    ifreq request{};
    interface.copy(request.ifr_name, IFNAMSIZ - 1);
    const int asked = ioctl(socket, SIOCGIFMTU, &request);
    const int error = errno;
    close(socket);
    errno = error;
    if (asked != 0) return fail_errno(Fault::Rejected, "interface " + interface);
    const auto mtu = static_cast<std::uint32_t>(request.ifr_mtu);
    if (wanted == 0 || wanted == mtu) return mtu;
    return fail(Fault::Rejected, "interface " + interface,
                "its MTU is " + std::to_string(mtu) + ", the configuration says " +
                    std::to_string(wanted) + ": ip link set dev " + interface + " mtu " +
                    std::to_string(wanted),
                "mtu");
}

}  // namespace godwit::dataplane
