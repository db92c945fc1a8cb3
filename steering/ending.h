// Sessions that are ended from outside: everything that a backend owns, at the end of a drain's patience, and
// their TCP peers, who are told when they speak next. Beside the hooks of slot.h a plane gives a bounded memory
// of keys that forgets the oldest; who falls out of it is told by the VM's own RST:
//   bool steer_resets_unused(struct steer_plane *)         nobody was ever added: nothing to look for
//   bool steer_reset_known(struct steer_plane *, const struct steer_key *)
//   void steer_reset_add(struct steer_plane *, const struct steer_key *)
//   void steer_reset_remove(struct steer_plane *, const struct steer_key *)
#ifndef GODWIT_STEERING_ENDING_H
#define GODWIT_STEERING_ENDING_H

#include "steering/session.h"
#include "steering/steer.h"

// Whose end it is, and what has been ended so far.
struct steer_ending {
    uint32_t vm, slot;
    uint32_t tell; /* 1: the peers of open TCP sessions are answered with an RST */
    uint32_t reset, dropped;
};

STEER_INLINE void steer_slot_key(struct steer_key *key, const struct steer_line *line,
                                 const struct steer_slot *slot, uint32_t wide)
{
    __builtin_memset(key, 0, sizeof(*key));
    key->peer_be = STEER_PEEK(slot->peer_be);
    key->peer_port = STEER_PEEK(slot->peer_port);
    key->vm_port = STEER_PEEK(slot->vm_port);
    key->address_id = STEER_PEEK(slot->address_id);
    key->protocol = STEER_PEEK(slot->protocol);
    if (wide) {
        key->peer_rest[0] = STEER_PEEK(line->wide.peer_rest[0]);
        key->peer_rest[1] = STEER_PEEK(line->wide.peer_rest[1]);
        key->peer_rest[2] = STEER_PEEK(line->wide.peer_rest[2]);
    }
}

STEER_INLINE void steer_end_slot(struct steer_plane *plane, enum steer_table table, struct steer_line *line,
                                 struct steer_slot *slot, struct steer_ending *ending)
{
    uint32_t meta = steer_load32(&slot->meta);
    if (steer_meta_life(meta) != STEER_LIVE || steer_key_vm(STEER_PEEK(slot->address_id)) != ending->vm ||
        steer_meta_owner(meta) != ending->slot)
        return;
    struct vm_record *vm = steer_vm(plane, ending->vm);
    if (!vm)
        return;
    if (!steer_is_session_table(table)) {
        steer_handshake_free(plane, table, slot, meta, STEER_EMPTY);
        return;
    }
    bool open = !(meta & STEER_META_CLOSED);
    bool tell = ending->tell && STEER_PEEK(slot->protocol) == WIRE_PROTOCOL_TCP && open;
    struct steer_key key;
    // Told first: a segment that comes between the two must not look like an unknown session.
    if (tell) {
        steer_slot_key(&key, line, slot, steer_is_v6_table(table));
        // Freed and filled again meanwhile, the key may be of a session that lives and must not be told anything.
        STEER_FENCE(__ATOMIC_ACQUIRE);
        if (steer_load32(&slot->meta) != meta)
            return;
        steer_reset_add(plane, &key);
    }
    if (!steer_session_remove(plane, vm, table, slot, meta)) {
        // Something happened to it just now: it lives on, and so its peer is told nothing.
        if (tell)
            steer_reset_remove(plane, &key);
        return;
    }
    if (tell)
        ++ending->reset;
    else if (open)
        ++ending->dropped;
}

// One line: for bpf_loop callbacks. False when there is no such line.
STEER_INLINE bool steer_end_line(struct steer_plane *plane, enum steer_table table, uint32_t index,
                                 struct steer_ending *ending)
{
    struct steer_line *line = steer_line(plane, table, index);
    if (!line)
        return false;
    steer_end_slot(plane, table, line, &line->slot[0], ending);
    if (!steer_is_v6_table(table))
        steer_end_slot(plane, table, line, &line->slot[1], ending);
    return true;
}

// Ends the session of `key` if nothing has happened to it since it was seen with this stamp. A packet in the very
// tick of the last one leaves no trace: who sees the stamp again later knows that there was none.
STEER_COLD uint32_t steer_end_untouched(struct steer_plane *plane, enum steer_table table,
                                        const struct steer_key *key, uint64_t stamp)
{
    uint32_t meta;
    if (!plane || !key || table >= STEER_TABLES)
        return 0;
    struct vm_record *vm = steer_vm(plane, steer_key_vm(key->address_id));
    struct steer_slot *slot = steer_find(plane, table, key, &meta);
    if (!vm || !slot || meta & STEER_META_CLOSED || steer_session_stamp(slot) != stamp)
        return 0;
    return steer_session_remove(plane, vm, table, slot, (uint32_t)(stamp >> 32)) ? 1 : 0;
}

// A TCP segment towards a hosted address on a session that was ended so: whoever sends it is told. A SYN is a new
// session and ends the matter, and a RST needs no answer. Not a managed VM: its frames pass the fence first.
STEER_COLD uint32_t steer_was_reset(struct steer_plane *plane, struct steer_packet *p)
{
    struct steer_key key;
    if (!plane || !p || p->protocol != WIRE_PROTOCOL_TCP || p->kind > STEER_SEGMENT || p->family == 0)
        return 0;
    const struct steer_address *address = steer_hosted(plane, p, p->destination);
    if (!address)
        return 0;
    p->from_backend = 0;
    steer_key_of(&key, p, address->address_id);
    if (!steer_reset_known(plane, &key) || steer_sender(plane, p->source_mac))
        return 0;
    if (p->kind != STEER_SYN && p->kind != STEER_RST)
        return 1;
    steer_reset_remove(plane, &key);
    return 0;
}

// Before anything else is asked about a packet from the network.
STEER_INLINE bool steer_is_told(struct steer_plane *plane, struct steer_packet *p)
{
    return !steer_resets_unused(plane) && steer_was_reset(plane, p);
}

#endif
