// patching: the source is paused, its regions are compared with the copy and merged three-way into
// the destination. With conflicts under the rule `fail` nothing is patched and a person is asked;
// the source stays paused with everything it knew.
#include "controller/steps/step.hpp"

namespace godwit::controller {

namespace {

void take_up(JobRun& run, const protocol::MergeStatus& status) {
    run.job.result.bytes_compared = status.bytes_compared;
    run.job.result.bytes_patched = status.bytes_patched;
    run.job.result.destination_pause_ms = status.pause_ms;
    run.job.result.conflicts = status.conflicts;
}

std::unexpected<Error> merge_failed(const protocol::MergeStatus& status) {
    if (status.conflicts.empty())
        return fail(Fault::Rejected, "merge the regions", status.error, "merge-failed");
    const protocol::Conflict& first = status.conflicts.front();
    return fail(Fault::Rejected, "merge the regions",
                std::to_string(status.conflicts.size()) +
                    " lines changed on both sides, the first in region " + first.region +
                    " at offset " + std::to_string(first.offset) + "; the source is kept paused",
                "merge-conflict");
}

Task<void> follow(JobRun& run, protocol::MergeStatus status) {
    while (status.state == protocol::OperationState::running) {
        Result<void> shown = run.show(0, "merging the regions");
        if (!shown) co_return shown;
        Result<void> paused = co_await run.pause(run.bell.rung());
        if (!paused) co_return paused;
        Result<protocol::MergeStatus> seen =
            co_await run.source().merge_status(run.job.vm, run.job.id);
        if (!seen) co_return std::unexpected(std::move(seen).error());
        status = std::move(*seen);
        if (run.is_late() && status.state == protocol::OperationState::running)
            co_return fail(Fault::Rejected, "merge the regions", "it was not done at its deadline",
                           "merge-deadline");
    }
    take_up(run, status);
    if (status.state == protocol::OperationState::failed) co_return merge_failed(status);
    co_return Result<void>{};
}

Task<bool> observe(JobRun& run) {
    Result<protocol::MergeStatus> status =
        co_await run.source().merge_status(run.job.vm, run.job.id);
    if (!status && status.error().fault == Fault::Missing) co_return false;
    if (!status) co_return std::unexpected(std::move(status).error());
    if (status->state != protocol::OperationState::done) co_return false;
    take_up(run, *status);
    co_return true;
}

Task<void> apply(JobRun& run) {
    // Patched into the memory of a dead VM it would reach nobody.
    Result<void> lives = co_await check_destination_lives(run);
    if (!lives) co_return lives;
    protocol::MergeRequest request{run.command("patching"), run.job.facts.destination_transfer,
                                   run.job.request.memory.on_conflict, run.job.destination};
    Result<protocol::MergeStatus> begun =
        co_await run.source().merge(run.job.vm, std::move(request));
    if (!begun) co_return std::unexpected(std::move(begun).error());
    Result<void> merged = co_await follow(run, std::move(*begun));
    co_return merged;
}

}  // namespace

// Taken back, the source must serve before sessions are flipped to it.
const Step kPatching{.apply = apply, .observe = observe, .compensate = let_source_go};

}  // namespace godwit::controller
