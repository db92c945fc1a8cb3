// Newcomers that no VM has confirmed yet, and second chances: a small set-associative table, four lines to
// a set, the oldest gives way. It may forget, that is its job (a flood costs nothing but forgetting); what it
// remembers is counted exactly, because drained means also "no handshake of the source is open".
// Needs the plane's hooks of slot.h.
#ifndef GODWIT_STEERING_HANDSHAKE_H
#define GODWIT_STEERING_HANDSHAKE_H

#include "steering/count.h"
#include "steering/table.h"

enum { STEER_SET_LINES = 4 };

STEER_INLINE uint32_t steer_set_of(const struct steer_config *config, enum steer_table table,
                                   const struct steer_key *key)
{
    uint64_t hash = steer_hash(config, key, steer_is_v6_table(table));
    return (uint32_t)hash & config->table[table].home_mask & ~(uint32_t)(STEER_SET_LINES - 1);
}

// Frees the record and takes it off its VM's count. False: changed meanwhile.
STEER_COLD bool steer_handshake_remove(struct steer_plane *plane, struct steer_slot *slot, uint32_t meta)
{
    struct vm_record *vm = steer_vm(plane, steer_key_vm(slot->address_id));
    if (steer_cas32(&slot->meta, meta, steer_meta_next_generation(meta) | STEER_EMPTY) != meta)
        return false;
    if (vm)
        steer_handshake_down(plane, vm, steer_meta_owner(meta));
    return true;
}

// The record of `key`, or NULL. An expired one is freed on sight, so that it does not wait for the sweep.
STEER_COLD struct steer_slot *steer_handshake_find(struct steer_plane *plane, enum steer_table table,
                                                   const struct steer_key *key, uint32_t timeout,
                                                   uint32_t *meta)
{
    uint32_t set = steer_set_of(steer_config(plane), table, key);
    for (uint32_t i = 0; i < STEER_SET_LINES; ++i) {
        struct steer_line *line = steer_line(plane, table, set + i);
        if (!line)
            return NULL;
        struct steer_slot *slot = steer_line_find(line, key, steer_is_v6_table(table), meta);
        if (!slot)
            continue;
        if (steer_tick(plane) - slot->last_tick < timeout)
            return slot;
        steer_handshake_remove(plane, slot, *meta);
        return NULL;
    }
    return NULL;
}

// Handshakes make room only among records of the same VM and backend: a flood of newcomers for the new
// owner then cannot push out what the draining one was given. A second chance may push out any.
STEER_INLINE bool steer_may_evict(enum steer_table table, const struct steer_slot *victim, uint32_t meta,
                                  const struct steer_key *key, const struct steer_fresh *fresh)
{
    if (table == STEER_CHANCES4 || table == STEER_CHANCES6)
        return true;
    return ((meta ^ fresh->state) & STEER_META_OWNER) == 0 &&
           steer_key_vm(victim->address_id) == steer_key_vm(key->address_id);
}

STEER_COLD struct steer_slot *steer_handshake_claim(struct steer_plane *plane, enum steer_table table,
                                                    const struct steer_key *key,
                                                    const struct steer_fresh *fresh, uint32_t *busy)
{
    uint32_t set = steer_set_of(steer_config(plane), table, key);
    uint32_t wide = steer_is_v6_table(table);
    uint32_t oldest_age = 0, oldest_meta = 0;
    struct steer_slot *oldest = NULL;
    for (uint32_t i = 0; i < STEER_SET_LINES; ++i) {
        struct steer_line *line = steer_line(plane, table, set + i);
        if (!line)
            return NULL;
        struct steer_slot *empty = steer_claim_empty(line, wide, busy);
        if (empty)
            return empty;
        for (uint32_t j = 0; j < (wide ? 1u : 2u); ++j) {
            struct steer_slot *slot = &line->slot[j];
            uint32_t meta = steer_load32(&slot->meta);
            uint32_t age = fresh->tick - slot->last_tick;
            if (steer_meta_life(meta) == STEER_LIVE && (!oldest || age > oldest_age) &&
                steer_may_evict(table, slot, meta, key, fresh)) {
                oldest = slot;
                oldest_age = age;
                oldest_meta = meta;
            }
        }
    }
    if (!oldest)
        return NULL;
    struct vm_record *vm = steer_vm(plane, steer_key_vm(oldest->address_id));
    *busy = steer_meta_next_generation(oldest_meta) | STEER_BUSY;
    if (steer_cas32(&oldest->meta, oldest_meta, *busy) != oldest_meta)
        return NULL;
    if (vm)
        steer_handshake_down(plane, vm, steer_meta_owner(oldest_meta));
    return oldest;
}

// Remembers who was given this newcomer, once: the record that is there first wins. NULL when there is
// no room or the set is busy; the packet goes its way all the same.
STEER_COLD struct steer_slot *steer_handshake_give(struct steer_plane *plane, struct vm_record *vm,
                                                   enum steer_table table, const struct steer_key *key,
                                                   struct steer_fresh *fresh)
{
    struct steer_line *first = steer_line(plane, table, steer_set_of(steer_config(plane), table, key));
    uint32_t busy = 0;
    if (!first || !steer_lock(first))
        return NULL;
    struct steer_slot *slot =
        steer_handshake_find(plane, table, key, vm->timeouts.handshake, &fresh->meta);
    if (!slot && (slot = steer_handshake_claim(plane, table, key, fresh, &busy))) {
        // Counted before it is visible: who removes it must find it counted.
        steer_handshake_up(vm, fresh->state >> STEER_META_OWNER_SHIFT);
        steer_fill(slot, steer_is_v6_table(table), key, fresh, busy);
    }
    steer_unlock(first);
    return slot;
}

#endif
