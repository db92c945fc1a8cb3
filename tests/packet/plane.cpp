// What all planes share, over their mapped memory.
#include "tests/packet/plane.hpp"

namespace godwit::test {
namespace {

// Every slot that a table's line has, with the line it lies in.
template <typename Visit>
void each_slot(Plane& plane, steer_table table, Visit visit) {
    for (steer_line& line : plane.lines(table)) {
        visit(line.slot[0], line);
        if (!steer_is_v6_table(table)) visit(line.slot[1], line);
    }
}

bool is_live(const steer_slot& slot) {
    return steer_meta_life(slot.meta) == STEER_LIVE;
}

}  // namespace

void Plane::steer(const Plan& plan, std::uint16_t vm) {
    std::uint64_t* steer = &record(vm).steer;
    std::uint64_t next = steer_word_next(*steer, plan.owner, plan.previous.has_value(),
                                         plan.previous.value_or(plan.owner), plan.hosting,
                                         plan.destination_present ? 3u : 1u);
    __atomic_store_n(steer, next, __ATOMIC_RELEASE);
}

bool Plane::is_drained(std::uint16_t vm) {
    std::uint64_t word = steer_load64(&record(vm).steer);
    auto previous = static_cast<Slot>(steer_previous(word));
    return steer_is_draining(word) && sessions(previous, vm) == 0 && handshakes(previous, vm) == 0;
}

std::optional<Slot> Plane::owner_of(steer_table table_v4, const Wanted& wanted) {
    std::optional<Slot> owner;
    bool v6 = wanted.peer.family == 6;
    std::array<std::uint32_t, 4> words = wanted.peer.words_be();
    auto table = static_cast<steer_table>(table_v4 + (v6 ? 1 : 0));
    each_slot(*this, table, [&](steer_slot& slot, steer_line& line) {
        if (!is_live(slot) || slot.meta & STEER_META_CLOSED || slot.peer_be != words[0]) return;
        if (slot.peer_port != wanted.peer_port || slot.vm_port != wanted.vm_port) return;
        if (slot.protocol != wanted.protocol || steer_key_vm(slot.address_id) != wanted.vm) return;
        if (v6 && line.wide.peer_rest[2] != words[3]) return;
        owner = static_cast<Slot>(steer_meta_owner(slot.meta));
    });
    return owner;
}

std::optional<Slot> Plane::pinned_to(const Tcp& client, std::uint16_t vm) {
    return owner_of(STEER_SESSIONS4, {client.from.ip, client.from.port, client.to.port, 6, vm});
}
std::optional<Slot> Plane::pinned_to(const Udp& client, std::uint16_t vm) {
    return owner_of(STEER_SESSIONS4, {client.from.ip, client.from.port, client.to.port, 17, vm});
}
std::optional<Slot> Plane::pinned_to(const Echo& asker, std::uint16_t vm) {
    std::uint8_t protocol = asker.from.family == 6 ? 58 : 1;
    return owner_of(STEER_SESSIONS4, {asker.from, asker.identifier, 0, protocol, vm});
}
std::optional<Slot> Plane::handshake_of(const Tcp& client, std::uint16_t vm) {
    Wanted wanted{client.from.ip, client.from.port, client.to.port, 6, vm};
    std::optional<Slot> given = owner_of(STEER_HANDSHAKES4, wanted);
    return given ? given : owner_of(STEER_CHANCES4, wanted);
}

std::uint32_t Plane::entries(std::initializer_list<steer_table> tables) {
    std::uint32_t count = 0;
    for (steer_table table : tables)
        each_slot(*this, table,
                  [&](steer_slot& slot, steer_line&) { count += is_live(slot) ? 1 : 0; });
    return count;
}

std::array<std::uint32_t, 4> Plane::audit(std::uint16_t vm) {
    std::array<std::uint32_t, 4> counted{};
    for (unsigned t = 0; t < STEER_TABLES; ++t) {
        auto table = static_cast<steer_table>(t);
        if (!steer_is_session_table(table) && !steer_is_counted_newcomer(table)) continue;
        unsigned base = steer_is_session_table(table) ? 0 : 2;
        each_slot(*this, table, [&](steer_slot& slot, steer_line&) {
            if (is_live(slot) && !(slot.meta & STEER_META_CLOSED) &&
                steer_key_vm(slot.address_id) == vm)
                ++counted[base + steer_meta_owner(slot.meta)];
        });
    }
    return counted;
}

void Plane::make_older(std::uint32_t ticks) {
    for (unsigned t = 0; t < STEER_TABLES; ++t)
        each_slot(*this, static_cast<steer_table>(t),
                  [&](steer_slot& slot, steer_line&) { slot.last_tick -= ticks; });
}

}  // namespace godwit::test
