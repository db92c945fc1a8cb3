#include "controller/steps/step.hpp"

#include "controller/temporary.hpp"

#include <algorithm>

namespace godwit::controller {

namespace {

bool has_one(const protocol::AddressList& seen, const std::string& address) {
    return std::ranges::any_of(seen.addresses, [&](const std::string& one) {
        return without_prefix(one) == without_prefix(address);
    });
}

}  // namespace

const Step& step_of(Phase phase) {
    switch (phase) {
        case Phase::accepted:
            return kAccepted;
        case Phase::preflight:
            return kPreflight;
        case Phase::reserve:
            return kReserve;
        case Phase::hosting:
            return kHosting;
        case Phase::destination:
            return kDestination;
        case Phase::copying:
            return kCopying;
        case Phase::steering:
            return kSteering;
        case Phase::draining:
            return kDraining;
        case Phase::commit:
            return kCommit;
        case Phase::handover:
            return kHandover;
        case Phase::quiescing:
            return kQuiescing;
        case Phase::patching:
            return kPatching;
        case Phase::retiring:
            return kRetiring;
    }
    std::abort();
}

bool has_addresses(const protocol::AddressList& seen, const Migration& job) {
    const auto has = [&](const std::string& address) { return has_one(seen, address); };
    const std::vector<std::string>& hosted = job.facts.spec.addresses;
    if (!is_nat(job.facts.destination)) return std::ranges::all_of(hosted, has);
    return std::ranges::all_of(job.facts.temporary_addresses, has) &&
           std::ranges::none_of(hosted, has);
}

Task<void> check_destination_lives(JobRun& run) {
    if (!moves_memory(run.job)) co_return Result<void>{};
    Result<protocol::AgentVm> vm = co_await run.destination().vm(run.job.vm);
    if (!vm && vm.error().slug == "stale-epoch") co_return std::unexpected(std::move(vm).error());
    if (!vm || vm->state != protocol::VmState::stopped) co_return Result<void>{};
    co_return fail(Fault::Rejected, "look at the VM on " + run.job.destination,
                   "its QEMU has ended " + vm->detail +
                       "; what it has learnt since it ran there is lost with it",
                   std::string(kDestinationLost));
}

// Silence is no answer here: newcomers stay where they are until the source has spoken.
Task<void> check_source_lives(JobRun& run) {
    if (!moves_memory(run.job)) co_return Result<void>{};
    const std::string doing = "go back to the VM on " + run.job.source;
    Result<protocol::AgentVm> vm = co_await run.source().vm(run.job.vm);
    if (!vm && vm.error().fault != Fault::Missing) co_return std::unexpected(std::move(vm).error());
    if (vm && vm->state == protocol::VmState::unknown)
        co_return fail(Fault::Retry, doing, "its QEMU does not answer");
    if (vm && (vm->state == protocol::VmState::running || vm->state == protocol::VmState::paused))
        co_return Result<void>{};
    co_return fail(Fault::Rejected, doing,
                   "its QEMU has ended: the destination is kept, resume lets the job go on to it",
                   "source-lost");
}

// Only what the job owns: the agent refuses with not-owner otherwise, and then it is not ours to
// remove.
Task<void> remove_destination(JobRun& run) {
    protocol::Command command = run.command("destroy");
    Result<void> removed = co_await run.destination().remove(run.job.vm, std::move(command));
    if (removed) co_return removed;
    const Error& error = removed.error();
    if (error.fault == Fault::Missing || error.slug == "not-owner") co_return Result<void>{};
    co_return removed;
}

Task<void> let_source_go(JobRun& run) {
    protocol::Command command = run.command("abort-copy");
    Result<void> aborted = co_await run.source().abort_copy(run.job.vm, std::move(command));
    if (!aborted && aborted.error().fault == Fault::Missing) co_return Result<void>{};
    co_return aborted;
}

protocol::Command JobRun::command(const std::string& step) const {
    std::string name = step;
    if (job.attempt > 1) name += "." + std::to_string(job.attempt);
    return {journal.token(), job.id, std::move(name)};
}

protocol::Steering JobRun::steering(const std::string& step, const std::string& owner) const {
    protocol::Steering wanted;
    wanted.command = command(step);
    wanted.addresses = job.facts.spec.addresses;
    wanted.vlans = job.facts.spec.vlans;
    wanted.idle_limits = job.facts.spec.idle_limits;
    wanted.backends = {job.facts.source, job.facts.destination};
    wanted.owner = owner;
    wanted.hosting = std::ranges::any_of(wanted.backends, [&](const protocol::Backend& one) {
        return one.name == owner && is_nat(one);
    });
    return wanted;
}

Result<void> JobRun::note(const std::string& what, const std::string& detail) {
    job.detail = detail;
    Result<Flags> written =
        journal.write(job, {std::string(row_of(job.phase).name), what, job.attempt, detail});
    if (!written) return std::unexpected(std::move(written).error());
    flags = *written;
    return {};
}

Result<void> JobRun::show(double fraction, const std::string& detail) {
    advance_percent(job, fraction);
    job.detail = detail;
    const std::string now_shown = json::to_text(job.progress) + detail;
    if (now_shown == shown || now_ms() - shown_ms < 1000) return {};
    return announce(fraction, detail);
}

Result<void> JobRun::announce(double fraction, const std::string& detail) {
    advance_percent(job, fraction);
    shown = json::to_text(job.progress) + detail;
    shown_ms = now_ms();
    return note("progress", detail);
}

Task<void> JobRun::pause(std::uint64_t rung) {
    co_await bell.wait(rung, journal.clock(), std::chrono::milliseconds(timing.poll_ms));
    if (journal.is_down())
        co_return fail(Fault::Conflict, "job " + job.id, journal.down_reason(), "stale-epoch");
    if (flags.cancel && may_cancel(job))
        co_return fail(Fault::Conflict, "job " + job.id, "cancelled", "cancel-requested");
    co_return Result<void>{};
}

}  // namespace godwit::controller
