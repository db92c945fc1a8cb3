#include "vm_agent/agent.hpp"

#include "lib/daemon.hpp"
#include "lib/log.hpp"

#include "vm_agent/durable_file.hpp"
#include "vm_agent/guest/addresses.hpp"

#include <algorithm>
#include <filesystem>
#include <string_view>

namespace godwit::agent {

namespace fs = std::filesystem;
using protocol::AgentVm;
using protocol::VmState;

namespace {

constexpr std::uint64_t kMib = 1 << 20;
// What a VM costs beside its RAM and regions: QEMU itself.
constexpr std::uint64_t kQemuBytes = 96 * kMib;

std::uint64_t bytes_of(const protocol::VmSpec& spec) {
    std::uint64_t mib = spec.memory_mib;
    for (const protocol::RegionSpec& region : spec.regions) mib += region.size_mib;
    return mib * kMib;
}

std::unexpected<Error> no_memory(const std::string& doing, std::uint64_t wanted,
                                 std::uint64_t available) {
    return fail(Fault::Conflict, doing,
                std::to_string(wanted / kMib) + " MiB are wanted and " +
                    std::to_string(available / kMib) + " MiB are left on this host",
                "no-memory");
}

bool same_spec(const protocol::VmSpec& a, const protocol::VmSpec& b) {
    return json::to_text(a) == json::to_text(b);
}

bool has_overlays(const VmRecord& record) {
    return std::ranges::any_of(record.disks, [](const DiskState& disk) {
        return !disk.own.empty() || !disk.shared.empty();
    });
}

// Overlays aside: those are the agent's.
bool same_disks(const protocol::VmSpec& a, const protocol::VmSpec& b) {
    return std::ranges::equal(a.disks, b.disks, [](const auto& one, const auto& other) {
        return one.base == other.base && one.format == other.format &&
               one.writable == other.writable;
    });
}

}  // namespace

std::unexpected<Error> wrong_state(const std::string& doing, VmState now,
                                   const std::string& legal) {
    return fail(Fault::Conflict, doing,
                "it is " + json::enum_name(now) + ", legal would be: " + legal, "wrong-state");
}

Agent::Agent(HostContext& host, Fencing fencing, memory::Credentials credentials)
    : host_(host), fencing_(std::move(fencing)), credentials_(std::move(credentials)) {}

Result<std::shared_ptr<Machine>> Agent::find(const std::string& vm) const {
    auto found = machines_.find(vm);
    if (found != machines_.end() && !found->second->record().retired) return found->second;
    return fail(Fault::Missing, "look for VM " + vm, "this host does not know it", "unknown-vm");
}

void Agent::forget(const std::string& vm) {
    machines_.erase(vm);
}

Agent::Memory Agent::memory_left(const std::string& except_job) const {
    Memory memory;
    memory.total = memory::meminfo_bytes("MemTotal");
    if (host_.config.memory_limit_mib != 0)
        memory.total = std::min(memory.total, host_.config.memory_limit_mib * kMib);
    std::uint64_t used = 0;
    for (const auto& [name, machine] : machines_)
        if (machine->record().started) used += bytes_of(machine->record().spec) + kQemuBytes;
    for (const auto& [job, reservation] : reservations_) {
        // Its VM counts itself as soon as it has been started.
        auto vm = machines_.find(reservation.vm);
        const bool consumed = vm != machines_.end() && vm->second->record().started;
        if (job != except_job && !consumed) used += reservation.memory_bytes;
    }
    memory.available = memory.total > used ? memory.total - used : 0;
    memory.available = std::min(memory.available, memory::meminfo_bytes("MemAvailable"));
    return memory;
}

Task<protocol::HostStatus> Agent::host_status() {
    protocol::HostStatus status;
    status.host = host_.config.id;
    status.version = std::string(daemon::version());
    status.qemu_version = host_.qemu_version;
    status.accelerator = host_.accelerator;
    status.token = fencing_.token();
    const Memory memory = memory_left();
    status.memory_total_bytes = memory.total;
    status.memory_available_bytes = memory.available;
    status.transfer_address = host_.config.transfer_address;
    status.vms = co_await views();
    co_return status;
}

boost::asio::awaitable<std::vector<AgentVm>> Agent::views() {
    std::vector<std::shared_ptr<Machine>> machines;
    for (const auto& [name, machine] : machines_)
        if (!machine->record().retired) machines.push_back(machine);
    std::vector<AgentVm> all;
    for (const std::shared_ptr<Machine>& machine : machines) {
        Result<AgentVm> one = co_await machine->view();
        if (one) all.push_back(std::move(*one));
    }
    co_return all;
}

Task<AgentVm> Agent::define(protocol::VmSpec spec) {
    Result<void> good = check_vm(spec);
    if (!good) co_return std::unexpected(std::move(good).error());
    for (protocol::DiskSpec& disk : spec.disks) disk.overlays.clear();
    auto found = machines_.find(spec.id);
    if (found != machines_.end() && !found->second->record().retired) {
        std::shared_ptr<Machine> machine = found->second;
        if (!same_spec(machine->record().spec, spec)) {
            if (machine->is_alive())
                co_return wrong_state("define VM " + spec.id, VmState::running,
                                      "stopped, or the same description");
            if (has_overlays(machine->record()) && !same_disks(machine->record().spec, spec))
                co_return fail(Fault::Conflict, "define VM " + spec.id,
                               "its disks have overlays that belong to the images they were made "
                               "over: leave disks as they are, or delete the VM and define it anew",
                               "disks-in-use");
            machine->record().spec = spec;
        }
        Result<void> kept = machine->save();
        if (!kept) co_return std::unexpected(std::move(kept).error());
        Result<AgentVm> view = co_await machine->view();
        co_return view;
    }
    VmRecord record;
    record.spec = spec;
    std::shared_ptr<Machine> machine = std::make_shared<Machine>(host_, record);
    Result<void> kept = machine->save();
    if (!kept) co_return std::unexpected(std::move(kept).error());
    machines_[spec.id] = machine;
    Result<AgentVm> view = co_await machine->view();
    co_return view;
}

Task<AgentVm> Agent::start(std::string vm) {
    Result<std::shared_ptr<Machine>> machine = find(vm);
    if (!machine) co_return std::unexpected(std::move(machine).error());
    Lock::Guard guard = co_await (*machine)->lock().acquire();
    if (!(*machine)->is_alive()) {
        (*machine)->record().started = false;
        const std::uint64_t wanted = bytes_of((*machine)->record().spec) + kQemuBytes;
        const Memory left = memory_left();
        if (wanted > left.available) co_return no_memory("start VM " + vm, wanted, left.available);
    }
    Result<void> started = co_await (*machine)->start(BootMode::boot);
    if (!started) co_return std::unexpected(std::move(started).error());
    Result<AgentVm> view = co_await (*machine)->view();
    co_return view;
}

Task<AgentVm> Agent::stop(std::string vm) {
    Result<std::shared_ptr<Machine>> machine = find(vm);
    if (!machine) co_return std::unexpected(std::move(machine).error());
    if (copies_.contains(vm) || merges_.contains(vm))
        co_return fail(Fault::Conflict, "stop VM " + vm,
                       "a migration is at work on it; abort that first", "wrong-state");
    Lock::Guard guard = co_await (*machine)->lock().acquire();
    Result<void> stopped = co_await (*machine)->stop(Sweep::keep_regions);
    if (!stopped) co_return std::unexpected(std::move(stopped).error());
    Result<AgentVm> view = co_await (*machine)->view();
    co_return view;
}

Task<void> Agent::remove(std::string vm, std::string job) {
    Result<std::shared_ptr<Machine>> machine = find(vm);
    if (!machine) co_return Result<void>{};
    if (!job.empty() && (*machine)->record().owner_job != job)
        co_return fail(Fault::Conflict, "delete VM " + vm, "job " + job + " does not own it",
                       "not-owner");
    if (copies_.contains(vm)) {
        Result<void> aborted = co_await abort_copy(vm, "");
        if (!aborted) co_return std::unexpected(std::move(aborted).error());
    }
    sessions_.end_of(vm);
    Lock::Guard guard = co_await (*machine)->lock().acquire();
    // What a job made has no guest anybody would ask first.
    Result<void> gone;
    if (job.empty())
        gone = co_await (*machine)->stop(Sweep::everything);
    else
        gone = co_await (*machine)->destroy(Sweep::everything);
    if (!gone) co_return gone;
    for (const std::string& file : (*machine)->paths().run_files()) (void)remove_file(file);
    gone = remove_file((*machine)->paths().record());
    if (gone) forget(vm);
    co_return gone;
}

Result<void> Agent::save_reservations() const {
    return replace_file(host_.config.state_dir + "/reservations.json",
                        json::to_text(reservations_));
}

Result<protocol::Reservation> Agent::reserve(const protocol::Reservation& reservation) {
    const std::string& job = reservation.command.job;
    const Memory left = memory_left(job);
    if (reservation.memory_bytes > left.available)
        return no_memory("reserve memory for " + job, reservation.memory_bytes, left.available);
    reservations_[job] = reservation;
    Result<void> kept = save_reservations();
    if (!kept) return std::unexpected(std::move(kept).error());
    return reservation;
}

Result<void> Agent::release(const std::string& job) {
    reservations_.erase(job);
    return save_reservations();
}

Task<protocol::AddressList> Agent::addresses(std::string vm) {
    Result<std::shared_ptr<Machine>> machine = find(vm);
    if (!machine) co_return std::unexpected(std::move(machine).error());
    constexpr guest::Milliseconds kDeadline{3000};
    Result<std::shared_ptr<guest::Client>> inside =
        co_await guest::Client::open((*machine)->paths().guest_agent(), kDeadline);
    if (!inside) co_return std::unexpected(std::move(inside).error());
    Result<json::bj::value> answer =
        co_await (*inside)->execute("guest-network-get-interfaces", {}, kDeadline);
    if (!answer) co_return std::unexpected(std::move(answer).error());
    co_return protocol::AddressList{guest::addresses_of(*answer)};
}

Task<protocol::AddressList> Agent::set_addresses(std::string vm, protocol::AddressRequest request) {
    const std::string doing = "set the addresses of VM " + vm;
    Result<std::shared_ptr<Machine>> machine = find(vm);
    if (!machine) co_return std::unexpected(std::move(machine).error());
    constexpr guest::Milliseconds kDeadline{3000};
    Result<std::shared_ptr<guest::Client>> inside =
        co_await guest::Client::open((*machine)->paths().guest_agent(), kDeadline);
    if (!inside) co_return std::unexpected(std::move(inside).error().within(doing));
    Result<json::bj::value> before =
        co_await (*inside)->execute("guest-network-get-interfaces", {}, kDeadline);
    if (!before) co_return std::unexpected(std::move(before).error().within(doing));
    Result<std::string> script =
        guest::address_script(*before, (*machine)->record().spec.mac, request);
    if (!script) co_return std::unexpected(std::move(script).error().within(doing));
    if (script->empty()) co_return protocol::AddressList{guest::addresses_of(*before)};
    const std::vector<std::string> arguments{"-c", *script};
    Result<int> code = co_await (*inside)->run("/bin/sh", arguments, "", kDeadline);
    if (!code) co_return std::unexpected(std::move(code).error().within(doing));
    // It may have done a part, and does the rest the next time.
    if (*code != 0)
        co_return fail(Fault::Retry, doing, "the guest's ip(8) ended with " + std::to_string(*code),
                       "guest-refused");
    Result<json::bj::value> after =
        co_await (*inside)->execute("guest-network-get-interfaces", {}, kDeadline);
    if (!after) co_return std::unexpected(std::move(after).error().within(doing));
    co_return protocol::AddressList{guest::addresses_of(*after)};
}

Task<protocol::SocketTable> Agent::sockets(std::string vm) {
    Result<std::shared_ptr<Machine>> machine = find(vm);
    if (!machine) co_return std::unexpected(std::move(machine).error());
    constexpr guest::Milliseconds kDeadline{3000};
    Result<std::shared_ptr<guest::Client>> inside =
        co_await guest::Client::open((*machine)->paths().guest_agent(), kDeadline);
    if (!inside) co_return std::unexpected(std::move(inside).error());
    protocol::SocketTable table;
    // In mode nat its sockets have its temporary addresses.
    std::vector<std::string> own = (*machine)->record().spec.addresses;
    for (const std::string& one : (*machine)->record().spec.temporary_addresses)
        own.push_back(one.substr(0, one.find('/')));
    for (const char* file : {"/proc/net/tcp", "/proc/net/tcp6"}) {
        Result<std::string> text = co_await (*inside)->read_file(file, kDeadline);
        // A kernel without IPv6 has no tcp6. Anything else that is not read is not empty for that.
        const bool may_lack = std::string_view(file).ends_with("tcp6");
        if (!text && may_lack && text.error().fault == Fault::Rejected) continue;
        if (!text) co_return std::unexpected(std::move(text).error());
        protocol::SocketTable part = guest::socket_table_of(*text, own);
        table.tcp_established += part.tcp_established;
        table.peers.insert(table.peers.end(), part.peers.begin(), part.peers.end());
        table.tcp.insert(table.tcp.end(), part.tcp.begin(), part.tcp.end());
        table.tcp_listening.insert(table.tcp_listening.end(), part.tcp_listening.begin(),
                                   part.tcp_listening.end());
    }
    std::ranges::sort(table.tcp_listening);
    const auto twice = std::ranges::unique(table.tcp_listening);
    table.tcp_listening.erase(twice.begin(), twice.end());
    co_return table;
}

}  // namespace godwit::agent
