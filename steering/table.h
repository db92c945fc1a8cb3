// The session table over a plane's lines: two possible lines per key (b1 first), then a small overflow
// area that is looked at only when b1 says it has spilled. Full keys are compared, the hash is keyed.
// Under BPF the lines are an ordinary array map: 129-172 ns per packet at 1M flows measured where the
// kernel's hash maps take 470-520, and user space maps the same memory and reads it without system calls.
// Writers: an insert locks its key's b1, so two packets of one new flow cannot make two entries; every
// other change is one CAS of `meta`. Nothing waits without bound: a lost race forwards the packet anyway.
// Needs the plane's hooks of slot.h.
#ifndef GODWIT_STEERING_TABLE_H
#define GODWIT_STEERING_TABLE_H

#include "steering/slot.h"

enum { STEER_LOCK_TRIES = 16, STEER_OVERFLOW_PROBES = 4 };

enum steer_insert_result { STEER_INSERTED, STEER_EXISTED, STEER_FULL, STEER_CONTENDED };

// What a fresh entry starts with, and how the insert went.
struct steer_fresh {
    uint32_t state; /* owner bit and flags */
    uint32_t tick;
    uint32_t vm_edge;
    uint32_t peer_edge;
    uint32_t linger; /* a closed entry idle for this long makes room */
    uint32_t result; /* out: enum steer_insert_result */
    uint32_t meta;   /* out: of the returned slot */
};

// NH (RFC 4418): sums of products of keyed 32-bit words are almost universal for whoever does not know
// the seed, and cost three multiplications; a plain xor-multiply hash can be collided without the seed.
STEER_INLINE uint64_t steer_hash(const struct steer_config *config, const struct steer_key *key,
                                 uint32_t wide)
{
    uint32_t ports = (uint32_t)key->peer_port | (uint32_t)key->vm_port << 16;
    uint32_t rest = (uint32_t)key->address_id | (uint32_t)key->protocol << 16;
    uint64_t h = (uint64_t)(uint32_t)(key->peer_be + config->seed[0]) * (uint32_t)(ports + config->seed[1]);
    h += (uint64_t)(uint32_t)(rest + config->seed[2]) *
         (uint32_t)((wide ? key->peer_rest[0] : 0) + config->seed[3]);
    if (wide)
        h += (uint64_t)(uint32_t)(key->peer_rest[1] + config->seed[4]) *
             (uint32_t)(key->peer_rest[2] + config->seed[5]);
    h ^= h >> 32;
    h *= 0x9e3779b97f4a7c15ull;
    return h ^ h >> 29;
}

struct steer_places {
    uint32_t first, second, overflow;
};
STEER_INLINE struct steer_places steer_places(const struct steer_config *config, enum steer_table table,
                                              uint64_t hash)
{
    uint32_t mask = config->table[table].home_mask;
    struct steer_places at = {(uint32_t)hash & mask, (uint32_t)(hash >> 32) & mask, (uint32_t)(hash >> 20)};
    if (at.second == at.first)
        at.second = at.first ^ (mask & 1u); /* a one-line table has only one place */
    return at;
}

STEER_INLINE bool steer_matches(const struct steer_slot *slot, const struct steer_key *key, uint32_t wide)
{
    if (slot->peer_be != key->peer_be || slot->peer_port != key->peer_port ||
        slot->vm_port != key->vm_port || slot->address_id != key->address_id ||
        slot->protocol != key->protocol)
        return false;
    if (!wide)
        return true;
    const struct steer_line *line = (const struct steer_line *)(const void *)slot;
    return line->wide.peer_rest[0] == key->peer_rest[0] && line->wide.peer_rest[1] == key->peer_rest[1] &&
           line->wide.peer_rest[2] == key->peer_rest[2];
}

// Life and generation are read before and after the key: an entry freed and filled between the two
// looks is not taken for ours. The flags may change meanwhile, transitions find that by their CAS.
STEER_INLINE bool steer_slot_is(struct steer_slot *slot, const struct steer_key *key, uint32_t wide,
                                uint32_t *meta)
{
    uint32_t before = steer_load32(&slot->meta);
    if (steer_meta_life(before) != STEER_LIVE || !steer_matches(slot, key, wide))
        return false;
    uint32_t after = steer_load32(&slot->meta);
    *meta = after;
    return ((before ^ after) & ~(uint32_t)STEER_META_STATE) == 0;
}

STEER_INLINE struct steer_slot *steer_line_find(struct steer_line *line, const struct steer_key *key,
                                                uint32_t wide, uint32_t *meta)
{
    if (steer_slot_is(&line->slot[0], key, wide, meta))
        return &line->slot[0];
    if (!wide && steer_slot_is(&line->slot[1], key, wide, meta))
        return &line->slot[1];
    return NULL;
}

STEER_INLINE uint32_t steer_overflow_index(const struct steer_config *config, enum steer_table table,
                                           uint32_t start, uint32_t probe)
{
    return config->table[table].home_mask + 1 + ((start + probe) & config->table[table].overflow_mask);
}

STEER_COLD struct steer_slot *steer_find_spilled(struct steer_plane *plane, enum steer_table table,
                                                 const struct steer_key *key, uint32_t start,
                                                 uint32_t *meta)
{
    for (uint32_t probe = 0; probe < STEER_OVERFLOW_PROBES; ++probe) {
        uint32_t index = steer_overflow_index(steer_config(plane), table, start, probe);
        struct steer_line *line = steer_line(plane, table, index);
        if (!line)
            return NULL;
        struct steer_slot *slot = steer_line_find(line, key, steer_is_v6_table(table), meta);
        if (slot)
            return slot;
    }
    return NULL;
}

// The live entry of `key` and its meta, or NULL. One cache line in the common case.
STEER_INLINE struct steer_slot *steer_find(struct steer_plane *plane, enum steer_table table,
                                           const struct steer_key *key, uint32_t *meta)
{
    const struct steer_config *config = steer_config(plane);
    uint32_t wide = steer_is_v6_table(table);
    struct steer_places at = steer_places(config, table, steer_hash(config, key, wide));
    struct steer_line *home = steer_line(plane, table, at.first);
    if (!home)
        return NULL;
    struct steer_slot *slot = steer_line_find(home, key, wide, meta);
    if (slot)
        return slot;
    struct steer_line *other = steer_line(plane, table, at.second);
    if (!other)
        return NULL;
    slot = steer_line_find(other, key, wide, meta);
    if (slot)
        return slot;
    if (!(steer_load32(&home->slot[0].bucket) & STEER_BUCKET_SPILLED))
        return NULL;
    return steer_find_spilled(plane, table, key, at.overflow, meta);
}

STEER_INLINE bool steer_lock(struct steer_line *line)
{
    for (uint32_t i = 0; i < STEER_LOCK_TRIES; ++i) {
        uint32_t word = steer_load32(&line->slot[0].bucket);
        if (!(word & STEER_BUCKET_LOCK) &&
            steer_cas32(&line->slot[0].bucket, word, word | STEER_BUCKET_LOCK) == word)
            return true;
    }
    return false;
}
STEER_INLINE void steer_unlock(struct steer_line *line)
{
    steer_and32(&line->slot[0].bucket, ~(uint32_t)STEER_BUCKET_LOCK);
}

// Takes an empty slot, EMPTY -> BUSY by CAS; `*busy` is the meta then written.
STEER_INLINE struct steer_slot *steer_claim_empty(struct steer_line *line, uint32_t wide, uint32_t *busy)
{
    for (uint32_t i = 0; i < (wide ? 1u : 2u); ++i) {
        struct steer_slot *slot = &line->slot[i];
        uint32_t meta = steer_load32(&slot->meta);
        *busy = steer_meta_generation(meta) | STEER_BUSY;
        if (steer_meta_life(meta) == STEER_EMPTY && steer_cas32(&slot->meta, meta, *busy) == meta)
            return slot;
    }
    return NULL;
}

// Takes a closed entry past its linger. Closed entries are counted nowhere, so nothing else changes; and
// home lines hold no spilled entry, so no spill count does either.
STEER_INLINE struct steer_slot *steer_claim_closed(struct steer_line *line, uint32_t wide,
                                                   const struct steer_fresh *fresh, uint32_t *busy)
{
    for (uint32_t i = 0; i < (wide ? 1u : 2u); ++i) {
        struct steer_slot *slot = &line->slot[i];
        uint32_t meta = steer_load32(&slot->meta);
        *busy = steer_meta_next_generation(meta) | STEER_BUSY;
        if (steer_meta_life(meta) == STEER_LIVE && meta & STEER_META_CLOSED &&
            fresh->tick - slot->last_tick >= fresh->linger &&
            steer_cas32(&slot->meta, meta, *busy) == meta)
            return slot;
    }
    return NULL;
}

// Fills a BUSY slot and makes it visible by one release store.
STEER_INLINE void steer_fill(struct steer_slot *slot, uint32_t wide, const struct steer_key *key,
                             struct steer_fresh *fresh, uint32_t busy)
{
    slot->peer_be = key->peer_be;
    slot->peer_port = key->peer_port;
    slot->vm_port = key->vm_port;
    slot->address_id = key->address_id;
    slot->protocol = key->protocol;
    if (wide) {
        struct steer_line *line = (struct steer_line *)(void *)slot;
        line->wide.peer_rest[0] = key->peer_rest[0];
        line->wide.peer_rest[1] = key->peer_rest[1];
        line->wide.peer_rest[2] = key->peer_rest[2];
    }
    slot->last_tick = fresh->tick;
    slot->vm_edge = fresh->vm_edge;
    slot->peer_edge = fresh->peer_edge;
    fresh->meta = steer_meta_generation(busy) | (fresh->state & STEER_META_STATE) | STEER_LIVE;
    steer_publish32(&slot->meta, fresh->meta);
}

STEER_INLINE struct steer_slot *steer_claim_home(struct steer_line *home, struct steer_line *other,
                                                 uint32_t wide, const struct steer_fresh *fresh,
                                                 uint32_t *busy)
{
    struct steer_slot *slot = steer_claim_empty(home, wide, busy);
    if (!slot)
        slot = steer_claim_empty(other, wide, busy);
    if (!slot)
        slot = steer_claim_closed(home, wide, fresh, busy);
    if (!slot)
        slot = steer_claim_closed(other, wide, fresh, busy);
    return slot;
}

STEER_COLD struct steer_slot *steer_claim_overflow(struct steer_plane *plane, enum steer_table table,
                                                   uint32_t start, uint32_t *busy)
{
    for (uint32_t probe = 0; probe < STEER_OVERFLOW_PROBES; ++probe) {
        uint32_t index = steer_overflow_index(steer_config(plane), table, start, probe);
        struct steer_line *line = steer_line(plane, table, index);
        if (!line)
            return NULL;
        struct steer_slot *slot = steer_claim_empty(line, steer_is_v6_table(table), busy);
        if (slot)
            return slot;
    }
    return NULL;
}

// Makes the entry unless it exists; the entry that is there first wins and is what is returned. NULL: the
// table has no room, or the bucket stayed locked (`fresh->result` says which).
STEER_COLD struct steer_slot *steer_insert(struct steer_plane *plane, enum steer_table table,
                                           const struct steer_key *key, struct steer_fresh *fresh)
{
    const struct steer_config *config = steer_config(plane);
    uint32_t wide = steer_is_v6_table(table);
    struct steer_places at = steer_places(config, table, steer_hash(config, key, wide));
    struct steer_line *home = steer_line(plane, table, at.first);
    struct steer_line *other = steer_line(plane, table, at.second);
    uint32_t busy = 0;
    fresh->result = STEER_CONTENDED;
    if (!home || !other || !steer_lock(home))
        return NULL;
    fresh->result = STEER_EXISTED;
    struct steer_slot *slot = steer_find(plane, table, key, &fresh->meta);
    if (!slot) {
        fresh->result = STEER_INSERTED;
        slot = steer_claim_home(home, other, wide, fresh, &busy);
        if (!slot && (slot = steer_claim_overflow(plane, table, at.overflow, &busy))) {
            // Announced before it is visible: a reader that misses the count also misses the entry.
            steer_add32(&home->slot[0].bucket, 1);
            fresh->state |= STEER_META_SPILLED;
        }
        if (slot)
            steer_fill(slot, wide, key, fresh, busy);
        else
            fresh->result = STEER_FULL;
    }
    steer_unlock(home);
    return slot;
}

STEER_INLINE void steer_key_of_slot(struct steer_key *key, const struct steer_slot *slot, uint32_t wide)
{
    key->peer_be = slot->peer_be;
    key->peer_port = slot->peer_port;
    key->vm_port = slot->vm_port;
    key->address_id = slot->address_id;
    key->protocol = slot->protocol;
    key->reserved = 0;
    const struct steer_line *line = (const struct steer_line *)(const void *)slot;
    key->peer_rest[0] = wide ? line->wide.peer_rest[0] : 0;
    key->peer_rest[1] = wide ? line->wide.peer_rest[1] : 0;
    key->peer_rest[2] = wide ? line->wide.peer_rest[2] : 0;
}

// Frees the entry that had `meta`. False: somebody changed it meanwhile, look again. The winner, and only
// the winner, takes what was counted for it off the counters.
STEER_COLD bool steer_remove(struct steer_plane *plane, enum steer_table table, struct steer_slot *slot,
                             uint32_t meta)
{
    struct steer_key key;
    const struct steer_config *config = steer_config(plane);
    uint32_t wide = steer_is_v6_table(table);
    steer_key_of_slot(&key, slot, wide);
    if (steer_cas32(&slot->meta, meta, steer_meta_next_generation(meta) | STEER_EMPTY) != meta)
        return false;
    if (meta & STEER_META_SPILLED) {
        struct steer_places at = steer_places(config, table, steer_hash(config, &key, wide));
        struct steer_line *home = steer_line(plane, table, at.first);
        if (home)
            steer_add32(&home->slot[0].bucket, (uint32_t)-1);
    }
    return true;
}

#endif
