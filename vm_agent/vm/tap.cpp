#include "vm_agent/vm/tap.hpp"

#include "vm_agent/memory/mapped_file.hpp"

#include <cstring>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace godwit::agent {

using memory::Descriptor;

namespace {

ifreq request_for(const std::string& name) {
    ifreq request{};
    std::strncpy(request.ifr_name, name.c_str(), IFNAMSIZ - 1);
    return request;
}

Descriptor control_socket() {
    return Descriptor(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

Result<void> set_up_flag(const std::string& name, bool up) {
    Descriptor control = control_socket();
    ifreq request = request_for(name);
    if (ioctl(control.get(), SIOCGIFFLAGS, &request) != 0)
        return fail_errno(Fault::Retry, "look at interface " + name);
    const short flags = request.ifr_flags;
    request.ifr_flags = static_cast<short>(up ? flags | IFF_UP : flags & ~IFF_UP);
    if (request.ifr_flags != flags && ioctl(control.get(), SIOCSIFFLAGS, &request) != 0)
        return fail_errno(Fault::Retry, "switch interface " + name);
    return {};
}

bool has_flag(const std::string& name, short flag) {
    Descriptor control = control_socket();
    ifreq request = request_for(name);
    return ioctl(control.get(), SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & flag) != 0;
}

Result<void> in_bridge(const std::string& name, const std::string& bridge, bool inside) {
    const std::string doing =
        (inside ? "put " : "take ") + name + (inside ? " into " : " out of ") + bridge;
    Descriptor control = control_socket();
    ifreq request = request_for(bridge);
    request.ifr_ifindex = static_cast<int>(if_nametoindex(name.c_str()));
    if (request.ifr_ifindex == 0) return fail_errno(Fault::Missing, doing);
    if (ioctl(control.get(), inside ? SIOCBRADDIF : SIOCBRDELIF, &request) == 0) return {};
    // EBUSY: it is in a bridge already; EINVAL on removal: it was in none.
    if (errno == (inside ? EBUSY : EINVAL)) return {};
    return fail_errno(Fault::Retry, doing);
}

// The host itself must say nothing on a VM's port: no address, no router solicitations.
void silence_ipv6(const std::string& name) {
    const std::string path = "/proc/sys/net/ipv6/conf/" + name + "/disable_ipv6";
    Descriptor file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
    // Without IPv6 in this kernel there is nothing to silence.
    if (file && write(file.get(), "1", 1) != 1) return;
}

// TUNSETIFF attaches to the tap or makes it, TUNSETPERSIST decides whether it stays.
Result<void> set_persistent(const std::string& name, int persistent) {
    const std::string doing = (persistent ? "create tap " : "delete tap ") + name;
    Descriptor tun(open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    if (!tun) return fail_errno(Fault::Retry, doing);
    ifreq request = request_for(name);
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if (ioctl(tun.get(), TUNSETIFF, &request) != 0) return fail_errno(Fault::Retry, doing);
    if (ioctl(tun.get(), TUNSETPERSIST, persistent) != 0) return fail_errno(Fault::Retry, doing);
    return {};
}

struct FdbRequest {
    nlmsghdr header;
    ndmsg entry;
    rtattr attribute;
    unsigned char mac[8];  // 6, padded as netlink wants it
};

FdbRequest fdb_request(const std::string& name, const std::string& mac) {
    FdbRequest request{};
    request.header.nlmsg_len = sizeof(request);
    request.header.nlmsg_type = RTM_NEWNEIGH;
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    request.entry.ndm_family = AF_BRIDGE;
    request.entry.ndm_ifindex = static_cast<int>(if_nametoindex(name.c_str()));
    request.entry.ndm_state = NUD_NOARP | NUD_REACHABLE;
    request.entry.ndm_flags = NTF_MASTER | NTF_STICKY;
    request.attribute.rta_type = NDA_LLADDR;
    request.attribute.rta_len = RTA_LENGTH(6);
    for (std::size_t i = 0; i < 6; ++i)
        request.mac[i] = static_cast<unsigned char>(std::stoul(mac.substr(3 * i, 2), nullptr, 16));
    return request;
}

}  // namespace

Result<void> pin_mac(const std::string& name, const std::string& mac) {
    const std::string doing = "tell the bridge that " + mac + " is behind " + name;
    Descriptor netlink(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    const FdbRequest request = fdb_request(name, mac);
    if (send(netlink.get(), &request, sizeof(request), 0) < 0)
        return fail_errno(Fault::Retry, doing);
    struct {
        nlmsghdr header;
        nlmsgerr outcome;
        char rest[512];
    } answer{};
    if (recv(netlink.get(), &answer, sizeof(answer), 0) < 0) return fail_errno(Fault::Retry, doing);
    if (answer.header.nlmsg_type != NLMSG_ERROR || answer.outcome.error == 0) return {};
    errno = -answer.outcome.error;
    return fail_errno(Fault::Retry, doing);
}

bool tap_exists(const std::string& name) {
    return if_nametoindex(name.c_str()) != 0;
}

Result<void> create_tap(const std::string& name) {
    if (!tap_exists(name)) {
        Result<void> made = set_persistent(name, 1);
        if (!made) return made;
    }
    silence_ipv6(name);
    return {};
}

Result<void> set_tap_link(const std::string& name, const std::string& bridge, Link link) {
    if (link == Link::up) {
        Result<void> member = bridge.empty() ? Result<void>{} : in_bridge(name, bridge, true);
        return member ? set_up_flag(name, true) : member;
    }
    Result<void> down = set_up_flag(name, false);
    if (!down || bridge.empty()) return down;
    return in_bridge(name, bridge, false);
}

bool is_tap_up(const std::string& name) {
    return has_flag(name, IFF_UP);
}

Result<void> wait_until_running(const std::string& name, std::chrono::milliseconds deadline) {
    const std::string doing = "wait for interface " + name;
    Descriptor links(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_groups = RTMGRP_LINK;
    if (bind(links.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0)
        return fail_errno(Fault::Retry, doing);
    const auto end = std::chrono::steady_clock::now() + deadline;
    // Listening began before the first look, so no change is slept over.
    while (!has_flag(name, IFF_RUNNING)) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            end - std::chrono::steady_clock::now());
        pollfd readable{links.get(), POLLIN, 0};
        if (left.count() <= 0 || poll(&readable, 1, static_cast<int>(left.count())) == 0)
            return fail(Fault::Retry, doing, "it is up, but its link did not come");
        char message[8192];
        while (recv(links.get(), message, sizeof(message), 0) > 0) continue;
    }
    return {};
}

Result<void> delete_tap(const std::string& name) {
    return tap_exists(name) ? set_persistent(name, 0) : Result<void>{};
}

}  // namespace godwit::agent
