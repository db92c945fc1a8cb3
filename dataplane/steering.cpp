#include "dataplane/steering.hpp"

#include "lib/log.hpp"

#include "dataplane/idle_limits.hpp"
#include "dataplane/names.hpp"
#include "dataplane/sessions.hpp"

#include <algorithm>
#include <chrono>

namespace godwit::dataplane {
namespace {

std::uint64_t ns_since(std::chrono::steady_clock::time_point begin) {
    const auto took = std::chrono::steady_clock::now() - begin;
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(took).count());
}

bool same_slot(const SlotState& a, const SlotState& b) {
    return a.name == b.name && a.port == b.port && a.mac == b.mac && a.mode == b.mode &&
           a.temporary_addresses == b.temporary_addresses;
}

std::uint64_t word_of(const VmState& state) {
    std::uint32_t present = 0;
    for (std::uint32_t slot = 0; slot < STEER_SLOTS; ++slot)
        if (!state.slots[slot].name.empty()) present |= 1u << slot;
    const std::uint64_t flags =
        STEER_VALID | (state.hosting ? STEER_HOSTING : 0) | (state.previous ? STEER_DRAINING : 0);
    const std::uint64_t word =
        steer_word(state.epoch, state.owner, state.previous.value_or(state.owner), flags, present);
    const std::uint64_t original = std::uint64_t{1} << STEER_ORIGINAL_SHIFT;
    return state.original != 0 ? word | original : word & ~original;
}

bool says_the_same(const VmState& a, const VmState& b) {
    return a.addresses == b.addresses && a.vlans == b.vlans && a.idle_limits == b.idle_limits &&
           word_of(a) == word_of(b) && std::ranges::equal(a.slots, b.slots, same_slot);
}

bool changed_places(const VmState& before, const VmState& after) {
    const std::vector<SlotState>&was = before.slots, &is = after.slots;
    return !was[0].name.empty() && !was[1].name.empty() && was[0].name == is[1].name &&
           was[1].name == is[0].name;
}

// Whose MAC the hosted addresses have: the owner's. While the owner is in mode nat and one that is not drains, the
// other's: it is in the caches of its peers, and only a backend in mode nat has its frames readdressed.
std::size_t speaking_slot(const VmState& state) {
    const std::size_t owner = state.owner, other = 1 - owner;
    const bool owner_is_reached_anyway = state.slots[owner].mode == protocol::SteeringMode::nat;
    const SlotState& sibling = state.slots[other];
    const bool sibling_needs_it = state.previous && sibling.mode == protocol::SteeringMode::l2;
    return owner_is_reached_anyway && sibling_needs_it ? other : owner;
}

Error unknown_vm(const std::string& vm) {
    return {Fault::Missing, "find " + vm, "this switch does not manage it", "unknown-vm"};
}

Result<std::uint32_t> slot_of(const VmState& state, const std::string& backend,
                              const std::string& doing) {
    for (std::uint32_t slot = 0; slot < STEER_SLOTS; ++slot)
        if (!backend.empty() && state.slots[slot].name == backend) return slot;
    return fail(Fault::Rejected, doing, "/backend: \"" + backend + "\" is none of its backends",
                "unknown-backend");
}

}  // namespace

Steerings::Steerings(Plane& plane, StateFile file,
                     std::function<void(const std::string&, const protocol::VmSteering&)> on_change)
    : plane_(plane), file_(std::move(file)), on_change_(std::move(on_change)) {}

Result<void> Steerings::start() {
    Result<SwitchState> loaded = file_.load();
    if (!loaded) return std::unexpected(std::move(loaded).error());
    state_ = std::move(*loaded);
    for (auto& [vm, state] : state_.vms) {
        state.slots.resize(STEER_SLOTS);
        // Absent after a reboot, or killed between "made durable" and "told the plane".
        Result<VmSetup> setup = setup_of(state);
        if (!setup) return std::unexpected(std::move(setup).error().within("restore " + vm));
        Result<void> told = plane_.set_vm(state.index, *setup);
        if (!told) return std::unexpected(std::move(told).error().within("restore " + vm));
        if (steer_load64(&plane_.record(state.index).steer) != word_of(state))
            store_word(vm, state);
    }
    return {};
}

Result<void> Steerings::check_token(std::uint64_t token) {
    if (token < state_.token)
        return fail(Fault::Conflict, "accept a command",
                    "its token " + std::to_string(token) + " is older than " +
                        std::to_string(state_.token) + "; another controller has taken over",
                    "stale-epoch");
    if (token == state_.token) return {};
    // Durable before anything is done with it: after a restart the older one must still be refused.
    SwitchState next = state_;
    next.token = token;
    Result<void> saved = file_.save(next);
    if (saved) state_ = std::move(next);
    return saved;
}

Result<protocol::Fence> Steerings::raise_fence(const protocol::Fence& fence) {
    Result<void> current = check_token(fence.token);
    if (!current) return std::unexpected(std::move(current).error());
    return protocol::Fence{state_.token};
}

Result<protocol::VmSteering> Steerings::put(const std::string& vm,
                                            const protocol::Steering& wanted) {
    Result<void> current = check_token(wanted.command.token);
    if (!current) return std::unexpected(std::move(current).error());
    Result<VmState> next = plan(vm, wanted);
    if (!next) return std::unexpected(std::move(next).error());
    auto known = state_.vms.find(vm);
    const auto untold = untold_.find(vm);
    const bool is_told = untold == untold_.end();
    if (is_told && known != state_.vms.end() && says_the_same(known->second, *next))
        return status(vm);

    const VmState before = !is_told                    ? untold->second
                           : known == state_.vms.end() ? VmState{.slots = {{}, {}}}
                                                       : known->second;
    SwitchState meant = state_;
    meant.vms[vm] = *next;
    Result<void> saved = file_.save(meant);
    if (!saved) return std::unexpected(std::move(saved).error().within("steer " + vm));
    state_ = std::move(meant);
    Result<void> done = carry_out(vm, before, *next);
    if (!done) {
        untold_.try_emplace(vm, before);
        return std::unexpected(std::move(done).error().within("steer " + vm));
    }
    untold_.erase(vm);
    protocol::VmSteering now = describe(vm, *next);
    on_change_("steering", now);
    return now;
}

Result<void> Steerings::carry_out(const std::string& vm, const VmState& before,
                                  const VmState& after) {
    Result<VmSetup> setup = setup_of(after);
    if (!setup) return std::unexpected(std::move(setup).error());
    vm_record& record = plane_.record(after.index);
    bool leaves = false;
    const bool moves = changed_places(before, after);
    for (std::uint32_t slot = 0; slot < STEER_SLOTS && !moves; ++slot) {
        const SlotState &was = before.slots[slot], &is = after.slots[slot];
        if (was.name.empty() || was.name == is.name) continue;
        leaves = true;
        // Who comes next must not inherit what the old backend owned.
        if (is.name.empty()) continue;
        Result<Plane::ResetCount> ended =
            plane_.end_sessions(after.index, slot, Plane::Tell::nobody);
        if (!ended) return std::unexpected(std::move(ended).error());
    }
    if (after.hosting && !before.hosting) {
        steer_store32(&record.longest_gap, 0);
        for (std::uint32_t& since : record.waiting_since) steer_store32(&since, 0);
    }
    // A backend that leaves is out of the word before its identity goes; one that comes is known
    // before the word names it.
    if (leaves) store_word(vm, after);
    const auto begin = std::chrono::steady_clock::now();
    Result<void> told = plane_.set_vm(after.index, *setup);
    if (!told) return told;
    store_word(vm, after);
    // Then the plane's turning of the port is the flip, and not the word.
    if (moves) live_[vm].flip_ns = ns_since(begin);
    for (std::uint32_t slot = 0; slot < STEER_SLOTS; ++slot) {
        if (before.slots[slot].name.empty() || !after.slots[slot].name.empty()) continue;
        Result<Plane::ResetCount> ended =
            plane_.end_sessions(after.index, slot, Plane::Tell::nobody);
        if (!ended) return std::unexpected(std::move(ended).error());
    }
    return {};
}

// The flip: one store, after which every packet that begins sees the new owner.
void Steerings::store_word(const std::string& vm, const VmState& state) {
    vm_record& record = plane_.record(state.index);
    const std::uint64_t word = word_of(state);
    const bool flips = steer_epoch(steer_load64(&record.steer)) != state.epoch;
    const auto begin = std::chrono::steady_clock::now();
    __atomic_store_n(&record.steer, word, __ATOMIC_SEQ_CST);
    const std::uint64_t took = ns_since(begin);
    if (!flips) return;
    Live& live = live_[vm];
    live.was_drained = false;
    live.flip_ns = took;
    log::info("steering", vm + ": owner " + state.slots[state.owner].name + ", previous " +
                              (state.previous ? state.slots[*state.previous].name : "none") +
                              ", epoch " + std::to_string(state.epoch));
}

Result<void> Steerings::remove(const std::string& vm, std::uint64_t token) {
    Result<void> current = check_token(token);
    if (!current) return current;
    auto known = state_.vms.find(vm);
    if (known == state_.vms.end()) return {};
    // The plane first: a restart in between finds the name still there and may be told again.
    Result<void> cleared = plane_.clear_vm(known->second.index);
    if (!cleared) return std::unexpected(std::move(cleared).error().within("stop steering " + vm));
    SwitchState next = state_;
    next.vms.erase(vm);
    Result<void> saved = file_.save(next);
    if (!saved) return saved;
    state_ = std::move(next);
    live_.erase(vm);
    untold_.erase(vm);
    return {};
}

Result<protocol::ResetResult> Steerings::reset(const std::string& vm,
                                               const protocol::ResetRequest& request) {
    Result<void> current = check_token(request.command.token);
    if (!current) return std::unexpected(std::move(current).error());
    auto known = state_.vms.find(vm);
    if (known == state_.vms.end()) return std::unexpected(unknown_vm(vm));
    VmState& state = known->second;
    if (state.reset && state.reset->job == request.command.job &&
        state.reset->step == request.command.step)
        return state.reset->result;
    Result<std::uint32_t> slot = slot_of(state, request.backend, "reset sessions of " + vm);
    if (!slot) return std::unexpected(std::move(slot).error());
    Result<Plane::ResetCount> ended = plane_.end_sessions(state.index, *slot, Plane::Tell::peers);
    if (!ended) return std::unexpected(std::move(ended).error().within("reset sessions of " + vm));
    ResetOutcome outcome{request.command.job, request.command.step, {ended->reset, ended->dropped}};
    state.reset = outcome;
    Result<void> saved = file_.save(state_);
    if (!saved) return std::unexpected(std::move(saved).error().within("reset sessions of " + vm));
    look_at_drains();
    return outcome.result;
}

// Repeating it changes nothing: what has ended has another stamp.
Result<protocol::EndLostResult> Steerings::end_lost(const std::string& vm,
                                                    const protocol::EndLostRequest& request) {
    Result<void> current = check_token(request.command.token);
    if (!current) return std::unexpected(std::move(current).error());
    auto known = state_.vms.find(vm);
    if (known == state_.vms.end()) return std::unexpected(unknown_vm(vm));
    Result<std::uint32_t> slot = slot_of(known->second, request.backend, "end sessions of " + vm);
    if (!slot) return std::unexpected(std::move(slot).error());
    Result<std::uint64_t> ended = dataplane::end_lost(plane_, *known, *slot, request.sessions);
    if (!ended) return std::unexpected(std::move(ended).error().within("end sessions of " + vm));
    look_at_drains();
    return protocol::EndLostResult{*ended, request.sessions.size() - *ended};
}

Result<VmSetup> Steerings::announcement(const std::string& vm, std::uint64_t token) {
    Result<void> current = check_token(token);
    if (!current) return std::unexpected(std::move(current).error());
    auto known = state_.vms.find(vm);
    if (known == state_.vms.end()) return std::unexpected(unknown_vm(vm));
    return setup_of(known->second);
}

Result<VmSetup> Steerings::setup_of(const VmState& state) const {
    VmSetup setup;
    setup.limits = limits_of(state.idle_limits);
    for (const std::uint16_t tag : state.vlans) setup.vlan = steer_vlan_within(setup.vlan, tag);
    const std::vector<PortState> ports = plane_.ports();
    for (const std::string& text : state.addresses) {
        Result<HostedAddress> address = parse_hosted(text);
        if (!address) return std::unexpected(std::move(address).error());
        setup.addresses.push_back(*address);
    }
    for (std::uint32_t slot = 0; slot < STEER_SLOTS; ++slot) {
        const SlotState& seat = state.slots[slot];
        if (seat.name.empty()) continue;
        auto port = std::ranges::find(ports, seat.port, &PortState::name);
        if (port == ports.end())
            return fail(Fault::Rejected, "backend " + seat.name,
                        "its port \"" + seat.port + "\" is no longer configured", "unknown-port");
        Result<Mac> mac = parse_mac(seat.mac);
        if (!mac) return std::unexpected(std::move(mac).error());
        setup.backends[slot] = {port->ifindex, *mac, {}};
        for (const std::string& text : seat.temporary_addresses) {
            Result<HostedAddress> address = parse_hosted(text);
            if (!address) return std::unexpected(std::move(address).error());
            setup.backends[slot].temporary.push_back(*address);
        }
    }
    setup.mac = setup.backends[speaking_slot(state)].mac;
    return setup;
}

}  // namespace godwit::dataplane
