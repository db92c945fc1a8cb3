// steering: the flip. One PUT; every session that exists at that moment stays with the source.
// Undone by the flip back, which drains the destination and never kills it.
#include "controller/steps/drain.hpp"

namespace godwit::controller {

namespace {

// Counted before the flip, and kept with the intent: afterwards old sessions begin to end.
Task<void> precheck(JobRun& run) {
    Result<protocol::VmSteering> seen = co_await run.access_switch().steering(run.job.vm);
    if (!seen) co_return std::unexpected(std::move(seen).error());
    take_up_sessions(run, *seen);
    run.job.result.sessions_at_start = run.job.progress.sessions.source;
    co_return Result<void>{};
}

void take_up_flip(JobRun& run, const protocol::VmSteering& seen) {
    take_up_sessions(run, seen);
    run.job.result.flip_us = static_cast<double>(seen.flip_ns) / 1000.0;
}

Task<bool> observe(JobRun& run) {
    Result<protocol::VmSteering> seen = co_await run.access_switch().steering(run.job.vm);
    if (!seen && seen.error().fault == Fault::Missing) co_return false;
    if (!seen) co_return std::unexpected(std::move(seen).error());
    if (seen->owner != run.job.facts.destination.name) co_return false;
    take_up_flip(run, *seen);
    co_return true;
}

Task<void> apply(JobRun& run) {
    const Drain drain{run.job.facts.source.name, run.job.facts.destination.name, "steering"};
    protocol::Steering wanted = flipped(run, drain);
    Result<protocol::VmSteering> seen =
        co_await run.access_switch().steer(run.job.vm, std::move(wanted));
    if (!seen) co_return std::unexpected(std::move(seen).error());
    take_up_flip(run, *seen);
    co_return Result<void>{};
}

// A flip that was only intended leaves nothing to drain. The clone must then not become `previous`:
// it would be asked about sessions it has copies of.
Task<bool> never_flipped(JobRun& run) {
    Result<protocol::VmSteering> seen = co_await run.access_switch().steering(run.job.vm);
    if (!seen && seen.error().fault == Fault::Missing) co_return true;
    if (!seen) co_return std::unexpected(std::move(seen).error());
    co_return seen->owner == run.job.facts.source.name && !seen->previous;
}

Task<void> flip_back(JobRun& run, Drain drain) {
    protocol::Steering wanted = flipped(run, drain);
    Result<protocol::VmSteering> seen =
        co_await run.access_switch().steer(run.job.vm, std::move(wanted));
    if (!seen) co_return std::unexpected(std::move(seen).error());
    co_return Result<void>{};
}

// Without `previous` the destination may no longer send, and it may be destroyed. A session it
// opened between the last look and this write is seen in the answer, and drained too.
Task<bool> fence_destination(JobRun& run) {
    protocol::Steering wanted = run.steering("fence-destination", run.job.facts.source.name);
    wanted.hosting = true;
    Result<protocol::VmSteering> seen =
        co_await run.access_switch().steer(run.job.vm, std::move(wanted));
    if (!seen) co_return std::unexpected(std::move(seen).error());
    take_up_sessions(run, *seen);
    co_return run.job.progress.sessions.destination == 0;
}

Task<void> compensate(JobRun& run) {
    Drain drain{run.job.facts.destination.name, run.job.facts.source.name, "steering-back"};
    Result<void> lives = co_await check_destination_lives(run);
    drain.is_gone = !lives && lives.error().slug == kDestinationLost;
    // Beside a dead destination the source's silence is no reason to send newcomers to nobody.
    Result<void> source = co_await check_source_lives(run);
    if (!source && (!drain.is_gone || source.error().slug == "source-lost")) co_return source;
    Result<bool> untouched = co_await never_flipped(run);
    if (!untouched) co_return std::unexpected(std::move(untouched).error());
    if (*untouched) {
        Result<bool> fenced = co_await fence_destination(run);
        if (!fenced) co_return std::unexpected(std::move(fenced).error());
        if (*fenced) co_return Result<void>{};
    }
    while (true) {
        Result<void> back = co_await flip_back(run, drain);
        if (!back) co_return back;
        Result<void> drained = co_await wait_until_drained(run, drain);
        if (!drained) co_return drained;
        Result<bool> fenced = co_await fence_destination(run);
        if (!fenced) co_return std::unexpected(std::move(fenced).error());
        if (*fenced) co_return Result<void>{};
        run.job.attempt += 1;  // another word for the device: it must flip back anew
        Result<void> again = run.note("retry", "the destination opened a session meanwhile");
        if (!again) co_return again;
    }
}

}  // namespace

const Step kSteering{
    .precheck = precheck, .apply = apply, .observe = observe, .compensate = compensate};

}  // namespace godwit::controller
