// godwit-switch's configuration: one YAML, configs/switch.yaml explains every field.
#pragma once

#include "lib/error.hpp"

#include "dataplane/plane.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <boost/describe.hpp>

namespace godwit::dataplane {

BOOST_DESCRIBE_ENUM(PortRole, uplink, vm)

enum class PlaneKind { ebpf };
BOOST_DESCRIBE_ENUM(PlaneKind, ebpf)

struct PortConfig {
    std::string name, interface;
    PortRole role = PortRole::uplink;
    static constexpr std::string_view kRequired[] = {"name", "interface", "role"};
};
BOOST_DESCRIBE_STRUCT(PortConfig, (), (name, interface, role))

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
};
BOOST_DESCRIBE_STRUCT(TimeoutConfig, (),
                      (established_s, transitory_s, udp_s, icmp_s, handshake_s, linger_s,
                       tombstone_s, fragment_s))

struct SwitchConfig {
    std::string apiVersion, kind, id;
    PlaneKind plane = PlaneKind::ebpf;
    std::vector<std::string> listen;
    std::string peer_token_file;
    std::string state_dir = "/var/lib/godwit-switch";
    std::string bpffs = "/sys/fs/bpf/godwit";
    TableConfig tables;
    TimeoutConfig timeouts;
    std::vector<PortConfig> ports;
    static constexpr std::string_view kRequired[] = {"apiVersion",      "kind", "id", "listen",
                                                     "peer_token_file", "ports"};
};
BOOST_DESCRIBE_STRUCT(SwitchConfig, (),
                      (apiVersion, kind, id, plane, listen, peer_token_file, state_dir, bpffs,
                       tables, timeouts, ports))

// Rejected with every error at once (lib/config.hpp). Never looks at the machine: a file that is good
// here is good everywhere.
Result<SwitchConfig> load_config(const std::string& file);

}  // namespace godwit::dataplane
