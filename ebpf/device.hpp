// What the kernel says of a network interface, asked in the network namespace of the calling thread.
#pragma once

#include "lib/error.hpp"

#include <string>

namespace godwit::ebpf {

// Does the device send frames in several pieces that XDP redirects to it (NETDEV_XDP_ACT_NDO_XMIT_SG)? A kernel that
// cannot be asked, before 6.3, is taken for one whose devices do not.
bool takes_pieces(unsigned ifindex);

}  // namespace godwit::ebpf
