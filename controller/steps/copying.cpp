// copying: the one copy of memory. At its end comes the fork, one short pause of the source, and
// then the clone runs behind the switch's fence.
#include "controller/steps/step.hpp"

namespace godwit::controller {

namespace {

void take_up(JobRun& run, const protocol::CopyStatus& status) {
    run.job.progress.bytes = {status.bytes_total, status.bytes_copied};
    run.job.result.bytes_copied = status.bytes_copied;
    run.job.result.bytes_on_wire = status.bytes_on_wire;
    run.job.result.source_pause_ms = status.pause_ms;
    const std::int64_t spent_ms = run.now_ms() - run.job.entered_ms;
    run.job.progress.eta_s.reset();
    if (status.bytes_copied == 0 || status.bytes_copied >= status.bytes_total) return;
    const double left = static_cast<double>(status.bytes_total - status.bytes_copied);
    run.job.progress.eta_s = static_cast<std::uint32_t>(
        left * static_cast<double>(spent_ms) / static_cast<double>(status.bytes_copied) / 1000.0);
}

std::unexpected<Error> copy_failed(const protocol::CopyStatus& status) {
    return fail(Fault::Rejected, "copy the memory", status.error, "copy-failed");
}

Task<void> follow(JobRun& run, protocol::CopyStatus status) {
    while (status.state == protocol::OperationState::running) {
        take_up(run, status);
        const double fraction = status.bytes_total == 0
                                    ? 0.0
                                    : static_cast<double>(status.bytes_copied) /
                                          static_cast<double>(status.bytes_total);
        Result<void> shown = run.show(0.95 * fraction, "copying: " + status.stage);
        if (!shown) co_return shown;
        if (run.is_late())
            co_return fail(Fault::Rejected, "copy the memory", "it was not done at its deadline",
                           "copy-deadline");
        Result<void> paused = co_await run.pause(run.bell.rung());
        if (!paused) co_return paused;
        Result<protocol::CopyStatus> seen =
            co_await run.source().copy_status(run.job.vm, run.job.id);
        if (!seen) co_return std::unexpected(std::move(seen).error());
        status = std::move(*seen);
    }
    take_up(run, status);
    if (status.state == protocol::OperationState::failed) co_return copy_failed(status);
    co_return Result<void>{};
}

Task<bool> observe(JobRun& run) {
    Result<protocol::CopyStatus> status = co_await run.source().copy_status(run.job.vm, run.job.id);
    if (!status && status.error().fault == Fault::Missing) co_return false;
    if (!status) co_return std::unexpected(std::move(status).error());
    if (status->state != protocol::OperationState::done) co_return false;
    Result<protocol::AgentVm> clone = co_await run.destination().vm(run.job.vm);
    if (!clone) co_return std::unexpected(std::move(clone).error());
    if (clone->state != protocol::VmState::running) co_return false;
    take_up(run, *status);
    co_return true;
}

Task<void> apply(JobRun& run) {
    protocol::CopyRequest request{run.command("copying"), run.job.method,
                                  run.job.facts.destination_transfer};
    Result<protocol::CopyStatus> begun = co_await run.source().copy(run.job.vm, std::move(request));
    if (!begun) co_return std::unexpected(std::move(begun).error());
    Result<void> copied = co_await follow(run, std::move(*begun));
    if (!copied) co_return copied;
    protocol::ActivationRequest activation{run.command("activation")};
    Result<protocol::AgentVm> clone =
        co_await run.destination().activate(run.job.vm, std::move(activation));
    if (!clone) co_return std::unexpected(std::move(clone).error());
    if (clone->state != protocol::VmState::running)
        co_return fail(Fault::Retry, "activate the clone",
                       "it is " + json::enum_name(clone->state) + ", not running");
    co_return Result<void>{};
}

Task<void> compensate(JobRun& run) {
    protocol::Command command = run.command("abort-copy");
    Result<void> aborted = co_await run.source().abort_copy(run.job.vm, std::move(command));
    if (!aborted && aborted.error().fault == Fault::Missing) co_return Result<void>{};
    co_return aborted;
}

}  // namespace

const Step kCopying{.apply = apply, .observe = observe, .compensate = compensate};

}  // namespace godwit::controller
