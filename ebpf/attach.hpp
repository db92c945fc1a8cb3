// Programs onto interfaces, so that they stay when this process goes and change hands without a gap.
#pragma once

#include "lib/error.hpp"

#include <string>

namespace godwit::ebpf {

// XDP by a link pinned at `pin`. A link found there gets the new program in place (BPF_LINK_UPDATE): no
// packet passes without one. Returns "xdp".
Result<std::string> attach_xdp(int program_fd, unsigned ifindex, const std::string& pin);

// tc ingress: tcx by a pinned link where the kernel has it (6.6), else a clsact filter, which stays by
// itself. Returns "tcx" or "clsact".
Result<std::string> attach_tc(int program_fd, unsigned ifindex, const std::string& pin);

// Takes both off again, and the pin.
void detach_tc_filter(unsigned ifindex);

}  // namespace godwit::ebpf
