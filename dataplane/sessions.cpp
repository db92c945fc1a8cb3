#include "dataplane/sessions.hpp"

#include "steering/wire.h"

#include "dataplane/names.hpp"

#include <algorithm>
#include <charconv>
#include <unordered_set>

namespace godwit::dataplane {
namespace {

// One slot copied out between two looks at `meta`: the same word twice means one consistent entry.
struct Entry {
    steer_slot slot;
    std::array<std::uint32_t, 3> peer_rest{};
};

bool copy_entry(const steer_line& line, unsigned index, bool wide, Entry& to) {
    const steer_slot& from = line.slot[index];
    const std::uint32_t meta = steer_load32(&from.meta);
    if (steer_meta_life(meta) != STEER_LIVE) return false;
    to.slot = from;
    if (wide)
        to.peer_rest = {line.wide.peer_rest[0], line.wide.peer_rest[1], line.wide.peer_rest[2]};
    return steer_load32(&from.meta) == meta;
}

template <typename Visit>
void each_entry(Plane& plane, steer_table table, Visit visit) {
    const bool wide = steer_is_v6_table(table);
    Entry entry{};
    for (const steer_line& line : plane.lines(table))
        for (unsigned index = 0; index < (wide ? 1u : 2u); ++index)
            if (copy_entry(line, index, wide, entry)) visit(entry);
}

std::string state_name(std::uint32_t meta, std::uint8_t protocol) {
    if (protocol != WIRE_PROTOCOL_TCP) return "active";
    if (meta & STEER_META_RESET) return "reset-seen";
    const std::uint32_t fins = meta & (STEER_META_FIN_VM | STEER_META_FIN_PEER);
    if (fins == (STEER_META_FIN_VM | STEER_META_FIN_PEER)) return "closing";
    if (fins != 0) return "half-closed";
    const bool both = (meta & STEER_META_HEARD_VM) && (meta & STEER_META_HEARD_PEER);
    return both ? "established" : "opening";
}

std::string peer_text(const Entry& entry, bool wide) {
    HostedAddress peer;
    peer.family = wide ? 6 : 4;
    peer.words_be[0] = entry.slot.peer_be;
    if (wide)
        for (unsigned i = 0; i < 3; ++i) peer.words_be[i + 1] = entry.peer_rest[i];
    const std::string port = ":" + std::to_string(entry.slot.peer_port);
    return wide ? "[" + to_text(peer) + "]" + port : to_text(peer) + port;
}

steer_key key_of(const Entry& entry) {
    const steer_slot& slot = entry.slot;
    return {slot.peer_be,
            slot.peer_port,
            slot.vm_port,
            slot.address_id,
            slot.protocol,
            0,
            {entry.peer_rest[0], entry.peer_rest[1], entry.peer_rest[2]}};
}

using NamedVm = std::pair<const std::string, VmState>;

protocol::SessionRow row_of(const Entry& entry, bool wide, const NamedVm& vm, Plane& plane) {
    const VmState& state = vm.second;
    protocol::SessionRow row;
    row.vm = vm.first;
    row.owner = state.slots[steer_meta_owner(entry.slot.meta)].name;
    row.protocol = protocol_name(entry.slot.protocol);
    const unsigned index = entry.slot.address_id % STEER_ADDRESSES_PER_VM;
    if (index < state.addresses.size()) row.address = state.addresses[index];
    row.peer = peer_text(entry, wide);
    row.state = state_name(entry.slot.meta, entry.slot.protocol);
    row.port = entry.slot.vm_port;
    const auto idle = static_cast<std::int32_t>(plane.tick() - entry.slot.last_tick);
    row.idle_s = idle < 0 ? 0 : static_cast<std::uint32_t>(idle) / plane.ticks_per_second();
    row.stamp = std::to_string(steer_session_stamp(&entry.slot));
    return row;
}

}  // namespace

protocol::SessionList list_sessions(Plane& plane, const std::map<std::string, VmState>& vms,
                                    const SessionFilter& filter) {
    std::map<std::uint32_t, const NamedVm*> by_index;
    for (const NamedVm& vm : vms) by_index[vm.second.index] = &vm;
    protocol::SessionList list;
    for (const bool wide : {false, true}) {
        each_entry(plane, wide ? STEER_SESSIONS6 : STEER_SESSIONS4, [&](const Entry& entry) {
            if (entry.slot.meta & STEER_META_CLOSED) return;  // lingers, is no session any more
            auto vm = by_index.find(steer_key_vm(entry.slot.address_id));
            if (vm == by_index.end() || (!filter.vm.empty() && vm->second->first != filter.vm))
                return;
            const std::uint32_t slot = steer_meta_owner(entry.slot.meta);
            if (!filter.owner.empty() && vm->second->second.slots[slot].name != filter.owner)
                return;
            ++list.total;
            if (list.sessions.size() < filter.limit)
                list.sessions.push_back(row_of(entry, wide, *vm->second, plane));
        });
    }
    return list;
}

namespace {

std::unordered_set<std::uint64_t> stamps_of(const std::vector<protocol::LostSession>& sessions) {
    std::unordered_set<std::uint64_t> stamps;
    for (const protocol::LostSession& one : sessions) {
        std::uint64_t stamp = 0;
        const char* end = one.stamp.data() + one.stamp.size();
        if (std::from_chars(one.stamp.data(), end, stamp).ptr == end) stamps.insert(stamp);
    }
    return stamps;
}

}  // namespace

Result<std::uint64_t> end_lost(Plane& plane, const NamedVm& vm, std::uint32_t slot,
                               const std::vector<protocol::LostSession>& sessions) {
    const std::unordered_set<std::uint64_t> stamps = stamps_of(sessions);
    std::uint64_t ended = 0;
    Result<void> all_well;
    for (const bool wide : {false, true}) {
        const steer_table table = wide ? STEER_SESSIONS6 : STEER_SESSIONS4;
        each_entry(plane, table, [&](const Entry& entry) {
            const std::uint64_t stamp = steer_session_stamp(&entry.slot);
            if (!all_well || !stamps.contains(stamp) ||
                steer_key_vm(entry.slot.address_id) != vm.second.index ||
                steer_meta_owner(entry.slot.meta) != slot ||
                entry.slot.protocol != WIRE_PROTOCOL_TCP)
                return;
            const protocol::SessionRow row = row_of(entry, wide, vm, plane);
            const protocol::LostSession seen{row.address, row.peer, row.stamp, row.port};
            if (std::ranges::find(sessions, seen) == sessions.end()) return;
            Result<bool> done = plane.end_untouched(table, key_of(entry), stamp);
            if (!done)
                all_well = std::unexpected(std::move(done).error());
            else if (*done)
                ++ended;
        });
    }
    if (!all_well) return std::unexpected(std::move(all_well).error());
    return ended;
}

std::uint64_t used_slots(Plane& plane, steer_table table) {
    std::uint64_t used = 0;
    each_entry(plane, table, [&](const Entry&) { ++used; });
    return used;
}

std::uint64_t capacity(Plane& plane, steer_table table) {
    return plane.lines(table).size() * (steer_is_v6_table(table) ? 1 : 2);
}

}  // namespace godwit::dataplane
