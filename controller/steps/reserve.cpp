// reserve: the destination's agent keeps memory for the job, so that a second migration cannot take
// it.
#include "controller/steps/step.hpp"

namespace godwit::controller {

namespace {

Task<void> apply(JobRun& run) {
    std::uint64_t mib = run.job.facts.spec.memory_mib;
    for (const protocol::RegionSpec& region : run.job.facts.spec.regions) mib += region.size_mib;
    protocol::Reservation lease{run.command("reserve"), run.job.vm, mib << 20};
    Result<void> reserved = co_await run.destination().reserve(std::move(lease));
    co_return reserved;
}

Task<void> compensate(JobRun& run) {
    protocol::Command command = run.command("release");
    Result<void> released = co_await run.destination().release(std::move(command));
    if (!released && released.error().fault == Fault::Missing) co_return Result<void>{};
    co_return released;
}

}  // namespace

const Step kReserve{.apply = apply, .compensate = compensate};

}  // namespace godwit::controller
