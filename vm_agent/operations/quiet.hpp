// Whether a source's regions still change (CN102932409A [0020], [0069]): looked at from outside, or said by
// the guest itself.
#pragma once

#include "vm_agent/vm/machine.hpp"

namespace godwit::agent {

// Quiet when the guest says so in every region (godwit_region_say_quiet), or when two compares in a row,
// each `window_ms` after the one before, find no change against the first look.
Task<protocol::QuiesceStatus> look_for_quiet(std::shared_ptr<Machine> machine,
                                             std::uint32_t window_ms);

}  // namespace godwit::agent
