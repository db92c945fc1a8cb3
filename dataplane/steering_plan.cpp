// Checks a steering command against what is known, and says what it makes of the VM. Changes nothing.
#include "steering/parse.h"

#include "dataplane/idle_limits.hpp"
#include "dataplane/names.hpp"
#include "dataplane/steering.hpp"

#include <algorithm>
#include <map>
#include <set>

namespace godwit::dataplane {
namespace {

using protocol::Backend;
using protocol::Steering;
using protocol::SteeringMode;

void complain(std::vector<FieldError>& errors, std::string pointer, std::string message) {
    errors.push_back({std::move(pointer), std::move(message), 0, 0});
}

bool names_backend(const Steering& wanted, const std::string& name) {
    return std::ranges::any_of(wanted.backends, [&](const Backend& b) { return b.name == name; });
}

void check_backends(const Steering& wanted, const std::vector<PortState>& ports,
                    std::vector<FieldError>& errors) {
    if (wanted.backends.empty() || wanted.backends.size() > STEER_SLOTS)
        complain(errors, "/backends", "expected one backend, or two during a migration");
    std::set<std::string> names;
    for (std::size_t i = 0; i < wanted.backends.size(); ++i) {
        const Backend& backend = wanted.backends[i];
        const std::string at = "/backends/" + std::to_string(i);
        if (backend.name.empty() || !names.insert(backend.name).second)
            complain(errors, at + "/name", "must be a name of its own");
        Result<Mac> mac = parse_mac(backend.mac);
        if (!mac) complain(errors, at + "/mac", mac.error().cause);
        auto port = std::ranges::find(ports, backend.port, &PortState::name);
        if (port == ports.end())
            complain(errors, at + "/port", "\"" + backend.port + "\" is no port of this switch");
        else if (port->role == PortRole::underlay)
            complain(
                errors, at + "/port",
                "\"" + backend.port + "\" is no port of this switch for VMs: it carries tunnels");
    }
}

bool is_nat(const Backend& backend) {
    return backend.mode == SteeringMode::nat;
}

// What tells the two apart on the wire: the port while both have one MAC and address, else the MAC.
void check_pair(const Steering& wanted, std::vector<FieldError>& errors) {
    if (wanted.backends.size() != 2) return;
    const Backend &first = wanted.backends[0], &second = wanted.backends[1];
    if (!is_nat(first) && !is_nat(second) && first.port == second.port)
        complain(errors, "/backends/1/port",
                 "is the other backend's port too; l2 steering needs two different ports");
    const Result<Mac> a = parse_mac(first.mac), b = parse_mac(second.mac);
    if ((is_nat(first) || is_nat(second)) && a && b && *a == *b)
        complain(errors, "/backends/1/mac",
                 "is the other backend's MAC too; mode nat needs a MAC of its own");
}

void check_roles(const Steering& wanted, std::vector<FieldError>& errors) {
    if (!names_backend(wanted, wanted.owner))
        complain(errors, "/owner", "\"" + wanted.owner + "\" is none of the backends");
    if (wanted.takes_over && !names_backend(wanted, *wanted.takes_over))
        complain(errors, "/takes_over", "\"" + *wanted.takes_over + "\" is none of the backends");
    if (wanted.takes_over && *wanted.takes_over == wanted.owner)
        complain(errors, "/takes_over", "is the owner too; it names the backend that gives all up");
    if (wanted.takes_over && wanted.previous)
        complain(errors, "/takes_over", "nothing is left to drain then; leave /previous out");
    if (wanted.takes_over && std::ranges::any_of(wanted.backends, is_nat))
        complain(errors, "/takes_over",
                 "is for mode l2: a VM that has moved as a whole has kept its address");
    const auto owner = std::ranges::find(wanted.backends, wanted.owner, &Backend::name);
    if (owner != wanted.backends.end() && is_nat(*owner) && !wanted.hosting)
        complain(errors, "/hosting",
                 "must be true: the owner is in mode nat and does not answer for the addresses");
    if (!wanted.previous) return;
    if (!names_backend(wanted, *wanted.previous))
        complain(errors, "/previous", "\"" + *wanted.previous + "\" is none of the backends");
    if (*wanted.previous == wanted.owner)
        complain(errors, "/previous", "is the owner too; leave it out when nothing drains");
}

void check_vlans(const Steering& wanted, std::vector<FieldError>& errors) {
    if (wanted.vlans.size() > STEER_TAGS_MAX)
        complain(errors, "/vlans", "expected at most two tags, the outer one first");
    for (std::size_t i = 0; i < wanted.vlans.size(); ++i)
        if (wanted.vlans[i] < 1 || wanted.vlans[i] > 4094)
            complain(errors, "/vlans/" + std::to_string(i), "is no VLAN, expected 1 to 4094");
}

// Sessions that have begun in one VLAN do not go on in another.
void check_vlans_in_use(const SwitchState& known, const std::string& vm, const Steering& wanted,
                        Plane& plane, std::vector<FieldError>& errors) {
    const auto before = known.vms.find(vm);
    if (before == known.vms.end() || before->second.vlans == wanted.vlans) return;
    const vm_record& record = plane.record(before->second.index);
    std::uint64_t open = 0;
    for (std::size_t slot = 0; slot < STEER_SLOTS; ++slot)
        open += steer_load32(&record.sessions[slot]) + steer_load32(&record.handshakes[slot]);
    if (open > 0)
        complain(errors, "/vlans",
                 "cannot change while " + std::to_string(open) +
                     " sessions are open; drain or reset them first");
}

// Whose address it is in this VLAN, hosted or temporary; empty: nobody's that another VM has.
std::string holder_of(const HostedAddress& address, const std::string& vm, const Steering& wanted,
                      const SwitchState& known) {
    const auto is_it = [&](const std::string& text) { return parse_hosted(text) == address; };
    for (const auto& [name, other] : known.vms) {
        if (name == vm || other.vlans != wanted.vlans) continue;
        if (std::ranges::any_of(other.addresses, is_it)) return name;
        for (const SlotState& slot : other.slots)
            if (std::ranges::any_of(slot.temporary_addresses, is_it)) return name;
    }
    return {};
}

// One address of the command; it joins `used` when it is good. 0: it is not, else its family.
std::uint32_t check_address(const std::string& text, const std::string& at, const std::string& vm,
                            const Steering& wanted, const SwitchState& known,
                            std::set<HostedAddress>& used, std::vector<FieldError>& errors) {
    Result<HostedAddress> address = parse_hosted(text);
    if (!address) {
        complain(errors, at, address.error().cause);
        return 0;
    }
    const std::string holder = holder_of(*address, vm, wanted, known);
    if (!used.insert(*address).second) complain(errors, at, "stands here twice");
    if (!holder.empty())
        complain(errors, at, "is an address of " + holder + " (duplicate-address)");
    return address->family;
}

using PerFamily = std::map<std::uint32_t, int>;  // 4 and 6: how many

void check_temporary(const Backend& backend, const std::string& at, const PerFamily& hosted,
                     const PerFamily& own, std::vector<FieldError>& errors) {
    if (!is_nat(backend)) {
        if (!backend.temporary_addresses.empty())
            complain(errors, at, "are for mode nat; in mode l2 a backend has the hosted addresses");
        return;
    }
    for (const std::uint32_t family : {4u, 6u}) {
        const auto count = [&](const PerFamily& all) {
            return all.contains(family) ? all.at(family) : 0;
        };
        const std::string name = "IPv" + std::to_string(family);
        if (count(hosted) > 1)
            complain(errors, "/addresses",
                     "mode nat has one hosted " + name +
                         " address: with more, nothing tells "
                         "which of them a temporary address stands for");
        else if (count(own) != count(hosted))
            complain(errors, at,
                     "mode nat needs " +
                         std::string(count(hosted) ? "one temporary " : "no temporary ") + name +
                         " address, because the VM has " + (count(hosted) ? "a" : "no") +
                         " hosted one");
    }
}

void check_addresses(const std::string& vm, const Steering& wanted, const SwitchState& known,
                     std::vector<FieldError>& errors) {
    if (wanted.addresses.empty() || wanted.addresses.size() > STEER_ADDRESSES_PER_VM)
        complain(errors, "/addresses", "expected 1 to 8 addresses");
    std::set<HostedAddress> used;
    PerFamily hosted;
    for (std::size_t i = 0; i < wanted.addresses.size(); ++i)
        ++hosted[check_address(wanted.addresses[i], "/addresses/" + std::to_string(i), vm, wanted,
                               known, used, errors)];
    for (std::size_t i = 0; i < wanted.backends.size(); ++i) {
        const Backend& backend = wanted.backends[i];
        const std::string at = "/backends/" + std::to_string(i) + "/temporary_addresses";
        PerFamily own;
        for (std::size_t k = 0; k < backend.temporary_addresses.size(); ++k)
            ++own[check_address(backend.temporary_addresses[k], at + "/" + std::to_string(k), vm,
                                wanted, known, used, errors)];
        check_temporary(backend, at, hosted, own, errors);
    }
}

std::string slug_of(const std::vector<FieldError>& errors) {
    for (const FieldError& e : errors) {
        if (e.message.contains("no port of this switch")) return "unknown-port";
        if (e.message.contains("two different ports")) return "same-port";
        if (e.message.contains("duplicate-address")) return "duplicate-address";
        if (e.message.contains("MAC of its own")) return "same-mac";
        if (e.message.contains("does not answer for")) return "not-hosting";
        if (e.message.contains("of another name")) return "mode-in-use";
        if (e.message.contains("mode nat")) return "temporary-address";
    }
    return "invalid-steering";
}

// A backend keeps its slot for life; a new one takes a slot that nobody wanted names.
void seat(std::vector<SlotState>& slots, const Steering& wanted) {
    for (SlotState& slot : slots)
        if (!names_backend(wanted, slot.name)) slot = {};
    for (const Backend& backend : wanted.backends) {
        auto seat = std::ranges::find(slots, backend.name, &SlotState::name);
        if (seat == slots.end()) seat = std::ranges::find(slots, std::string{}, &SlotState::name);
        *seat = {backend.name, backend.port, backend.mac, backend.mode,
                 backend.temporary_addresses};
    }
}

std::uint32_t slot_of(const std::vector<SlotState>& slots, const std::string& name) {
    auto found = std::ranges::find(slots, name, &SlotState::name);
    return static_cast<std::uint32_t>(found - slots.begin());
}

// Sessions name their owner by its slot: the new owner sits down on the old one's, and they are its
// own. Only from an owner that had all of them: with two active there is no one place to take.
bool take_place(VmState& next, const VmState& before, const Steering& wanted) {
    if (!wanted.takes_over || before.epoch == 0 || before.previous) return false;
    if (before.slots[before.owner].name != *wanted.takes_over) return false;
    std::swap(next.slots[0], next.slots[1]);
    return true;
}

Result<std::uint16_t> free_index(const SwitchState& known) {
    std::set<std::uint16_t> used;
    for (const auto& [name, vm] : known.vms) used.insert(vm.index);
    for (std::uint16_t index = 0; index < STEER_VMS_MAX; ++index)
        if (!used.contains(index)) return index;
    return fail(Fault::Rejected, "manage one more VM",
                "the switch manages " + std::to_string(STEER_VMS_MAX) + " already", "table-full");
}

}  // namespace

// A session that a VM has begun under one address it cannot go on with under another.
void Steerings::check_names_in_use(const std::string& vm, const Steering& wanted,
                                   std::vector<FieldError>& errors) const {
    const auto known = state_.vms.find(vm);
    if (known == state_.vms.end()) return;
    for (std::size_t i = 0; i < wanted.backends.size(); ++i) {
        const Backend& backend = wanted.backends[i];
        const auto& slots = known->second.slots;
        const auto seat = std::ranges::find(slots, backend.name, &SlotState::name);
        if (seat == slots.end() || (seat->mode == backend.mode &&
                                    seat->temporary_addresses == backend.temporary_addresses))
            continue;
        const vm_record& record = plane_.record(known->second.index);
        const auto slot = static_cast<std::size_t>(seat - slots.begin());
        const std::uint64_t open =
            steer_load32(&record.sessions[slot]) + steer_load32(&record.handshakes[slot]);
        if (open > 0)
            complain(errors, "/backends/" + std::to_string(i) + "/mode",
                     backend.name + " has " + std::to_string(open) +
                         " sessions, which cannot go on under an address of another name; drain or "
                         "reset them first");
    }
}

Result<VmState> Steerings::plan(const std::string& vm, const Steering& wanted) const {
    std::vector<FieldError> errors;
    check_backends(wanted, plane_.ports(), errors);
    check_pair(wanted, errors);
    check_roles(wanted, errors);
    check_addresses(vm, wanted, state_, errors);
    check_names_in_use(vm, wanted, errors);
    check_vlans(wanted, errors);
    check_vlans_in_use(state_, vm, wanted, plane_, errors);
    protocol::check_idle_limits(wanted.idle_limits, "/idle_limits", errors);
    if (!errors.empty()) {
        Error error{Fault::Rejected, "steer " + vm, "the command has errors", slug_of(errors)};
        error.fields = std::move(errors);
        return std::unexpected(std::move(error));
    }
    VmState next;
    auto known = state_.vms.find(vm);
    if (known != state_.vms.end()) {
        next = known->second;
    } else {
        Result<std::uint16_t> index = free_index(state_);
        if (!index) return std::unexpected(std::move(index).error());
        next.index = *index;
        next.slots.resize(STEER_SLOTS);
    }
    const VmState before = next;
    next.addresses = wanted.addresses;
    next.vlans = wanted.vlans;
    next.idle_limits = wanted.idle_limits;
    seat(next.slots, wanted);
    const bool taken = take_place(next, before, wanted);
    next.owner = slot_of(next.slots, wanted.owner);
    next.previous.reset();
    if (wanted.previous) next.previous = slot_of(next.slots, *wanted.previous);
    // Who owned the VM when it began to drain is the original, whichever way it drains later.
    if (next.previous && !before.previous)
        next.original = before.epoch == 0 ? *next.previous : before.owner;
    if (!next.previous) next.original = next.owner;
    next.hosting = wanted.hosting;
    if (taken || next.owner != before.owner || next.previous != before.previous ||
        before.epoch == 0)
        next.epoch = before.epoch + 1;
    return next;
}

}  // namespace godwit::dataplane
