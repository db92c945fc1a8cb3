// copying: the one copy of memory. Boot: of the regions, and then a fresh VM starts from them. Fork: at its end one short pause of the source, and then the clone
// runs behind the switch's fence. Whole: at its end the source stops; this step is over when the
// destination has everything and both stand still, for the commit to decide who goes on.
#include "controller/steps/step.hpp"

#include <algorithm>

namespace godwit::controller {

namespace {

void take_up(JobRun& run, const protocol::CopyStatus& status) {
    run.job.progress.bytes = {status.bytes_total, status.bytes_copied};
    run.job.result.bytes_copied = status.bytes_copied;
    run.job.result.bytes_on_wire = status.bytes_on_wire;
    run.job.result.resumes = status.resumes;
    run.job.result.bytes_resent = status.bytes_resent;
    run.job.result.source_pause_ms = status.pause_ms;
    run.job.result.rounds = status.rounds;
    run.job.result.root = status.root;
    run.job.result.bytes_zero = status.bytes_zero;
    run.job.result.bytes_compressed = status.bytes_compressed;
    // At the rate of the last seconds: another limit, or another link, is another time.
    run.job.progress.eta_s.reset();
    if (status.bytes_per_s == 0 || status.bytes_copied >= status.bytes_total) return;
    const std::uint64_t left = status.bytes_total - status.bytes_copied;
    run.job.progress.eta_s = static_cast<std::uint32_t>(left / status.bytes_per_s);
}

std::unexpected<Error> copy_failed(const protocol::CopyStatus& status) {
    return fail(Fault::Rejected, "copy the memory", status.error,
                status.problem == "pause-budget" ? status.problem : "copy-failed");
}

// What people have asked for since the copy began.
Task<void> adjust_limit(JobRun& run, const protocol::CopyStatus& status) {
    const std::optional<std::uint32_t> wanted = run.job.request.memory.bandwidth_mib_s;
    if (!wanted || *wanted == status.bandwidth_mib_s) co_return Result<void>{};
    protocol::LimitRequest request{run.command("limit-" + std::to_string(*wanted)), *wanted};
    Result<protocol::CopyStatus> limited =
        co_await run.source().limit(run.job.vm, std::move(request));
    if (limited || limited.error().fault == Fault::Conflict)
        co_return Result<void>{};  // it is over
    co_return std::unexpected(std::move(limited).error());
}

// Until it is over; of method whole, until the source may be stopped.
Task<protocol::CopyStatus> follow(JobRun& run, protocol::CopyStatus status) {
    while (status.state == protocol::OperationState::running && status.stage != "ready") {
        take_up(run, status);
        const double fraction = status.bytes_total == 0
                                    ? 0.0
                                    : static_cast<double>(status.bytes_copied) /
                                          static_cast<double>(status.bytes_total);
        const char* cut =
            status.reconnecting ? ", the connection was cut and is taken up again" : "";
        Result<void> shown = run.show(0.95 * fraction, "copying: " + status.stage + cut);
        if (!shown) co_return std::unexpected(std::move(shown).error());
        if (run.is_late())
            co_return fail(Fault::Rejected, "copy the memory", "it was not done at its deadline",
                           "copy-deadline");
        const std::uint64_t rung = run.bell.rung();
        Result<void> adjusted = co_await adjust_limit(run, status);
        if (!adjusted) co_return std::unexpected(std::move(adjusted).error());
        Result<void> paused = co_await run.pause(rung);
        if (!paused) co_return std::unexpected(std::move(paused).error());
        Result<protocol::CopyStatus> seen =
            co_await run.source().copy_status(run.job.vm, run.job.id);
        if (!seen) co_return std::unexpected(std::move(seen).error());
        status = std::move(*seen);
    }
    take_up(run, status);
    if (status.state == protocol::OperationState::failed) co_return copy_failed(status);
    co_return status;
}

// The agent tells how long the guest has stood still; from then on this clock counts.
void note_frozen(JobRun& run, const protocol::CopyStatus& status) {
    run.job.frozen_ms = run.now_ms() - static_cast<std::int64_t>(status.pause_ms);
    run.job.result.bytes_compared = status.bytes_compared;
    run.job.result.bytes_patched = status.bytes_diff;
}

// Said before it is done: whoever takes over from this controller finds a source that may stand still.
Task<void> freeze(JobRun& run, protocol::CopyStatus status) {
    if (status.state != protocol::OperationState::done) {
        Result<void> shown = run.announce(0.95, "stopping the source");
        if (!shown) co_return shown;
        protocol::FreezeRequest request{run.command("freezing")};
        Result<protocol::CopyStatus> frozen =
            co_await run.source().freeze(run.job.vm, std::move(request));
        if (!frozen) co_return std::unexpected(std::move(frozen).error());
        status = std::move(*frozen);
    }
    take_up(run, status);
    if (status.state != protocol::OperationState::done) co_return copy_failed(status);
    note_frozen(run, status);
    co_return Result<void>{};
}

Task<void> activate_clone(JobRun& run) {
    protocol::ActivationRequest activation{run.command("activation")};
    Result<protocol::AgentVm> clone =
        co_await run.destination().activate(run.job.vm, std::move(activation));
    if (!clone) co_return std::unexpected(std::move(clone).error());
    if (clone->state != protocol::VmState::running)
        co_return fail(Fault::Retry, "activate the clone",
                       "it is " + json::enum_name(clone->state) + ", not running");
    co_return Result<void>{};
}

// A fresh VM has come up with the addresses of its description, which are still the source's.
Task<void> set_addresses(JobRun& run) {
    protocol::AddressRequest request{run.command("addresses"), run.job.facts.temporary_addresses,
                                     run.job.facts.spec.addresses};
    Result<protocol::AddressList> set =
        co_await run.destination().set_addresses(run.job.vm, std::move(request));
    if (!set && set.error().slug == "stale-epoch")
        co_return std::unexpected(std::move(set).error());
    co_return Result<void>{};  // whether it has them is looked at
}

// A fresh VM is ready when it has the addresses and listens wherever the source does: a newcomer sent
// there earlier would be refused. Everything else is "not yet": it is still starting.
Task<bool> is_ready(JobRun& run) {
    Result<protocol::AddressList> addresses = co_await run.destination().addresses(run.job.vm);
    if (!addresses || !has_addresses(*addresses, run.job)) co_return false;
    Result<protocol::SocketTable> source = co_await run.source().sockets(run.job.vm);
    if (!source) co_return std::unexpected(std::move(source).error());
    Result<protocol::SocketTable> fresh = co_await run.destination().sockets(run.job.vm);
    if (!fresh) co_return false;
    co_return std::ranges::includes(fresh->tcp_listening, source->tcp_listening);
}

Task<void> wait_until_ready(JobRun& run) {
    Result<void> shown = run.announce(0.95, "waiting for the fresh VM to listen");
    if (!shown) co_return shown;
    while (true) {
        Result<protocol::AgentVm> vm = co_await run.destination().vm(run.job.vm);
        if (!vm) co_return std::unexpected(std::move(vm).error());
        if (vm->state == protocol::VmState::stopped)
            co_return fail(Fault::Rejected, "start the VM at " + run.job.destination,
                           "its QEMU has ended: " + vm->detail, "destination-lost");
        if (arrives_by_nat(run.job)) {
            Result<void> set = co_await set_addresses(run);
            if (!set) co_return set;
        }
        Result<bool> ready = co_await is_ready(run);
        if (!ready) co_return std::unexpected(std::move(ready).error());
        if (*ready) co_return Result<void>{};
        if (run.is_late())
            co_return fail(Fault::Rejected, "start the VM at " + run.job.destination,
                           "it does not listen where the source does", "not-ready");
        Result<void> paused = co_await run.pause(run.bell.rung());
        if (!paused) co_return paused;
    }
}

Task<bool> observe(JobRun& run) {
    Result<protocol::CopyStatus> status = co_await run.source().copy_status(run.job.vm, run.job.id);
    if (!status && status.error().fault == Fault::Missing) co_return false;
    if (!status) co_return std::unexpected(std::move(status).error());
    if (status->state != protocol::OperationState::done) co_return false;
    Result<protocol::AgentVm> clone = co_await run.destination().vm(run.job.vm);
    if (!clone) co_return std::unexpected(std::move(clone).error());
    const bool whole = moves_whole(run.job);
    if (clone->state != (whole ? protocol::VmState::incoming : protocol::VmState::running))
        co_return false;
    take_up(run, *status);
    if (whole) note_frozen(run, *status);
    if (!boots_fresh(run.job)) co_return true;
    Result<bool> ready = co_await is_ready(run);
    co_return ready;
}

Task<void> apply(JobRun& run) {
    protocol::CopyRequest request{run.command("copying"),
                                  run.job.method,
                                  run.job.facts.destination_transfer,
                                  run.job.request.memory.rounds,
                                  run.job.request.memory.pause_budget_ms.value_or(0),
                                  run.job.destination,
                                  run.job.request.memory.bandwidth_mib_s,
                                  run.job.request.memory.compression};
    Result<protocol::CopyStatus> begun = co_await run.source().copy(run.job.vm, std::move(request));
    if (!begun) co_return std::unexpected(std::move(begun).error());
    Result<protocol::CopyStatus> copied = co_await follow(run, std::move(*begun));
    if (!copied) co_return std::unexpected(std::move(copied).error());
    Result<void> last;
    if (moves_whole(run.job))
        last = co_await freeze(run, std::move(*copied));
    else
        last = co_await activate_clone(run);
    if (last && boots_fresh(run.job)) last = co_await wait_until_ready(run);
    co_return last;
}

}  // namespace

const Step kCopying{.apply = apply, .observe = observe, .compensate = let_source_go};

}  // namespace godwit::controller
