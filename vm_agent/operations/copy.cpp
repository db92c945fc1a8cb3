#include "vm_agent/operations/copy.hpp"

#include "lib/log.hpp"

#include "vm_agent/memory/handshake.hpp"
#include "vm_agent/operations/copy_work.hpp"
#include "vm_agent/vm/disks.hpp"

#include <sys/mman.h>
#include <sys/stat.h>

#include <boost/asio/steady_timer.hpp>

namespace godwit::agent {

namespace asio = boost::asio;
using memory::CopySource;
using memory::Descriptor;
using memory::FrameChannel;
using protocol::OperationState;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds kConnectDeadline{5000};
constexpr milliseconds kFrameDeadline{30'000};
constexpr std::uint64_t kMib = 1 << 20;
constexpr int kResumeTries = 20;
constexpr milliseconds kResumeEvery{100};

Result<void> send_base(const std::vector<memory::BlockFile>& blocks,
                       const protocol::wire::Hello& hello, const memory::Credentials& credentials,
                       CopyJob& job, CopyWork& work) {
    Result<CopySource> source = CopySource::open(blocks, job.progress, job.request.compression);
    if (!source) return std::unexpected(std::move(source).error());
    work.memory = std::move(*source);
    const memory::Peer peer{job.request.destination, job.request.destination_host};
    Result<std::unique_ptr<FrameChannel>> channel =
        FrameChannel::connect(peer, credentials.tls, kConnectDeadline);
    if (!channel) return std::unexpected(std::move(channel).error());
    work.channel = std::move(*channel);
    work.channel->set_pace(job.pace);
    job.set_channel(work.channel);
    work.channel->set_deadline(kConnectDeadline);
    Result<void> begun = memory::begin_session(*work.channel, peer, credentials, hello);
    if (!begun) return begun;
    work.channel->set_deadline(kFrameDeadline);
    Result<void> sent = work.memory->send_base(*work.channel);
    return sent ? work.memory->get_ready() : sent;
}

// On every way out of a failed copy: the guest runs, alone, and nothing of the copy is left.
Task<void> undo_copy(std::shared_ptr<Machine> machine) {
    Result<void> done;
    for (int tries = 0; tries < kResumeTries; ++tries) {
        if (machine->record().paused_for != PausedFor::copy || !machine->is_alive()) break;
        done = co_await machine->resume();
        if (done) break;
        log::error("copy", done.error().text());
        asio::any_io_executor executor = co_await asio::this_coro::executor;
        asio::steady_timer timer(executor, kResumeEvery);
        co_await timer.async_wait(asio::use_awaitable);
    }
    Result<void> alone = machine->write_role("sole", machine->record().epoch);
    if (done) done = std::move(alone);
    Result<void> removed = machine->remove_bases();
    if (done) done = std::move(removed);
    co_return done;
}

asio::awaitable<void> keep_failure(std::shared_ptr<Machine> machine, std::shared_ptr<CopyWork> work,
                                   protocol::CopyStatus status, Error why) {
    // The guest first; then whoever listens hears why, on a worker: he may not be reading.
    Result<void> undone = co_await undo_copy(machine);
    auto goodbye = [work, why]() -> Result<void> {
        if (work->channel) work->channel->abort(why);
        return {};
    };
    Result<void> said = co_await on_worker(machine, goodbye);
    if (!said) log::warning("copy", said.error().text());
    if (status.stage == "freeze") status.pause_ms = machine->pause_ms();
    status.state = OperationState::failed;
    status.root.clear();
    status.problem = why.slug;
    status.error = why.text();
    if (!undone) status.error += "; and undoing it: " + undone.error().text();
    log::warning("copy", machine->name() + ": " + status.error);
    machine->record().copy = std::move(status);
    reclaim_overlays(machine->record());
    Result<void> kept = machine->save();
    if (!kept) log::error("copy", kept.error().text());
}

Task<void> copy_steps(std::shared_ptr<Machine> machine, std::shared_ptr<CopyJob> job,
                      std::shared_ptr<CopyWork> work, memory::Credentials credentials) {
    Result<void> done = co_await copy_base(machine, job, work, std::move(credentials));
    if (done && job->is_whole())
        done = co_await whole_steps(machine, job, work);
    else if (done && job->is_boot())
        done = co_await boot_steps(machine, job, work);
    else if (done)
        done = co_await fork_steps(machine, job, work);
    co_return done;
}

protocol::wire::Purpose purpose_of(const CopyJob& job) {
    if (job.is_whole()) return protocol::wire::Purpose::whole;
    return job.is_boot() ? protocol::wire::Purpose::regions : protocol::wire::Purpose::copy;
}

// One write: a source of `whole` that is said to be copied stands still until it is told, also when
// this process is another one by then.
Result<void> keep_success(Machine& machine, const CopyJob& job, protocol::CopyStatus status) {
    status.state = OperationState::done;
    machine.record().copy = std::move(status);
    if (job.is_whole()) {
        machine.record().paused_for = PausedFor::handover;
        share_overlays(machine.record());  // the destination goes on from them
    }
    Result<void> kept = machine.save();
    if (!kept && job.is_whole()) machine.record().paused_for = PausedFor::copy;
    return kept;
}

}  // namespace

Task<void> copy_base(std::shared_ptr<Machine> machine, std::shared_ptr<CopyJob> job,
                     std::shared_ptr<CopyWork> work, memory::Credentials credentials) {
    Result<void> done = co_await machine->prepare_migration(/*incoming=*/false);
    if (!done) co_return done;
    work->devices = Descriptor(memfd_create("godwit-devices", MFD_CLOEXEC));
    if (!work->devices) co_return fail_errno(Fault::Retry, "make room for the device state");
    const protocol::wire::Purpose purpose = purpose_of(*job);
    const protocol::wire::Hello hello = hello_for(*machine, purpose, job->request.command);
    const std::vector<memory::BlockFile> blocks = blocks_of(*machine, purpose);
    auto base = [=]() { return send_base(blocks, hello, credentials, *job, *work); };
    done = co_await on_worker(machine, base);
    co_return done;
}

Result<void> send_rest(CopyWork& work, std::uint64_t epoch) {
    Result<memory::Root> root = work.memory->send_diff(*work.channel, epoch);
    if (!root) return std::unexpected(std::move(root).error());
    work.root = *root;
    return {};
}

Result<void> send_device_state(CopyWork& work) {
    struct stat status{};
    if (fstat(work.devices.get(), &status) != 0)
        return fail_errno(Fault::Retry, "look at the device state");
    return memory::send_devices(*work.channel, work.devices.get(),
                                static_cast<std::uint64_t>(status.st_size));
}

void CopyJob::set_channel(std::shared_ptr<FrameChannel> channel) {
    std::lock_guard guard(mutex_);
    channel_ = std::move(channel);
    if (cancelled_) channel_->cancel();
}

std::shared_ptr<FrameChannel> CopyJob::channel() const {
    std::lock_guard guard(mutex_);
    return channel_;
}

void CopyJob::cancel() {
    cancelled_ = true;
    go.cancel();
    std::shared_ptr<FrameChannel> now = channel();
    if (now) now->cancel();
}

void CopyJob::let_freeze() {
    may_freeze = true;
    go.cancel();
}

std::vector<memory::BlockFile> blocks_of(const Machine& machine, protocol::wire::Purpose purpose) {
    const protocol::VmSpec& spec = machine.record().spec;
    std::vector<memory::BlockFile> blocks;
    if (purpose != protocol::wire::Purpose::regions)
        blocks.push_back({{"ram", spec.memory_mib * kMib}, machine.paths().ram()});
    for (const protocol::RegionSpec& one : spec.regions)
        blocks.push_back(
            {{"region:" + one.name, one.size_mib * kMib}, machine.paths().region(one.name)});
    return blocks;
}

protocol::wire::Hello hello_for(Machine& machine, protocol::wire::Purpose purpose,
                                const protocol::Command& command) {
    const protocol::VmSpec& spec = machine.record().spec;
    protocol::wire::Hello hello;
    hello.purpose = purpose;
    hello.command = command;
    hello.vm = spec.id;
    hello.machine = spec.machine;
    hello.cpu = spec.cpu;
    hello.vcpus = spec.vcpus;
    hello.qemu_version = machine.host().qemu_version;
    hello.accelerator = machine.host().accelerator;
    for (const memory::BlockFile& one : blocks_of(machine, purpose))
        hello.blocks.push_back(one.block);
    return hello;
}

protocol::CopyStatus status_of(const CopyJob& job) {
    protocol::CopyStatus status;
    status.job = job.request.command.job;
    status.stage = job.stage;
    status.bytes_total = job.progress->bytes_total;
    status.bytes_copied = job.progress->bytes_copied;
    status.bytes_compared = job.progress->bytes_compared;
    status.bytes_diff = job.progress->bytes_diff;
    status.bytes_zero = job.progress->bytes_zero;
    status.bytes_compressed = job.progress->bytes_compressed;
    status.bytes_per_s = static_cast<std::uint64_t>(
        job.progress->copied.bytes_per_s(std::chrono::steady_clock::now()));
    status.bandwidth_mib_s = static_cast<std::uint32_t>(job.pace->limit() >> 20);
    std::shared_ptr<FrameChannel> channel = job.channel();
    if (channel) {
        status.bytes_on_wire = channel->bytes_sent();
        status.resumes = channel->resumes();
        status.bytes_resent = channel->bytes_resent();
        status.reconnecting = channel->is_reconnecting();
    }
    status.rounds = job.rounds;
    status.expected_pause_ms = job.expected_pause_ms;
    const auto taken = std::chrono::steady_clock::now() - job.begun;
    status.duration_ms = std::chrono::duration<double, std::milli>(taken).count();
    return status;
}

boost::asio::awaitable<void> run_copy(std::shared_ptr<Machine> machine,
                                      std::shared_ptr<CopyJob> job,
                                      memory::Credentials credentials) {
    std::shared_ptr<CopyWork> work = std::make_shared<CopyWork>();
    Result<void> done = co_await copy_steps(machine, job, work, std::move(credentials));
    protocol::CopyStatus status = status_of(*job);
    if (job->is_whole() && job->stage == "loaded")
        status.pause_ms = machine->standstill_ms();
    else if (!job->is_whole() && job->stage != "base" && job->stage != "fork")
        status.pause_ms = machine->pause_ms();
    status.root = memory::to_hex(work->root);
    if (done) done = keep_success(*machine, *job, status);
    if (done)
        log::info("copy", machine->name() + " copied for " + status.job + ": " +
                              std::to_string(status.bytes_copied) + " bytes, diff " +
                              std::to_string(status.bytes_diff) + ", pause " +
                              std::to_string(status.pause_ms) + " ms");
    else
        co_await keep_failure(machine, work, std::move(status), std::move(done).error());
    job->is_over = true;
    job->ended.cancel();
}

}  // namespace godwit::agent
