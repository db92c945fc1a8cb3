// Fixed ends, one VNI, nothing learnt: every frame goes to the one other switch (RFC 7348 with a remote instead of
// a multicast group). Outer: don't fragment, no UDP checksum (section 5), source port by the inner flow (the
// kernel's own hash). What is too long for the underlay is found out here, not by lost packets.
#include "ebpf/vxlan_device.hpp"

#include "ebpf/netlink.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <ifaddrs.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <netinet/in.h>

namespace godwit::ebpf {
namespace {

using dataplane::Tunnel;

constexpr std::uint8_t kDontFragment = 1;  // VXLAN_DF_SET

std::string text_of(std::uint32_t address_be) {
    std::array<char, INET_ADDRSTRLEN> text{};
    inet_ntop(AF_INET, &address_be, text.data(), text.size());
    return text.data();
}

struct Link {
    std::uint32_t mtu = 0, master = 0, flags = 0;
    bool is_vxlan = false;
    std::uint32_t vni = 0, local_be = 0, remote_be = 0, over = 0;
    std::uint16_t udp_port = 0;
};

Result<Link> look_at(std::uint32_t ifindex, const std::string& name) {
    Result<LinkRow> told = read_link(ifindex, name);
    if (!told) return std::unexpected(std::move(told).error());
    const std::span<const std::uint8_t> row = told->attributes;
    Link link;
    link.flags = told->about.ifi_flags;
    link.mtu = number_of<std::uint32_t>(attribute(row, IFLA_MTU));
    link.master = number_of<std::uint32_t>(attribute(row, IFLA_MASTER));
    const auto about = attribute(row, IFLA_LINKINFO);
    if (!about) return link;
    const auto kind = attribute(*about, IFLA_INFO_KIND);
    link.is_vxlan =
        kind && std::string_view(reinterpret_cast<const char*>(kind->data())) == "vxlan";
    const auto its = attribute(*about, IFLA_INFO_DATA);
    if (!link.is_vxlan || !its) return link;
    link.vni = number_of<std::uint32_t>(attribute(*its, IFLA_VXLAN_ID));
    link.local_be = number_of<std::uint32_t>(attribute(*its, IFLA_VXLAN_LOCAL));
    link.remote_be = number_of<std::uint32_t>(attribute(*its, IFLA_VXLAN_GROUP));
    link.over = number_of<std::uint32_t>(attribute(*its, IFLA_VXLAN_LINK));
    link.udp_port = ntohs(number_of<std::uint16_t>(attribute(*its, IFLA_VXLAN_PORT)));
    return link;
}

bool has_address(const std::string& interface, std::uint32_t address_be) {
    ifaddrs* all = nullptr;
    if (getifaddrs(&all) != 0) return false;
    bool found = false;
    for (const ifaddrs* one = all; one; one = one->ifa_next)
        found =
            found ||
            (one->ifa_addr && one->ifa_addr->sa_family == AF_INET && interface == one->ifa_name &&
             reinterpret_cast<const sockaddr_in*>(one->ifa_addr)->sin_addr.s_addr == address_be);
    freeifaddrs(all);
    return found;
}

// Room for the headers, and the end that the kernel will send from.
Result<void> check_underlay(const std::string& name, const Tunnel& tunnel,
                            const std::string& underlay, std::uint32_t over) {
    Result<Link> carries = look_at(over, underlay);
    if (!carries) return std::unexpected(std::move(carries).error());
    const std::uint32_t needed = tunnel.mtu + dataplane::kVxlanOverhead;
    if (carries->mtu < needed)
        return fail(Fault::Rejected, "open tunnel " + name,
                    "the underlay " + underlay + " has MTU " + std::to_string(carries->mtu) +
                        ", and frames of MTU " + std::to_string(tunnel.mtu) + " need " +
                        std::to_string(needed) + " in the tunnel: ip link set " + underlay +
                        " mtu " + std::to_string(needed),
                    "tunnel-mtu");
    if (!has_address(underlay, tunnel.local_be))
        return fail(Fault::Rejected, "open tunnel " + name,
                    "the underlay " + underlay + " does not have the local end " +
                        text_of(tunnel.local_be) + ": ip address add it there",
                    "tunnel-address");
    return {};
}

std::string differences(const Link& link, const Tunnel& tunnel, const std::string& underlay,
                        std::uint32_t over, std::uint32_t bridge) {
    if (!link.is_vxlan) return "it is no vxlan device";
    std::string all;
    const auto note = [&](const std::string& what, const std::string& has,
                          const std::string& wanted) {
        if (has != wanted)
            all += (all.empty() ? "" : ", ") + what + " " + has + " and not " + wanted;
    };
    note("vni", std::to_string(link.vni), std::to_string(tunnel.vni));
    note("local", text_of(link.local_be), text_of(tunnel.local_be));
    note("remote", text_of(link.remote_be), text_of(tunnel.remote_be));
    note("udp_port", std::to_string(link.udp_port), std::to_string(tunnel.udp_port));
    std::array<char, IF_NAMESIZE> text{};
    const char* carrier = link.over ? if_indextoname(link.over, text.data()) : nullptr;
    note("underlay", link.over == over ? underlay : carrier ? carrier : "none", underlay);
    if (link.master != 0 && link.master != bridge) {
        const char* master = if_indextoname(link.master, text.data());
        note("bridge", master ? master : "another", tunnel.bridge.empty() ? "none" : tunnel.bridge);
    }
    return all;
}

Result<void> make(const std::string& name, const Tunnel& tunnel, std::uint32_t over) {
    LinkRequest request(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, {});
    request.add_text(IFLA_IFNAME, name);
    request.add_number(IFLA_MTU, tunnel.mtu);
    const std::size_t about = request.begin_nest(IFLA_LINKINFO);
    request.add_text(IFLA_INFO_KIND, "vxlan");
    const std::size_t its = request.begin_nest(IFLA_INFO_DATA);
    request.add_number(IFLA_VXLAN_ID, tunnel.vni);
    request.add_number(IFLA_VXLAN_GROUP, tunnel.remote_be);
    request.add_number(IFLA_VXLAN_LOCAL, tunnel.local_be);
    request.add_number(IFLA_VXLAN_LINK, over);
    request.add_number(IFLA_VXLAN_PORT, htons(tunnel.udp_port));
    request.add_number(IFLA_VXLAN_LEARNING, std::uint8_t{0});
    request.add_number(IFLA_VXLAN_UDP_CSUM, std::uint8_t{0});
    request.add_number(IFLA_VXLAN_DF, kDontFragment);
    request.end_nest(its);
    request.end_nest(about);
    Result<void> made = request.send("make tunnel " + name);
    if (!made && made.error().fault == Fault::Conflict)
        made.error().cause += ": another device of this machine has VNI " +
                              std::to_string(tunnel.vni) + ", see ip -d link show type vxlan";
    return made;
}

Result<void> set_learning(const std::string& name, std::uint32_t ifindex, bool learns) {
    ifinfomsg which{};
    which.ifi_family = AF_BRIDGE;
    which.ifi_index = static_cast<int>(ifindex);
    LinkRequest request(RTM_SETLINK, NLM_F_ACK, which);
    const std::size_t port = request.begin_nest(IFLA_PROTINFO | NLA_F_NESTED);
    request.add_number(IFLA_BRPORT_LEARNING, std::uint8_t{learns});
    // What it has learnt while it was another's.
    if (!learns) request.add(IFLA_BRPORT_FLUSH, {});
    request.end_nest(port);
    return request.send("set what the bridge learns from tunnel " + name);
}

Result<void> set_up(const std::string& name, std::uint32_t ifindex, std::uint32_t mtu,
                    std::uint32_t bridge) {
    ifinfomsg which{};
    which.ifi_index = static_cast<int>(ifindex);
    which.ifi_flags = which.ifi_change = IFF_UP;
    LinkRequest request(RTM_NEWLINK, NLM_F_ACK, which);
    request.add_number(IFLA_MTU, mtu);
    if (bridge != 0) request.add_number(IFLA_MASTER, bridge);
    return request.send("set up tunnel " + name);
}

}  // namespace

Result<std::uint32_t> ensure_vxlan(const std::string& name, const Tunnel& tunnel,
                                   const std::string& underlay, bool learns) {
    const std::uint32_t over = if_nametoindex(underlay.c_str());
    if (over == 0)
        return fail_errno(Fault::Rejected, "open tunnel " + name + ": underlay " + underlay);
    const std::uint32_t bridge = tunnel.bridge.empty() ? 0 : if_nametoindex(tunnel.bridge.c_str());
    if (bridge == 0 && !tunnel.bridge.empty())
        return fail_errno(Fault::Rejected, "open tunnel " + name + ": bridge " + tunnel.bridge);
    Result<void> good = check_underlay(name, tunnel, underlay, over);
    if (!good) return std::unexpected(std::move(good).error());
    if (if_nametoindex(name.c_str()) == 0) {
        Result<void> made = make(name, tunnel, over);
        if (!made) return std::unexpected(std::move(made).error());
    }
    const std::uint32_t ifindex = if_nametoindex(name.c_str());
    Result<Link> link = look_at(ifindex, name);
    if (!link) return std::unexpected(std::move(link).error());
    const std::string other = differences(*link, tunnel, underlay, over, bridge);
    if (!other.empty())
        return fail(Fault::Rejected, "open tunnel " + name,
                    "there is a device of this name already, and " + other + ": ip link delete " +
                        name + ", or name the port's interface otherwise",
                    "tunnel-differs");
    const bool right = link->mtu == tunnel.mtu && (link->flags & IFF_UP) != 0 &&
                       (bridge == 0 || link->master == bridge);
    Result<void> set = right ? Result<void>{} : set_up(name, ifindex, tunnel.mtu, bridge);
    if (set && bridge != 0) set = set_learning(name, ifindex, learns);
    if (!set) return std::unexpected(std::move(set).error());
    return ifindex;
}

}  // namespace godwit::ebpf
