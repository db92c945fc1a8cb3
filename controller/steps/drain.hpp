// Waiting until a backend owns no session: the source after the flip, the destination after a flip
// back. Both follow the request's drain policy.
#pragma once

#include "controller/steps/step.hpp"

namespace godwit::controller {

// Who is drained, and the switch's state while it is.
struct Drain {
    std::string leaving;  // the backend whose sessions end
    std::string staying;  // the owner
    std::string step;     // "steering" or "steering-back": put again when the switch forgot it
    bool may_roll_back = false;
    bool is_gone = false;  // the VM that leaves is dead: its sessions end by being reset
};

// Returns when the switch says drained. Conflict drain-deadline when the policy says to roll back.
Task<void> wait_until_drained(JobRun& run, Drain drain);
const protocol::BackendSteering* backend_named(const protocol::VmSteering& seen,
                                               const std::string& name);
// "now: owner, before: previous", as the flip wants it.
protocol::Steering flipped(const JobRun& run, const Drain& drain);
void take_up_sessions(JobRun& run, const protocol::VmSteering& seen);

}  // namespace godwit::controller
