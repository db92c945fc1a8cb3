// The part of Agent that takes a VM through a migration, as source and as destination.
#include "lib/log.hpp"
#include "lib/secret.hpp"

#include "vm_agent/agent.hpp"
#include "vm_agent/durable_file.hpp"
#include "vm_agent/guest/client.hpp"
#include "vm_agent/operations/quiet.hpp"
#include "vm_agent/vm/disks.hpp"
#include "vm_agent/vm/process.hpp"

#include <boost/asio/detached.hpp>

namespace godwit::agent {

namespace asio = boost::asio;
using protocol::AgentVm;
using protocol::CopyStatus;
using protocol::MergeStatus;
using protocol::OperationState;
using protocol::VmState;

namespace {

constexpr std::uint64_t kMib = 1 << 20;
constexpr std::uint32_t kWindowMaxMs = 5000;
constexpr std::chrono::seconds kCopyEndDeadline{20};

Result<void> check_method(const std::string& method) {
    if (method == "fork" || method == "boot" || method == "whole" || method == "steer") return {};
    return fail(Fault::Rejected, "choose a method",
                "/method \"" + method +
                    "\" is not supported by this version, use fork, boot, whole or steer",
                "invalid-document");
}

// The clone's random numbers must not be the source's. virtio-rng is there as well; this is faster.
asio::awaitable<void> reseed(std::shared_ptr<Machine> machine) {
    constexpr guest::Milliseconds kDeadline{3000};
    Result<std::shared_ptr<guest::Client>> inside =
        co_await guest::Client::open(machine->paths().guest_agent(), kDeadline);
    Result<int> code = std::unexpected(Error{});
    const std::vector<std::string> arguments{"-c", "cat >/dev/urandom"};
    if (inside)
        code = co_await (*inside)->run("/bin/sh", arguments, random_token() + random_token(),
                                       kDeadline);
    const bool fresh = inside && code && *code == 0;
    log::write(
        fresh ? log::Level::info : log::Level::warning, "vm",
        machine->name() + (fresh ? " has fresh entropy"
                                 : " was not reseeded through its agent, only by virtio-rng"));
}

}  // namespace

Task<AgentVm> Agent::prepare_incoming(protocol::IncomingRequest request) {
    const std::string vm = request.spec.id;
    const std::string doing = "prepare VM " + vm + " for " + request.command.job;
    Result<void> good = check_method(request.method);
    if (good) good = check_vm(request.spec);
    if (good && request.method != "steer") good = check_disks_can_move(request.spec);
    if (request.method == "boot" || request.method == "steer")
        for (protocol::DiskSpec& disk : request.spec.disks) disk.overlays.clear();
    if (good) good = check_overlays_are_ours(request.spec, host_.config.disk_dir);
    if (!good) co_return std::unexpected(std::move(good).error().within(doing));
    auto found = machines_.find(vm);
    std::shared_ptr<Machine> machine = found == machines_.end() ? nullptr : found->second;
    const bool made_before = machine && machine->record().owner_job == request.command.job;
    if (machine && !made_before && machine->is_alive())
        co_return fail(Fault::Conflict, doing,
                       "a VM of this name runs here and is not owned by the job", "not-owner");
    if (!made_before || machine->record().retired) {
        std::uint64_t wanted = std::uint64_t{request.spec.memory_mib} * kMib;
        for (const protocol::RegionSpec& one : request.spec.regions) wanted += one.size_mib * kMib;
        const Memory left = memory_left(request.command.job);
        if (wanted > left.available)
            co_return fail(Fault::Conflict, doing,
                           std::to_string(wanted / kMib) + " MiB are wanted and " +
                               std::to_string(left.available / kMib) + " MiB are left on this host",
                           "no-memory");
        VmRecord record;
        record.spec = request.spec;
        record.owner_job = request.command.job;
        machine = std::make_shared<Machine>(host_, std::move(record));
        machines_[vm] = machine;
    }
    sessions_.end_cut(vm);
    Lock::Guard guard = co_await machine->lock().acquire();
    machine->record().source_host = request.source_host;
    Result<void> started;
    if (request.method == "boot") {
        // Its application shall find its region there when it starts: first the one, then the other.
        started = machine->save();
    } else if (request.method != "steer") {
        started = co_await machine->start(BootMode::incoming);
    } else {
        started = co_await machine->start(BootMode::boot);
        if (started) started = co_await machine->set_link(machine->record().activated);
    }
    if (!started) co_return std::unexpected(std::move(started).error().within(doing));
    Result<AgentVm> view = co_await machine->view();
    co_return view;
}

Task<AgentVm> Agent::activate(std::string vm, protocol::ActivationRequest request) {
    const std::string doing = "activate VM " + vm;
    const bool clones = request.role == "clone";
    if (!clones && request.role != "sole")
        co_return fail(Fault::Rejected, doing,
                       "/role \"" + request.role + "\" is neither clone nor sole",
                       "invalid-document");
    Result<std::shared_ptr<Machine>> found = find(vm);
    if (!found) co_return std::unexpected(std::move(found).error());
    std::shared_ptr<Machine> machine = *found;
    Lock::Guard guard = co_await machine->lock().acquire();
    VmRecord& record = machine->record();
    if (record.owner_job && record.owner_job != request.command.job)
        co_return fail(Fault::Conflict, doing, "job " + *record.owner_job + " owns it",
                       "not-owner");
    if (record.holds_regions) {
        // The regions came from the source and say so; started from them, the VM is a clone.
        Result<void> done;
        if (!machine->is_alive()) done = machine->write_role("clone", record.epoch);
        if (done) done = co_await machine->start(BootMode::boot);
        if (!done) co_return std::unexpected(std::move(done).error().within(doing));
        record.activated = true;
        done = machine->save();
        if (!done) co_return std::unexpected(std::move(done).error());
        Result<AgentVm> view = co_await machine->view();
        co_return view;
    }
    if (!machine->is_alive()) co_return wrong_state(doing, VmState::stopped, "incoming");
    if (record.origin == Origin::incoming && !record.activated) {
        if (!record.loaded)
            co_return fail(Fault::Conflict, doing,
                           "its memory has not come yet, legal would be: a finished copy",
                           "wrong-state");
        // The order is the safety: the clone knows its role before it executes anything, and its
        // port is open before it speaks.
        // A whole VM goes on as what it was: not a byte that was proven equal is touched.
        Result<VmState> waiting = co_await machine->state();
        if (!waiting || *waiting != VmState::incoming)
            co_return fail(Fault::Lost, doing,
                           "its QEMU " + std::string(waiting && *waiting == VmState::stopped
                                                         ? "has ended"
                                                         : "does not answer"),
                           "qemu-failed");
        Result<void> done;
        if (clones) done = machine->write_role(request.role, record.epoch);
        if (done) done = co_await machine->set_link(true);
        if (done) done = co_await machine->wait_for_link();
        // Written first: a VM found dead that was not to be let run has done nothing here.
        record.let_run = true;
        if (done) done = machine->save();
        if (done) done = co_await machine->resume();
        if (!done) {
            (void)co_await machine->set_link(false);
            co_return std::unexpected(std::move(done).error().within(doing));
        }
        record.activated = true;
        done = machine->save();
        if (!done) co_return std::unexpected(std::move(done).error());
        asio::any_io_executor executor = co_await asio::this_coro::executor;
        // One of it runs: its random numbers are nobody else's.
        if (clones && record.spec.guest_agent)
            asio::co_spawn(executor, reseed(machine), asio::detached);
    } else {
        Result<void> linked = co_await machine->set_link(true);
        record.activated = true;
        if (linked) linked = machine->save();
        if (!linked) co_return std::unexpected(std::move(linked).error().within(doing));
    }
    Result<AgentVm> view = co_await machine->view();
    co_return view;
}

Task<AgentVm> Agent::adopt(std::string vm, protocol::AdoptRequest request) {
    Result<std::shared_ptr<Machine>> found = find(vm);
    if (!found) co_return std::unexpected(std::move(found).error());
    std::shared_ptr<Machine> machine = *found;
    Lock::Guard guard = co_await machine->lock().acquire();
    VmRecord& record = machine->record();
    if (record.owner_job && record.owner_job != request.command.job)
        co_return fail(Fault::Conflict, "adopt VM " + vm, "job " + *record.owner_job + " owns it",
                       "not-owner");
    if (record.owner_job) {
        const VmRecord before = record;
        // Alone again: it may allocate from both halves of its regions.
        Result<void> done = machine->write_role("sole", record.epoch);
        if (done) done = machine->remove_bases();
        record.owner_job.reset();
        record.holds_regions = false;
        reclaim_overlays(record);  // the source keeps what it wrote since, and nothing else
        for (protocol::DiskSpec& disk : record.spec.disks) disk.overlays.clear();
        if (done) done = machine->save();
        // What is not on the disk has not happened: asked again, it is tried again.
        if (!done) record = before;
        if (done) done = release(request.command.job);
        if (!done) co_return std::unexpected(std::move(done).error().within("adopt VM " + vm));
    }
    Result<AgentVm> view = co_await machine->view();
    co_return view;
}

// The job's own way out lets the guest go on; it is over when it has written so down.
Task<void> Agent::end_copy(std::shared_ptr<CopyJob> job) {
    job->cancel();
    job->ended.expires_after(kCopyEndDeadline);
    boost::system::error_code ended;
    if (!job->is_over)
        co_await job->ended.async_wait(asio::redirect_error(asio::use_awaitable, ended));
    if (job->is_over) co_return Result<void>{};
    co_return fail(Fault::Retry, "end the copy for " + job->request.command.job,
                   "it has not ended yet");
}

asio::awaitable<void> Agent::end_copies() {
    while (!copies_.empty()) {
        const std::string vm = copies_.begin()->first;
        std::shared_ptr<CopyJob> job = copies_.begin()->second;
        Result<void> ended = co_await end_copy(job);
        if (!ended) log::error("copy", ended.error().text());
        copies_.erase(vm);  // most often it has done so itself
    }
}

asio::awaitable<void> Agent::copy_to_end(std::string vm, std::shared_ptr<Machine> machine,
                                         std::shared_ptr<CopyJob> job) {
    co_await run_copy(machine, job, credentials_);
    auto mine = copies_.find(vm);
    if (mine != copies_.end() && mine->second == job) copies_.erase(mine);
}

asio::awaitable<void> Agent::merge_to_end(std::string vm, std::shared_ptr<Machine> machine,
                                          protocol::MergeRequest request) {
    co_await run_merge(machine, std::move(request), credentials_);
    merges_.erase(vm);
}

Result<CopyStatus> Agent::start_copy(const std::string& vm, protocol::CopyRequest request) {
    const std::string doing = "copy VM " + vm;
    Result<void> good = check_method(request.method);
    if (!good) return std::unexpected(std::move(good).error().within(doing));
    Result<std::shared_ptr<Machine>> machine = find(vm);
    if (!machine) return std::unexpected(std::move(machine).error());
    auto running = copies_.find(vm);
    if (running != copies_.end() && !running->second->is_over) {
        if (running->second->request.command.job == request.command.job)
            return status_of(*running->second);
        return fail(Fault::Conflict, doing,
                    "it is being copied for " + running->second->request.command.job,
                    "wrong-state");
    }
    VmRecord& record = (*machine)->record();
    // The same job again hears what became of it; after DELETE it may try anew.
    if (record.copy && record.copy->job == request.command.job) return *record.copy;
    if (!(*machine)->is_alive()) return wrong_state(doing, VmState::stopped, "running");
    if (request.method == "boot" && record.spec.regions.empty())
        return fail(Fault::Rejected, doing,
                    "it has no regions, and method boot moves nothing else: use steer",
                    "no-regions");
    if (record.paused_for != PausedFor::nobody)
        return wrong_state(doing, VmState::paused, "running");
    CopyStatus status;
    status.job = request.command.job;
    if (request.method == "steer") {
        status.state = OperationState::done;
        status.stage = "loaded";
    }
    record.copy = status;
    record.merge.reset();
    Result<void> kept = (*machine)->save();
    if (!kept) return std::unexpected(std::move(kept).error());
    if (request.method == "steer") return status;
    std::shared_ptr<CopyJob> job = std::make_shared<CopyJob>(host_.executor, std::move(request),
                                                             host_.config.transfer_bandwidth_mib_s);
    copies_[vm] = job;
    asio::co_spawn(host_.executor, copy_to_end(vm, *machine, job), asio::detached);
    return status_of(*job);
}

Result<CopyStatus> Agent::copy_status(const std::string& vm, const std::string& job) const {
    Result<std::shared_ptr<Machine>> machine = find(vm);
    if (!machine) return std::unexpected(std::move(machine).error());
    auto running = copies_.find(vm);
    if (running != copies_.end() && running->second->request.command.job == job)
        return status_of(*running->second);
    std::optional<CopyStatus> last = (*machine)->record().copy;
    if (last && (*machine)->record().paused_for == PausedFor::handover)
        last->pause_ms = (*machine)->standstill_ms();
    if (last && last->job == job) return *last;
    return fail(Fault::Missing, "look for the copy of VM " + vm, "no copy was made for " + job,
                "unknown-job");
}

Result<CopyStatus> Agent::limit_copy(const std::string& vm, const protocol::LimitRequest& request) {
    auto running = copies_.find(vm);
    if (running == copies_.end() || running->second->request.command.job != request.command.job)
        return fail(Fault::Conflict, "limit the copy of VM " + vm,
                    "none is under way for " + request.command.job, "wrong-state");
    running->second->limit_to(request.bandwidth_mib_s);
    log::info("copy", vm + " may send " +
                          (request.bandwidth_mib_s == 0
                               ? "as fast as it goes"
                               : std::to_string(request.bandwidth_mib_s) + " MiB/s"));
    return status_of(*running->second);
}

Task<CopyStatus> Agent::freeze(std::string vm, protocol::FreezeRequest request) {
    const std::string job = request.command.job;
    auto running = copies_.find(vm);
    if (running != copies_.end() && running->second->request.command.job == job &&
        !running->second->is_over) {
        std::shared_ptr<CopyJob> work = running->second;
        if (work->stage == "base" || work->stage == "round" || !work->is_whole())
            co_return fail(Fault::Conflict, "stop VM " + vm,
                           "its copy is in stage " + work->stage + ", legal would be: ready",
                           "wrong-state");
        work->let_freeze();
        boost::system::error_code ended;
        co_await work->ended.async_wait(asio::redirect_error(asio::use_awaitable, ended));
    }
    co_return copy_status(vm, job);
}

Task<void> Agent::abort_copy(std::string vm, std::string job) {
    Result<std::shared_ptr<Machine>> found = find(vm);
    if (!found) co_return Result<void>{};
    std::shared_ptr<Machine> machine = *found;
    auto running = copies_.find(vm);
    if (running != copies_.end()) {
        std::shared_ptr<CopyJob> work = running->second;
        if (!job.empty() && work->request.command.job != job)
            co_return fail(Fault::Conflict, "abort the copy of VM " + vm,
                           "it is for " + work->request.command.job, "not-owner");
        Result<void> ended = co_await end_copy(work);
        if (!ended) co_return std::unexpected(std::move(ended).error().within("VM " + vm));
    }
    VmRecord& record = machine->record();
    if (!record.copy || (!job.empty() && record.copy->job != job)) co_return Result<void>{};
    Lock::Guard guard = co_await machine->lock().acquire();
    record.aborted_job = record.copy->job;
    Result<void> done;
    // A source that was kept aside has lost its link with it.
    if (machine->is_alive()) done = co_await machine->set_link(true);
    if (done && machine->is_alive() && record.paused_for != PausedFor::nobody)
        done = co_await machine->resume();
    if (done && record.role == "source") done = machine->write_role("sole", record.epoch);
    if (done) done = machine->remove_bases();
    reclaim_overlays(record);
    record.copy.reset();
    record.merge.reset();
    if (done) done = machine->save();
    co_return done;
}

Task<protocol::QuiesceStatus> Agent::quiescence(std::string vm, protocol::QuiesceRequest request) {
    Result<std::shared_ptr<Machine>> found = find(vm);
    if (!found) co_return std::unexpected(std::move(found).error());
    if (request.window_ms > kWindowMaxMs)
        co_return fail(Fault::Rejected, "look for quiet", "/window_ms is at most 5000",
                       "invalid-document");
    Result<protocol::QuiesceStatus> seen = co_await look_for_quiet(*found, request.window_ms);
    co_return seen;
}

Result<MergeStatus> Agent::start_merge(const std::string& vm, protocol::MergeRequest request) {
    const std::string doing = "merge VM " + vm;
    Result<std::shared_ptr<Machine>> machine = find(vm);
    if (!machine) return std::unexpected(std::move(machine).error());
    VmRecord& record = (*machine)->record();
    MergeStatus status;
    status.job = request.command.job;
    auto running = merges_.find(vm);
    if (running != merges_.end()) {
        if (running->second == request.command.job) return status;
        return fail(Fault::Conflict, doing, "it is being merged for " + running->second,
                    "wrong-state");
    }
    if (!record.copy || record.copy->job != request.command.job ||
        record.copy->state != OperationState::done)
        return fail(
            Fault::Conflict, doing,
            "no finished copy for " + request.command.job + ", legal would be: after a copy",
            "wrong-state");
    // A merge that failed is tried again by the same call, perhaps with another on_conflict.
    if (record.merge && record.merge->job == request.command.job &&
        record.merge->state == OperationState::done)
        return *record.merge;
    record.merge = status;
    Result<void> kept = (*machine)->save();
    if (!kept) return std::unexpected(std::move(kept).error());
    merges_[vm] = request.command.job;
    asio::co_spawn(host_.executor, merge_to_end(vm, *machine, std::move(request)), asio::detached);
    return status;
}

Result<MergeStatus> Agent::merge_status(const std::string& vm, const std::string& job) const {
    Result<std::shared_ptr<Machine>> machine = find(vm);
    if (!machine) return std::unexpected(std::move(machine).error());
    const std::optional<MergeStatus>& last = (*machine)->record().merge;
    if (last && last->job == job) return *last;
    return fail(Fault::Missing, "look for the merge of VM " + vm, "none was begun for " + job,
                "unknown-job");
}

Task<void> Agent::retire(std::string vm, protocol::RetireRequest request) {
    Result<std::shared_ptr<Machine>> found = find(vm);
    // Retiring what is gone has succeeded: the call may be a repeated one.
    if (!found) co_return Result<void>{};
    std::shared_ptr<Machine> machine = *found;
    if (copies_.contains(vm) || merges_.contains(vm))
        co_return fail(Fault::Retry, "retire VM " + vm, "a migration is still at work on it",
                       "wrong-state");
    Lock::Guard guard = co_await machine->lock().acquire();
    VmRecord& record = machine->record();
    if (record.aborted_job == request.command.job)
        co_return fail(Fault::Conflict, "retire VM " + vm,
                       "job " + request.command.job + " has let it go on", "wrong-state");
    Result<void> done;
    if (request.source_after == protocol::SourceAfter::keep) {
        // It stays as it is, paused or not, but never speaks again.
        done = co_await machine->set_link(false);
        if (done && machine->is_alive() && record.paused_for == PausedFor::nobody)
            done = co_await machine->pause(PausedFor::merge_source);
        if (done) done = machine->remove_bases();
        co_return done;
    }
    const bool vanish = request.source_after == protocol::SourceAfter::delete_;
    record.retired = vanish;  // before anything is: whoever is killed now comes back to it
    done = co_await machine->destroy(Sweep::everything);
    record.copy.reset();
    record.merge.reset();
    if (done) done = machine->save();
    if (vanish)
        for (const std::string& file : machine->paths().run_files()) (void)remove_file(file);
    co_return done;
}

}  // namespace godwit::agent
