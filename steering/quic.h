// QUIC: a connection is named by its id and not by its client's address (RFC 9000 section 5.1), so that the client may
// come from another one in mid-session: its NAT has forgotten it, or it has left its network. The server's ids are
// learnt from the long headers of the VM's packets, in the fields that every version has (RFC 8999), and remembered
// beside the sessions. What a peer says teaches nothing.
//   An id's key is its fingerprint (48 bits) in place of the peer. A short header does not say how long its id is:
//     the VM's record knows the lengths that its servers use.
//   An entry is CLOSED from the beginning, so it is counted nowhere and makes room when its lines are full, and it
//     lies in home lines only. It is as old as the session on which its connection was last seen, whose peer its
//     edges name.
//   Ids that the server issues later are encrypted (NEW_CONNECTION_ID), and a client that moves on purpose must
//     take one of those (RFC 9000 section 9.5). A short header begins no connection, so while two VMs are active such
//     a packet is asked of the original, like the middle of an unknown TCP connection (decide.h), and of the other one
//     when the original refuses it (quic_reset.h).
// Needs the plane's hooks of slot.h.
#ifndef GODWIT_STEERING_QUIC_H
#define GODWIT_STEERING_QUIC_H

#include "steering/handshake.h"
#include "steering/table.h"
#include "steering/wire.h"

enum {
    STEER_ID_BYTES_MAX = 20, /* RFC 9000 section 17.2 */
    STEER_ID_WORDS = STEER_ID_BYTES_MAX / 4,
    STEER_PROTOCOL_QUIC_ID = 255, /* in a key; as a protocol it is reserved (IANA) and has no ports */
    STEER_ID_KNOWN = 1 << 16      /* in peer_edge, beside 16 bits of the fingerprint */
};
enum steer_quic_form { STEER_NO_QUIC, STEER_QUIC_SHORT, STEER_QUIC_LONG, STEER_QUIC_STATELESS };

// The beginning of a frame, as far as it lies in one piece.
struct steer_bytes {
    const uint8_t *data, *end;
};

// One packet's header. `named`: the entry of its id, see steer_quic_find.
struct steer_quic {
    uint8_t form;
    uint8_t known_version;
    uint8_t bytes;   /* of the id; a short header does not say */
    uint8_t answers; /* a VM's: the first that it says on this session, so that it is the server */
    uint32_t id[STEER_ID_WORDS];
    struct steer_newcomer named;
};

STEER_INLINE bool steer_quic_is_long(struct steer_bytes frame, uint32_t payload_at)
{
    const uint8_t *first = frame.data + (payload_at & 0xff);
    return payload_at && first + 1 <= frame.end && first[0] & WIRE_QUIC_LONG;
}

// RFC 9000, RFC 9369, and the drafts that are still spoken.
STEER_INLINE bool steer_quic_is_known(uint32_t version)
{
    return version == WIRE_QUIC_V1 || version == WIRE_QUIC_V2 || version >> 8 == WIRE_QUIC_DRAFTS;
}

// A Version Negotiation echoes an id that the client has chosen, and a Retry's is the name of no connection yet.
STEER_INLINE uint8_t steer_quic_long_form(uint32_t first, uint32_t version)
{
    uint32_t retry = version == WIRE_QUIC_V2 ? 0 : 3;
    bool is_retry = steer_quic_is_known(version) && (first >> 4 & 3) == retry;
    return version == 0 || is_retry ? STEER_QUIC_STATELESS : STEER_QUIC_LONG;
}

// The header at `payload_at`, with the id of its destination or of its source. What is protected begins behind
// it and is no shorter than 20 bytes (RFC 9001 section 5.4.2), so a whole id's worth can always be read.
STEER_APART uint32_t steer_quic_read(struct steer_quic *q, const uint8_t *data, const uint8_t *end,
                                     uint32_t payload_at, bool of_source)
{
    const uint8_t *h = data + (payload_at & 0xff);
    q->form = STEER_NO_QUIC;
    if (payload_at == 0 || h + 1 + STEER_ID_BYTES_MAX > end)
        return 0;
    const uint8_t *id = h + 1;
    uint32_t form = STEER_QUIC_SHORT, bytes = 0;
    if (h[0] & WIRE_QUIC_LONG) {
        uint32_t version = wire_load32(h + 1);
        bytes = h[5];
        id = h + 6;
        if (of_source) {
            if (bytes > STEER_ID_BYTES_MAX)
                return 0;
            id += (bytes & 31) + 1;
            if (id > end)
                return 0;
            bytes = id[-1];
        }
        form = steer_quic_long_form(h[0], version);
        q->known_version = steer_quic_is_known(version);
        if (bytes > STEER_ID_BYTES_MAX || id + STEER_ID_BYTES_MAX > end)
            return 0;
    } else if (of_source) { /* the bit beside it is fixed no more, RFC 9287 */
        return 0;
    }
    for (uint32_t i = 0; i < STEER_ID_WORDS; ++i) q->id[i] = wire_load32(id + 4 * i);
    q->bytes = (uint8_t)bytes;
    q->form = (uint8_t)form;
    return form;
}

// The key of the id's first `bytes` bytes, at the VM's end of `tuple`. Two ids have the same one by chance only: who
// wanted that would have to be the VM.
STEER_INLINE void steer_quic_key(struct steer_key *key, const struct steer_key *tuple,
                                 const struct steer_quic *q, uint32_t bytes)
{
    uint64_t h = bytes;
#pragma clang loop unroll(full)
    for (uint32_t i = 0; i < STEER_ID_WORDS; ++i) {
        uint32_t there = bytes > 4 * i ? bytes - 4 * i : 0;
        uint64_t beyond = 0xffffffffull >> (there < 4 ? 8 * there : 32);
        h = (h ^ (q->id[i] & ~(uint32_t)beyond)) * 0x9e3779b97f4a7c15ull;
        h ^= h >> 32;
    }
    key->peer_be = (uint32_t)h;
    key->peer_port = (uint16_t)(h >> 32);
    key->vm_port = tuple->vm_port;
    key->address_id = tuple->address_id;
    key->protocol = STEER_PROTOCOL_QUIC_ID;
    key->reserved = 0;
    key->peer_rest[0] = key->peer_rest[1] = key->peer_rest[2] = 0;
}

// The same key, from what a newcomer's record keeps of it.
STEER_INLINE void steer_quic_key_of(struct steer_key *key, const struct steer_key *tuple,
                                    const struct steer_newcomer *named)
{
    *key = *tuple;
    key->peer_be = named->vm_edge;
    key->peer_port = (uint16_t)named->peer_edge;
    key->protocol = STEER_PROTOCOL_QUIC_ID;
    key->peer_rest[0] = key->peer_rest[1] = key->peer_rest[2] = 0;
}

STEER_INLINE uint32_t steer_quic_serves(const struct vm_record *vm, uint32_t port)
{
    for (uint32_t i = 0; i < STEER_QUIC_PORTS; ++i)
        if (STEER_PEEK(vm->quic_port[i]) == port)
            return port;
    return 0;
}

// The index of the home line that has the id, or STEER_NOWHERE; found->meta is the entry's, or 0.
STEER_COLD uint32_t steer_quic_line(struct steer_plane *plane, enum steer_table table,
                                    const struct steer_key *key, struct steer_newcomer *found)
{
    uint32_t meta;
    if (!plane || !key || !found || table >= STEER_TABLES)
        return STEER_NOWHERE;
    const struct steer_config *config = steer_config(plane);
    uint32_t wide = steer_is_v6_table(table);
    struct steer_places at = steer_places(config, table, steer_hash(config, key, wide));
    found->meta = 0;
    for (uint32_t i = 0; i < 2; ++i) {
        uint32_t index = i ? at.second : at.first;
        struct steer_line *line = steer_line(plane, table, index);
        if (!line || !steer_line_find(line, key, wide, &meta))
            continue;
        found->meta = meta;
        return index;
    }
    return STEER_NOWHERE;
}

// ---- whose is it ----------------------------------------------------------------------------------------

// Looks for the connection of a packet from the network, whose session nobody knows. Returns whether the port is a
// QUIC server's; q->named.meta is not 0 when the id is known, its edges are then the key's.
STEER_COLD uint32_t steer_quic_find(struct steer_plane *plane, enum steer_table table,
                                    const struct steer_key *tuple, struct steer_quic *q)
{
    struct steer_key key;
    if (!plane || !tuple || !q || table >= STEER_TABLES)
        return 0;
    q->named.meta = 0;
    struct vm_record *vm = steer_vm(plane, steer_key_vm(tuple->address_id));
    if (!vm || !steer_quic_serves(vm, tuple->vm_port))
        return 0;
    uint32_t lengths = steer_load32(&vm->id_lengths);
    if (q->form != STEER_QUIC_SHORT)
        lengths = 1u << (q->bytes & 31);
    for (uint32_t bytes = 1; bytes <= STEER_ID_BYTES_MAX; ++bytes) {
        if (!(lengths >> bytes & 1))
            continue;
        steer_quic_key(&key, tuple, q, bytes);
        if (steer_quic_line(plane, table, &key, &q->named) == STEER_NOWHERE)
            continue;
        q->named.vm_edge = key.peer_be;
        q->named.peer_edge = key.peer_port | STEER_ID_KNOWN;
        return 1;
    }
    return 1;
}

// ---- learning -------------------------------------------------------------------------------------------

STEER_INLINE void steer_quic_learn_port(struct vm_record *vm, uint32_t port)
{
    for (uint32_t i = 0; i < STEER_QUIC_PORTS; ++i) {
        uint32_t there = STEER_PEEK(vm->quic_port[i]);
        if (there == port)
            return;
        if (there == 0) {
            STEER_POKE(vm->quic_port[i], (uint16_t)port);
            return;
        }
    }
}

STEER_INLINE void steer_quic_learn_length(struct vm_record *vm, uint32_t bytes)
{
    uint32_t seen = steer_load32(&vm->id_lengths), bit = 1u << (bytes & 31);
    if (!(seen & bit)) /* lost to another core: learnt from the next one */
        steer_cas32(&vm->id_lengths, seen, seen | bit);
}

// Nobody else takes the slot meanwhile, and it is nobody else's since: it may have become a session's after it was
// found. A reader that comes in between does not see the id.
STEER_INLINE bool steer_quic_hold(struct steer_slot *slot, uint32_t meta)
{
    return steer_meta_life(meta) == STEER_LIVE &&
           steer_cas32(&slot->meta, meta, (meta & ~(uint32_t)STEER_LIFE_MASK) | STEER_BUSY) == meta;
}

// Where the connection was last seen. A reader may meet half of it and look at the wrong session's age, once.
STEER_INLINE void steer_quic_seen(struct steer_line *line, struct steer_slot *slot, uint32_t wide,
                                  const struct steer_key *tuple, uint32_t tick)
{
    STEER_POKE(slot->vm_edge, tuple->peer_be);
    STEER_POKE(slot->peer_edge, tuple->peer_port);
    if (wide) {
        STEER_POKE(line->wide.last_peer_rest[0], tuple->peer_rest[0]);
        STEER_POKE(line->wide.last_peer_rest[1], tuple->peer_rest[1]);
        STEER_POKE(line->wide.last_peer_rest[2], tuple->peer_rest[2]);
    }
    steer_store32(&slot->last_tick, tick);
}

STEER_INLINE void steer_quic_make(struct steer_plane *plane, enum steer_table table,
                                  const struct steer_key *key, const struct steer_key *tuple,
                                  struct steer_fresh *fresh, struct steer_places at)
{
    struct steer_claim claim = {NULL, 0, 0};
    struct steer_line *first = steer_line(plane, table, at.first);
    struct steer_line *second = steer_line(plane, table, at.second);
    if (!first || !second)
        return;
    struct steer_slot *slot = steer_claim_home(first, second, steer_is_v6_table(table), fresh, &claim);
    if (!slot)
        return;
    steer_quic_seen(claim.line, slot, steer_is_v6_table(table), tuple, fresh->tick);
    fresh->vm_edge = tuple->peer_be;
    fresh->peer_edge = tuple->peer_port;
    steer_fill(slot, steer_is_v6_table(table), key, fresh, &claim);
}

// `slot` has the connection of this id, and `tuple` is its session. The first one who has an id keeps it, while he may
// speak at all. No room, or somebody else is at it: the id is not known, and the next long header tries again.
STEER_COLD uint32_t steer_quic_keep(struct steer_plane *plane, enum steer_table table,
                                    const struct steer_key *key, const struct steer_key *tuple, uint32_t slot)
{
    uint32_t meta = 0;
    struct steer_newcomer known;
    if (!plane || !key || !tuple || table >= STEER_TABLES)
        return 0;
    const struct steer_config *config = steer_config(plane);
    uint32_t wide = steer_is_v6_table(table);
    struct steer_places at = steer_places(config, table, steer_hash(config, key, wide));
    struct steer_line *home = steer_line(plane, table, at.first);
    struct vm_record *vm = steer_vm(plane, steer_key_vm(tuple->address_id));
    if (!vm || !home || !steer_lock(home))
        return 0;
    struct steer_line *line = steer_line(plane, table, steer_quic_line(plane, table, key, &known));
    struct steer_slot *found = line ? steer_line_find(line, key, wide, &meta) : NULL;
    bool stale = found && !steer_slot_active(steer_load64(&vm->steer), steer_meta_owner(meta));
    if (stale && steer_remove(plane, table, found, meta))
        found = NULL;
    if (found && steer_meta_owner(meta) == (slot & 1) && steer_quic_hold(found, meta)) {
        steer_quic_seen(line, found, wide, tuple, steer_tick(plane));
        steer_publish32(&found->meta, meta);
    }
    if (!found) {
        struct steer_fresh fresh = {(slot & 1) << STEER_META_OWNER_SHIFT | STEER_META_CLOSED,
                                    steer_tick(plane),
                                    0,
                                    0,
                                    vm->timeouts.linger,
                                    0,
                                    0};
        steer_quic_make(plane, table, key, tuple, &fresh, at);
    }
    steer_unlock(home);
    return 1;
}

// A long header of the VM, on a session of `slot`.
STEER_COLD uint32_t steer_quic_learn(struct steer_plane *plane, enum steer_table table,
                                     const struct steer_key *tuple, const struct steer_quic *q, uint32_t slot)
{
    struct steer_key key;
    if (!plane || !tuple || !q)
        return 0;
    struct vm_record *vm = steer_vm(plane, steer_key_vm(tuple->address_id));
    if (!vm || tuple->vm_port == 0)
        return 0;
    if (q->answers && q->known_version)
        steer_quic_learn_port(vm, tuple->vm_port);
    if (q->form != STEER_QUIC_LONG || q->bytes == 0 || !steer_quic_serves(vm, tuple->vm_port))
        return 0;
    steer_quic_learn_length(vm, q->bytes);
    steer_quic_key(&key, tuple, q, q->bytes);
    return steer_quic_keep(plane, table, &key, tuple, slot);
}

// The VM has answered where a known id led: the connection is there now.
STEER_COLD uint32_t steer_quic_follow(struct steer_plane *plane, enum steer_table table,
                                      const struct steer_key *tuple, const struct steer_newcomer *named,
                                      uint32_t slot)
{
    struct steer_key key;
    if (!plane || !tuple || !named)
        return 0;
    steer_quic_key_of(&key, tuple, named);
    return steer_quic_keep(plane, table, &key, tuple, slot);
}

// ---- ageing ---------------------------------------------------------------------------------------------

// The id in `line` is as old as its connection's session.
STEER_COLD uint32_t steer_quic_age(struct steer_plane *plane, enum steer_table table, struct steer_line *line,
                                   uint32_t half)
{
    uint32_t meta;
    if (!plane || !line || table >= STEER_TABLES)
        return 0;
    struct steer_slot *slot = &line->slot[half & 1];
    uint32_t id_meta = steer_load32(&slot->meta);
    if (STEER_PEEK(slot->protocol) != STEER_PROTOCOL_QUIC_ID)
        return 0;
    struct steer_key tuple = {STEER_PEEK(slot->vm_edge),
                              (uint16_t)STEER_PEEK(slot->peer_edge),
                              STEER_PEEK(slot->vm_port),
                              STEER_PEEK(slot->address_id),
                              WIRE_PROTOCOL_UDP,
                              0,
                              {0, 0, 0}};
    if (steer_is_v6_table(table)) {
        tuple.peer_rest[0] = STEER_PEEK(line->wide.last_peer_rest[0]);
        tuple.peer_rest[1] = STEER_PEEK(line->wide.last_peer_rest[1]);
        tuple.peer_rest[2] = STEER_PEEK(line->wide.last_peer_rest[2]);
    }
    struct steer_slot *session = steer_find(plane, table, &tuple, &meta);
    if (session && steer_meta_owner(meta) == steer_meta_owner(id_meta) && steer_quic_hold(slot, id_meta)) {
        steer_store32(&slot->last_tick, steer_load32(&session->last_tick));
        steer_publish32(&slot->meta, id_meta);
    }
    return 1;
}

#endif
