// destination: the agent starts a QEMU that waits for memory, owned by the job, without a link. Of method
// boot the VM is only defined: it is started when its regions have come.
#include "controller/steps/step.hpp"

namespace godwit::controller {

namespace {

Task<bool> observe(JobRun& run) {
    Result<protocol::AgentVm> vm = co_await run.destination().vm(run.job.vm);
    if (!vm && vm.error().fault == Fault::Missing) co_return false;
    if (!vm) co_return std::unexpected(std::move(vm).error());
    const protocol::VmState waits =
        boots_fresh(run.job) ? protocol::VmState::defined : protocol::VmState::incoming;
    co_return vm->owner_job == run.job.id && vm->state == waits;
}

Task<void> apply(JobRun& run) {
    protocol::IncomingRequest request{run.command("destination"), destination_spec(run.job),
                                      run.job.method, run.job.source};
    Result<protocol::AgentVm> vm =
        co_await run.destination().incoming(run.job.vm, std::move(request));
    if (!vm) co_return std::unexpected(std::move(vm).error());
    co_return Result<void>{};
}

}  // namespace

// Undone, the VM runs behind the fence and owns no session: steering was undone before.
const Step kDestination{.apply = apply, .observe = observe, .compensate = remove_destination};

}  // namespace godwit::controller
