// What stands pinned below `bpffs`, and whether it is this version's.
#pragma once

#include "lib/error.hpp"

#include "ebpf/layout.h"

#include <string>

namespace godwit::ebpf {

inline constexpr const char* kTableNames[STEER_TABLES] = {"sessions4",   "sessions6", "handshakes4",
                                                          "handshakes6", "chances4",  "chances6",
                                                          "fragments4",  "fragments6"};

// The settings of an earlier process, if there are any. The layout is written when everything is there and before any
// port is attached: tables without it belong to a process that was killed while it started, and nobody uses them.
// False: there are none, or none that were finished. Conflict: another layout wrote them ("layout-mismatch").
Result<bool> look_at_settings(const std::string& bpffs, plane_settings& settings);

}  // namespace godwit::ebpf
