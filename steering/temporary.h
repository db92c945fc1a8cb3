// Mode nat: whose is a packet that carries a temporary address? Looked at before decide.h, which knows hosted
// addresses only; what is the backend's own business leaves and arrives as it is. Rewriting is translate.h's.
// Needs the plane's hooks of slot.h.
#ifndef GODWIT_STEERING_TEMPORARY_H
#define GODWIT_STEERING_TEMPORARY_H

#include "steering/decide.h"
#include "steering/parse.h"
#include "steering/slot.h"
#include "steering/wire.h"

STEER_INLINE bool steer_is_nat(const struct vm_record *vm, uint32_t slot)
{
    return (vm->backend[slot & 1].flags & STEER_BACKEND_NAT) != 0;
}
// Towards such a backend the plane rewrites what it forwards or copies (translate.h, STEER_TOWARDS).
STEER_INLINE bool steer_is_translated(const struct vm_record *vm, uint32_t slot)
{
    return vm->backend[slot & 1].flags != 0;
}
STEER_INLINE bool steer_kind_begins(uint32_t kind)
{
    return kind == STEER_SYN || kind == STEER_UDP || kind == STEER_ECHO_REQUEST || kind == STEER_OTHER;
}

// Has this peer addressed the temporary address itself, not longer ago than a session may be idle?
STEER_INLINE bool steer_is_direct(struct steer_plane *plane, const struct steer_key *hosted, uint32_t slot,
                                  const struct vm_record *vm)
{
    struct steer_key key = *hosted;
    key.address_id = (uint16_t)(vm->vm * STEER_ADDRESSES_PER_VM + slot);
    const uint32_t *seen = steer_direct(plane, &key, /*make=*/false);
    uint32_t limit = key.protocol == WIRE_PROTOCOL_TCP ? vm->timeouts.established : vm->timeouts.udp;
    return seen && steer_tick(plane) - steer_load32(seen) <= limit;
}

// A packet from a backend's temporary address: of a session of the hosted address (0), or the backend's own
// business, which leaves as it is (1)? Looked at in this order:
//   its session, handshake or second chance of the hosted address, also when it is an ICMP error about one
//   a peer that addressed the temporary address itself
//   what the backend begins: the hosted address's when the backend is the owner, so that a drain ends
//   a later fragment: with its first one, which has left a record if it was the hosted address's
//   anything else: the hosted address's while the backend is active, under the rules of decide.h
// `key` is the hosted address's.
STEER_COLD uint32_t steer_is_own(struct steer_plane *plane, const struct steer_facts *f,
                                 const struct steer_key *key, const struct steer_packet *p,
                                 const struct vm_record *vm)
{
    if (!plane || !f || !key || !p || !vm)
        return 0;
    if (p->kind == STEER_TRUNCATED || p->kind == STEER_BAD)
        return 0;
    if (p->kind == STEER_FRAGMENT)
        return f->handshake == STEER_ABSENT;
    if (p->kind == STEER_GROUP) /* it begins something too */
        return f->sender != steer_owner(f->steer);
    if (steer_kind_has_session(p->kind) || p->kind == STEER_ICMP_ERROR) {
        if ((f->session && f->session_owner == f->sender) ||
            (f->handshake && f->handshake_owner == f->sender) || (f->chance && f->chance_owner == f->sender))
            return 0;
        if (steer_is_direct(plane, key, f->sender, vm))
            return 1;
        if (steer_kind_begins(p->kind))
            return f->sender != steer_owner(f->steer);
    }
    return !steer_slot_active(f->steer, f->sender);
}

// What a backend in mode nat says: 0 when its temporary address is the source of something that may belong to a
// session of the hosted one; else the whole verdict, made by steer_final. It has a MAC and addresses of its own
// and keeps house for them; only the switch speaks for the hosted one.
enum { STEER_FINAL = 1 << 16 };
STEER_INLINE uint32_t steer_final(uint32_t action, uint32_t why) { return STEER_FINAL | action << 8 | why; }
STEER_COLD uint32_t steer_says_aside(struct steer_plane *plane, const struct steer_packet *p, uint32_t vm,
                                     uint32_t slot)
{
    if (!plane || !p)
        return steer_final(STEER_DROP, STEER_WHY_PLANE);
    bool announces =
        p->kind == STEER_ARP_ANNOUNCE || p->kind == STEER_ND_ANNOUNCE || p->kind == STEER_ND_PROBE;
    bool replies = p->kind == STEER_ARP_REPLY || p->kind == STEER_ND_ADVERT;
    const struct steer_address *address = p->family ? steer_hosted(plane, p, p->source) : NULL;
    if (announces && !address && p->family) /* a probe: its sender has no address yet */
        address = steer_hosted(plane, p, p->destination);
    bool own = address && address->vm == (vm | STEER_TEMPORARY) && (address->address_id & 1) == slot;
    if (address && !own)
        return steer_final(STEER_DROP, announces           ? STEER_WHY_FENCED_ANNOUNCE
                                       : replies           ? STEER_WHY_FENCED_REPLY
                                       : address->vm == vm ? STEER_WHY_FENCED
                                                           : STEER_WHY_SPOOFED_SOURCE);
    if (p->kind == STEER_VLAN || p->kind == STEER_TRUNCATED || p->kind == STEER_BAD)
        return 0;
    if (!address)
        return steer_final(STEER_PASS, STEER_WHY_NOT_MANAGED);
    return steer_kind_is_neighbour(p->kind) ? steer_final(STEER_PASS, STEER_WHY_TEMPORARY) : 0;
}

// Something for a temporary address: does it go to the backend that has it? 0: it is on its way to another station,
// a router say, or asks for the backend's MAC, which the backend tells itself. `key` is the temporary address's.
STEER_COLD uint32_t steer_note_direct(struct steer_plane *plane, const struct steer_packet *p,
                                      const struct steer_key *key, uint32_t vm, uint32_t slot)
{
    const struct vm_record *record = steer_vm(plane, vm);
    if (!plane || !p || !key || !record || !(steer_load64(&record->steer) & STEER_VALID) ||
        !wire_mac_equal(p->destination_mac, record->backend[slot & 1].mac))
        return 0;
    uint32_t *seen = steer_kind_has_session(p->kind) ? steer_direct(plane, key, /*make=*/true) : NULL;
    if (seen)
        steer_store32(seen, steer_tick(plane));
    return 1;
}

#endif
