// What the switch says of its VMs, and when a drain is over.
#include "dataplane/steering.hpp"

namespace godwit::dataplane {

bool Steerings::is_drained(const std::string& vm, const VmState& state) const {
    auto live = live_.find(vm);
    const std::uint32_t graced = live == live_.end() ? 0 : live->second.graced_epoch;
    if (!state.previous || graced != state.epoch) return false;
    const vm_record& record = plane_.record(state.index);
    return steer_load32(&record.sessions[*state.previous]) == 0 &&
           steer_load32(&record.handshakes[*state.previous]) == 0;
}

protocol::VmSteering Steerings::describe(const std::string& vm, const VmState& state) const {
    const vm_record& record = plane_.record(state.index);
    protocol::VmSteering now;
    now.vm = vm;
    now.addresses = state.addresses;
    now.vlans = state.vlans;
    now.idle_limits = state.idle_limits;
    for (std::uint32_t slot = 0; slot < STEER_SLOTS; ++slot) {
        const SlotState& seat = state.slots[slot];
        if (seat.name.empty()) continue;
        const Plane::BackendCounters counters = plane_.counters(state.index, slot);
        now.backends.push_back(
            {seat.name, seat.port, seat.mac, steer_load32(&record.sessions[slot]),
             steer_load32(&record.handshakes[slot]), counters.packets_to, counters.packets_from,
             counters.fenced, seat.mode, seat.temporary_addresses});
    }
    now.owner = state.slots[state.owner].name;
    if (state.previous) now.previous = state.slots[*state.previous].name;
    now.hosting = state.hosting;
    now.epoch = state.epoch;
    now.drained = is_drained(vm, state);
    now.untracked = steer_load32(&record.untracked);
    now.longest_gap_ms = static_cast<std::uint32_t>(
        std::uint64_t{steer_load32(&record.longest_gap)} * 1000 / plane_.ticks_per_second());
    auto live = live_.find(vm);
    if (live != live_.end()) now.flip_ns = live->second.flip_ns;
    return now;
}

Result<protocol::VmSteering> Steerings::status(const std::string& vm) const {
    auto known = state_.vms.find(vm);
    if (known == state_.vms.end())
        return fail(Fault::Missing, "find " + vm, "this switch does not manage it", "unknown-vm");
    return describe(vm, known->second);
}

std::vector<protocol::VmSteering> Steerings::all() const {
    std::vector<protocol::VmSteering> every;
    for (const auto& [vm, state] : state_.vms) every.push_back(describe(vm, state));
    return every;
}

std::vector<std::pair<std::string, std::uint32_t>> Steerings::waiting_for_grace() const {
    std::vector<std::pair<std::string, std::uint32_t>> waiting;
    for (const auto& [vm, state] : state_.vms) {
        auto live = live_.find(vm);
        const std::uint32_t graced = live == live_.end() ? 0 : live->second.graced_epoch;
        if (state.previous && graced != state.epoch) waiting.emplace_back(vm, state.epoch);
    }
    return waiting;
}

void Steerings::grace_over(const std::string& vm, std::uint32_t epoch) {
    live_[vm].graced_epoch = epoch;
}

void Steerings::look_at_drains() {
    for (const auto& [vm, state] : state_.vms) {
        const bool drained = is_drained(vm, state);
        Live& live = live_[vm];
        if (drained == live.was_drained) continue;
        live.was_drained = drained;
        if (state.previous) on_change_(drained ? "drained" : "undrained", describe(vm, state));
    }
}

}  // namespace godwit::dataplane
