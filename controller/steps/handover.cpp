// handover: whole: the one flip and then the VM runs at the destination, where every session now is.
// Of every method: first the destination is seen to have the addresses, then the switch stops hosting
// them. Never the other way round: in between nobody would answer. The source stays listed, fenced.
#include "controller/steps/drain.hpp"

namespace godwit::controller {

namespace {

constexpr std::uint32_t kRemovalTries = 3;

Task<void> look_at_running(JobRun& run) {
    Result<protocol::AgentVm> vm = co_await run.destination().vm(run.job.vm);
    if (!vm) co_return std::unexpected(std::move(vm).error());
    if (vm->state == protocol::VmState::running) co_return Result<void>{};
    co_return fail(Fault::Retry, "hand over to " + run.job.destination,
                   "the VM is " + json::enum_name(vm->state) + " there");
}

Task<void> look_at_addresses(JobRun& run) {
    // A guest without an agent cannot be asked; that it runs there is all that can be seen.
    if (!run.job.facts.spec.guest_agent) {
        Result<void> running = co_await look_at_running(run);
        co_return running;
    }
    Result<protocol::AddressList> seen = co_await run.destination().addresses(run.job.vm);
    if (!seen) co_return std::unexpected(std::move(seen).error());
    if (has_addresses(*seen, run.job)) co_return Result<void>{};
    co_return fail(Fault::Retry, "hand over to " + run.job.destination,
                   "the guest there does not have every address yet");
}

// The agent writes down that it lets a VM run before it does so: what is dead and was not written down
// has executed nothing, and the source may go on as if nothing had been.
std::unexpected<Error> why_not_running(const JobRun& run, const Result<protocol::AgentVm>& vm,
                                       Error refused) {
    if (!vm || vm->state != protocol::VmState::stopped) return std::unexpected(std::move(refused));
    const bool ran = vm->let_run;
    return fail(Fault::Rejected, "let the VM go on at " + run.job.destination,
                std::string("its QEMU has ended ") +
                    (ran ? "after it was let run: what it did since then is lost with it; the "
                           "source stands still as it was before, take-back lets it go on"
                         : "before its first instruction: the source goes on"),
                std::string(ran ? kDestinationLost : kNeverRan));
}

// In one write at the switch every session is `taker`'s, and nobody else may speak.
Task<protocol::VmSteering> turn_port(JobRun& run, std::string step, std::string taker,
                                     std::string from) {
    protocol::Steering wanted = run.steering(step, taker);
    wanted.takes_over = std::move(from);
    wanted.hosting = true;
    Result<protocol::VmSteering> seen =
        co_await run.access_switch().steer(run.job.vm, std::move(wanted));
    co_return seen;
}

// In this order: what the VM sends with its first instruction must find it the owner. Repeated, the
// switch and the agent find it done.
Task<void> switch_over(JobRun& run) {
    const Facts& facts = run.job.facts;
    Result<protocol::VmSteering> seen =
        co_await turn_port(run, "takeover", facts.destination.name, facts.source.name);
    if (!seen) co_return std::unexpected(std::move(seen).error());
    protocol::ActivationRequest activation{run.command("activation"), "sole"};
    Result<protocol::AgentVm> vm =
        co_await run.destination().activate(run.job.vm, std::move(activation));
    if (!vm || vm->state != protocol::VmState::running) {
        Error refused = vm ? Error{Fault::Retry, "let the VM go on at " + run.job.destination,
                                   "it is " + json::enum_name(vm->state) + ", not running"}
                           : std::move(vm).error();
        Result<protocol::AgentVm> seen_vm = co_await run.destination().vm(run.job.vm);
        co_return why_not_running(run, seen_vm, std::move(refused));
    }
    protocol::MigrationResult& result = run.job.result;
    if (run.job.frozen_ms == 0) co_return Result<void>{};
    result.source_pause_ms = static_cast<double>(run.now_ms() - run.job.frozen_ms);
    run.job.frozen_ms = 0;
    take_up_sessions(run, *seen);
    result.flip_us = static_cast<double>(seen->flip_ns) / 1000.0;
    result.sessions_at_start = result.sessions_kept = result.sessions_moved;
    co_return run.note("running", "at " + run.job.destination);
}

Task<void> apply(JobRun& run) {
    if (moves_whole(run.job)) {
        Result<void> running = co_await switch_over(run);
        if (!running) co_return running;
    }
    Result<void> ready = co_await check_destination_lives(run);
    if (ready) ready = co_await look_at_addresses(run);
    if (!ready) co_return ready;
    protocol::Steering wanted = run.steering("handover", run.job.facts.destination.name);
    Result<protocol::VmSteering> seen =
        co_await run.access_switch().steer(run.job.vm, std::move(wanted));
    if (!seen) co_return std::unexpected(std::move(seen).error());
    take_up_sessions(run, *seen);
    Result<void> told = co_await run.access_switch().announce(run.job.vm, run.journal.token());
    co_return told;
}

// Taken back after the commit. Of whole: the port first, which fences whoever may run there, then
// that one goes; an agent that stays silent is no reason to have nobody serve. A split VM's sessions
// are drained back by the flip, as in every rollback.
Task<void> compensate(JobRun& run) {
    if (!moves_whole(run.job)) co_return Result<void>{};
    Result<void> source = co_await check_source_lives(run);
    if (!source) co_return source;
    const Facts& facts = run.job.facts;
    Result<protocol::VmSteering> seen =
        co_await turn_port(run, "take-back", facts.source.name, facts.destination.name);
    if (!seen) co_return std::unexpected(std::move(seen).error());
    take_up_sessions(run, *seen);
    Result<void> gone = co_await remove_destination(run);
    if (gone) co_return gone;
    const Fault fault = gone.error().fault;
    const bool silent = fault == Fault::Retry || fault == Fault::Lost;
    if (!silent || run.job.attempt < kRemovalTries) co_return gone;
    co_return run.note(
        "warning",
        "the destination is fenced at the switch and not known to be gone: " + gone.error().text());
}

}  // namespace

const Step kHandover{.apply = apply, .compensate = compensate};

}  // namespace godwit::controller
