// commit: the point of no return. The step has no effect in the world; its outcome is the
// transaction that checks token, state and cancel flag (Change::crosses_commit).
#include "controller/steps/drain.hpp"

namespace godwit::controller {

namespace {

// A source that opened something after it was drained still has a session to keep.
Task<void> precheck(JobRun& run) {
    Result<protocol::VmSteering> seen = co_await run.access_switch().steering(run.job.vm);
    if (!seen) co_return std::unexpected(std::move(seen).error());
    take_up_sessions(run, *seen);
    if (seen->owner == run.job.destination && !seen->drained)
        enter(run.job, Phase::draining, run.journal.clock().now());
    co_return Result<void>{};
}

Task<void> apply(JobRun&) {
    co_return Result<void>{};
}

}  // namespace

const Step kCommit{.precheck = precheck, .apply = apply};

}  // namespace godwit::controller
