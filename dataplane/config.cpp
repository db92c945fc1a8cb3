// Reads and checks godwit-switch's YAML.
#include "dataplane/config.hpp"

#include "lib/config.hpp"
#include "lib/http/address.hpp"

#include "dataplane/device.hpp"
#include "dataplane/flows.hpp"
#include "dataplane/mtu.hpp"

#include <net/if.h>
#include <set>

namespace godwit::dataplane {
namespace {

using Errors = std::vector<FieldError>;

constexpr std::uint32_t kNewFlowsMax = 1'000'000;  // 4096 parts each fit 32 bits
constexpr std::uint32_t kCpusMax = 1024;           // CPU_SETSIZE
constexpr std::size_t kDpdkPortsMax = 32;          // RTE_MAX_ETHPORTS

void require(bool good, Errors& errors, std::string pointer, std::string message) {
    if (!good) errors.push_back({std::move(pointer), std::move(message), 0, 0});
}

// An interface, or for DPDK a device instead. True: a device.
bool check_way(PlaneKind plane, const PortConfig& port, const std::string& at, Errors& errors) {
    if (port.device.empty()) {
        require(!port.interface.empty() && port.interface.size() < IFNAMSIZ, errors,
                at + "/interface", "expected the name of a network interface, 1 to 15 characters");
        return false;
    }
    require(plane == PlaneKind::dpdk, errors, at + "/device",
            "is for plane: dpdk; name the interface instead");
    require(port.interface.empty(), errors, at + "/interface",
            "is said by the device already, leave one of them out");
    Result<Device> device = parse_device(port.device);
    if (!device) require(false, errors, at + "/device", device.error().cause);
    return true;
}

void check_range(std::uint32_t value, std::uint32_t least, std::uint32_t most, Errors& errors,
                 std::string pointer) {
    require(value >= least && value <= most, errors, std::move(pointer),
            "expected " + std::to_string(least) + " to " + std::to_string(most));
}

// As far as they are said here: what an interface has is looked at when the plane is opened.
void check_port_mtus(const SwitchConfig& config, Errors& errors) {
    std::vector<PortMtu> ports;
    for (const PortConfig& port : config.ports) {
        const std::string at = "/ports/" + std::to_string(ports.size()) + "/mtu";
        if (port.mtu != 0) check_range(port.mtu, kMtuMin, kMtuMax, errors, at);
        ports.push_back({port.name, port.role, port.mtu});
    }
    for (const std::size_t i : longer_than_uplink(ports))
        require(false, errors, "/ports/" + std::to_string(i) + "/mtu",
                "is more than an uplink's: packets in between would be lost");
}

void check_ports(const SwitchConfig& config, Errors& errors) {
    std::set<std::string> names, ways;
    bool uplink = false;
    for (std::size_t i = 0; i < config.ports.size(); ++i) {
        const PortConfig& port = config.ports[i];
        const std::string at = "/ports/" + std::to_string(i);
        require(!port.name.empty(), errors, at + "/name", "is empty, give the port a name");
        require(names.insert(port.name).second, errors, at + "/name",
                "\"" + port.name + "\" names another port already");
        const bool by_device = check_way(config.plane, port, at, errors);
        const std::string& way = by_device ? port.device : port.interface;
        require(ways.insert(way).second, errors, at + (by_device ? "/device" : "/interface"),
                "\"" + way + "\" is another port's already");
        uplink = uplink || port.role == PortRole::uplink;
    }
    require(uplink, errors, "/ports",
            "has no port with role: uplink, clients could not be reached");
    check_port_mtus(config, errors);
}

void check_dpdk(const SwitchConfig& config, Errors& errors) {
    const DpdkConfig& dpdk = config.dpdk;
    check_range(dpdk.memory_mb, 64, 1u << 20, errors, "/dpdk/memory_mb");
    check_range(dpdk.workers, 1, kDpdkWorkersMax, errors, "/dpdk/workers");
    require(dpdk.lcores.empty() || dpdk.lcores.size() == dpdk.workers, errors, "/dpdk/lcores",
            "expected none, or a CPU for each of the " + std::to_string(dpdk.workers) +
                " in dpdk.workers");
    require(std::set(dpdk.lcores.begin(), dpdk.lcores.end()).size() == dpdk.lcores.size(), errors,
            "/dpdk/lcores", "names a CPU twice, every worker needs one of its own");
    for (std::size_t i = 0; i < dpdk.lcores.size(); ++i)
        check_range(dpdk.lcores[i], 0, kCpusMax - 1, errors, "/dpdk/lcores/" + std::to_string(i));
    require(dpdk.file_prefix.find_first_of("/ \t\n") == std::string::npos, errors,
            "/dpdk/file_prefix", "becomes part of a file name, neither / nor spaces may be in it");
    require(dpdk.table_dir.empty() || dpdk.table_dir.front() == '/', errors, "/dpdk/table_dir",
            "expected an absolute path of a directory on tmpfs or hugetlbfs");
    require(config.plane != PlaneKind::dpdk || config.ports.size() <= kDpdkPortsMax, errors,
            "/ports", "plane dpdk has at most " + std::to_string(kDpdkPortsMax) + " ports");
}

void check(const SwitchConfig& config, Errors& errors) {
    require(config.apiVersion == "godwit/v1", errors, "/apiVersion", "expected godwit/v1");
    require(config.kind == "SwitchConfig", errors, "/kind", "expected SwitchConfig");
    require(!config.id.empty(), errors, "/id", "is empty, give the switch a name");
    require(!config.listen.empty(), errors, "/listen", "is empty, nobody could command the switch");
    for (std::size_t i = 0; i < config.listen.size(); ++i) {
        Result<http::Address> address = http::parse_address(config.listen[i]);
        if (!address)
            errors.push_back({"/listen/" + std::to_string(i), address.error().cause, 0, 0});
    }
    if (Result<void> good = check_sampling(config.sampling); !good)
        for (FieldError& error : good.error().fields)
            errors.push_back({"/sampling" + error.pointer, std::move(error.message), 0, 0});
    protocol::check_idle_limits(idle_limits(config.timeouts), "/timeouts", errors);
    const NewFlowConfig& flows = config.new_flows;
    check_range(flows.per_second, 0, kNewFlowsMax, errors, "/new_flows/per_second");
    check_range(flows.burst, 0, kNewFlowsMax, errors, "/new_flows/burst");
    require(flows.burst == 0 || flows.per_second > 0, errors, "/new_flows/burst",
            "has no meaning without per_second, set that or leave this out");
    check_range(config.tables.sessions_v4, 1024, 1u << 26, errors, "/tables/sessions_v4");
    check_range(config.tables.sessions_v6, 1024, 1u << 25, errors, "/tables/sessions_v6");
    check_range(config.tables.handshakes, 256, 1u << 22, errors, "/tables/handshakes");
    check_ports(config, errors);
    check_tunnels(config, errors);
    check_dpdk(config, errors);
}

}  // namespace

protocol::IdleLimits idle_limits(const TimeoutConfig& t) {
    return {t.established_s, t.transitory_s, t.udp_s,      t.icmp_s, t.handshake_s,
            t.linger_s,      t.tombstone_s,  t.fragment_s, t.ports};
}

Result<SwitchConfig> load_config(const std::string& file) {
    return config::load<SwitchConfig>(file, check);
}

}  // namespace godwit::dataplane
