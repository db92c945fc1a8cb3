#include "vm_agent/vm/paths.hpp"

#include <fmt/format.h>
#include <xxhash.h>

namespace godwit::agent {

VmPaths::VmPaths(const Config& config, const std::string& vm)
    : state_(config.state_dir + "/vms/" + vm),
      run_(config.run_dir + "/" + vm),
      shm_(config.shm_dir + "/godwit." + config.id + "." + vm),
      tap_(fmt::format("{}{:08x}", config.tap_prefix,
                       static_cast<std::uint32_t>(XXH3_64bits(vm.data(), vm.size())))) {}

std::string VmPaths::vhost(const protocol::VmSpec& spec) const {
    return spec.network.socket.empty() ? run_ + ".vhost" : spec.network.socket;
}

std::string VmPaths::vhost_fenced(const protocol::VmSpec& spec) const {
    return vhost(spec) + ".fenced";
}

std::vector<std::string> VmPaths::base_files(const protocol::VmSpec& spec) const {
    std::vector<std::string> files;
    for (const protocol::RegionSpec& one : spec.regions) files.push_back(region_base(one.name));
    files.push_back(undo());
    files.push_back(merged());
    return files;
}

std::vector<std::string> VmPaths::memory_files(const protocol::VmSpec& spec) const {
    std::vector<std::string> files = base_files(spec);
    for (const protocol::RegionSpec& one : spec.regions) files.push_back(region(one.name));
    files.push_back(ram());
    return files;
}

std::vector<std::string> VmPaths::run_files() const {
    return {qmp(), guest_agent(), pid(), console(), qemu_log()};
}

}  // namespace godwit::agent
