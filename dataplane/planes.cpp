#include "dataplane/planes.hpp"

#include "lib/log.hpp"

#include "dataplane/dpdk/left.hpp"
#include "dataplane/dpdk/plane.hpp"
#include "dataplane/idle_limits.hpp"
#include "dataplane/mtu.hpp"
#include "ebpf/left.hpp"
#include "ebpf/netlink.hpp"
#include "ebpf/plane.hpp"

#include <ifaddrs.h>
#include <memory>
#include <netinet/in.h>

namespace godwit::dataplane {
namespace {

TableSizes sizes_of(const SwitchConfig& config) {
    return {config.tables.sessions_v4, config.tables.sessions_v6, config.tables.handshakes};
}

std::string table_dir(const SwitchConfig& config) {
    return config.dpdk.table_dir.empty() ? "/dev/shm/godwit-" + config.id : config.dpdk.table_dir;
}
std::string table_file(const SwitchConfig& config) {
    return table_dir(config) + "/dpdk-sessions";
}

// No VM port takes frames that another port or a tunnel does not.
Result<void> check_room(const std::vector<PortMtu>& ports, const SwitchConfig& config) {
    Result<void> good = check_mtus(ports);
    if (!good) return good;
    for (const PortConfig& port : config.ports) {
        if (!port.vxlan) continue;
        const std::uint32_t most = tunnel_of(port)->mtu;
        for (const PortMtu& one : ports)
            if (one.role == PortRole::vm && one.mtu > most)
                return fail(Fault::Rejected, "open tunnel " + port.name,
                            "port " + one.name + " has MTU " + std::to_string(one.mtu) +
                                ", and the tunnel takes " + std::to_string(most) +
                                ": a VM's frames would not pass; raise the tunnel's mtu and its "
                                "underlay's, or lower the port's",
                            "tunnel-mtu");
    }
    return {};
}

// Of interfaces that are there already. A tunnel's and its underlay's are compared where it is made.
Result<void> check_interfaces(const SwitchConfig& config) {
    std::vector<PortMtu> mtus;
    for (const PortConfig& port : config.ports) {
        if (port.vxlan || port.role == PortRole::underlay) continue;
        Result<std::uint32_t> mtu = mtu_of(port.interface, port.mtu);
        if (!mtu) return std::unexpected(std::move(mtu).error().within("port " + port.name));
        mtus.push_back({port.name, port.role, *mtu});
    }
    return check_room(mtus, config);
}

Result<std::unique_ptr<Plane>> open_ebpf(const SwitchConfig& config, LeftTables* left) {
    Result<void> good = check_interfaces(config);
    if (!good) return std::unexpected(std::move(good).error());
    ebpf::PlaneOptions options{
        config.bpffs,         {},  sizes_of(config), limits_of(idle_limits(config.timeouts)), {},
        name_hash(config.id), left};
    options.new_flows = {config.new_flows.per_second, config.new_flows.burst};
    for (const PortConfig& port : config.ports)
        options.ports.push_back({port.name, port.interface, port.role, tunnel_of(port)});
    return ebpf::EbpfPlane::open(options);
}

// Plane dpdk gets copies of what an interface receives: a bridge there would forward each frame once more, and ask no
// fence. Plane ebpf wants that bridge, so it is there when `plane` is turned.
Result<void> check_alone(const std::string& interface) {
    Result<std::uint32_t> bridge = ebpf::master_of(interface);
    if (!bridge) return std::unexpected(std::move(bridge).error());
    if (*bridge == 0) return {};
    return fail(Fault::Rejected, "interface " + interface,
                "it is in a bridge, which would forward every frame a second time: ip link set "
                "dev " +
                    interface + " nomaster",
                "in-bridge");
}

bool is_address_of_ours(std::uint32_t address_be) {
    ifaddrs* first = nullptr;
    if (getifaddrs(&first) != 0) return false;
    const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> all(first, freeifaddrs);
    for (const ifaddrs* one = first; one; one = one->ifa_next)
        if (one->ifa_addr && one->ifa_addr->sa_family == AF_INET &&
            reinterpret_cast<const sockaddr_in*>(one->ifa_addr)->sin_addr.s_addr == address_be)
            return true;
    return false;
}

// The plane answers for the tunnel's end itself; the kernel would answer as well, and take what is for the tunnel.
Result<void> check_end_is_free(const PortConfig& port, const Tunnel& tunnel) {
    if (!is_address_of_ours(tunnel.local_be)) return {};
    return fail(Fault::Rejected, "open tunnel " + port.name,
                "the machine has its address " + port.vxlan->local +
                    " itself, which plane dpdk answers for: take it off with ip address del, and "
                    "the device of plane ebpf with ip link del " +
                    port.name,
                "tunnel-address");
}

// With its MTU: an interface has one, of the others the configuration says it.
Result<Device> device_of(const PortConfig& port) {
    Result<Device> device =
        parse_device(port.device.empty() ? "af_packet:" + port.interface : port.device);
    if (!device) return device;
    if (port.mtu != 0) device->mtu = port.mtu;
    if (!device->is_interface()) return device;
    Result<void> alone = check_alone(device->where);
    if (!alone) return std::unexpected(std::move(alone).error());
    // An underlay may have more than its tunnels need.
    const std::uint32_t wanted = port.role == PortRole::underlay ? 0 : port.mtu;
    Result<std::uint32_t> mtu = mtu_of(device->where, wanted);
    if (!mtu) return std::unexpected(std::move(mtu).error());
    device->mtu = *mtu;
    if (*mtu > kMtuMax)
        return fail(Fault::Rejected, "interface " + device->where,
                    "its MTU is " + std::to_string(*mtu) + ", plane dpdk takes " +
                        std::to_string(kMtuMax) + " at most",
                    "mtu");
    return device;
}

Result<std::unique_ptr<Plane>> open_dpdk(const SwitchConfig& config, LeftTables* left) {
    dpdk::PlaneOptions options;
    std::vector<PortMtu> mtus;
    for (const PortConfig& port : config.ports) {
        if (port.vxlan) {
            const std::optional<Tunnel> tunnel = tunnel_of(port);
            Result<void> is_free = check_end_is_free(port, *tunnel);
            if (!is_free) return std::unexpected(std::move(is_free).error());
            options.ports.push_back({port.name, port.role, {}, tunnel->mtu, tunnel});
            continue;
        }
        Result<Device> device = device_of(port);
        if (!device) return std::unexpected(std::move(device).error().within("port " + port.name));
        options.ports.push_back(
            {port.name, port.role, *device, port.mtu != 0 ? port.mtu : device->mtu});
        mtus.push_back({port.name, port.role, device->mtu});
    }
    Result<void> good = check_room(mtus, config);
    if (!good) return std::unexpected(std::move(good).error());
    const DpdkConfig& dpdk = config.dpdk;
    options.table_dir = table_dir(config);
    options.owner = name_hash(config.id);
    options.left = left;
    options.sizes = sizes_of(config);
    options.limits = limits_of(idle_limits(config.timeouts));
    options.new_flows = {config.new_flows.per_second, config.new_flows.burst};
    options.workers = dpdk.workers;
    options.lcores = dpdk.lcores;
    options.memory_mb = dpdk.memory_mb;
    options.hugepages = dpdk.hugepages;
    options.file_prefix = dpdk.file_prefix.empty() ? "godwit-" + config.id : dpdk.file_prefix;
    return dpdk::DpdkPlane::open(options);
}

// What this switch has left under the other plane, when it is newer than what it has under this one.
Result<std::unique_ptr<LeftTables>> left_by_the_other(const SwitchConfig& config) {
    const std::uint64_t owner = name_hash(config.id);
    const bool is_dpdk = config.plane == PlaneKind::dpdk;
    Result<std::unique_ptr<LeftTables>> other =
        is_dpdk ? ebpf::find_left(config.bpffs, owner) : dpdk::find_left(table_file(config), owner);
    if (!other || !*other) return other;
    Result<std::uint64_t> own = is_dpdk ? dpdk::generation_of(table_file(config), owner)
                                        : ebpf::generation_of(config.bpffs, owner);
    if (!own) return std::unexpected(std::move(own).error());
    if (other->get()->generation() > *own) return other;
    // A take-over was cut short after the tables had changed hands: nobody may forward by the old ones.
    other->get()->remove();
    return nullptr;
}

}  // namespace

Result<std::unique_ptr<Plane>> open_plane(const SwitchConfig& config) {
    Result<std::unique_ptr<LeftTables>> left = left_by_the_other(config);
    if (!left) return std::unexpected(std::move(left).error());
    if (*left)
        log::info("switch", "takes the tables over that plane " +
                                std::string(config.plane == PlaneKind::dpdk ? "ebpf" : "dpdk") +
                                " has left");
    return config.plane == PlaneKind::dpdk ? open_dpdk(config, left->get())
                                           : open_ebpf(config, left->get());
}

}  // namespace godwit::dataplane
