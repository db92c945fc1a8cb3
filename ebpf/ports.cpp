#include "ebpf/ports.hpp"

#include "steering/tunnel.h"

#include "ebpf/attach.hpp"
#include "ebpf/device.hpp"
#include "ebpf/state.hpp"
#include "ebpf/vxlan_device.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <net/if.h>

#include <bpf/bpf.h>

namespace godwit::ebpf {
namespace {

using dataplane::PortRole;
using dataplane::PortSetup;
using dataplane::PortState;

Result<std::uint32_t> open_tunnel(const std::vector<PortSetup>& wanted, const PortSetup& port) {
    const auto under = std::ranges::find(wanted, port.tunnel->underlay, &PortSetup::name);
    if (under == wanted.end())
        return fail(Fault::Rejected, "open tunnel " + port.name,
                    "its underlay \"" + port.tunnel->underlay + "\" is no port");
    return ensure_vxlan(port.interface, *port.tunnel, under->interface,
                        /*learns=*/port.role == PortRole::vm);
}

// The only uplink, when that is a tunnel (dataplane/config_tunnels.cpp); else 0.
std::uint32_t relay_uplink(const std::vector<PortState>& ports) {
    for (const PortState& port : ports)
        if (port.role == PortRole::uplink && port.tunnel) return port.ifindex;
    return 0;
}

Result<void> tell_relay(int map, const std::vector<PortState>& ports) {
    const std::uint32_t zero = 0, uplink = relay_uplink(ports);
    if (bpf_map_update_elem(map, &zero, &uplink, BPF_ANY) != 0)
        return fail_errno(Fault::Retry, "write an entry of relays");
    return {};
}

Result<void> tell_tunnels(int map, const std::vector<PortState>& ports) {
    std::uint32_t index = 0;
    for (const PortState& port : ports) {
        if (!port.tunnel) continue;
        const steer_tunnel tunnel{port.tunnel->local_be, port.tunnel->remote_be, port.tunnel->vni,
                                  port.tunnel->udp_port, 0};
        if (bpf_map_update_elem(map, &index, &tunnel, BPF_ANY) != 0)
            return fail_errno(Fault::Retry, "write an entry of tunnels");
        ++index;
    }
    return {};
}

bool has_xdp(const PortState& port, bool all_tc) {
    return port.role == PortRole::uplink && !all_tc;
}

}  // namespace

Result<std::vector<PortState>> find_ports(const std::vector<PortSetup>& wanted) {
    std::vector<PortState> ports;
    if (wanted.size() > PLANE_PORTS_MAX)
        return fail(Fault::Rejected, "ports",
                    "at most " + std::to_string(PLANE_PORTS_MAX) + " are supported");
    for (const PortSetup& port : wanted) {
        if (port.tunnel) {
            Result<std::uint32_t> opened = open_tunnel(wanted, port);
            if (!opened)
                return std::unexpected(std::move(opened).error().within("port " + port.name));
        }
        const unsigned ifindex = if_nametoindex(port.interface.c_str());
        if (ifindex == 0)
            return fail_errno(Fault::Rejected,
                              "port " + port.name + ": interface " + port.interface);
        ports.push_back(
            {port.name, port.interface, port.role, ifindex, false, "", 0, 0, port.tunnel});
    }
    return ports;
}

bool is_all_tc(const std::vector<PortState>& ports) {
    return std::ranges::any_of(ports,
                               [](const PortState& port) { return port.tunnel.has_value(); });
}

void fill_settings(plane_settings& set, const std::vector<PortState>& ports) {
    std::uint32_t uplinks = 0, count = 0;
    set.attached_count = 0;
    for (const PortState& port : ports) {
        set.attached[set.attached_count++] = port.ifindex;
        if (port.role == PortRole::underlay) continue;
        const bool uplink = port.role == PortRole::uplink;
        set.ports[count++] = {port.ifindex,
                              static_cast<std::uint32_t>(uplink ? PLANE_UPLINK : PLANE_VM_PORT)};
        if (uplink && ++uplinks == 1) set.uplink = port.ifindex;
    }
    if (uplinks != 1) set.uplink = 0;
    __atomic_store_n(&set.ports_count, count, __ATOMIC_RELEASE);
}

void remove_other_links(const std::string& links, const std::vector<PortState>& ports) {
    std::error_code error;
    const bool all_tc = is_all_tc(ports);
    for (const auto& entry : std::filesystem::directory_iterator(links, error)) {
        const std::string name = entry.path().filename();
        const bool wanted = std::ranges::any_of(ports, [&](const PortState& port) {
            return name == port.interface + "-tc" ||
                   (has_xdp(port, all_tc) && name == port.interface + "-xdp");
        });
        if (!wanted) std::filesystem::remove(entry.path(), error);
    }
}

Result<void> EbpfPlane::start() {
    return attach_ports(Which::rest);
}

// Where programs of an earlier process run they are replaced at once. Elsewhere the VMs have been told first: without
// their addresses a program would pass their packets to the bridge.
Result<void> EbpfPlane::attach_ports(Which which) {
    const bool all_tc = is_all_tc(state_->ports);
    for (PortState& port : state_->ports) {
        bpf_devmap_val out{};
        out.ifindex = port.ifindex;
        if (port.role != PortRole::underlay && !all_tc &&
            bpf_map_update_elem(state_->map_fd("tx_ports"), &port.ifindex, &out, BPF_ANY) != 0)
            return fail_errno(Fault::Retry, "open port " + port.name + " for redirects");
        if (port.role != PortRole::underlay && !all_tc && takes_pieces(port.ifindex) &&
            bpf_map_update_elem(state_->map_fd("piece_ports"), &port.ifindex, &port.ifindex,
                                BPF_ANY) != 0)
            return fail_errno(Fault::Retry, "open port " + port.name + " for jumbo frames");
    }
    Result<void> known = tell_tunnels(state_->map_fd("tunnels"), state_->ports);
    if (known) known = tell_relay(state_->map_fd("relays"), state_->ports);
    if (!known) return known;
    const std::string links = state_->options.bpffs + "/links/";
    for (PortState& port : state_->ports) {
        const bool runs = std::filesystem::exists(links + port.interface + "-tc");
        if (which == Which::running ? !runs : !port.program.empty()) continue;
        // XDP first: what it passes to a tc program that decides everything would be decided twice.
        const bool by_xdp = has_xdp(port, all_tc);
        Result<std::string> xdp =
            by_xdp ? attach_xdp(program_fd("uplink"), port.ifindex, links + port.interface + "-xdp")
                   : std::string();
        const char* program = port.role == PortRole::underlay ? "underlay"
                              : by_xdp                        ? "uplink_slow"
                                                              : "vm_port";
        Result<std::string> tc =
            attach_tc(program_fd(program), port.ifindex, links + port.interface + "-tc");
        if (!xdp || !tc)
            return std::unexpected(
                std::move(xdp ? tc.error() : xdp.error()).within("port " + port.name));
        port.program = by_xdp ? *xdp : *tc;
    }
    if (which == Which::rest) remove_other_links(links, state_->ports);
    return {};
}

}  // namespace godwit::ebpf
