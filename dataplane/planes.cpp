#include "dataplane/planes.hpp"

#include "dataplane/dpdk/plane.hpp"
#include "dataplane/idle_limits.hpp"
#include "ebpf/plane.hpp"

namespace godwit::dataplane {
namespace {

TableSizes sizes_of(const SwitchConfig& config) {
    return {config.tables.sessions_v4, config.tables.sessions_v6, config.tables.handshakes};
}

Result<std::unique_ptr<Plane>> open_ebpf(const SwitchConfig& config) {
    ebpf::PlaneOptions options{
        config.bpffs, {}, sizes_of(config), limits_of(idle_limits(config.timeouts))};
    for (const PortConfig& port : config.ports)
        options.ports.push_back({port.name, port.interface, port.role, tunnel_of(port)});
    return ebpf::EbpfPlane::open(options);
}

Result<std::unique_ptr<Plane>> open_dpdk(const SwitchConfig& config) {
    dpdk::PlaneOptions options;
    for (const PortConfig& port : config.ports) {
        Result<Device> device =
            parse_device(port.device.empty() ? "af_packet:" + port.interface : port.device);
        if (!device) return std::unexpected(std::move(device).error().within("port " + port.name));
        options.ports.push_back({port.name, port.role, *device});
    }
    const DpdkConfig& dpdk = config.dpdk;
    options.table_dir = dpdk.table_dir.empty() ? "/dev/shm/godwit-" + config.id : dpdk.table_dir;
    options.sizes = sizes_of(config);
    options.limits = limits_of(idle_limits(config.timeouts));
    options.workers = dpdk.workers;
    options.lcores = dpdk.lcores;
    options.memory_mb = dpdk.memory_mb;
    options.hugepages = dpdk.hugepages;
    options.file_prefix = dpdk.file_prefix.empty() ? "godwit-" + config.id : dpdk.file_prefix;
    return dpdk::DpdkPlane::open(options);
}

}  // namespace

Result<std::unique_ptr<Plane>> open_plane(const SwitchConfig& config) {
    return config.plane == PlaneKind::dpdk ? open_dpdk(config) : open_ebpf(config);
}

}  // namespace godwit::dataplane
