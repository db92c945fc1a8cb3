// Methods fork and boot, source side: the clone, or the regions a fresh VM starts from, are taken at one
// paused instant, then the source goes on.
#include "vm_agent/operations/copy_work.hpp"

namespace godwit::agent {

namespace {

// Everything in here happens while the guest stands still, nothing touches the network.
Task<void> fork_instant(std::shared_ptr<Machine> machine, std::shared_ptr<CopyWork> work,
                        std::uint64_t epoch, bool with_devices) {
    Result<void> done;
    if (with_devices) done = co_await machine->make_next_overlays();
    if (done) done = co_await machine->pause(PausedFor::copy);
    // Writing device state closes the disks for writing, so they turn first.
    if (done && with_devices) done = co_await machine->turn_to_next_overlays();
    auto capture = [work]() { return work->memory->capture(); };
    if (done) done = co_await on_worker(machine, capture);
    if (done && with_devices) done = co_await machine->save_devices(work->devices.get());
    if (done) done = machine->write_role("source", epoch);
    if (done) done = co_await machine->resume();
    co_return done;
}

std::vector<std::string> region_names(const Machine& machine) {
    std::vector<std::string> names;
    for (const protocol::RegionSpec& one : machine.record().spec.regions) names.push_back(one.name);
    return names;
}

// The regions as they were at the fork, in files: they outlive this process. They are the last blocks.
Result<void> keep_bases(const Machine& machine, const std::vector<std::string>& regions,
                        const CopyWork& work) {
    const std::vector<memory::MappedFile>& blocks = work.memory->fork_image().blocks();
    const std::size_t first = blocks.size() - regions.size();
    for (std::size_t i = 0; i < regions.size(); ++i) {
        Result<void> kept =
            memory::copy_to_file(blocks[first + i], machine.paths().region_base(regions[i]));
        if (!kept) return kept;
    }
    return {};
}

}  // namespace

Task<void> fork_steps(std::shared_ptr<Machine> machine, std::shared_ptr<CopyJob> job,
                      std::shared_ptr<CopyWork> work) {
    job->stage = "fork";
    Result<std::uint64_t> before = machine->region_epoch();
    if (!before) co_return std::unexpected(std::move(before).error());
    const std::uint64_t epoch = *before + 1;
    Result<void> done = co_await fork_instant(machine, work, epoch, /*with_devices=*/true);
    if (!done) co_return done;

    job->stage = "diff";
    auto rest = [=]() { return send_rest(*work, epoch); };
    done = co_await on_worker(machine, rest);
    if (!done) co_return done;
    job->stage = "devstate";
    const std::vector<std::string> regions = region_names(*machine);
    auto devices = [=]() -> Result<void> {
        Result<void> sent = send_device_state(*work);
        return sent ? keep_bases(*machine, regions, *work) : sent;
    };
    done = co_await on_worker(machine, devices);
    if (done) job->stage = "loaded";
    co_return done;
}

Task<void> boot_steps(std::shared_ptr<Machine> machine, std::shared_ptr<CopyJob> job,
                      std::shared_ptr<CopyWork> work) {
    job->stage = "fork";
    Result<std::uint64_t> before = machine->region_epoch();
    if (!before) co_return std::unexpected(std::move(before).error());
    const std::uint64_t epoch = *before + 1;
    Result<void> done = co_await fork_instant(machine, work, epoch, /*with_devices=*/false);
    if (!done) co_return done;
    job->stage = "diff";
    const std::vector<std::string> regions = region_names(*machine);
    auto rest = [=]() -> Result<void> {
        Result<void> sent = send_rest(*work, epoch);
        return sent ? keep_bases(*machine, regions, *work) : sent;
    };
    done = co_await on_worker(machine, rest);
    if (done) job->stage = "loaded";
    co_return done;
}

}  // namespace godwit::agent
