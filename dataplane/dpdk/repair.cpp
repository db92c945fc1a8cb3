#include "dataplane/dpdk/repair.hpp"

#include "dataplane/dpdk/resets.hpp"

namespace godwit::dpdk {
namespace {

std::span<steer_slot> slots_of(struct steer_line& line, enum steer_table table) {
    return {line.slot, steer_is_v6_table(table) ? std::size_t{1} : std::size_t{2}};
}

std::uint32_t life(const steer_slot& slot) {
    return steer_meta_life(slot.meta);
}

// The next generation, as if it had been filled and freed.
void give_up_half_filled(struct steer_line& line, enum steer_table table, Repaired& repaired) {
    for (steer_slot& slot : slots_of(line, table)) {
        if (life(slot) != STEER_BUSY) continue;
        slot.meta = steer_meta_next_generation(slot.meta) | STEER_EMPTY;
        ++repaired.places;
    }
}

void unlock(struct steer_line& line, Repaired& repaired) {
    if (line.slot[0].bucket & STEER_BUCKET_LOCK) ++repaired.locks;
    line.slot[0].bucket = 0;  // and no spilled entries, until they are counted
}

void count(const Tables& tables, enum steer_table table, const steer_slot& slot,
           Repaired& repaired) {
    const std::uint32_t vm = steer_key_vm(slot.address_id);
    if (life(slot) != STEER_LIVE || vm >= tables.vms.size()) return;
    if (slot.meta & STEER_META_CLOSED) return;
    const std::uint32_t owner = steer_meta_owner(slot.meta);
    if (steer_is_session_table(table)) {
        ++tables.vms[vm].sessions[owner];
        ++repaired.sessions;
    } else if (steer_is_counted_newcomer(table)) {
        ++tables.vms[vm].handshakes[owner];
    }
}

void count_spilled(std::span<struct steer_line> lines, const steer_slot& slot) {
    if (life(slot) == STEER_LIVE && slot.meta & STEER_META_SPILLED && slot.bucket < lines.size())
        ++lines[slot.bucket].slot[0].bucket;
}

void repair_table(const Tables& tables, enum steer_table table, Repaired& repaired) {
    const std::span<struct steer_line> lines = tables.lines[table];
    const std::uint32_t homes = tables.config.table[table].home_mask + 1;
    for (std::uint32_t i = 0; i < lines.size(); ++i) {
        give_up_half_filled(lines[i], table, repaired);
        if (i < homes) unlock(lines[i], repaired);
        for (const steer_slot& slot : slots_of(lines[i], table)) {
            count(tables, table, slot, repaired);
            if (i >= homes) count_spilled(lines, slot);
        }
    }
}

}  // namespace

Repaired repair(Tables& tables) {
    Repaired repaired;
    for (vm_record& vm : tables.vms)
        for (std::uint32_t slot = 0; slot < STEER_SLOTS; ++slot)
            vm.sessions[slot] = vm.handshakes[slot] = vm.waiting_since[slot] = 0;
    for (unsigned table = 0; table < STEER_TABLES; ++table)
        repair_table(tables, static_cast<enum steer_table>(table), repaired);
    if (tables.resets) tables.resets->repair();
    return repaired;
}

}  // namespace godwit::dpdk
