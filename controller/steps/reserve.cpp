// reserve: the destination's agent keeps memory for the job, so that a second migration cannot take it; in mode nat
// temporary addresses are leased to it, which then name the destination until another job has moved the VM on.
#include "controller/steps/step.hpp"
#include "controller/temporary.hpp"

namespace godwit::controller {

namespace {

// Asked again it is told the same addresses.
Result<void> lease_addresses(JobRun& run) {
    Facts& facts = run.job.facts;
    const SwitchConfig* at = run.devices.switch_config(facts.switch_id);
    if (!at)
        return fail(Fault::Rejected, "lease temporary addresses",
                    "switch " + facts.switch_id + " has left the configuration", "unknown-switch");
    auto candidates = temporary_candidates(at->temporary_addresses, facts.spec.addresses);
    if (!candidates) return std::unexpected(std::move(candidates).error());
    auto leased = run.journal.store().lease(run.job.id, run.job.vm, *candidates);
    if (!leased) return std::unexpected(std::move(leased).error());
    facts.temporary_addresses = std::move(*leased);
    facts.destination.mac = own_mac(facts.temporary_addresses.front());
    facts.destination =
        backend_of(*run.devices.host(run.job.destination), destination_spec(run.job));
    return {};
}

Task<void> apply(JobRun& run) {
    Result<void> leased = arrives_by_nat(run.job) ? lease_addresses(run) : Result<void>{};
    if (!leased) co_return leased;
    std::uint64_t mib = run.job.facts.spec.memory_mib;
    for (const protocol::RegionSpec& region : run.job.facts.spec.regions) mib += region.size_mib;
    protocol::Reservation lease{run.command("reserve"), run.job.vm, mib << 20};
    Result<void> reserved = co_await run.destination().reserve(std::move(lease));
    co_return reserved;
}

Task<void> compensate(JobRun& run) {
    protocol::Command command = run.command("release");
    // The destination that had them is gone: this is undone after it.
    Result<void> ended = run.journal.store().end_lease(run.job.id);
    if (!ended) co_return ended;
    Result<void> released = co_await run.destination().release(std::move(command));
    if (!released && released.error().fault == Fault::Missing) co_return Result<void>{};
    co_return released;
}

}  // namespace

const Step kReserve{.apply = apply, .compensate = compensate};

}  // namespace godwit::controller
