// Where the fragments without ports go: after their first one. A bounded table like that of the handshakes, one
// record per packet in pieces, the oldest gives way; nothing is counted, for the session is counted itself.
// The limit is 30 s from the first fragment. RFC 791 begins with 15 s and RFC 8200 section 4.5 allows a receiver
// 60 s, but the pieces of one packet follow each other closely, Linux gives up after 30 s, and identifications
// of IPv4 have 16 bits only: a sender of 2000 such packets a second uses one again after 33 s. The newest first
// fragment therefore replaces the record.
// Needs the plane's hooks of slot.h.
#ifndef GODWIT_STEERING_FRAGMENT_H
#define GODWIT_STEERING_FRAGMENT_H

#include "steering/handshake.h"
#include "steering/wire.h"

// Instead of ports the identification, and which way it goes: the two ends number their packets independently,
// and so do the original and a clone, which may both be sending to one peer. Exact for IPv4; an IPv6
// identification gives its two highest bits for it.
STEER_INLINE void steer_fragment_key(struct steer_key *key, uint32_t id, bool from_backend, uint32_t sender)
{
    if (from_backend)
        id ^= 1u << 31 | (sender & 1u) << 30;
    key->peer_port = (uint16_t)(id >> 16);
    key->vm_port = (uint16_t)id;
    key->protocol = WIRE_PROTOCOL_FRAGMENT;
}

// The newest first fragment says who has the others. False: the set is busy, or there is no room.
STEER_COLD uint32_t steer_fragment_keep(struct steer_plane *plane, enum steer_table table,
                                        const struct steer_key *key, struct steer_fresh *fresh)
{
    uint32_t meta = 0;
    struct steer_newcomer found;
    struct steer_claim claim = {NULL, 0, 0};
    if (!plane || !key || !fresh || table >= STEER_TABLES)
        return 0;
    uint32_t set = steer_set_of(steer_config(plane), table, key);
    struct steer_line *first = steer_line(plane, table, set);
    if (!first || !steer_lock(first))
        return 0;
    uint32_t index = steer_handshake_find(plane, table, key, 0xffffffffu, &found);
    struct steer_line *line = index == STEER_NOWHERE ? NULL : steer_line(plane, table, index);
    struct steer_slot *slot = line ? steer_line_find(line, key, steer_is_v6_table(table), &meta) : NULL;
    if (slot) {
        steer_store32(&slot->last_tick, fresh->tick);
        steer_cas32(&slot->meta, meta, (meta & ~(uint32_t)STEER_META_OWNER) | fresh->state);
        fresh->meta = meta;
    } else {
        slot = steer_handshake_claim(plane, table, steer_handshake_place(plane, table, key, fresh->tick),
                                     &claim);
        if (slot)
            steer_fill(slot, steer_is_v6_table(table), key, fresh, &claim);
    }
    steer_unlock(first);
    return slot != NULL;
}

#endif
