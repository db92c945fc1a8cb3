#include "controller/steps/drain.hpp"

#include "lib/log.hpp"

#include "controller/steps/guest_sockets.hpp"

namespace godwit::controller {

namespace {

enum class Late { no, warn, roll_back, reset };

// What is to be done about a deadline that has passed, or about :force.
Late lateness(JobRun& run, const Drain& drain) {
    if (run.flags.force || drain.is_gone) return Late::reset;
    if (!run.is_late()) return Late::no;
    switch (run.job.request.drain.on_deadline) {
        case protocol::OnDeadline::wait:
            return run.job.warned ? Late::no : Late::warn;
        case protocol::OnDeadline::reset:
            return Late::reset;
        case protocol::OnDeadline::rollback:
            if (drain.may_roll_back) return Late::roll_back;
            return run.job.warned ? Late::no : Late::warn;
    }
    return Late::no;
}

std::uint64_t left(const protocol::VmSteering& seen, const std::string& backend) {
    const protocol::BackendSteering* found = backend_named(seen, backend);
    return found ? found->sessions : 0;
}

// How many are about to be reset is written before they are. The switch answers a repeated step
// with what it did the first time, so a crash in between neither resets twice nor counts twice.
Task<void> reset_rest(JobRun& run, Drain drain, std::uint64_t sessions) {
    Migration& job = run.job;
    const bool counts = drain.leaving == job.facts.source.name;
    if (job.reset_step.empty()) {
        job.reset_step = "reset-" + drain.leaving + "-" + std::to_string(job.version + 1);
        job.reset_before = job.result.sessions_reset;
        if (counts) job.result.sessions_reset += sessions;
        Result<void> noted = run.note("reset", "resetting " + std::to_string(sessions) +
                                                   " sessions left on " + drain.leaving);
        if (!noted) co_return noted;
    }
    protocol::ResetRequest request{{run.journal.token(), job.id, job.reset_step}, drain.leaving};
    Result<protocol::ResetResult> reset =
        co_await run.access_switch().reset(job.vm, std::move(request));
    if (!reset) co_return std::unexpected(std::move(reset).error());
    if (counts) job.result.sessions_reset = job.reset_before + reset->reset + reset->dropped;
    // What opens after this is reset by another step, if it does not end by itself.
    job.reset_step.clear();
    co_return run.note("reset-done", std::to_string(reset->reset) + " told by RST, " +
                                         std::to_string(reset->dropped) + " forgotten");
}

Task<void> act_on_deadline(JobRun& run, Drain drain, std::uint64_t sessions) {
    const std::string rest = std::to_string(sessions) + " sessions on " + drain.leaving;
    switch (lateness(run, drain)) {
        case Late::no:
            co_return Result<void>{};
        case Late::warn:
            run.job.warned = true;
            co_return run.note("warning",
                               "the drain deadline has passed, still waiting for " + rest);
        case Late::roll_back:
            co_return fail(Fault::Rejected, "drain " + drain.leaving,
                           "the deadline passed with " + rest, "drain-deadline");
        case Late::reset:
            // Handshakes end by themselves; a reset is for sessions.
            if (sessions == 0 && run.job.reset_step.empty()) co_return Result<void>{};
            break;
    }
    Result<void> reset = co_await reset_rest(run, std::move(drain), sessions);
    co_return reset;
}

// A switch that came back without its table: said again what is wanted; what it learns from then on
// is the truth. Any other silence is "unknown": the drain goes on waiting.
Task<void> say_again(JobRun& run, Drain drain) {
    protocol::Steering wanted = flipped(run, drain);
    Result<protocol::VmSteering> put =
        co_await run.access_switch().steer(run.job.vm, std::move(wanted));
    if (!put) co_return std::unexpected(std::move(put).error());
    co_return run.note("warning", "the switch had forgotten the VM; its steering was put again");
}

bool is_fatal(const Error& error) {
    return error.slug == "stale-epoch" || error.fault == Fault::Denied ||
           error.fault == Fault::Corrupt || error.fault == Fault::Rejected;
}

Task<void> look_once(JobRun& run, Drain drain, bool& drained) {
    Result<protocol::VmSteering> seen = co_await run.access_switch().steering(run.job.vm);
    if (!seen && seen.error().fault == Fault::Missing) {
        Result<void> again = co_await say_again(run, std::move(drain));
        co_return again;
    }
    if (!seen && is_fatal(seen.error())) co_return std::unexpected(std::move(seen).error());
    if (!seen) {
        Result<void> shown = run.show(0, "the switch does not answer: " + seen.error().text());
        if (!shown) co_return shown;
        if (lateness(run, drain) != Late::roll_back) co_return Result<void>{};
        Result<void> late = co_await act_on_deadline(run, std::move(drain), 0);
        co_return late;
    }
    take_up_sessions(run, *seen);
    drained = seen->drained && seen->owner == drain.staying && run.job.reset_step.empty();
    if (drained) co_return Result<void>{};
    const std::uint64_t rest = left(*seen, drain.leaving);
    const std::uint64_t start = run.job.result.sessions_at_start;
    const double fraction =
        start == 0 ? 0.0 : 1.0 - static_cast<double>(rest) / static_cast<double>(start);
    Result<void> shown =
        run.show(fraction, std::to_string(rest) + " sessions left on " + drain.leaving);
    if (!shown) co_return shown;
    Result<void> late = co_await act_on_deadline(run, std::move(drain), rest);
    co_return late;
}

}  // namespace

const protocol::BackendSteering* backend_named(const protocol::VmSteering& seen,
                                               const std::string& name) {
    for (const protocol::BackendSteering& backend : seen.backends)
        if (backend.name == name) return &backend;
    return nullptr;
}

protocol::Steering flipped(const JobRun& run, const Drain& drain) {
    protocol::Steering wanted = run.steering(drain.step, drain.staying);
    wanted.previous = drain.leaving;
    wanted.hosting = true;
    return wanted;
}

void take_up_sessions(JobRun& run, const protocol::VmSteering& seen) {
    const Facts& facts = run.job.facts;
    run.job.progress.sessions = {left(seen, facts.source.name), left(seen, facts.destination.name)};
    run.job.result.sessions_moved = run.job.progress.sessions.destination;
    run.job.result.longest_gap_ms = std::max(run.job.result.longest_gap_ms, seen.longest_gap_ms);
}

Task<void> wait_until_drained(JobRun& run, Drain drain) {
    GuestSockets guest;
    while (true) {
        // Before the look: a `drained` event that comes during it must not be slept over.
        const std::uint64_t rung = run.bell.rung();
        bool drained = false;
        Result<void> looked = co_await look_once(run, drain, drained);
        if (!looked || drained) co_return looked;
        // Newcomers go to the one that stays: nobody must go on sending them to a dead VM.
        if (drain.staying == run.job.facts.destination.name)
            looked = co_await check_destination_lives(run);
        if (!looked) co_return looked;
        Result<void> compared = co_await guest.look(run, drain);
        if (!compared) co_return compared;
        Result<void> paused = co_await run.pause(rung);
        if (!paused) co_return paused;
    }
}

}  // namespace godwit::controller
