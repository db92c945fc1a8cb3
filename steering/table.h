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

enum { STEER_LOCK_TRIES = 16, STEER_OVERFLOW_PROBES = 8 };

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
    uint32_t peer_port = key->peer_port, ports = (uint32_t)key->vm_port << 16;
    // Not one load of both: they have just been stored one by one, and a load that spans two stores waits
    // until the processor has finished everything before them, the line of the packet before this included.
    STEER_OPAQUE(peer_port);
    ports |= peer_port;
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

// The line is passed beside the slot, here and below, because the verifier cannot know that a wide slot
// begins its line.
STEER_INLINE bool steer_matches(const struct steer_line *line, const struct steer_slot *slot,
                                const struct steer_key *key, uint32_t wide)
{
    if (STEER_PEEK(slot->peer_be) != key->peer_be || STEER_PEEK(slot->peer_port) != key->peer_port ||
        STEER_PEEK(slot->vm_port) != key->vm_port || STEER_PEEK(slot->address_id) != key->address_id ||
        STEER_PEEK(slot->protocol) != key->protocol)
        return false;
    if (!wide)
        return true;
    return STEER_PEEK(line->wide.peer_rest[0]) == key->peer_rest[0] &&
           STEER_PEEK(line->wide.peer_rest[1]) == key->peer_rest[1] &&
           STEER_PEEK(line->wide.peer_rest[2]) == key->peer_rest[2];
}

// Life and generation are read before and after the key: an entry freed and filled between the two
// looks is not taken for ours. The flags may change meanwhile, transitions find that by their CAS.
STEER_INLINE bool steer_slot_is(struct steer_line *line, struct steer_slot *slot, const struct steer_key *key,
                                uint32_t wide, uint32_t *meta)
{
    uint32_t before = steer_load32(&slot->meta);
    if (steer_meta_life(before) != STEER_LIVE || !steer_matches(line, slot, key, wide))
        return false;
    STEER_FENCE(__ATOMIC_ACQUIRE);
    uint32_t after = steer_load32(&slot->meta);
    *meta = after;
    return ((before ^ after) & ~(uint32_t)STEER_META_STATE) == 0;
}

STEER_INLINE struct steer_slot *steer_line_find(struct steer_line *line, const struct steer_key *key,
                                                uint32_t wide, uint32_t *meta)
{
    if (steer_slot_is(line, &line->slot[0], key, wide, meta))
        return &line->slot[0];
    if (!wide && steer_slot_is(line, &line->slot[1], key, wide, meta))
        return &line->slot[1];
    return NULL;
}

STEER_INLINE uint32_t steer_overflow_index(const struct steer_config *config, enum steer_table table,
                                           uint32_t start, uint32_t probe)
{
    return config->table[table].home_mask + 1 + ((start + probe) & config->table[table].overflow_mask);
}

#define STEER_NOWHERE 0xffffffffu

// The index of the overflow line that holds `key`, or STEER_NOWHERE.
STEER_COLD uint32_t steer_find_spilled(struct steer_plane *plane, enum steer_table table,
                                       const struct steer_key *key, uint32_t start)
{
    uint32_t meta;
    if (!plane || !key || table >= STEER_TABLES)
        return STEER_NOWHERE;
    for (uint32_t probe = 0; probe < STEER_OVERFLOW_PROBES; ++probe) {
        uint32_t index = steer_overflow_index(steer_config(plane), table, start, probe);
        struct steer_line *line = steer_line(plane, table, index);
        if (!line)
            return STEER_NOWHERE;
        if (steer_line_find(line, key, steer_is_v6_table(table), &meta))
            return index;
    }
    return STEER_NOWHERE;
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
    struct steer_line *spilled = steer_line(plane, table, steer_find_spilled(plane, table, key, at.overflow));
    return spilled ? steer_line_find(spilled, key, wide, meta) : NULL;
}

STEER_COLD uint32_t steer_lock(struct steer_line *line)
{
    if (!line)
        return 0;
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

// A slot on its way to being filled.
struct steer_claim {
    struct steer_line *line;
    uint32_t busy; /* the meta written by the claim */
    uint32_t home; /* kept in spilled entries: the home line's index, whose count they are in */
};

// Takes an empty slot, EMPTY -> BUSY by CAS.
STEER_INLINE struct steer_slot *steer_claim_empty(struct steer_line *line, uint32_t wide,
                                                  struct steer_claim *claim)
{
    claim->line = line;
    for (uint32_t i = 0; i < (wide ? 1u : 2u); ++i) {
        struct steer_slot *slot = &line->slot[i];
        uint32_t meta = steer_load32(&slot->meta);
        claim->busy = steer_meta_generation(meta) | STEER_BUSY;
        if (steer_meta_life(meta) == STEER_EMPTY && steer_cas32(&slot->meta, meta, claim->busy) == meta)
            return slot;
    }
    return NULL;
}

// Takes a closed entry past its linger; signed, for another core's tick may be ahead of this one's. Closed entries
// are counted nowhere, so nothing else changes; and home lines hold no spilled entry, so no spill count does either.
STEER_INLINE struct steer_slot *steer_claim_closed(struct steer_line *line, uint32_t wide,
                                                   const struct steer_fresh *fresh, struct steer_claim *claim)
{
    claim->line = line;
    for (uint32_t i = 0; i < (wide ? 1u : 2u); ++i) {
        struct steer_slot *slot = &line->slot[i];
        uint32_t meta = steer_load32(&slot->meta);
        claim->busy = steer_meta_next_generation(meta) | STEER_BUSY;
        if (steer_meta_life(meta) == STEER_LIVE && meta & STEER_META_CLOSED &&
            (int32_t)(fresh->tick - STEER_PEEK(slot->last_tick)) >= (int32_t)fresh->linger &&
            steer_cas32(&slot->meta, meta, claim->busy) == meta)
            return slot;
    }
    return NULL;
}

// Fills a BUSY slot and makes it visible by one release store.
STEER_INLINE void steer_fill(struct steer_slot *slot, uint32_t wide, const struct steer_key *key,
                             struct steer_fresh *fresh, const struct steer_claim *claim)
{
    STEER_FENCE(__ATOMIC_RELEASE); /* BUSY is seen before any of this */
    STEER_POKE(slot->peer_be, key->peer_be);
    STEER_POKE(slot->peer_port, key->peer_port);
    STEER_POKE(slot->vm_port, key->vm_port);
    STEER_POKE(slot->address_id, key->address_id);
    STEER_POKE(slot->protocol, key->protocol);
    if (wide) {
        STEER_POKE(claim->line->wide.peer_rest[0], key->peer_rest[0]);
        STEER_POKE(claim->line->wide.peer_rest[1], key->peer_rest[1]);
        STEER_POKE(claim->line->wide.peer_rest[2], key->peer_rest[2]);
    }
    STEER_POKE(slot->last_tick, fresh->tick);
    STEER_POKE(slot->vm_edge, fresh->vm_edge);
    STEER_POKE(slot->peer_edge, fresh->peer_edge);
    if (fresh->state & STEER_META_SPILLED)
        STEER_POKE(slot->bucket, claim->home);
    fresh->meta = steer_meta_generation(claim->busy) | (fresh->state & STEER_META_STATE) | STEER_LIVE;
    steer_publish32(&slot->meta, fresh->meta);
}

STEER_INLINE struct steer_slot *steer_claim_home(struct steer_line *home, struct steer_line *other,
                                                 uint32_t wide, const struct steer_fresh *fresh,
                                                 struct steer_claim *claim)
{
    struct steer_slot *slot = steer_claim_empty(home, wide, claim);
    if (!slot)
        slot = steer_claim_empty(other, wide, claim);
    if (!slot)
        slot = steer_claim_closed(home, wide, fresh, claim);
    if (!slot)
        slot = steer_claim_closed(other, wide, fresh, claim);
    return slot;
}

STEER_INLINE struct steer_slot *steer_claim_overflow(struct steer_plane *plane, enum steer_table table,
                                                     uint32_t start, struct steer_claim *claim)
{
    for (uint32_t probe = 0; probe < STEER_OVERFLOW_PROBES; ++probe) {
        uint32_t index = steer_overflow_index(steer_config(plane), table, start, probe);
        struct steer_line *line = steer_line(plane, table, index);
        if (!line)
            return NULL;
        struct steer_slot *slot = steer_claim_empty(line, steer_is_v6_table(table), claim);
        if (slot)
            return slot;
    }
    return NULL;
}

// Fills a place for `key`, which is known to be absent and whose home is locked.
STEER_INLINE void steer_insert_locked(struct steer_plane *plane, enum steer_table table,
                                      const struct steer_key *key, struct steer_fresh *fresh,
                                      struct steer_places at)
{
    uint32_t wide = steer_is_v6_table(table);
    struct steer_claim claim = {NULL, 0, at.first};
    struct steer_line *home = steer_line(plane, table, at.first);
    struct steer_line *other = steer_line(plane, table, at.second);
    if (!home || !other)
        return;
    struct steer_slot *slot = steer_claim_home(home, other, wide, fresh, &claim);
    if (!slot && (slot = steer_claim_overflow(plane, table, at.overflow, &claim))) {
        // Announced before it is visible: a reader that misses the count also misses the entry.
        steer_add32(&home->slot[0].bucket, 1);
        fresh->state |= STEER_META_SPILLED;
    }
    fresh->result = slot ? STEER_INSERTED : STEER_FULL;
    if (slot)
        steer_fill(slot, wide, key, fresh, &claim);
}

// Makes the entry unless it exists; the entry that is there first wins. `fresh->result` says how it went,
// and for INSERTED and EXISTED `fresh->meta` is the meta of the entry that counts.
STEER_COLD uint32_t steer_insert(struct steer_plane *plane, enum steer_table table,
                                 const struct steer_key *key, struct steer_fresh *fresh)
{
    if (!plane || !key || !fresh || table >= STEER_TABLES)
        return STEER_CONTENDED;
    const struct steer_config *config = steer_config(plane);
    struct steer_places at = steer_places(config, table, steer_hash(config, key, steer_is_v6_table(table)));
    struct steer_line *home = steer_line(plane, table, at.first);
    fresh->result = STEER_CONTENDED;
    if (!home || !steer_lock(home))
        return STEER_CONTENDED;
    fresh->result = STEER_EXISTED;
    if (!steer_find(plane, table, key, &fresh->meta))
        steer_insert_locked(plane, table, key, fresh, at);
    steer_unlock(home);
    return fresh->result;
}

// Frees the entry that had `meta`. False: somebody changed it meanwhile, look again. The winner, and only
// the winner, takes what was counted for it off the counters.
STEER_INLINE bool steer_remove(struct steer_plane *plane, enum steer_table table, struct steer_slot *slot,
                               uint32_t meta)
{
    uint32_t home_index = STEER_PEEK(slot->bucket);
    if (steer_cas32(&slot->meta, meta, steer_meta_next_generation(meta) | STEER_EMPTY) != meta)
        return false;
    if (meta & STEER_META_SPILLED) {
        struct steer_line *home = steer_line(plane, table, home_index);
        if (home)
            steer_add32(&home->slot[0].bucket, (uint32_t)-1);
    }
    return true;
}

#endif
