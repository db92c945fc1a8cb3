#include "vm_agent/memory/link_rate.hpp"

#include <linux/tcp.h>
#include <sys/socket.h>

namespace godwit::memory {

double delivery_rate(int socket) {
    constexpr int kTcpLevel = 6;  // IPPROTO_TCP
    tcp_info info{};
    socklen_t length = sizeof(info);
    if (getsockopt(socket, kTcpLevel, TCP_INFO, &info, &length) != 0) return 0;
    return static_cast<double>(info.tcpi_delivery_rate);
}

}  // namespace godwit::memory
