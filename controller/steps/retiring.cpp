// retiring: the source goes as the request says, the destination becomes a VM like any other, and
// nothing owned by the job is left. What cannot be done now is recorded and done later.
#include "controller/steps/drain.hpp"
#include "controller/temporary.hpp"

#include <algorithm>

namespace godwit::controller {

namespace {

bool keeps_source(const Migration& job) {
    return job.request.source_after == protocol::SourceAfter::keep;
}

// Gone already, or never made: as good as removed.
Result<void> unless_missing(Result<void> done) {
    if (!done && done.error().fault == Fault::Missing) return {};
    return done;
}

bool is_swept(const JobRun& run, std::string_view part) {
    return std::ranges::find(run.job.swept, part) != run.job.swept.end();
}

bool is_alive(protocol::VmState state) {
    return state == protocol::VmState::running || state == protocol::VmState::paused;
}

// The VM at the destination is dead. What the source was told it may not have heard: if it is there, it is all that is
// left of the VM, and a person may go back to it. Whoever says nothing may be gone, and is not gone back to. Nor is it
// from a destination that was adopted: that is a VM like any other that ended, and the source stays until it runs again.
Task<void> keep_source(JobRun& run) {
    Result<protocol::AgentVm> source = co_await run.source().vm(run.job.vm);
    const bool silent = source ? source->state == protocol::VmState::unknown
                               : source.error().fault != Fault::Missing;
    if (!silent && (!source || !is_alive(source->state))) co_return Result<void>{};
    const std::string doing = "retire the source on " + run.job.source;
    const std::string why = "the VM on " + run.job.destination + " has ended: the source is kept";
    if (is_swept(run, kAdoptDestination)) co_return fail(Fault::Retry, doing, why);
    if (!silent && run.job.source_told && !is_done(run.job)) {
        run.job.source_told = false;
        Result<void> noted = run.note("kept", "the source is still there");
        if (!noted) co_return noted;
    }
    co_return fail(Fault::Rejected, doing, silent ? why + ", if it is there: it is silent" : why,
                   std::string(kDestinationLost));
}

// The answer to an adoption may have been lost.
void take_up_adoption(JobRun& run, const protocol::AgentVm& destination) {
    if (destination.owner_job == run.job.id || is_swept(run, kAdoptDestination)) return;
    run.job.swept.emplace_back(kAdoptDestination);
}

// The source goes on the destination's word that it runs, and on nothing else: asked right before, and
// again by whoever sweeps later.
Task<void> retire_source(JobRun& run) {
    if (moves_memory(run.job)) {
        Result<protocol::AgentVm> vm = co_await run.destination().vm(run.job.vm);
        if (!vm) co_return std::unexpected(std::move(vm).error());
        take_up_adoption(run, *vm);
        if (vm->state == protocol::VmState::stopped) {
            Result<void> kept = co_await keep_source(run);
            co_return kept;
        }
        if (vm->state != protocol::VmState::running)
            co_return fail(Fault::Retry, "retire the source on " + run.job.source,
                           "the VM on " + run.job.destination + " is " +
                               json::enum_name(vm->state) + ", not running");
    }
    // Of a job that has ended, whose leftovers are swept, nobody asks any more.
    if (!run.job.source_told && !is_done(run.job)) {
        run.job.source_told = true;
        Result<void> noted = run.note("retire", "the source is told to go");
        if (!noted) co_return noted;
    }
    protocol::RetireRequest request{run.command("retiring"), run.job.request.source_after};
    Result<void> done = co_await run.source().retire(run.job.vm, std::move(request));
    co_return unless_missing(std::move(done));
}

Task<void> adopt_destination(JobRun& run) {
    protocol::AdoptRequest request{run.command("adoption")};
    Result<void> done = co_await run.destination().adopt(run.job.vm, std::move(request));
    co_return done;
}

Task<void> release_memory(JobRun& run) {
    protocol::Command command = run.command("release");
    Result<void> done = co_await run.destination().release(std::move(command));
    co_return unless_missing(std::move(done));
}

// A source that is kept stays listed: its frames would otherwise be those of a stranger with the
// VM's MAC, which nobody fences.
Task<void> narrow_switch(JobRun& run) {
    protocol::Steering wanted = run.steering("narrow", run.job.facts.destination.name);
    if (!keeps_source(run.job)) wanted.backends = {run.job.facts.destination};
    Result<protocol::VmSteering> seen =
        co_await run.access_switch().steer(run.job.vm, std::move(wanted));
    if (!seen) co_return std::unexpected(std::move(seen).error());
    if (!is_done(run.job)) take_up_sessions(run, *seen);
    co_return Result<void>{};
}

// The source's temporary addresses are nobody's from now on.
Task<void> end_leases(JobRun& run) {
    co_return run.journal.store().end_other_leases(run.job.vm, run.job.id);
}

Task<void> apply(JobRun& run) {
    Result<void> worst{};
    for (const std::string& part : retiring_parts(run.job)) {
        if (is_swept(run, part)) continue;
        const std::string_view before = part_before(part);
        if (!before.empty() && !is_swept(run, before)) continue;
        Result<void> done = co_await perform_part(run, part);
        const bool stops =
            !done && (done.error().slug == "stale-epoch" || done.error().slug == kDestinationLost);
        if (stops) co_return done;
        if (done)
            run.job.swept.push_back(part);
        else
            worst = std::move(done);
    }
    // Whatever the refusal is, it may be gone later: the parts do not depend on this job any more.
    if (!worst) worst.error().fault = Fault::Retry;
    co_return worst;
}

}  // namespace

std::vector<std::string> retiring_parts(const Migration& job) {
    std::vector<std::string> parts{std::string(kRetireSource)};
    if (moves_memory(job)) {
        parts.emplace_back(kAdoptDestination);
        parts.emplace_back(kReleaseMemory);
    }
    parts.emplace_back(kNarrowSwitch);
    if (is_nat(job.facts.source)) parts.emplace_back(kEndLeases);
    return parts;
}

std::string_view part_before(std::string_view part) {
    if (part == kNarrowSwitch) return kRetireSource;
    return part == kEndLeases ? kNarrowSwitch : std::string_view();
}

Task<void> perform_part(JobRun& run, std::string part) {
    if (part == kRetireSource) return retire_source(run);
    if (part == kAdoptDestination) return adopt_destination(run);
    if (part == kReleaseMemory) return release_memory(run);
    if (part == kEndLeases) return end_leases(run);
    return narrow_switch(run);
}

const Step kRetiring{.precheck = check_destination_lives, .apply = apply};

}  // namespace godwit::controller
