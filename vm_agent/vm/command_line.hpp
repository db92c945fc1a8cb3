// QEMU's command line for a VM. Both hosts build it from the same VmSpec, so that device state made
// on one loads on the other: only paths, overlays, the tap and `incoming` differ.
#pragma once

#include "vm_agent/vm/paths.hpp"
#include "vm_agent/vm/record.hpp"

#include <string>
#include <vector>

namespace godwit::agent {

enum class BootMode { boot, incoming };

std::vector<std::string> qemu_command_line(const QemuConfig& qemu, const std::string& accelerator,
                                           const VmRecord& record, const VmPaths& paths,
                                           BootMode mode);

}  // namespace godwit::agent
