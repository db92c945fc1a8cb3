// commit: the point of no return. The step has no effect in the world; its outcome is the
// transaction that checks token, state and cancel flag (Change::crosses_commit).
#include "controller/steps/drain.hpp"

namespace godwit::controller {

namespace {

// The last moment at which the source can still go on.
Result<void> check_budget(JobRun& run) {
    if (!moves_whole(run.job) || !run.job.request.memory.pause_budget_ms) return {};
    const std::int64_t budget = *run.job.request.memory.pause_budget_ms;
    const std::int64_t stood = run.now_ms() - run.job.frozen_ms;
    if (stood <= budget) return {};
    return fail(Fault::Rejected, "move to " + run.job.destination,
                "the source has stood still for " + std::to_string(stood) + " ms, the budget is " +
                    std::to_string(budget) + " ms",
                "pause-budget");
}

// A destination that has died since it was loaded is found while the source can still go on.
Task<void> check_landed(JobRun& run) {
    if (!moves_whole(run.job)) {
        Result<void> lives = co_await check_destination_lives(run);
        co_return lives;
    }
    Result<protocol::AgentVm> vm = co_await run.destination().vm(run.job.vm);
    if (!vm) co_return std::unexpected(std::move(vm).error());
    if (vm->state == protocol::VmState::incoming) co_return Result<void>{};
    co_return fail(Fault::Rejected, "move to " + run.job.destination,
                   "the VM there is " + json::enum_name(vm->state) + ", not waiting to be let run",
                   std::string(kDestinationLost));
}

// A source that opened something after it was drained still has a session to keep.
Task<void> precheck(JobRun& run) {
    Result<void> landed = co_await check_landed(run);
    if (!landed) co_return landed;
    Result<void> in_time = check_budget(run);
    if (!in_time) co_return in_time;
    Result<protocol::VmSteering> seen = co_await run.access_switch().steering(run.job.vm);
    if (!seen) co_return std::unexpected(std::move(seen).error());
    take_up_sessions(run, *seen);
    if (seen->owner == run.job.facts.destination.name && !seen->drained)
        enter(run.job, Phase::draining, run.journal.clock().now());
    co_return Result<void>{};
}

Task<void> apply(JobRun&) {
    co_return Result<void>{};
}

}  // namespace

const Step kCommit{.precheck = precheck, .apply = apply};

}  // namespace godwit::controller
