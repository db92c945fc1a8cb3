// What the methods `fork` and `whole` share of a copy: the work in progress, its first half up to
// the proven base, and the way back.
#pragma once

#include "vm_agent/operations/copy.hpp"

#include <functional>

namespace godwit::agent {

// What the worker threads hand to each other between the stages.
struct CopyWork {
    std::optional<memory::CopySource> memory;
    std::shared_ptr<memory::FrameChannel> channel;
    memory::Descriptor devices;  // a memfd for the device state
    memory::Root root{};
};

template <typename Work>
Task<void> on_worker(std::shared_ptr<Machine> machine, Work work) {
    std::function<Result<void>()> there = std::move(work);
    Result<void> done = co_await run_on<void>(machine->host().pool, std::move(there));
    co_return done;
}

// The one memory copy, the guest running; the destination holds it and has proven it equal.
Task<void> copy_base(std::shared_ptr<Machine> machine, std::shared_ptr<CopyJob> job,
                     std::shared_ptr<CopyWork> work, memory::Credentials credentials);
// Blocking. The changed lines, then the proof.
Result<void> send_rest(CopyWork& work, std::uint64_t epoch);
Result<void> send_device_state(CopyWork& work);

// The steps of each method after the base. On success a fork's source runs; that of `whole` stands
// still.
Task<void> fork_steps(std::shared_ptr<Machine> machine, std::shared_ptr<CopyJob> job,
                      std::shared_ptr<CopyWork> work);
// Regions alone: the other VM starts from them by itself.
Task<void> boot_steps(std::shared_ptr<Machine> machine, std::shared_ptr<CopyJob> job,
                      std::shared_ptr<CopyWork> work);
Task<void> whole_steps(std::shared_ptr<Machine> machine, std::shared_ptr<CopyJob> job,
                       std::shared_ptr<CopyWork> work);

}  // namespace godwit::agent
