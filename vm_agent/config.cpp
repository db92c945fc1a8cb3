#include "vm_agent/config.hpp"

#include "lib/http/address.hpp"

#include "vm_agent/region/godwit_region.h"

#include <algorithm>
#include <arpa/inet.h>
#include <charconv>
#include <set>

namespace godwit::agent {

namespace {

constexpr std::string_view kApiVersion = "godwit/v1";
constexpr std::uint32_t kMemoryMinMib = 32, kMemoryMaxMib = 1 << 20;
constexpr std::size_t kDisksMax = 8;
constexpr std::uint32_t kRegionMinMib = 16, kRegionMaxMib = 1 << 14;

void complain(std::vector<FieldError>& errors, std::string pointer, std::string message) {
    errors.push_back({std::move(pointer), std::move(message)});
}

void check_head(const std::string& version, const std::string& kind, std::string_view wanted,
                std::vector<FieldError>& errors) {
    if (version != kApiVersion)
        complain(errors, "/apiVersion", "\"" + version + "\" is not supported, write godwit/v1");
    if (kind != wanted)
        complain(errors, "/kind", "is \"" + kind + "\", write " + std::string(wanted));
}

bool is_name(std::string_view text, std::size_t length_max) {
    return !text.empty() && text.size() <= length_max && text.front() != '-' &&
           std::ranges::all_of(text, [](char c) {
               return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
           });
}

bool is_mac(std::string_view text) {
    if (text.size() != 17) return false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool good =
            i % 3 == 2 ? text[i] == ':' : std::isxdigit(static_cast<unsigned char>(text[i])) != 0;
        if (!good) return false;
    }
    // A group address is nobody's own.
    const char second = text[1];
    return std::string_view("02468aceACE").find(second) != std::string_view::npos;
}

bool is_address(const std::string& text) {
    unsigned char bytes[16];
    return inet_pton(AF_INET, text.c_str(), bytes) == 1 ||
           inet_pton(AF_INET6, text.c_str(), bytes) == 1;
}

int family_of(const std::string& address) {
    return address.find(':') == std::string::npos ? 4 : 6;
}

// "10.9.1.31/24": the guest needs to know its network.
bool is_interface_address(const std::string& text) {
    const std::size_t slash = text.find('/');
    if (slash == std::string::npos || !is_address(text.substr(0, slash))) return false;
    const char *begin = text.data() + slash + 1, *end = text.data() + text.size();
    int length = 0;
    const auto read = std::from_chars(begin, end, length);
    return read.ec == std::errc() && read.ptr == end && length >= 1 &&
           length <= (family_of(text) == 4 ? 32 : 128);
}

// One for each family in which there is a hosted address: the switch must know which stands for which.
void check_temporary(const protocol::VmSpec& spec, const std::string& pointer,
                     std::vector<FieldError>& errors) {
    const auto count = [](const std::vector<std::string>& all, int family) {
        return std::ranges::count(all, family, family_of);
    };
    for (std::size_t i = 0; i < spec.temporary_addresses.size(); ++i)
        if (!is_interface_address(spec.temporary_addresses[i]))
            complain(errors, pointer + "/temporary_addresses/" + std::to_string(i),
                     "\"" + spec.temporary_addresses[i] +
                         "\" is no IP address with prefix length, like 10.9.1.31/24");
    if (spec.temporary_addresses.empty()) return;
    for (const int family : {4, 6})
        if (count(spec.addresses, family) > 1 ||
            count(spec.temporary_addresses, family) != count(spec.addresses, family))
            complain(errors, pointer + "/temporary_addresses",
                     "needs one address for the one of IPv" + std::to_string(family) +
                         " in addresses, which may be one at most");
}

void check_vlans(const protocol::VmSpec& spec, const std::string& pointer,
                 std::vector<FieldError>& errors) {
    if (spec.vlans.size() > 2)
        complain(errors, pointer + "/vlans", "at most two tags, the outer one first");
    for (std::size_t i = 0; i < spec.vlans.size(); ++i)
        if (spec.vlans[i] < 1 || spec.vlans[i] > 4094)
            complain(errors, pointer + "/vlans/" + std::to_string(i),
                     "is no VLAN, expected 1 to 4094");
}

void check_listen(const std::string& address, const std::string& pointer,
                  std::vector<FieldError>& errors) {
    Result<http::Address> parsed = http::parse_address(address);
    if (!parsed) complain(errors, pointer, parsed.error().cause);
}

void check_folder(const std::string& path, const std::string& pointer,
                  std::vector<FieldError>& errors) {
    if (path.empty() || path.front() != '/')
        complain(errors, pointer, "\"" + path + "\" is no absolute path of a folder");
}

void check_tls(const TlsConfig& tls, std::vector<FieldError>& errors) {
    const std::pair<const char*, const std::string*> files[] = {
        {"certificate", &tls.certificate}, {"key", &tls.key}, {"ca", &tls.ca}};
    for (const auto& [name, file] : files) {
        const std::string pointer = std::string("/tls/") + name;
        if (tls.mode == TlsMode::off && !file->empty())
            complain(errors, pointer, "is not used while mode is off: remove the one or the other");
        if (tls.mode == TlsMode::on && file->empty())
            complain(errors, pointer,
                     "name a PEM file (./run certificate makes them), or write tls: {mode: off}");
    }
}

void check_config(const Config& config, std::vector<FieldError>& errors) {
    check_head(config.apiVersion, config.kind, "Agent", errors);
    if (!is_name(config.id, 24))
        complain(errors, "/id", "use 1 to 24 lower-case letters, digits and '-'");
    if (config.listen.empty()) complain(errors, "/listen", "name at least one address");
    for (std::size_t i = 0; i < config.listen.size(); ++i)
        check_listen(config.listen[i], "/listen/" + std::to_string(i), errors);
    check_listen(config.transfer_listen, "/transfer_listen", errors);
    if (!config.transfer_address.empty())
        check_listen(config.transfer_address, "/transfer_address", errors);
    check_tls(config.tls, errors);
    check_folder(config.state_dir, "/state_dir", errors);
    check_folder(config.run_dir, "/run_dir", errors);
    check_folder(config.shm_dir, "/shm_dir", errors);
    if (!config.disk_dir.empty()) check_folder(config.disk_dir, "/disk_dir", errors);
    if (!config.vm_dir.empty()) check_folder(config.vm_dir, "/vm_dir", errors);
    // Prefix and 8 hex digits must fit IFNAMSIZ; sun_path limits the sockets below run_dir.
    if (!is_name(config.tap_prefix, 7))
        complain(errors, "/tap_prefix", "use 1 to 7 lower-case letters, digits and '-'");
    if (config.run_dir.size() > 55)
        complain(errors, "/run_dir", "is too long for the sockets in it, at most 55 characters");
    if (config.bridge.size() > 15)
        complain(errors, "/bridge", "an interface name has at most 15 characters");
}

void check_network(const protocol::NetworkSpec& network, const std::string& pointer,
                   std::vector<FieldError>& errors) {
    const std::string& socket = network.socket;
    if (socket.empty()) return;
    if (network.kind == protocol::NetworkKind::tap)
        complain(errors, pointer + "/socket",
                 "belongs to kind vhost-user: remove it or set the kind");
    // sun_path holds 107 characters, and a fenced socket's name is longer by seven.
    else if (socket.front() != '/' || socket.back() == '/' || socket.size() > 100)
        complain(errors, pointer + "/socket",
                 "\"" + socket + "\" is no absolute path of at most 100 characters");
}

void check_disks(const std::vector<protocol::DiskSpec>& disks, const std::string& pointer,
                 std::vector<FieldError>& errors) {
    if (disks.size() > kDisksMax) complain(errors, pointer, "at most 8 disks");
    for (std::size_t i = 0; i < disks.size(); ++i) {
        const std::string where = pointer + "/" + std::to_string(i);
        if (disks[i].base.empty() || disks[i].base.front() != '/')
            complain(errors, where + "/base",
                     "\"" + disks[i].base + "\" is no absolute path of an image");
        if (disks[i].format != "raw" && disks[i].format != "qcow2")
            complain(errors, where + "/format",
                     "\"" + disks[i].format + "\" is not one of: raw, qcow2");
    }
}

}  // namespace

void check_vm(const protocol::VmSpec& spec, const std::string& pointer,
              std::vector<FieldError>& errors) {
    if (!is_name(spec.id, 32))
        complain(errors, pointer + "/id", "use 1 to 32 lower-case letters, digits and '-'");
    if (spec.machine != "q35" && spec.machine != "pc")
        complain(errors, pointer + "/machine", "\"" + spec.machine + "\" is not one of: q35, pc");
    const bool cpu_good = !spec.cpu.empty() && std::ranges::all_of(spec.cpu, [](unsigned char c) {
        return std::isalnum(c) != 0 ||
               std::string_view("-_.,+=").find(static_cast<char>(c)) != std::string_view::npos;
    });
    if (!cpu_good) complain(errors, pointer + "/cpu", "use a CPU model as QEMU names it, like max");
    if (spec.vcpus < 1 || spec.vcpus > 64)
        complain(errors, pointer + "/vcpus", "is out of range, expected 1 to 64");
    if (spec.memory_mib < kMemoryMinMib || spec.memory_mib > kMemoryMaxMib ||
        spec.memory_mib % 2 != 0)
        complain(errors, pointer + "/memory_mib", "expected an even number from 32 to 1048576");
    if (!is_mac(spec.mac))
        complain(errors, pointer + "/mac",
                 "\"" + spec.mac + "\" is no unicast MAC, write one like 52:54:00:00:00:01");
    if (spec.kernel.empty())
        complain(errors, pointer + "/kernel",
                 "is missing: this version boots a kernel and an initrd directly");
    check_disks(spec.disks, pointer + "/disks", errors);
    for (std::size_t i = 0; i < spec.addresses.size(); ++i)
        if (!is_address(spec.addresses[i]))
            complain(errors, pointer + "/addresses/" + std::to_string(i),
                     "\"" + spec.addresses[i] + "\" is no IP address without prefix length");
    check_network(spec.network, pointer + "/network", errors);
    check_temporary(spec, pointer, errors);
    check_vlans(spec, pointer, errors);
    protocol::check_idle_limits(spec.idle_limits, pointer + "/idle_limits", errors);
    std::set<std::string> names;
    if (spec.regions.size() > 8) complain(errors, pointer + "/regions", "at most 8 regions");
    for (std::size_t i = 0; i < spec.regions.size(); ++i) {
        const std::string where = pointer + "/regions/" + std::to_string(i);
        const protocol::RegionSpec& region = spec.regions[i];
        if (!is_name(region.name, 24))
            complain(errors, where + "/name", "use 1 to 24 lower-case letters, digits and '-'");
        if (!names.insert(region.name).second)
            complain(errors, where + "/name", "\"" + region.name + "\" is used twice");
        if (region.size_mib < kRegionMinMib || region.size_mib > kRegionMaxMib ||
            region.size_mib % 2 != 0)
            complain(
                errors, where + "/size_mib",
                "expected an even number from 16, less than which Linux does not take, to 16384");
    }
}

Result<void> check_vm(const protocol::VmSpec& spec) {
    Error error{Fault::Rejected, "VM " + spec.id, "the description has errors", "invalid-document"};
    check_vm(spec, "", error.fields);
    if (error.fields.empty()) return {};
    return std::unexpected(std::move(error));
}

Result<Config> load_config(const std::string& file) {
    Result<Config> config = config::load<Config>(file, check_config);
    if (config && config->transfer_address.empty())
        config->transfer_address = config->transfer_listen;
    return config;
}

Result<VmFile> load_vm_file(const std::string& file) {
    return config::load<VmFile>(file, [](const VmFile& vm, std::vector<FieldError>& errors) {
        check_head(vm.apiVersion, vm.kind, "Vm", errors);
        check_vm(vm.spec, "/spec", errors);
    });
}

}  // namespace godwit::agent
