// The life of a session: made, followed through its TCP end, aged. All transitions are a CAS of `meta`;
// who wins adjusts the counters, exactly once. Needs the plane's hooks of slot.h.
#ifndef GODWIT_STEERING_SESSION_H
#define GODWIT_STEERING_SESSION_H

#include "steering/count.h"
#include "steering/handshake.h"
#include "steering/parse.h"
#include "steering/quic.h"
#include "steering/table.h"

enum {
    STEER_TRANSITION_TRIES = 4,
    STEER_WINDOW = 1 << 20,  /* a generous receive window, bytes */
    STEER_SYN_DATA = 0xffff, /* no SYN brings more (RFC 7413) */
};

// Makes the session for `slot`. Counted before it is visible, so that whoever ends it finds it counted; a
// loser takes its own count back. The caller forgets the handshake afterwards and not before, so that
// sessions + handshakes never touch zero while a connection passes from one to the other.
STEER_COLD uint32_t steer_session_pin(struct steer_plane *plane, enum steer_table table,
                                      const struct steer_key *key, struct steer_fresh *fresh)
{
    if (!plane || !key || !fresh || table >= STEER_TABLES)
        return STEER_CONTENDED;
    struct vm_record *vm = steer_vm(plane, steer_key_vm(key->address_id));
    if (!vm)
        return STEER_CONTENDED;
    uint32_t owner = fresh->state >> STEER_META_OWNER_SHIFT & 1u;
    fresh->linger = vm->timeouts.linger;
    steer_session_up(vm, owner);
    uint32_t result = steer_insert(plane, table, key, fresh);
    if (result != STEER_INSERTED)
        steer_session_down(plane, vm, owner);
    if (result == STEER_FULL)
        steer_add32(&vm->untracked, 1);
    return result;
}

STEER_INLINE bool steer_session_remove(struct steer_plane *plane, struct vm_record *vm,
                                       enum steer_table table, struct steer_slot *slot, uint32_t meta)
{
    if (!steer_remove(plane, table, slot, meta))
        return false;
    if (!(meta & STEER_META_CLOSED))
        steer_session_down(plane, vm, steer_meta_owner(meta));
    return true;
}

// The session of `key` is over and forgotten, if it still is the one that had `expected`.
STEER_COLD uint32_t steer_session_forget(struct steer_plane *plane, enum steer_table table,
                                         const struct steer_key *key, uint32_t expected)
{
    uint32_t meta;
    if (!plane || !key || table >= STEER_TABLES)
        return 0;
    struct vm_record *vm = steer_vm(plane, steer_key_vm(key->address_id));
    struct steer_slot *slot = steer_find(plane, table, key, &meta);
    if (!vm || !slot || meta != expected)
        return 0;
    return steer_session_remove(plane, vm, table, slot, meta) ? 1 : 0;
}

// The VM's SYN or SYN-ACK: not a repetition of the one that the session began with?
STEER_INLINE bool steer_session_restarts(const struct steer_slot *slot, uint32_t meta,
                                         const struct steer_packet *p)
{
    bool repeats = p->seq == STEER_PEEK(slot->vm_edge) || p->seq + 1 == STEER_PEEK(slot->vm_edge);
    return p->from_backend && (meta & STEER_META_FIN_VM || !repeats);
}

// The peer's SYN on a session that both have closed, its FIN acknowledged and the VM's perhaps not: the peer can
// begin again only when it has nothing left of the old one (RFC 9293 section 3.6.1, RFC 6191), and then its
// numbers are beyond. What is not beyond may be an old duplicate, and whom it concerned can tell.
STEER_INLINE bool steer_session_is_left(const struct steer_slot *slot, uint32_t meta,
                                        const struct steer_packet *p)
{
    const uint32_t left = STEER_META_FIN_VM | STEER_META_FIN_PEER | STEER_META_FIN_PEER_ACKED;
    return (meta & left) == left && (int32_t)(p->seq - STEER_PEEK(slot->peer_edge)) > 0;
}

// A number that acknowledges the SYN with which the VM opens, and perhaps the data it brought.
STEER_INLINE bool steer_acknowledges_syn(const struct steer_slot *slot, uint32_t number)
{
    return number - (STEER_PEEK(slot->vm_edge) + 1) <= STEER_SYN_DATA;
}

// A peer's RST counts only near what the VM has acknowledged (RFC 5961 section 3): elsewhere the VM
// ignores it as well. Inside the window but not exact, the VM answers with a challenge ACK, which revives
// the entry. Before the VM has acknowledged anything the RST must acknowledge its SYN (RFC 9293 section 3.10.7.3).
STEER_INLINE bool steer_rst_plausible(const struct steer_slot *slot, uint32_t meta,
                                      const struct steer_packet *p)
{
    if (meta & STEER_META_OPENING)
        return p->tcp_flags & WIRE_TCP_ACK && steer_acknowledges_syn(slot, p->ack);
    return p->seq - STEER_PEEK(slot->peer_edge) < STEER_WINDOW;
}

// Same for its FIN: a forged one far outside would shorten the idle limit of a live session. Once a FIN is
// noted, only one that comes before it replaces it, for the VM takes the first in sequence.
STEER_INLINE bool steer_fin_plausible(const struct steer_slot *slot, uint32_t meta,
                                      const struct steer_packet *p)
{
    uint32_t fin = p->seq + p->length - 1;
    if (!(meta & STEER_META_FIN_PEER))
        return fin - STEER_PEEK(slot->peer_edge) + STEER_WINDOW <= 2u * STEER_WINDOW; /* or repeated */
    return !(meta & STEER_META_FIN_PEER_ACKED) && STEER_PEEK(slot->peer_edge) - fin < STEER_WINDOW;
}

// Opening, the VM answers a SYN-ACK that acknowledges something else with the number that it would have needed,
// and goes on waiting for the right one (RFC 9293 section 3.10.7.3): else a forged SYN-ACK could end a session.
STEER_INLINE bool steer_rst_ends_own(const struct steer_slot *slot, uint32_t meta,
                                     const struct steer_packet *p)
{
    return !(meta & STEER_META_OPENING) || p->tcp_flags & WIRE_TCP_ACK ||
           steer_acknowledges_syn(slot, p->seq);
}

STEER_INLINE bool steer_brings_data(const struct steer_packet *p)
{
    return p->length > ((p->tcp_flags & (WIRE_TCP_SYN | WIRE_TCP_FIN)) != 0);
}

STEER_INLINE uint32_t steer_meta_from_vm(struct steer_slot *slot, uint32_t meta, const struct steer_packet *p)
{
    meta |= STEER_META_HEARD_VM;
    if (p->kind == STEER_RST)
        return steer_rst_ends_own(slot, meta, p) ? meta | STEER_META_CLOSED : meta;
    if (p->tcp_flags & WIRE_TCP_ACK)
        meta &= ~(uint32_t)STEER_META_OPENING;
    if (meta & STEER_META_FIN_PEER && steer_brings_data(p))
        meta |= STEER_META_HALF_USED;
    // It speaks, so it did not believe the RST; or it had spoken before the RST reached it. Which of the
    // two only the peer can tell, by saying more. Until then the entry is kept, but not for hours.
    if (meta & STEER_META_RESET)
        meta = (meta & ~(uint32_t)STEER_META_RESET) | STEER_META_DOUBTED;
    if (meta & STEER_META_DOUBTED && !(meta & STEER_META_FIN_VM))
        steer_store32(&slot->vm_edge, p->seq);
    if (p->tcp_flags & WIRE_TCP_FIN && !(meta & STEER_META_FIN_VM)) {
        steer_store32(&slot->vm_edge, p->seq + p->length - 1);
        meta |= STEER_META_FIN_VM;
    }
    if (p->tcp_flags & WIRE_TCP_ACK && meta & STEER_META_FIN_PEER &&
        (int32_t)(p->ack - steer_load32(&slot->peer_edge)) > 0)
        meta |= STEER_META_FIN_PEER_ACKED;
    return meta;
}

STEER_INLINE uint32_t steer_meta_from_peer(struct steer_slot *slot, uint32_t meta,
                                           const struct steer_packet *p)
{
    if (p->kind == STEER_RST)
        return steer_rst_plausible(slot, meta, p) ? meta | STEER_META_RESET : meta;
    meta |= STEER_META_HEARD_PEER;
    // Beyond what the VM has acknowledged: a repeated segment says only that the peer lived then.
    if (meta & STEER_META_FIN_VM && steer_brings_data(p) &&
        p->seq + p->length - STEER_PEEK(slot->peer_edge) - 1 < STEER_WINDOW)
        meta |= STEER_META_HALF_USED;
    if (p->ack - STEER_PEEK(slot->vm_edge) + STEER_WINDOW <= 2u * STEER_WINDOW) /* of this very connection */
        meta &= ~(uint32_t)STEER_META_DOUBTED;
    if (p->tcp_flags & WIRE_TCP_FIN && steer_fin_plausible(slot, meta, p)) {
        steer_store32(&slot->peer_edge, p->seq + p->length - 1);
        meta |= STEER_META_FIN_PEER;
    }
    if (p->tcp_flags & WIRE_TCP_ACK && meta & STEER_META_FIN_VM &&
        (int32_t)(p->ack - steer_load32(&slot->vm_edge)) > 0)
        meta |= STEER_META_FIN_VM_ACKED;
    return meta;
}

// Something begins or ends. A lost CAS looks again; four in a row only delay the transition to the next
// packet, or to the idle limit.
STEER_COLD uint32_t steer_session_transition(struct steer_plane *plane, enum steer_table table,
                                             const struct steer_key *key, const struct steer_packet *p)
{
    uint32_t meta;
    if (!plane || !key || !p || table >= STEER_TABLES)
        return 0;
    struct vm_record *vm = steer_vm(plane, steer_key_vm(key->address_id));
    struct steer_slot *slot = steer_find(plane, table, key, &meta);
    if (!vm || !slot)
        return 0;
    bool from_vm = p->from_backend != 0;
    uint32_t generation = steer_meta_generation(meta);
    for (uint32_t i = 0; i < STEER_TRANSITION_TRIES; ++i) {
        if (steer_meta_life(meta) != STEER_LIVE || steer_meta_generation(meta) != generation ||
            meta & STEER_META_CLOSED)
            return 0;
        uint32_t next = from_vm ? steer_meta_from_vm(slot, meta, p) : steer_meta_from_peer(slot, meta, p);
        if ((next & STEER_META_FIN_VM_ACKED) && (next & STEER_META_FIN_PEER_ACKED))
            next |= STEER_META_CLOSED;
        if (next == meta)
            return 0;
        uint32_t seen = steer_cas32(&slot->meta, meta, next);
        if (seen == meta) {
            if (next & STEER_META_CLOSED)
                steer_session_down(plane, vm, steer_meta_owner(meta));
            return 1;
        }
        meta = seen;
    }
    return 0;
}

// Every packet of a session that was found. The common case writes the tick when it has changed and the
// VM's acknowledgement when it has moved, both in the line already loaded; nothing is atomic.
STEER_INLINE void steer_session_track(struct steer_plane *plane, enum steer_table table,
                                      const struct steer_key *key, struct steer_slot *slot, uint32_t meta,
                                      const struct steer_packet *p, uint32_t tick)
{
    uint32_t heard = p->from_backend ? STEER_META_HEARD_VM : STEER_META_HEARD_PEER;
    bool ends =
        (p->tcp_flags & (WIRE_TCP_FIN | WIRE_TCP_RST)) || (meta & (STEER_META_ENDING | STEER_META_OPENING));
    if (meta & STEER_META_CLOSED)
        return; /* the linger counts from the close, late retransmissions do not prolong it */
    if (STEER_PEEK(slot->last_tick) != tick)
        steer_store32(&slot->last_tick, tick);
    if (ends || !(meta & heard)) {
        steer_session_transition(plane, table, key, p);
        meta = steer_load32(&slot->meta);
    }
    if (p->from_backend && p->tcp_flags & WIRE_TCP_ACK && !(meta & STEER_META_FIN_PEER) &&
        STEER_PEEK(slot->peer_edge) != p->ack)
        steer_store32(&slot->peer_edge, p->ack);
}

// ---- ageing -----------------------------------------------------------------------------------------

// Closed sessions of the original are kept while it is hosted or two are active: a clone made meanwhile
// holds copies of their sockets, and once the entry is gone the original's RST would give the clone a second
// chance to answer for a session that has ended. They count nowhere and make room when room is needed.
STEER_INLINE bool steer_is_tombstone(uint64_t word, uint32_t owner)
{
    return (steer_is_draining(word) || steer_is_hosting(word)) && owner == steer_authority(word);
}

// In use until somebody says otherwise, so that only the long limit ends it (RFC 5382 REQ-5): both have spoken, and
// at most one has closed. When the peer has, the VM still holds its socket, for its own FIN or RST would have been
// seen. When the VM has, it may have left without waiting for the peer's FIN, unless the peer goes on sending.
STEER_INLINE bool steer_session_is_open(uint32_t meta)
{
    const uint32_t heard = STEER_META_HEARD_VM | STEER_META_HEARD_PEER;
    if ((meta & heard) != heard || meta & (STEER_META_DOUBTED | STEER_META_OPENING))
        return false;
    if (!(meta & (STEER_META_FIN_VM | STEER_META_FIN_PEER)))
        return true;
    if (meta & STEER_META_FIN_VM && meta & STEER_META_FIN_PEER)
        return false;
    return meta & STEER_META_HALF_USED || (meta & STEER_META_FIN_PEER && meta & STEER_META_WHOLE);
}

// The limit of these ports, if one has its own; else `otherwise`.
STEER_INLINE uint32_t steer_port_timeout(const struct vm_record *vm, uint32_t protocol, uint32_t vm_port,
                                         uint32_t peer_port, uint32_t otherwise)
{
    const uint64_t key = 0x01ffffffull << 32;
    uint64_t of_vm = steer_port_limit(protocol, vm_port, false, 0);
    uint64_t of_peer = steer_port_limit(protocol, peer_port, true, 0);
    for (uint32_t i = 0; i < STEER_PORT_LIMITS; ++i) {
        uint64_t limit = steer_load64(&vm->port_limits[i]);
        if ((uint32_t)limit && ((limit & key) == of_vm || (limit & key) == of_peer))
            return (uint32_t)limit;
    }
    return otherwise;
}

STEER_INLINE uint32_t steer_session_timeout(const struct vm_record *vm, uint64_t word, uint32_t meta,
                                            const struct steer_slot *slot)
{
    const struct steer_timeouts *t = &vm->timeouts;
    uint32_t protocol = STEER_PEEK(slot->protocol);
    uint32_t vm_port = STEER_PEEK(slot->vm_port), peer_port = STEER_PEEK(slot->peer_port);
    if (protocol == STEER_PROTOCOL_QUIC_ID) /* what stands in its peer's port is none */
        return steer_port_timeout(vm, WIRE_PROTOCOL_UDP, vm_port, 0, t->udp);
    if (meta & STEER_META_CLOSED)
        return steer_is_tombstone(word, steer_meta_owner(meta)) ? t->tombstone : t->linger;
    if (meta & STEER_META_RESET)
        return t->linger;
    if (protocol == WIRE_PROTOCOL_ICMP || protocol == WIRE_PROTOCOL_ICMPV6)
        return t->icmp;
    if (protocol != WIRE_PROTOCOL_TCP)
        return steer_port_timeout(vm, protocol, vm_port, peer_port, t->udp);
    if (!steer_session_is_open(meta))
        return t->transitory;
    return steer_port_timeout(vm, protocol, vm_port, peer_port, t->established);
}

STEER_INLINE void steer_sweep_slot(struct steer_plane *plane, enum steer_table table, struct steer_line *line,
                                   uint32_t half, uint32_t tick, struct steer_swept *swept)
{
    struct steer_slot *slot = &line->slot[half];
    uint32_t meta = steer_load32(&slot->meta);
    if (steer_meta_life(meta) != STEER_LIVE)
        return;
    struct vm_record *vm = steer_vm(plane, steer_key_vm(STEER_PEEK(slot->address_id)));
    if (!vm)
        return;
    uint64_t word = steer_load64(&vm->steer);
    bool is_session = steer_is_session_table(table);
    if (is_session && STEER_PEEK(slot->protocol) == STEER_PROTOCOL_QUIC_ID)
        steer_quic_age(plane, table, line, half);
    uint32_t timeout = is_session                         ? steer_session_timeout(vm, word, meta, slot)
                       : steer_is_counted_newcomer(table) ? vm->timeouts.handshake
                                                          : vm->timeouts.fragment;
    // A slot touched after `tick` was read looks younger than zero: signed.
    if ((int32_t)(tick - steer_load32(&slot->last_tick)) >= (int32_t)timeout) {
        bool removed = is_session ? steer_session_remove(plane, vm, table, slot, meta)
                                  : steer_handshake_free(plane, table, slot, meta, STEER_EMPTY);
        swept->removed += removed ? 1 : 0;
        return;
    }
    if (meta & STEER_META_CLOSED)
        ++swept->closed;
    else
        ++swept->live;
}

// One line: for bpf_loop callbacks. False when there is no such line.
STEER_INLINE bool steer_sweep_line(struct steer_plane *plane, enum steer_table table, uint32_t index,
                                   struct steer_swept *swept)
{
    struct steer_line *line = steer_line(plane, table, index);
    if (!line)
        return false;
    uint32_t tick = steer_tick(plane);
    steer_sweep_slot(plane, table, line, 0, tick, swept);
    if (!steer_is_v6_table(table))
        steer_sweep_slot(plane, table, line, 1, tick, swept);
    return true;
}

// `count` lines from `first`. User space may call it on mapped memory while packets flow.
STEER_INLINE struct steer_swept steer_sweep(struct steer_plane *plane, enum steer_table table, uint32_t first,
                                            uint32_t count)
{
    struct steer_swept swept = {0, 0, 0};
    for (uint32_t i = 0; i < count && steer_sweep_line(plane, table, first + i, &swept); ++i);
    return swept;
}

#endif
