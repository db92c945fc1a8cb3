// godwit-agent's configuration, one YAML file: configs/agent.yaml is the commented example.
#pragma once

#include "lib/config.hpp"

#include "protocol/agent_api.hpp"

#include <string>
#include <vector>

namespace godwit::agent {

enum class Accelerator { automatic, tcg, kvm };
BOOST_DESCRIBE_ENUM(Accelerator, automatic, tcg, kvm)

struct QemuConfig {
    std::string binary = "/usr/bin/qemu-system-x86_64";
    Accelerator accelerator = Accelerator::automatic;  // kvm where it really runs code, else tcg
    std::uint32_t start_timeout_s = 20;
    std::uint32_t shutdown_timeout_s = 5;          // for a guest that was asked to go
    std::string image_tool = "/usr/bin/qemu-img";  // makes overlays
};
BOOST_DESCRIBE_STRUCT(QemuConfig, (),
                      (binary, accelerator, start_timeout_s, shutdown_timeout_s, image_tool))

enum class TlsMode { on, off };
BOOST_DESCRIBE_ENUM(TlsMode, on, off)

// PEM files of this host: `./run certificate` makes them.
struct TlsConfig {
    TlsMode mode = TlsMode::on;
    std::string certificate, key, ca;
};
BOOST_DESCRIBE_STRUCT(TlsConfig, (), (mode, certificate, key, ca))

struct Config {
    std::string apiVersion, kind;
    std::string id;                   // of the host, "host-a"
    std::vector<std::string> listen;  // REST: "10.9.0.2:8442", "unix:/run/godwit/agent.sock"
    std::string peer_token_file;
    std::string transfer_listen;                 // memory from other agents: "10.9.0.2:7010"
    std::string transfer_address;                // what others connect to, if it differs
    std::uint32_t transfer_bandwidth_mib_s = 0;  // of each copy that names no limit; 0: none
    TlsConfig tls;                               // of the connection between agents
    std::string state_dir = "/var/lib/godwit/agent";
    std::string run_dir = "/run/godwit/agent";
    std::string shm_dir = "/dev/shm";
    std::string disk_dir;  // overlays of disks; the same storage at the same path on every host
    std::string vm_dir;    // VMs defined at the start: *.yaml, each a VmFile
    std::string bridge;    // taps are enslaved to it; empty: they stay alone
    std::string tap_prefix = "gw";
    std::uint64_t memory_limit_mib = 0;  // for all VMs of this agent; 0: what the host has
    QemuConfig qemu;
    static constexpr std::string_view kRequired[] = {
        "apiVersion", "kind", "id", "listen", "peer_token_file", "transfer_listen", "tls"};
};
BOOST_DESCRIBE_STRUCT(Config, (),
                      (apiVersion, kind, id, listen, peer_token_file, transfer_listen,
                       transfer_address, transfer_bandwidth_mib_s, tls, state_dir, run_dir, shm_dir,
                       disk_dir, vm_dir, bridge, tap_prefix, memory_limit_mib, qemu))

// One VM as a file of vm_dir: configs/vm-web-1.yaml is the example.
struct VmFile {
    std::string apiVersion, kind;
    protocol::VmSpec spec;
    static constexpr std::string_view kRequired[] = {"apiVersion", "kind", "spec"};
};
BOOST_DESCRIBE_STRUCT(VmFile, (), (apiVersion, kind, spec))

Result<Config> load_config(const std::string& file);
Result<VmFile> load_vm_file(const std::string& file);

// What cannot work about a VM, with pointers below `pointer` ("/spec", or "" for a REST body).
void check_vm(const protocol::VmSpec& spec, const std::string& pointer,
              std::vector<FieldError>& errors);
Result<void> check_vm(const protocol::VmSpec& spec);

}  // namespace godwit::agent
