#include "vm_agent/vm/machine.hpp"

#include "lib/log.hpp"

#include "vm_agent/durable_file.hpp"
#include "vm_agent/guest/client.hpp"
#include "vm_agent/memory/mapped_file.hpp"
#include "vm_agent/vm/disks.hpp"
#include "vm_agent/vm/process.hpp"

#include <filesystem>

#include <boost/asio/steady_timer.hpp>

namespace godwit::agent {

namespace asio = boost::asio;
namespace bj = json::bj;
using memory::MappedFile;
using protocol::VmState;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr milliseconds kKillDeadline{10'000};
constexpr milliseconds kGuestDeadline{1000};
constexpr milliseconds kSweepEvery{20};
constexpr int kSweepTries = 100;
constexpr std::uint64_t kMib = 1 << 20;

Sweep sweep_after_start(BootMode mode) {
    return mode == BootMode::boot ? Sweep::keep_regions : Sweep::everything;
}

VmState state_of(const VmRecord& record, const std::string& status) {
    if (record.origin == Origin::incoming && !record.activated) return VmState::incoming;
    if (status == "running") return VmState::running;
    if (status == "prelaunch") return VmState::starting;
    return VmState::paused;  // paused, postmigrate, guest-panicked, io-error, ...
}

}  // namespace

Machine::Machine(HostContext& host, VmRecord record)
    : host_(host), record_(std::move(record)), paths_(host.config, record_.spec.id) {}

Result<void> Machine::save() const {
    Result<void> kept = replace_file(paths_.record(), json::to_text(record_));
    if (!kept)
        return std::unexpected(std::move(kept).error().within("remember VM " + record_.spec.id));
    return {};
}

bool Machine::is_alive() const {
    // The QMP socket's path is in the command line and nobody else's.
    return find_process(paths_.pid(), "unix:" + paths_.qmp() + ",server=on,wait=off") != 0;
}

Task<std::shared_ptr<qmp::Client>> Machine::qmp() {
    std::shared_ptr<Machine> self = shared_from_this();
    Lock::Guard guard = co_await qmp_lock_.acquire();
    if (qmp_ && qmp_->is_open()) co_return qmp_;
    Result<std::shared_ptr<qmp::Client>> client = co_await qmp::Client::connect(paths_.qmp());
    if (!client) co_return std::unexpected(std::move(client).error().within("VM " + name()));
    qmp_ = *client;
    co_return qmp_;
}

Task<std::string> Machine::query_status() {
    Result<std::shared_ptr<qmp::Client>> client = co_await qmp();
    if (!client) co_return std::unexpected(std::move(client).error());
    Result<bj::value> answer = co_await (*client)->execute("query-status");
    if (!answer) co_return std::unexpected(std::move(answer).error());
    boost::system::error_code none;
    const bj::value* status = answer->find_pointer("/status", none);
    if (!status || !status->is_string())
        co_return fail(Fault::Corrupt, "ask QEMU for its status", "it named none", "qemu-failed");
    co_return std::string(status->get_string());
}

Task<VmState> Machine::state() {
    if (!is_alive()) co_return record_.started ? VmState::stopped : VmState::defined;
    Result<std::string> status = co_await query_status();
    if (status) co_return state_of(record_, *status);
    // It may have ended while we asked; else it is there and says nothing, which is not "failed".
    if (!is_alive()) co_return VmState::stopped;
    detail_ = status.error().text();
    co_return VmState::unknown;
}

Task<protocol::AgentVm> Machine::view() {
    std::shared_ptr<Machine> self = shared_from_this();
    protocol::AgentVm vm;
    Result<VmState> now = co_await state();
    vm.vm = name();
    vm.state = now ? *now : VmState::unknown;
    vm.owner_job = record_.owner_job;
    vm.spec = with_overlays(record_);
    vm.role = record_.role;
    vm.pid = find_process(paths_.pid(), "unix:" + paths_.qmp() + ",server=on,wait=off");
    vm.link_up = is_link_up();
    vm.let_run = record_.let_run;
    vm.detail = detail_;
    if (record_.paused_for != PausedFor::nobody)
        vm.detail = "paused for " + json::enum_name(record_.paused_for);
    co_return vm;
}

// RAM is always made afresh; a region that is there keeps its bytes, as a disk would.
Task<void> Machine::make_memory() {
    std::shared_ptr<Machine> self = shared_from_this();
    std::function<Result<void>()> work = [self]() -> Result<void> {
        const protocol::VmSpec& spec = self->record_.spec;
        Result<MappedFile> ram = MappedFile::create(self->paths_.ram(), spec.memory_mib * kMib);
        if (!ram) return std::unexpected(std::move(ram).error());
        for (const protocol::RegionSpec& one : spec.regions) {
            const std::string path = self->paths_.region(one.name);
            std::error_code none;
            const bool fits = std::filesystem::file_size(path, none) == one.size_mib * kMib;
            if (fits && self->record_.origin == Origin::boot) continue;
            Result<MappedFile> region = MappedFile::create(path, one.size_mib * kMib);
            if (!region) return std::unexpected(std::move(region).error());
        }
        return {};
    };
    Result<void> made = co_await run_on<void>(host_.pool, std::move(work));
    co_return made;
}

Task<void> Machine::start(BootMode mode) {
    std::shared_ptr<Machine> self = shared_from_this();
    const std::string doing = "start VM " + name();
    if (is_alive()) co_return Result<void>{};
    record_.started = true;
    record_.origin = mode == BootMode::incoming ? Origin::incoming : Origin::boot;
    record_.loaded = record_.let_run = record_.activated = false;
    record_.paused_for = PausedFor::nobody;
    record_.role = "sole";
    Result<void> done = save();
    if (done) done = co_await make_memory();
    if (done && mode == BootMode::boot) {
        // A region from an earlier run may still say "source"; alone, the VM is the sole one. One that
        // starts from another's regions is told before it can look.
        const std::string role = record_.holds_regions ? "clone" : "sole";
        Result<std::uint64_t> epoch = region_epoch();
        done = epoch ? write_role(role, *epoch) : std::unexpected(std::move(epoch).error());
    }
    if (done) done = co_await make_disks();
    if (done) done = make_port();
    if (done && has_tap()) done = co_await set_link(mode == BootMode::boot);
    if (!done) {
        (void)sweep(sweep_after_start(mode));
        co_return std::unexpected(std::move(done).error().within(doing));
    }
    for (const std::string& stale : {paths_.qmp(), paths_.guest_agent(), paths_.pid()})
        (void)remove_file(stale);
    std::vector<std::string> words =
        qemu_command_line(host_.config.qemu, host_.accelerator, record_, paths_, mode);
    std::function<Result<void>()> work = [self, words]() -> Result<void> {
        Result<void> up = start_detached(words, self->paths_.qemu_log(),
                                         seconds(self->host_.config.qemu.start_timeout_s));
        if (up || self->has_tap() || up.error().fault != Fault::Retry) return up;
        return std::unexpected(
            std::move(up).error().within("wait for the switch at " + self->vhost_path()));
    };
    done = co_await run_on<void>(host_.pool, std::move(work));
    if (done) {
        Result<std::shared_ptr<qmp::Client>> client = co_await qmp();
        if (!client) done = std::unexpected(std::move(client).error());
    }
    if (done && !has_tap()) done = co_await set_link(mode == BootMode::boot);
    if (done && mode == BootMode::incoming) done = co_await prepare_migration(/*incoming=*/true);
    if (!done) {
        detail_ = done.error().text();
        (void)co_await destroy(sweep_after_start(mode));
        co_return std::unexpected(std::move(done).error().within(doing));
    }
    log::info("vm", "started " + name() + " (" + json::enum_name(record_.origin) + ")");
    co_return Result<void>{};
}

Task<bool> Machine::wait_gone(pid_t pid, milliseconds deadline) {
    std::function<Result<bool>()> work = [pid, deadline]() -> Result<bool> {
        return wait_for_end(pid, deadline);
    };
    Result<bool> gone = co_await run_on<bool>(host_.pool, std::move(work));
    co_return gone;
}

Task<void> Machine::ask_to_leave(pid_t pid) {
    if (record_.spec.guest_agent) {
        Result<std::shared_ptr<guest::Client>> inside =
            co_await guest::Client::open(paths_.guest_agent(), kGuestDeadline);
        if (inside) (void)(*inside)->tell("guest-shutdown", {});
    }
    Result<std::shared_ptr<qmp::Client>> client = co_await qmp();
    if (!client) co_return std::unexpected(std::move(client).error());
    Result<bj::value> pressed = co_await (*client)->execute("system_powerdown");
    if (!pressed) co_return std::unexpected(std::move(pressed).error());
    Result<bool> gone = co_await wait_gone(pid, seconds(host_.config.qemu.shutdown_timeout_s));
    if (gone && *gone) co_return Result<void>{};
    co_return fail(Fault::Retry, "ask the guest to shut down", "it did not in time");
}

Task<void> Machine::stop(Sweep sweep) {
    std::shared_ptr<Machine> self = shared_from_this();
    const pid_t pid = find_process(paths_.pid(), "unix:" + paths_.qmp() + ",server=on,wait=off");
    Result<VmState> now = co_await state();
    if (pid != 0 && now && *now == VmState::running) {
        Result<void> left = co_await ask_to_leave(pid);
        if (!left) log::info("vm", name() + " is ended the hard way: " + left.error().text());
    }
    Result<void> done = co_await destroy(sweep);
    co_return done;
}

Task<void> Machine::destroy(Sweep what) {
    std::shared_ptr<Machine> self = shared_from_this();
    const pid_t pid = find_process(paths_.pid(), "unix:" + paths_.qmp() + ",server=on,wait=off");
    if (qmp_) qmp_->close();
    qmp_.reset();
    if (pid != 0) {
        std::function<Result<void>()> work = [pid]() { return kill_process(pid, kKillDeadline); };
        Result<void> killed = co_await run_on<void>(host_.pool, std::move(work));
        if (!killed) co_return std::unexpected(std::move(killed).error().within("stop " + name()));
    }
    record_.started = record_.loaded = record_.activated = false;
    record_.paused_for = PausedFor::nobody;
    record_.role = "sole";
    // A QEMU that ended by itself may still be closing its files: the tap is busy until it has.
    asio::any_io_executor executor = co_await asio::this_coro::executor;
    asio::steady_timer timer(executor);
    Result<void> swept = sweep(what);
    for (int tries = 0; tries < kSweepTries && !swept && swept.error().fault == Fault::Retry;
         ++tries) {
        timer.expires_after(kSweepEvery);
        co_await timer.async_wait(asio::use_awaitable);
        swept = sweep(what);
    }
    if (swept) swept = save();
    co_return swept;
}

Result<void> Machine::sweep(Sweep what) {
    Result<void> outcome = remove_port();
    std::vector<std::string> files = paths_.base_files(record_.spec);
    files.push_back(paths_.ram());
    if (what == Sweep::everything) {
        files = paths_.memory_files(record_.spec);
        for (const std::string& overlay : own_overlays(record_)) files.push_back(overlay);
    }
    for (const std::string& run : {paths_.qmp(), paths_.guest_agent(), paths_.pid()})
        files.push_back(run);
    for (const std::string& file : files) {
        Result<void> removed = remove_file(file);
        if (!removed && outcome) outcome = std::move(removed);
    }
    if (what == Sweep::everything) record_.disks.clear();
    return outcome;
}

Result<void> Machine::remove_bases() {
    Result<void> outcome;
    for (const std::string& file : paths_.base_files(record_.spec)) {
        Result<void> removed = remove_file(file);
        if (!removed && outcome) outcome = std::move(removed);
    }
    return outcome;
}

}  // namespace godwit::agent
