// hosting: the switch answers ARP and ND for the addresses; everything still goes to the source.
// The destination is listed as a backend that is neither owner nor previous: whatever its clone
// sends on copied sockets is dropped from its first instruction on.
#include "controller/steps/step.hpp"

namespace godwit::controller {

namespace {

Task<bool> observe(JobRun& run) {
    Result<protocol::VmSteering> seen = co_await run.access_switch().steering(run.job.vm);
    if (!seen && seen.error().fault == Fault::Missing) co_return false;
    if (!seen) co_return std::unexpected(std::move(seen).error());
    co_return seen->hosting && seen->owner == run.job.facts.source.name && !seen->previous &&
        seen->backends.size() == 2;
}

Task<void> apply(JobRun& run) {
    protocol::Steering wanted = run.steering("hosting", run.job.facts.source.name);
    wanted.hosting = true;
    Result<protocol::VmSteering> seen =
        co_await run.access_switch().steer(run.job.vm, std::move(wanted));
    if (!seen) co_return std::unexpected(std::move(seen).error());
    for (const protocol::BackendSteering& backend : seen->backends)
        if (backend.name == run.job.facts.source.name)
            run.job.progress.sessions.source = backend.sessions;
    co_return Result<void>{};
}

// The source answers for itself again; only then would anything else be announced.
Task<void> compensate(JobRun& run) {
    protocol::Steering wanted = run.steering("unhosting", run.job.facts.source.name);
    wanted.backends = {run.job.facts.source};
    Result<protocol::VmSteering> seen =
        co_await run.access_switch().steer(run.job.vm, std::move(wanted));
    if (!seen) co_return std::unexpected(std::move(seen).error());
    Result<void> told = co_await run.access_switch().announce(run.job.vm, run.journal.token());
    co_return told;
}

}  // namespace

const Step kHosting{.apply = apply, .observe = observe, .compensate = compensate};

}  // namespace godwit::controller
