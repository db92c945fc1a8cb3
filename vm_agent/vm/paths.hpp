// Where everything lies that belongs to one VM on this host. All names carry the host's id and the
// VM's, so that a sweep finds them and two agents on one machine never meet.
#pragma once

#include "vm_agent/config.hpp"

#include <string>
#include <vector>

namespace godwit::agent {

class VmPaths {
public:
    VmPaths(const Config& config, const std::string& vm);

    std::string record() const { return state_ + ".json"; }
    std::string qmp() const { return run_ + ".qmp"; }
    std::string guest_agent() const { return run_ + ".qga"; }
    std::string pid() const { return run_ + ".pid"; }
    std::string console() const { return run_ + ".console.log"; }
    std::string qemu_log() const { return run_ + ".qemu.log"; }
    std::string ram() const { return shm_ + ".ram"; }
    std::string region(const std::string& name) const { return shm_ + ".region." + name; }
    // The region as it was at the fork: the base of the merge.
    std::string region_base(const std::string& name) const { return shm_ + ".base." + name; }
    std::string undo() const { return shm_ + ".undo"; }
    std::string merged() const { return shm_ + ".merged"; }
    const std::string& tap() const { return tap_; }
    // Where QEMU listens for the switch.
    std::string vhost(const protocol::VmSpec& spec) const;
    // Where that socket is while the link is down: nobody who comes finds it.
    std::string vhost_fenced(const protocol::VmSpec& spec) const;

    // Memory, bases and merge files (not the record): what a sweep removes.
    std::vector<std::string> memory_files(const protocol::VmSpec& spec) const;
    std::vector<std::string> base_files(const protocol::VmSpec& spec) const;
    std::vector<std::string> run_files() const;

private:
    std::string state_, run_, shm_, tap_;
};

}  // namespace godwit::agent
