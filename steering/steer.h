// One packet's way: parse -> whose is it -> what is known -> decide -> remember. The model, the XDP and tc
// programs and later DPDK run this same text; they differ in the hooks of slot.h, which they define before
// including this file. A plane then carries out the verdict and counts its reason.
//   uplinks without VMs behind them:  steer_from_network()
//   VM ports, uplinks of hypervisors: steer_packet()
#ifndef GODWIT_STEERING_STEER_H
#define GODWIT_STEERING_STEER_H

#include "steering/decide.h"
#include "steering/fits.h"
#include "steering/fragment.h"
#include "steering/new_flow.h"
#include "steering/parse.h"
#include "steering/quic.h"
#include "steering/quic_reset.h"
#include "steering/session.h"
#include "steering/table.h"
#include "steering/temporary.h"

struct steer_outcome {
    struct steer_verdict verdict;
    struct vm_record *vm; /* NULL when nobody's; else FORWARD means vm->backend[verdict.slot] */
    // PASS, FORWARD, BOTH: not NULL when the source is a temporary address that the peer must not see: the
    // plane rewrites it first (translate.h, STEER_BACK).
    const struct steer_translation *source;
};

// What is known about one packet. Plain numbers: it is handed to functions that the verifier checks alone. The
// plane gives the memory for it, because under BPF a call chain has 512 bytes of stack and this is a fifth.
struct steer_case {
    uint32_t tick;
    uint32_t wide;      /* 1: the IPv6 tables */
    uint32_t temporary; /* the source is the sender's temporary address */
    uint32_t handshake_timeout;
    uint32_t session_meta;
    uint32_t reset_token; /* of what may be a Stateless Reset, quic_reset.h; 0: it is none */
    struct steer_newcomer handshake, chance;
    struct steer_key key;
    struct steer_facts facts;
    struct steer_quic
        quic; /* read when nothing else is known, or when a VM speaks; only then is more than its form set */
};

STEER_INLINE enum steer_table steer_table_of(enum steer_table table_v4, uint32_t wide)
{
    return (enum steer_table)((uint32_t)table_v4 + (wide & 1u)); /* bounded for the verifier */
}

STEER_INLINE struct steer_outcome steer_outcome(struct vm_record *vm, struct steer_verdict verdict)
{
    struct steer_outcome outcome = {verdict, vm, NULL};
    return outcome;
}
STEER_INLINE struct steer_outcome steer_not_ours(void)
{
    return steer_outcome(NULL, steer_verdict(STEER_PASS, 0, STEER_KEEP, STEER_WHY_NOT_MANAGED));
}

// ICMP echo has one identifier; the side that asked owns the port it is put into, so that a VM's ping and
// a ping of the VM with the same identifier are two sessions.
STEER_INLINE void steer_key_of(struct steer_key *key, const struct steer_packet *p, uint32_t address_id)
{
    const uint32_t *peer = p->from_backend               ? p->destination
                           : p->kind == STEER_ICMP_ERROR ? p->embedded
                                                         : p->source;
    key->peer_be = peer[0];
    key->peer_rest[0] = peer[1];
    key->peer_rest[1] = peer[2];
    key->peer_rest[2] = peer[3];
    key->peer_port = p->from_backend ? p->destination_port : p->source_port;
    key->vm_port = p->from_backend ? p->source_port : p->destination_port;
    key->address_id = (uint16_t)address_id;
    key->protocol = p->protocol;
    key->reserved = 0;
    if (p->kind == STEER_ECHO_REQUEST || p->kind == STEER_ECHO_REPLY) {
        bool vm_asked = (p->kind == STEER_ECHO_REQUEST) == (p->from_backend != 0);
        if (vm_asked)
            key->peer_port = 0;
        else
            key->vm_port = 0;
    }
}

// ---- what is known ------------------------------------------------------------------------------------

STEER_INLINE uint8_t steer_session_record(uint32_t meta)
{
    if (meta & STEER_META_CLOSED)
        return STEER_CLOSED;
    return meta & STEER_META_RESET ? STEER_RESET : STEER_PRESENT;
}

// No session: is there a handshake, or a second chance?
STEER_COLD uint32_t steer_look_for_newcomer(struct steer_plane *plane, struct steer_case *c,
                                            const struct steer_packet *p)
{
    if (!plane || !c || !p)
        return 0;
    steer_handshake_find(plane, steer_table_of(STEER_HANDSHAKES4, c->wide), &c->key, c->handshake_timeout,
                         &c->handshake);
    steer_handshake_find(plane, steer_table_of(STEER_CHANCES4, c->wide), &c->key, c->handshake_timeout,
                         &c->chance);
    c->facts.chance = c->chance.meta && steer_chance_fits(&c->chance, p) ? STEER_PRESENT : STEER_ABSENT;
    c->facts.chance_owner = (uint8_t)steer_meta_owner(c->chance.meta);
    bool fits = c->handshake.meta && steer_handshake_fits(&c->handshake, p);
    c->facts.handshake = fits ? STEER_PRESENT : STEER_ABSENT;
    c->facts.handshake_owner = (uint8_t)steer_meta_owner(c->handshake.meta);
    c->facts.proves_handshake = p->kind == STEER_SEGMENT && c->handshake.meta & STEER_META_NOTED &&
                                p->tcp_flags & WIRE_TCP_ACK && p->ack == c->handshake.vm_edge + 1;
    // A half-open VM answers any segment that does not fit with such an ACK: if that pinned, one forged SYN
    // and one forged ACK would make an entry.
    // When the VM was given a SYN and holds another socket on these ports, its challenge must reach the
    // client, whose RST then clears the way (RFC 9293 section 3.5.1).
    bool bare_ack = p->from_backend && p->kind == STEER_SEGMENT && p->length == 0;
    bool repeats = bare_ack && c->handshake.meta && p->ack == c->handshake.peer_edge;
    bool challenges = bare_ack && c->handshake.meta && !fits && c->facts.handshake_owner == c->facts.sender;
    if (challenges)
        c->facts.handshake = STEER_PRESENT;
    c->facts.contradicted =
        p->from_backend && c->handshake.meta && !fits && c->facts.handshake_owner != c->facts.sender;
    c->facts.proves_nothing = repeats || challenges;
    c->facts.looks_reset = c->reset_token != 0;
    c->facts.repeats_reset = c->chance.meta && c->chance.vm_edge == c->reset_token;
    c->facts.ends_handshake = p->kind == STEER_RST && steer_rst_ends_handshake(&c->handshake, p);
    return 0;
}

// An ICMP error: what is known of the session that it is about. One that a VM sends must be about a packet to
// its own address.
STEER_COLD uint32_t steer_look_for_embedded(struct steer_plane *plane, struct steer_case *c,
                                            const struct steer_packet *p, uint32_t address_id)
{
    if (!plane || !c || !p)
        return 0;
    if (p->from_backend && ((p->embedded[0] ^ p->source[0]) | (p->embedded[1] ^ p->source[1]) |
                            (p->embedded[2] ^ p->source[2]) | (p->embedded[3] ^ p->source[3])))
        return 0;
    steer_key_of(&c->key, p, address_id);
    if (!steer_find(plane, steer_table_of(STEER_SESSIONS4, c->wide), &c->key, &c->session_meta))
        return steer_look_for_newcomer(plane, c, p);
    c->facts.session = steer_session_record(c->session_meta);
    c->facts.session_owner = (uint8_t)steer_meta_owner(c->session_meta);
    return 0;
}

// A datagram of no session: of a QUIC connection that came from elsewhere until now?
STEER_INLINE void steer_look_for_connection(struct steer_plane *plane, struct steer_case *c,
                                            const struct steer_packet *p, struct steer_bytes frame)
{
    if (!steer_quic_read(&c->quic, frame.data, frame.end, p->payload_at, /*of_source=*/false) ||
        !steer_quic_find(plane, steer_table_of(STEER_SESSIONS4, c->wide), &c->key, &c->quic))
        return;
    c->facts.connection = c->quic.named.meta ? STEER_PRESENT : STEER_ABSENT;
    c->facts.connection_owner = (uint8_t)steer_meta_owner(c->quic.named.meta);
    c->facts.midway = c->quic.form == STEER_QUIC_SHORT;
}

// A later fragment: where its first one went.
STEER_COLD uint32_t steer_look_for_fragment(struct steer_plane *plane, struct steer_case *c,
                                            const struct steer_packet *p, uint32_t address_id)
{
    if (!plane || !c || !p)
        return 0;
    struct vm_record *vm = steer_vm(plane, steer_key_vm(address_id));
    if (!vm)
        return 0;
    steer_key_of(&c->key, p, address_id);
    steer_fragment_key(&c->key, p->fragment_id, p->from_backend != 0, c->facts.sender);
    steer_handshake_find(plane, steer_table_of(STEER_FRAGMENTS4, c->wide), &c->key, vm->timeouts.fragment,
                         &c->handshake);
    c->facts.handshake = c->handshake.meta ? STEER_PRESENT : STEER_ABSENT;
    c->facts.handshake_owner = (uint8_t)steer_meta_owner(c->handshake.meta);
    return 0;
}

// ---- remember -----------------------------------------------------------------------------------------

// The last that is done with the case: it takes the key over.
STEER_COLD uint32_t steer_remember_fragment(struct steer_plane *plane, struct steer_case *c,
                                            const struct steer_packet *p, uint32_t slot)
{
    if (!plane || !c || !p)
        return 0;
    struct steer_fresh fresh = {(slot & 1u) << STEER_META_OWNER_SHIFT, c->tick, 0, 0, 0, 0, 0};
    steer_fragment_key(&c->key, p->fragment_id, p->from_backend != 0, c->facts.sender);
    return steer_fragment_keep(plane, steer_table_of(STEER_FRAGMENTS4, c->wide), &c->key, &fresh);
}

STEER_INLINE void steer_forget(struct steer_plane *plane, struct steer_case *c)
{
    if (c->handshake.meta)
        steer_handshake_forget(plane, steer_table_of(STEER_HANDSHAKES4, c->wide), &c->key, c->handshake.meta);
    if (c->chance.meta)
        steer_handshake_forget(plane, steer_table_of(STEER_CHANCES4, c->wide), &c->key, c->chance.meta);
}

STEER_INLINE uint32_t steer_owner_bit(uint32_t slot) { return (slot & 1u) << STEER_META_OWNER_SHIFT; }

STEER_INLINE void steer_remember_session(struct steer_plane *plane, struct steer_case *c,
                                         const struct steer_packet *p, struct steer_verdict *v)
{
    enum steer_table table = steer_table_of(STEER_SESSIONS4, c->wide);
    struct steer_fresh fresh = {steer_owner_bit(v->slot), c->tick, 0, 0, 0, 0, 0};
    bool from_vm = p->from_backend != 0;
    // An acknowledgement in either direction says that both ends have spoken.
    if (p->tcp_flags & WIRE_TCP_ACK)
        fresh.state |= STEER_META_HEARD_VM | STEER_META_HEARD_PEER;
    if (from_vm && p->kind == STEER_SYN)
        fresh.state |= STEER_META_OPENING | STEER_META_WHOLE;
    if (v->why == STEER_WHY_PROVEN || v->why == STEER_WHY_HANDSHAKE)
        fresh.state |= STEER_META_WHOLE;
    // A bare ACK that answers no handshake may be the last word of a half-open or closing socket.
    if (v->why != STEER_WHY_HANDSHAKE && from_vm && p->kind == STEER_SEGMENT && p->length == 0)
        fresh.state |= STEER_META_DOUBTED;
    fresh.vm_edge = from_vm ? p->seq : p->ack;
    fresh.peer_edge = from_vm ? p->ack : p->seq;
    uint32_t result = steer_session_pin(plane, table, &c->key, &fresh);
    if (result == STEER_FULL || result == STEER_CONTENDED) {
        v->why = result == STEER_FULL ? STEER_WHY_UNTRACKED : STEER_WHY_CONTENDED;
        return;
    }
    uint32_t owner = steer_meta_owner(fresh.meta);
    if (owner != v->slot) { /* another core was first: its owner counts */
        if (from_vm)
            *v = steer_fenced(STEER_WHY_FENCED);
        v->slot = (uint8_t)owner;
        return;
    }
    if (p->kind >= STEER_SYN && p->kind <= STEER_SEGMENT)
        steer_session_transition(plane, table, &c->key, p);
    else if (p->kind == STEER_UDP && c->handshake.peer_edge & STEER_ID_KNOWN)
        steer_quic_follow(plane, table, &c->key, &c->handshake, owner);
    steer_forget(plane, c);
}

STEER_INLINE void steer_remember_newcomer(struct steer_plane *plane, struct steer_case *c,
                                          const struct steer_packet *p, struct steer_verdict *v,
                                          enum steer_table table_v4)
{
    struct steer_fresh fresh = {
        steer_owner_bit(v->slot), c->tick, c->reset_token, p->seq + p->length, 0, 0, 0};
    if (p->from_backend && p->kind == STEER_SYN_ACK) {
        fresh.state |= STEER_META_NOTED;
        fresh.vm_edge = p->seq;
        fresh.peer_edge = p->ack;
    }
    if (p->from_backend && p->kind == STEER_RST)
        fresh.vm_edge = p->seq;
    if (v->why == STEER_WHY_CONNECTION_ID) {
        fresh.vm_edge = c->quic.named.vm_edge;
        fresh.peer_edge = c->quic.named.peer_edge;
    }
    uint32_t given =
        steer_handshake_give(plane, steer_table_of(table_v4, c->wide), &c->key, &fresh, c->handshake_timeout);
    if (given && v->action == STEER_FORWARD)
        v->slot = (uint8_t)steer_meta_owner(fresh.meta);
}

STEER_INLINE void steer_note_syn_ack(struct steer_plane *plane, struct steer_case *c,
                                     const struct steer_packet *p, struct steer_verdict *v)
{
    if (c->handshake.meta)
        steer_handshake_note(plane, steer_table_of(STEER_HANDSHAKES4, c->wide), &c->key, p->seq, p->ack);
    else if (!c->chance.meta)
        steer_remember_newcomer(plane, c, p, v, STEER_HANDSHAKES4);
}

STEER_COLD uint32_t steer_remember(struct steer_plane *plane, struct steer_case *c,
                                   const struct steer_packet *p, struct steer_verdict *v)
{
    if (!plane || !c || !p || !v || steer_is_refused(plane, c->key.address_id, c->tick, p, v))
        return 0;
    if (v->memory == STEER_REOPEN || v->memory == STEER_REPIN || v->memory == STEER_RESTART ||
        v->memory == STEER_DISOWN)
        steer_session_forget(plane, steer_table_of(STEER_SESSIONS4, c->wide), &c->key, c->session_meta);
    switch (v->memory) {
    case STEER_PIN:
    case STEER_REPIN:
        steer_remember_session(plane, c, p, v);
        break;
    case STEER_GIVE:
    case STEER_REOPEN:
        steer_remember_newcomer(plane, c, p, v, STEER_HANDSHAKES4);
        break;
    case STEER_DISOWN:
    case STEER_CHANCE:
        if (c->chance.meta) /* about something else */
            steer_handshake_forget(plane, steer_table_of(STEER_CHANCES4, c->wide), &c->key, c->chance.meta);
        steer_remember_newcomer(plane, c, p, v, STEER_CHANCES4);
        break;
    case STEER_RESTART:
    case STEER_NOTE:
        steer_note_syn_ack(plane, c, p, v);
        break;
    case STEER_FORGET:
        steer_forget(plane, c);
        break;
    }
    return 0;
}

// ---- one managed packet ---------------------------------------------------------------------------------

// Only what is answered at once counts as a question: SYN, echo request, TCP data.
STEER_INLINE void steer_measure_gap(struct vm_record *vm, const struct steer_case *c,
                                    const struct steer_packet *p, const struct steer_verdict *v)
{
    if (!(c->facts.steer & (STEER_HOSTING | STEER_DRAINING)) || !steer_kind_has_session(p->kind))
        return;
    if (p->from_backend) {
        if (v->action == STEER_PASS)
            steer_answered(vm, c->facts.sender, c->tick);
        return;
    }
    bool asks =
        p->kind == STEER_SYN || p->kind == STEER_ECHO_REQUEST || (p->kind == STEER_SEGMENT && p->length > 0);
    if (asks && v->action == STEER_FORWARD)
        steer_question(vm, v->slot, c->tick);
}

STEER_INLINE void steer_case_init(struct steer_case *c, struct vm_record *vm, const struct steer_packet *p,
                                  uint32_t sender)
{
    __builtin_memset(c, 0, offsetof(struct steer_case, quic));
    c->handshake_timeout = vm->timeouts.handshake;
    c->facts.steer = steer_load64(&vm->steer);
    c->facts.kind = p->kind;
    c->facts.direction = p->from_backend ? STEER_FROM_BACKEND : STEER_FROM_NETWORK;
    c->facts.sender = (uint8_t)sender;
}

// `frame`: nothing when a VM has sent it, whose words are looked at behind the verdict.
STEER_INLINE struct steer_verdict steer_managed(struct steer_plane *plane, struct steer_case *c,
                                                struct vm_record *vm, struct steer_packet *p,
                                                struct steer_bytes frame, uint32_t address_id, uint32_t wide)
{
    enum steer_table table = wide ? STEER_SESSIONS6 : STEER_SESSIONS4;
    struct steer_slot *session = NULL;
    c->wide = wide;
    c->tick = steer_tick(plane);
    if (steer_kind_has_session(p->kind)) {
        steer_key_of(&c->key, p, address_id);
        session = steer_find(plane, table, &c->key, &c->session_meta);
        // RFC 9293 section 3.10.7.1; who aborts a connection sends RST with ACK and its own number.
        c->facts.refuses = p->kind == STEER_RST && (!(p->tcp_flags & WIRE_TCP_ACK) || p->seq == 0);
        if (session) {
            c->facts.session = steer_session_record(c->session_meta);
            c->facts.session_owner = (uint8_t)steer_meta_owner(c->session_meta);
            c->facts.doubted = (c->session_meta & STEER_META_DOUBTED) != 0;
            if (p->tcp_flags & WIRE_TCP_SYN) {
                c->facts.restarts = steer_session_restarts(session, c->session_meta, p);
                if (p->kind == STEER_SYN && !p->from_backend &&
                    steer_session_is_left(session, c->session_meta, p))
                    c->facts.session = STEER_CLOSED;
            }
        } else {
            steer_look_for_newcomer(plane, c, p);
            if (frame.data && p->kind == STEER_UDP && vm->id_lengths && !c->facts.handshake)
                steer_look_for_connection(plane, c, p, frame);
        }
    } else if (p->kind == STEER_ICMP_ERROR)
        steer_look_for_embedded(plane, c, p, address_id);
    else if (p->kind == STEER_FRAGMENT)
        steer_look_for_fragment(plane, c, p, address_id);
    if (p->from_backend && c->temporary && steer_is_own(plane, &c->facts, &c->key, p, vm))
        return steer_verdict(STEER_PASS, c->facts.sender, STEER_KEEP, STEER_WHY_TEMPORARY);
    struct steer_verdict v = steer_decide(&c->facts);
    if (v.memory != STEER_KEEP) {
        struct steer_verdict changed = v; /* so that v itself can stay in a register */
        steer_remember(plane, c, p, &changed);
        v = changed;
    } else if (session && v.why == STEER_WHY_SESSION)
        steer_session_track(plane, table, &c->key, session, c->session_meta, p, c->tick);
    if (p->fragment == STEER_FIRST_FRAGMENT && steer_kind_has_session(p->kind) && v.action != STEER_DROP)
        steer_remember_fragment(plane, c, p, v.slot);
    steer_measure_gap(vm, c, p, &v);
    if (v.action == STEER_FORWARD && !steer_slot_present(c->facts.steer, v.slot))
        v = steer_verdict(STEER_DROP, v.slot, STEER_KEEP, STEER_WHY_NO_BACKEND);
    return v;
}

// Nobody can use a frame that contradicts itself, whoever it is for.
STEER_INLINE struct steer_outcome steer_no_address(const struct steer_packet *p)
{
    if (p->kind == STEER_TRUNCATED)
        return steer_outcome(NULL, steer_verdict(STEER_DROP, 0, STEER_KEEP, STEER_WHY_TRUNCATED));
    if (p->kind == STEER_BAD)
        return steer_outcome(NULL, steer_verdict(STEER_DROP, 0, STEER_KEEP, STEER_WHY_BAD_HEADER));
    if (p->kind == STEER_VLAN)
        return steer_outcome(NULL, steer_verdict(STEER_PASS, 0, STEER_KEEP, STEER_WHY_VLAN_UNSUPPORTED));
    return steer_not_ours();
}

// A unicast frame for another station, a router on the way say, is not yet at its destination.
STEER_INLINE bool steer_is_for_vm(const struct vm_record *vm, const struct steer_packet *p)
{
    return (p->destination_mac[0] & 1) || wire_mac_equal(p->destination_mac, vm->mac) ||
           wire_mac_equal(p->destination_mac, vm->backend[0].mac) ||
           wire_mac_equal(p->destination_mac, vm->backend[1].mac);
}

// Towards a temporary address itself: to the backend that has it, as it is.
STEER_INLINE struct steer_outcome steer_to_temporary(struct steer_plane *plane, const struct steer_packet *p,
                                                     const struct steer_address *address,
                                                     struct steer_key *key)
{
    uint32_t vm = address->vm & ~STEER_TEMPORARY, slot = address->address_id & 1;
    steer_key_of(key, p, address->address_id);
    if (!steer_note_direct(plane, p, key, vm, slot))
        return steer_not_ours();
    return steer_outcome(steer_vm(plane, vm),
                         steer_verdict(STEER_FORWARD, slot, STEER_KEEP, STEER_WHY_TEMPORARY));
}

// ARP and ND that teach their hearers a MAC for the address that they come from, beside announcements.
STEER_INLINE bool steer_kind_names_source(uint32_t kind)
{
    return kind == STEER_ARP_REQUEST || kind == STEER_ARP_REPLY || kind == STEER_ND_SOLICIT ||
           kind == STEER_ND_ADVERT;
}

// Does it come from a hosted or temporary address, and not from that VM? Whoever believed it would send the VM's
// packets elsewhere. `sender`: STEER_VMS_MAX for who is no managed VM.
STEER_COLD uint32_t steer_claims_hosted(struct steer_plane *plane, const struct steer_packet *p,
                                        uint32_t sender)
{
    if (!plane || !p)
        return 0;
    const struct steer_address *address = steer_hosted(plane, p, p->source);
    const struct vm_record *vm = address ? steer_vm(plane, address->vm & ~STEER_TEMPORARY) : NULL;
    return vm && steer_load64(&vm->steer) & STEER_VALID && vm->vm != sender;
}

// Towards a hosted address, wherever the frame came from; but not towards the sender's own, whose
// announcement or duplicate probe would else be met with an answer.
STEER_INLINE struct steer_outcome steer_to_hosted(struct steer_plane *plane, struct steer_case *c,
                                                  struct steer_packet *p, struct steer_bytes frame,
                                                  const struct vm_record *sender)
{
    p->from_backend = 0;
    if (p->family == 0)
        return steer_no_address(p);
    if (steer_kind_names_source(p->kind) &&
        steer_claims_hosted(plane, p, sender ? sender->vm : STEER_VMS_MAX))
        return steer_outcome(NULL, steer_verdict(STEER_DROP, 0, STEER_KEEP, STEER_WHY_ADDRESS_CONFLICT));
    const uint32_t *of = p->kind == STEER_ARP_ANNOUNCE && p->source[0] ? p->source : p->destination;
    if (p->kind == STEER_ND_ANNOUNCE)
        of = p->source;
    const struct steer_address *address = steer_hosted(plane, p, of);
    if (!address)
        return p->vlan ? steer_outcome(NULL, steer_verdict(STEER_PASS, 0, STEER_KEEP, STEER_WHY_OTHER_VLAN))
                       : steer_not_ours();
    struct vm_record *vm = steer_vm(plane, address->vm);
    if (!vm && address->vm & STEER_TEMPORARY)
        return steer_to_temporary(plane, p, address, &c->key);
    if (!vm || vm == sender || !(steer_load64(&vm->steer) & STEER_VALID) || !steer_is_for_vm(vm, p))
        return steer_not_ours();
    steer_case_init(c, vm, p, 0);
    struct steer_verdict v = p->family == 4 ? steer_managed(plane, c, vm, p, frame, address->address_id, 0)
                                            : steer_managed(plane, c, vm, p, frame, address->address_id, 1);
    return steer_outcome(vm, v);
}

STEER_INLINE struct steer_outcome steer_from_network(struct steer_plane *plane, struct steer_case *c,
                                                     struct steer_packet *p, struct steer_bytes frame)
{
    return steer_to_hosted(plane, c, p, frame, NULL);
}

// Announcements and housekeeping may carry no address of the VM at all; their rule is the kind alone.
STEER_INLINE bool steer_kind_has_source(uint32_t kind)
{
    return kind != STEER_ARP_ANNOUNCE && kind != STEER_ND_PROBE && kind != STEER_HOUSEKEEPING &&
           kind != STEER_DHCP && kind != STEER_DHCP_ANSWER;
}

// What a VM says in a long header. Who answers a newcomer is the server.
STEER_INLINE void steer_hear_quic(struct steer_plane *plane, struct steer_case *c,
                                  const struct steer_packet *p, struct steer_bytes frame,
                                  const struct steer_verdict *v)
{
    if (!steer_quic_read(&c->quic, frame.data, frame.end, p->payload_at, /*of_source=*/true))
        return;
    c->quic.answers = v->why == STEER_WHY_HANDSHAKE;
    steer_quic_learn(plane, steer_table_of(STEER_SESSIONS4, c->wide), &c->key, &c->quic, c->facts.sender);
}

// From a managed VM: may it say this? PASS means that it may leave.
STEER_INLINE struct steer_outcome steer_from_backend(struct steer_plane *plane, struct steer_case *c,
                                                     struct steer_packet *p, struct steer_bytes frame,
                                                     const struct steer_identity *sender)
{
    p->from_backend = 1;
    struct vm_record *vm = steer_vm(plane, sender->vm);
    if (!vm || !(steer_load64(&vm->steer) & STEER_VALID))
        return steer_not_ours();
    steer_case_init(c, vm, p, sender->slot);
    if (p->vlan != vm->vlan && p->kind != STEER_VLAN && p->kind != STEER_TRUNCATED && p->kind != STEER_BAD)
        return steer_outcome(vm, steer_elsewhere(&c->facts));
    const struct steer_address *address = p->family ? steer_hosted(plane, p, p->source) : NULL;
    if (steer_is_nat(vm, sender->slot)) {
        uint32_t aside = steer_says_aside(plane, p, sender->vm, sender->slot);
        if (aside)
            return steer_outcome(vm,
                                 steer_verdict(aside >> 8 & 0xff, sender->slot, STEER_KEEP, aside & 0xff));
        c->temporary = address != NULL;
    } else if (address && address->vm != sender->vm) {
        return steer_outcome(vm, steer_fenced(STEER_WHY_SPOOFED_SOURCE));
    }
    // Its other addresses, temporary or link-local, are not steered; but an inactive backend is silent.
    bool steered = address || p->kind == STEER_VLAN || p->kind == STEER_TRUNCATED || p->kind == STEER_BAD ||
                   p->kind == STEER_ND_ADVERT || p->kind == STEER_ND_ANNOUNCE ||
                   !steer_kind_has_source(p->kind);
    if (!steered && steer_slot_active(c->facts.steer, sender->slot))
        return steer_outcome(vm, steer_allowed(&c->facts, STEER_KEEP, STEER_WHY_NOT_MANAGED));
    uint32_t address_id = address ? address->address_id : 0;
    if (c->temporary) {
        const struct steer_translation *names = steer_translation_of(plane, sender->vm, sender->slot);
        if (!names)
            return steer_outcome(vm, steer_fenced(STEER_WHY_PLANE));
        address_id = p->family == 6 ? names->address_id6 : names->address_id4;
    }
    if (steer_is_draining(c->facts.steer) && p->kind == STEER_UDP && p->fragment == STEER_WHOLE &&
        sender->slot == steer_authority(c->facts.steer) && steer_quic_serves(vm, p->source_port))
        c->reset_token = steer_quic_token(frame.data, frame.end, p->payload_at);
    const struct steer_bytes none = {NULL, NULL};
    struct steer_verdict v = p->family == 6 ? steer_managed(plane, c, vm, p, none, address_id, 1)
                                            : steer_managed(plane, c, vm, p, none, address_id, 0);
    // A first fragment's key has become the fragments' own.
    if (p->kind == STEER_UDP && p->fragment == STEER_WHOLE && v.action == STEER_PASS &&
        v.why != STEER_WHY_TEMPORARY && steer_quic_is_long(frame, p->payload_at))
        steer_hear_quic(plane, c, p, frame, &v);
    struct steer_outcome out = steer_outcome(vm, v);
    if (c->temporary && v.why != STEER_WHY_TEMPORARY)
        out.source = steer_translation_of(plane, sender->vm, sender->slot);
    return out;
}

// The peer, if it is behind this switch too, knows the sender by its hosted address; so does an ICMP error.
STEER_INLINE void steer_take_hosted_source(struct steer_packet *p, const struct steer_translation *source)
{
    uint32_t *about = p->kind == STEER_ICMP_ERROR ? p->embedded : p->source;
    if (p->family == 4) {
        p->source[0] = about[0] = source->hosted4_be;
    } else {
        __builtin_memcpy(p->source, source->hosted6_be, 16);
        __builtin_memcpy(about, source->hosted6_be, 16);
    }
}

// Both halves: what a managed VM may send, and then, if it is for a hosted address, who gets it. `c` is room to
// work in, whatever it held; `frame` is where `p` was parsed from.
STEER_INLINE struct steer_outcome steer_packet(struct steer_plane *plane, struct steer_case *c,
                                               struct steer_packet *p, struct steer_bytes frame)
{
    const struct steer_identity *sender = steer_sender(plane, p->source_mac);
    struct steer_outcome out = steer_not_ours();
    if (sender) {
        out = steer_from_backend(plane, c, p, frame, sender);
        if (out.verdict.action != STEER_PASS || p->family == 0)
            return out;
    }
    if (out.source)
        steer_take_hosted_source(p, out.source);
    struct steer_outcome in = steer_to_hosted(plane, c, p, frame, out.vm);
    in.source = out.source;
    return in.vm || !sender ? in : out;
}

#endif
