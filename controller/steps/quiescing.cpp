// quiescing: the source owns no session any more; wait until it has written out what it knew.
#include "controller/steps/step.hpp"

namespace godwit::controller {

namespace {

Task<void> apply(JobRun& run) {
    const protocol::QuietPolicy quiet = run.job.request.memory.quiet;
    for (std::uint64_t look = 1;; ++look) {
        if (run.flags.force) co_return run.note("forced", "not waiting for the source's regions");
        const std::uint64_t rung = run.bell.rung();
        Result<void> lives = co_await check_destination_lives(run);
        if (!lives) co_return lives;
        // Each look is a step of its own to the agent: it must look again.
        protocol::QuiesceRequest request{run.command("quiescing-" + std::to_string(look)),
                                         quiet.window_ms.value_or(run.timing.quiet_window_ms)};
        Result<protocol::QuiesceStatus> seen =
            co_await run.source().quiesce(run.job.vm, std::move(request));
        if (!seen) co_return std::unexpected(std::move(seen).error());
        if (seen->quiet && seen->said_by_guest)
            co_return run.note("quiet", "the guest says that it writes no more");
        if (seen->quiet) co_return Result<void>{};
        Result<void> shown = run.show(0, std::to_string(seen->lines_changed) +
                                             " lines changed on the source since the last look");
        if (!shown) co_return shown;
        if (run.is_late() && quiet.on_deadline == protocol::OnUnquiet::pause)
            co_return run.note("warning",
                               "the source's regions still change: it is paused as it is");
        if (run.is_late())
            co_return fail(Fault::Rejected, "wait for a quiet source",
                           "its regions still change; :force pauses it and goes on", "not-quiet");
        Result<void> paused = co_await run.pause(rung);
        if (!paused) co_return paused;
    }
}

}  // namespace

const Step kQuiescing{.apply = apply};

}  // namespace godwit::controller
