// configs/controller.yaml as a struct.
#pragma once

#include "lib/error.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <boost/describe.hpp>

namespace godwit::controller {

struct HostConfig {
    std::string id;         // "host-a"; also the name of its backends at the switch
    std::string agent;      // "10.9.0.2:8442"
    std::string switch_id;  // which of `switches` its VMs' ports are on: the one that steers them
    std::string port;       // the port's name in that switch's configuration
    // The switch that the host itself is behind, when that is another: `port` is a tunnel to it then.
    std::string behind = {};
    static constexpr std::string_view kRequired[] = {"id", "agent", "switch_id", "port"};
};
BOOST_DESCRIBE_STRUCT(HostConfig, (), (id, agent, switch_id, port, behind))

struct SwitchConfig {
    std::string id, address;
    // Lent to destinations in steering mode nat: ranges with the prefix length of the network that the VMs'
    // hosted addresses are in, "10.9.1.30-10.9.1.39/24". Nobody else may use them.
    std::vector<std::string> temporary_addresses = {};
    static constexpr std::string_view kRequired[] = {"id", "address"};
};
BOOST_DESCRIBE_STRUCT(SwitchConfig, (), (id, address, temporary_addresses))

struct VmConfig {
    std::string id, host;
    std::string method = "fork";
    std::map<std::string, std::string> labels;
    static constexpr std::string_view kRequired[] = {"id", "host"};
};
BOOST_DESCRIBE_STRUCT(VmConfig, (), (id, host, method, labels))

struct TimingConfig {
    std::uint32_t poll_ms = 500;         // looks at a device that is at work
    std::uint32_t request_ms = 5'000;    // one request to a device
    std::uint32_t start_vm_ms = 60'000;  // one that starts or stops a VM
    std::uint32_t backoff_ms = 200;      // before the second try; doubles
    std::uint32_t backoff_max_ms = 10'000;
    std::uint32_t sweep_ms = 5'000;       // leftovers and steady steering are looked at so often
    std::uint32_t quiet_window_ms = 500;  // a region unchanged for so long is quiet
};
BOOST_DESCRIBE_STRUCT(TimingConfig, (),
                      (poll_ms, request_ms, start_vm_ms, backoff_ms, backoff_max_ms, sweep_ms,
                       quiet_window_ms))

struct Config {
    std::uint32_t version = 1;
    std::string state_dir = "/var/lib/godwit/controller";
    std::vector<std::string> listen;
    std::string peer_token_file;
    std::uint64_t minimum_token = 1;  // after a restore of state_dir: larger than devices have seen
    std::vector<SwitchConfig> switches;
    std::vector<HostConfig> hosts;
    std::vector<VmConfig> vms;  // registered at start when not known yet
    TimingConfig timing;
    static constexpr std::string_view kRequired[] = {"version", "listen", "peer_token_file",
                                                     "switches", "hosts"};
};
BOOST_DESCRIBE_STRUCT(Config, (),
                      (version, state_dir, listen, peer_token_file, minimum_token, switches, hosts,
                       vms, timing))

// Cross references, addresses, duplicates; each complaint with its pointer.
void check_config(const Config& config, std::vector<FieldError>& errors);
Result<Config> load_config(const std::string& file);

// Ids go into paths, metrics and file names: lower case letters, digits, '.', '_' and '-', at
// most 63.
bool is_good_id(std::string_view id);
bool is_method(std::string_view method);  // "fork", "boot", "whole", "steer"

}  // namespace godwit::controller
