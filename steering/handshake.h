// Newcomers that no VM has confirmed yet, and second chances: a small set-associative table, four lines to
// a set, the oldest gives way. It may forget, that is its job (a flood costs nothing but forgetting); what it
// remembers is counted exactly, because drained means also "no handshake of the source is open".
// Needs the plane's hooks of slot.h.
#ifndef GODWIT_STEERING_HANDSHAKE_H
#define GODWIT_STEERING_HANDSHAKE_H

#include "steering/count.h"
#include "steering/table.h"

enum { STEER_SET_LINES = 4 };

// A record as it was seen; `meta` 0 when there is none.
struct steer_newcomer {
    uint32_t meta;
    uint32_t vm_edge;   /* the SYN-ACK's sequence number, when NOTED */
    uint32_t peer_edge; /* the sequence number behind the peer's SYN */
};

STEER_INLINE uint32_t steer_set_of(const struct steer_config *config, enum steer_table table,
                                   const struct steer_key *key)
{
    uint64_t hash = steer_hash(config, key, steer_is_v6_table(table));
    return (uint32_t)hash & config->table[table].home_mask & ~(uint32_t)(STEER_SET_LINES - 1);
}

// Frees the record and takes it off its VM's count, if it is counted. False: changed meanwhile.
STEER_INLINE bool steer_handshake_free(struct steer_plane *plane, enum steer_table table,
                                       struct steer_slot *slot, uint32_t meta, uint32_t new_life)
{
    struct vm_record *vm = steer_vm(plane, steer_key_vm(STEER_PEEK(slot->address_id)));
    if (steer_cas32(&slot->meta, meta, steer_meta_next_generation(meta) | new_life) != meta)
        return false;
    if (vm && steer_is_counted_newcomer(table))
        steer_handshake_down(plane, vm, steer_meta_owner(meta));
    return true;
}

// Where the record of `key` is: the index of its line, or STEER_NOWHERE. An expired one is freed on sight,
// so that it does not wait for the sweep.
STEER_COLD uint32_t steer_handshake_find(struct steer_plane *plane, enum steer_table table,
                                         const struct steer_key *key, uint32_t timeout,
                                         struct steer_newcomer *found)
{
    uint32_t meta;
    if (!plane || !key || !found || table >= STEER_TABLES)
        return STEER_NOWHERE;
    uint32_t set = steer_set_of(steer_config(plane), table, key);
    found->meta = 0;
    for (uint32_t i = 0; i < STEER_SET_LINES; ++i) {
        struct steer_line *line = steer_line(plane, table, set + i);
        if (!line)
            return STEER_NOWHERE;
        struct steer_slot *slot = steer_line_find(line, key, steer_is_v6_table(table), &meta);
        if (!slot)
            continue;
        if (steer_tick(plane) - STEER_PEEK(slot->last_tick) >= timeout) {
            steer_handshake_free(plane, table, slot, meta, STEER_EMPTY);
            return STEER_NOWHERE;
        }
        found->meta = meta;
        found->vm_edge = steer_load32(&slot->vm_edge);
        found->peer_edge = steer_load32(&slot->peer_edge);
        return set + i;
    }
    return STEER_NOWHERE;
}

// It is over: the record of `key` goes, if it still is the one that had `meta`.
STEER_COLD uint32_t steer_handshake_forget(struct steer_plane *plane, enum steer_table table,
                                           const struct steer_key *key, uint32_t expected)
{
    struct steer_newcomer found;
    uint32_t meta;
    if (!plane || !key || table >= STEER_TABLES)
        return 0;
    uint32_t index = steer_handshake_find(plane, table, key, 0xffffffffu, &found);
    struct steer_line *line = steer_line(plane, table, index);
    struct steer_slot *slot = line ? steer_line_find(line, key, steer_is_v6_table(table), &meta) : NULL;
    if (!slot || steer_meta_generation(meta ^ expected))
        return 0;
    return steer_handshake_free(plane, table, slot, meta, STEER_EMPTY) ? 1 : 0;
}

// The VM has sent its SYN-ACK: remember the number that proves that the peer has seen it, and which SYN the
// VM means by it.
STEER_COLD uint32_t steer_handshake_note(struct steer_plane *plane, enum steer_table table,
                                         const struct steer_key *key, uint32_t seq, uint32_t ack)
{
    struct steer_newcomer found;
    uint32_t meta;
    if (!plane || !key || table >= STEER_TABLES)
        return 0;
    uint32_t index = steer_handshake_find(plane, table, key, 0xffffffffu, &found);
    struct steer_line *line = steer_line(plane, table, index);
    struct steer_slot *slot = line ? steer_line_find(line, key, steer_is_v6_table(table), &meta) : NULL;
    if (!slot)
        return 0;
    steer_store32(&slot->vm_edge, seq);
    steer_store32(&slot->peer_edge, ack);
    if (!(meta & STEER_META_NOTED)) /* a CAS lost to an eviction: nothing to note any more */
        steer_cas32(&slot->meta, meta, meta | STEER_META_NOTED);
    return 1;
}

// What a draining backend was given stays: a flood of newcomers, which are the new owner's, cannot push it
// out. Any other record that is lost heals by the second chance, or needs none. Only when a set holds
// nothing else does its oldest give way, once per set: else a flood just before the flip would shut out
// newcomers until it has expired, because a SYN-ACK without a record may be a clone's and is fenced.
STEER_INLINE bool steer_is_expendable(struct steer_plane *plane, const struct steer_slot *victim,
                                      uint32_t meta)
{
    struct vm_record *vm = steer_vm(plane, steer_key_vm(STEER_PEEK(victim->address_id)));
    uint64_t word = vm ? steer_load64(&vm->steer) : 0;
    return !steer_is_draining(word) || steer_meta_owner(meta) != steer_previous(word);
}

// The place to take: line * 2 + half. An empty one, else the oldest that may be evicted.
STEER_COLD uint32_t steer_handshake_place(struct steer_plane *plane, enum steer_table table,
                                          const struct steer_key *key, uint32_t tick)
{
    uint32_t oldest_age = 0, oldest = STEER_NOWHERE, oldest_kept_age = 0, oldest_kept = STEER_NOWHERE;
    if (!plane || !key || table >= STEER_TABLES)
        return STEER_NOWHERE;
    uint32_t set = steer_set_of(steer_config(plane), table, key);
    uint32_t halves = steer_is_v6_table(table) ? 1 : 2;
    for (uint32_t i = 0; i < STEER_SET_LINES * halves; ++i) {
        uint32_t place = halves == 2 ? set * 2 + i : (set + i) * 2;
        struct steer_line *line = steer_line(plane, table, place / 2);
        if (!line)
            return STEER_NOWHERE;
        struct steer_slot *slot = &line->slot[place & 1];
        uint32_t meta = steer_load32(&slot->meta);
        if (steer_meta_life(meta) == STEER_EMPTY)
            return place;
        // Plus one, so that a first candidate of age 0 still is one.
        uint32_t age = tick - steer_load32(&slot->last_tick) + 1;
        if (steer_meta_life(meta) != STEER_LIVE)
            continue;
        if (!steer_is_expendable(plane, slot, meta)) {
            oldest_kept = age > oldest_kept_age ? place : oldest_kept;
            oldest_kept_age = age > oldest_kept_age ? age : oldest_kept_age;
        } else if (age > oldest_age) {
            oldest = place;
            oldest_age = age;
        }
    }
    return oldest == STEER_NOWHERE ? oldest_kept : oldest;
}

// Takes the place, EMPTY or LIVE -> BUSY; an evicted record is taken off its count.
STEER_INLINE struct steer_slot *steer_handshake_claim(struct steer_plane *plane, enum steer_table table,
                                                      uint32_t place, struct steer_claim *claim)
{
    claim->line = steer_line(plane, table, place / 2);
    if (!claim->line)
        return NULL;
    struct steer_slot *slot = &claim->line->slot[place & 1];
    uint32_t meta = steer_load32(&slot->meta);
    claim->busy = steer_meta_next_generation(meta) | STEER_BUSY;
    if (steer_meta_life(meta) == STEER_LIVE)
        return steer_handshake_free(plane, table, slot, meta, STEER_BUSY) ? slot : NULL;
    if (steer_meta_life(meta) != STEER_EMPTY || steer_cas32(&slot->meta, meta, claim->busy) != meta)
        return NULL;
    return slot;
}

// Remembers who was given this newcomer, once: the record that is there first wins, `fresh->meta` is its
// meta. False when there is no room or the set is busy; the packet goes its way all the same.
STEER_COLD uint32_t steer_handshake_give(struct steer_plane *plane, enum steer_table table,
                                         const struct steer_key *key, struct steer_fresh *fresh,
                                         uint32_t timeout)
{
    struct steer_newcomer found;
    struct steer_claim claim = {NULL, 0, 0};
    if (!plane || !key || !fresh || table >= STEER_TABLES)
        return 0;
    struct vm_record *vm = steer_vm(plane, steer_key_vm(key->address_id));
    struct steer_line *first = steer_line(plane, table, steer_set_of(steer_config(plane), table, key));
    if (!vm || !first || !steer_lock(first))
        return 0;
    steer_handshake_find(plane, table, key, timeout, &found);
    fresh->meta = found.meta;
    if (!found.meta) {
        uint32_t place = steer_handshake_place(plane, table, key, fresh->tick);
        struct steer_slot *slot = steer_handshake_claim(plane, table, place, &claim);
        if (slot) {
            // Counted before it is visible: who removes it must find it counted.
            steer_handshake_up(vm, fresh->state >> STEER_META_OWNER_SHIFT);
            steer_fill(slot, steer_is_v6_table(table), key, fresh, &claim);
        }
    }
    steer_unlock(first);
    return fresh->meta != 0;
}

#endif
