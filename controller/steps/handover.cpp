// handover: whole: the one flip and then the VM runs at the destination, where every session now is.
// Of every method: first the destination is seen to have the addresses, then the switch stops hosting
// them. Never the other way round: in between nobody would answer. The source stays listed, fenced.
#include "controller/steps/drain.hpp"

namespace godwit::controller {

namespace {

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
    if (has_addresses(*seen, run.job.facts.spec)) co_return Result<void>{};
    co_return fail(Fault::Retry, "hand over to " + run.job.destination,
                   "the guest there does not have every address yet");
}

// In this order: what the VM sends with its first instruction must find it the owner. Repeated, the
// switch and the agent find it done.
Task<void> switch_over(JobRun& run) {
    protocol::Steering wanted = run.steering("takeover", run.job.destination);
    wanted.takes_over = run.job.source;
    wanted.hosting = true;
    Result<protocol::VmSteering> seen =
        co_await run.access_switch().steer(run.job.vm, std::move(wanted));
    if (!seen) co_return std::unexpected(std::move(seen).error());
    protocol::ActivationRequest activation{run.command("activation"), "sole"};
    Result<protocol::AgentVm> vm =
        co_await run.destination().activate(run.job.vm, std::move(activation));
    if (!vm) co_return std::unexpected(std::move(vm).error());
    if (vm->state != protocol::VmState::running)
        co_return fail(Fault::Retry, "let the VM go on at " + run.job.destination,
                       "it is " + json::enum_name(vm->state) + ", not running");
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
    Result<void> ready = co_await look_at_addresses(run);
    if (!ready) co_return ready;
    protocol::Steering wanted = run.steering("handover", run.job.destination);
    Result<protocol::VmSteering> seen =
        co_await run.access_switch().steer(run.job.vm, std::move(wanted));
    if (!seen) co_return std::unexpected(std::move(seen).error());
    take_up_sessions(run, *seen);
    Result<void> told = co_await run.access_switch().announce(run.job.vm, run.journal.token());
    co_return told;
}

}  // namespace

const Step kHandover{.apply = apply};

}  // namespace godwit::controller
