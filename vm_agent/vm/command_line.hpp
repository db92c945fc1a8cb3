// QEMU's command line for a VM. Both hosts build it from the same VmSpec, so that device state made
// on one loads on the other: only paths, the tap and `incoming` differ.
#pragma once

#include "vm_agent/vm/paths.hpp"

#include <string>
#include <vector>

namespace godwit::agent {

enum class BootMode { boot, incoming };

std::vector<std::string> qemu_command_line(const QemuConfig& qemu, const std::string& accelerator,
                                           const protocol::VmSpec& spec, const VmPaths& paths,
                                           BootMode mode);

}  // namespace godwit::agent
