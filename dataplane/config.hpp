// godwit-switch's configuration: one YAML, configs/switch.yaml explains every field.
#pragma once

#include "lib/error.hpp"

#include "dataplane/device.hpp"
#include "dataplane/plane.hpp"
#include "protocol/flow_api.hpp"
#include "protocol/idle_limits.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/describe.hpp>

namespace godwit::dataplane {

BOOST_DESCRIBE_ENUM(PortRole, uplink, vm, underlay)

enum class PlaneKind { ebpf, dpdk };
BOOST_DESCRIBE_ENUM(PlaneKind, ebpf, dpdk)

// A port that is a tunnel to another switch (RFC 7348).
struct VxlanConfig {
    std::string local, remote;  // IPv4 addresses of the two ends
    std::uint32_t vni = 0;
    std::uint32_t udp_port = 4789;
    std::string underlay;  // the name of the port with role: underlay that carries it
    std::string bridge;    // plane ebpf: the bridge that its interface joins
    static constexpr std::string_view kRequired[] = {"local", "remote", "vni", "underlay"};
};
BOOST_DESCRIBE_STRUCT(VxlanConfig, (), (local, remote, vni, udp_port, underlay, bridge))

struct PortConfig {
    std::string name, interface;
    PortRole role = PortRole::uplink;
    std::string device;     // plane dpdk, dataplane/device.hpp; empty: af_packet:INTERFACE
    std::uint32_t mtu = 0;  // dataplane/mtu.hpp; 0: the interface's own, or 1500
    std::optional<VxlanConfig> vxlan;  // the interface is made by the switch
    static constexpr std::string_view kRequired[] = {"name", "role"};
};
BOOST_DESCRIBE_STRUCT(PortConfig, (), (name, interface, role, device, mtu, vxlan))

// How DPDK's environment is started; nothing of it concerns plane ebpf.
struct DpdkConfig {
    std::uint32_t workers = 1;
    std::vector<std::uint32_t>
        lcores;  // a CPU for each worker; empty: wherever the kernel puts them
    std::uint32_t memory_mb = 128;
    bool hugepages = false;
    std::string file_prefix;  // empty: godwit-ID
    std::string table_dir;    // on tmpfs or hugetlbfs; empty: /dev/shm/godwit-ID
};
BOOST_DESCRIBE_STRUCT(DpdkConfig, (),
                      (workers, lcores, memory_mb, hugepages, file_prefix, table_dir))

struct TableConfig {  // sessions and handshakes it must be able to hold
    std::uint32_t sessions_v4 = 1 << 20;
    std::uint32_t sessions_v6 = 1 << 17;
    std::uint32_t handshakes = 1 << 16;
};
BOOST_DESCRIBE_STRUCT(TableConfig, (), (sessions_v4, sessions_v6, handshakes))

struct TimeoutConfig {  // idle seconds; steering/types.h names the RFC of each default
    std::uint32_t established_s = 7440;
    std::uint32_t transitory_s = 240;
    std::uint32_t udp_s = 300;
    std::uint32_t icmp_s = 60;
    std::uint32_t handshake_s = 30;
    std::uint32_t linger_s = 3;
    std::uint32_t tombstone_s = 900;
    std::uint32_t fragment_s = 30;
    std::vector<protocol::PortLimit> ports;
};
BOOST_DESCRIBE_STRUCT(TimeoutConfig, (),
                      (established_s, transitory_s, udp_s, icmp_s, handshake_s, linger_s,
                       tombstone_s, fragment_s, ports))

// Of each VM by itself. 0: no limit; burst 0: a second's worth.
struct NewFlowConfig {
    std::uint32_t per_second = 0, burst = 0;
};
BOOST_DESCRIBE_STRUCT(NewFlowConfig, (), (per_second, burst))

struct SwitchConfig {
    std::string apiVersion, kind, id;
    PlaneKind plane = PlaneKind::ebpf;
    std::vector<std::string> listen;
    std::string peer_token_file;
    std::string state_dir = "/var/lib/godwit-switch";
    std::string bpffs = "/sys/fs/bpf/godwit";
    DpdkConfig dpdk;
    TableConfig tables;
    TimeoutConfig timeouts;
    NewFlowConfig new_flows;
    protocol::FlowSampling sampling;  // what is told of packets even when nobody follows
    std::vector<PortConfig> ports;
    static constexpr std::string_view kRequired[] = {"apiVersion",      "kind", "id", "listen",
                                                     "peer_token_file", "ports"};
};
BOOST_DESCRIBE_STRUCT(SwitchConfig, (),
                      (apiVersion, kind, id, plane, listen, peer_token_file, state_dir, bpffs, dpdk,
                       tables, timeouts, new_flows, sampling, ports))

// Rejected with every error at once (lib/config.hpp). Never looks at the machine: a file that is good
// here is good everywhere.
protocol::IdleLimits idle_limits(const TimeoutConfig& timeouts);

Result<SwitchConfig> load_config(const std::string& file);

// The part of it about tunnels, dataplane/config_tunnels.cpp.
void check_tunnels(const SwitchConfig& config, std::vector<FieldError>& errors);
// What a checked port's `vxlan` says; nothing for the other ports.
std::optional<Tunnel> tunnel_of(const PortConfig& port);

}  // namespace godwit::dataplane
