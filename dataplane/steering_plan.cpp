// Checks a steering command against what is known, and says what it makes of the VM. Changes nothing.
#include "dataplane/names.hpp"
#include "dataplane/steering.hpp"

#include <algorithm>
#include <set>

namespace godwit::dataplane {
namespace {

using protocol::Backend;
using protocol::Steering;

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
    std::set<std::string> names, used;
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
        if (!used.insert(backend.port).second)
            complain(errors, at + "/port",
                     "is the other backend's port too; l2 steering needs two different ports");
    }
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
    if (!wanted.previous) return;
    if (!names_backend(wanted, *wanted.previous))
        complain(errors, "/previous", "\"" + *wanted.previous + "\" is none of the backends");
    if (*wanted.previous == wanted.owner)
        complain(errors, "/previous", "is the owner too; leave it out when nothing drains");
}

void check_addresses(const std::string& vm, const Steering& wanted, const SwitchState& known,
                     std::vector<FieldError>& errors) {
    if (wanted.addresses.empty() || wanted.addresses.size() > STEER_ADDRESSES_PER_VM)
        complain(errors, "/addresses", "expected 1 to 8 addresses");
    std::set<HostedAddress> own;
    for (std::size_t i = 0; i < wanted.addresses.size(); ++i) {
        const std::string at = "/addresses/" + std::to_string(i);
        Result<HostedAddress> address = parse_hosted(wanted.addresses[i]);
        if (!address) {
            complain(errors, at, address.error().cause);
            continue;
        }
        if (!own.insert(*address).second) complain(errors, at, "stands here twice");
        for (const auto& [name, other] : known.vms)
            for (const std::string& text : other.addresses)
                if (name != vm && parse_hosted(text) == *address)
                    complain(errors, at, "is an address of " + name + " (duplicate-address)");
    }
}

std::string slug_of(const std::vector<FieldError>& errors) {
    for (const FieldError& e : errors) {
        if (e.message.contains("no port of this switch")) return "unknown-port";
        if (e.message.contains("two different ports")) return "same-port";
        if (e.message.contains("duplicate-address")) return "duplicate-address";
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
        *seat = {backend.name, backend.port, backend.mac};
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

Result<VmState> Steerings::plan(const std::string& vm, const Steering& wanted) const {
    std::vector<FieldError> errors;
    check_backends(wanted, plane_.ports(), errors);
    check_roles(wanted, errors);
    check_addresses(vm, wanted, state_, errors);
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
