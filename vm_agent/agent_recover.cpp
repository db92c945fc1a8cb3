// The part of Agent that finds out what an earlier process left: observe first, then undo or leave
// alone.
#include "lib/log.hpp"

#include "vm_agent/agent.hpp"
#include "vm_agent/durable_file.hpp"
#include "vm_agent/vm/disks.hpp"

#include <algorithm>
#include <filesystem>

namespace godwit::agent {

namespace fs = std::filesystem;
using protocol::OperationState;

namespace {

std::vector<std::string> files_with(const std::string& folder, const std::string& extension) {
    std::vector<std::string> files;
    std::error_code none;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder, none))
        if (entry.path().extension() == extension) files.push_back(entry.path().string());
    std::ranges::sort(files);
    return files;
}

}  // namespace

Result<void> Agent::load_records() {
    for (const std::string& file : files_with(host_.config.state_dir + "/vms", ".json")) {
        Result<std::string> text = read_file(file);
        if (!text) return std::unexpected(std::move(text).error());
        Result<VmRecord> record = json::from_text<VmRecord>(*text, "read " + file);
        if (!record) {
            record.error().fault = Fault::Corrupt;
            return std::unexpected(std::move(record).error());
        }
        const std::string name = record->spec.id;
        machines_[name] = std::make_shared<Machine>(host_, std::move(*record));
    }
    Result<std::string> text = read_file(host_.config.state_dir + "/reservations.json");
    if (!text) return {};
    Result<std::map<std::string, protocol::Reservation>> reservations =
        json::from_text<std::map<std::string, protocol::Reservation>>(*text, "read reservations");
    if (!reservations) return std::unexpected(std::move(reservations).error());
    reservations_ = std::move(*reservations);
    return {};
}

// A file of vm_dir defines a VM once; what REST calls made of it since is in its record.
Result<void> Agent::load_vm_dir() {
    if (host_.config.vm_dir.empty()) return {};
    for (const std::string& file : files_with(host_.config.vm_dir, ".yaml")) {
        Result<VmFile> vm = load_vm_file(file);
        if (!vm) return std::unexpected(std::move(vm).error());
        if (machines_.contains(vm->spec.id)) continue;
        VmRecord record;
        record.spec = vm->spec;
        std::shared_ptr<Machine> machine = std::make_shared<Machine>(host_, std::move(record));
        Result<void> kept = machine->save();
        if (!kept) return kept;
        machines_[vm->spec.id] = machine;
    }
    return {};
}

Task<void> Agent::recover_machine(std::shared_ptr<Machine> machine) {
    VmRecord& record = machine->record();
    constexpr std::string_view kCut = "the agent was restarted in the middle";
    if (record.copy && record.copy->state == OperationState::running) {
        record.copy->state = OperationState::failed;
        record.copy->error = kCut;
        reclaim_overlays(record);
        Result<void> alone =
            machine->is_alive() ? machine->write_role("sole", record.epoch) : Result<void>{};
        if (!alone) log::error("recover", alone.error().text());
    }
    // Without a trace: whoever asks for the merge again gets it, once (the destination remembers).
    if (record.merge && record.merge->state == OperationState::running) record.merge.reset();
    if (record.paused_for == PausedFor::merge_destination) {
        Result<void> recovered = recover_merge(*machine);
        if (!recovered) co_return recovered;
    }
    Result<void> done = machine->save();
    // A source that a merge stopped is meant to stand still; everybody else goes on.
    const bool ours =
        record.paused_for == PausedFor::copy || record.paused_for == PausedFor::merge_destination;
    if (done && ours && machine->is_alive()) done = co_await machine->resume();
    co_return done;
}

Task<void> Agent::recover() {
    std::error_code failed;
    for (const std::string& folder : {host_.config.state_dir + "/vms", host_.config.run_dir}) {
        fs::create_directories(folder, failed);
        if (failed) co_return fail(Fault::Rejected, "create " + folder, failed.message());
    }
    Result<void> loaded = load_records();
    if (loaded) loaded = load_vm_dir();
    if (!loaded) co_return loaded;
    for (const auto& [name, machine] : machines_) {
        if (machine->record().retired) continue;
        Result<void> recovered = co_await recover_machine(machine);
        // One silent QEMU must not keep the agent from serving the others: it answers `unknown`.
        if (!recovered) {
            machine->set_detail(recovered.error().text());
            log::error("recover", recovered.error().text());
        }
        if (machine->is_alive()) log::info("recover", "found " + name + " running");
    }
    co_return Result<void>{};
}

}  // namespace godwit::agent
