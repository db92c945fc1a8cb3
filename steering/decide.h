// THE decision: facts that the plane has looked up -> verdict with its reason. Pure: no memory is read or
// written here but the facts. The rules are DESIGN section 3 in this order: who is told, who may speak.
#ifndef GODWIT_STEERING_DECIDE_H
#define GODWIT_STEERING_DECIDE_H

#include "steering/parse.h"
#include "steering/types.h"

enum steer_direction { STEER_FROM_NETWORK, STEER_FROM_BACKEND };

// What a lookup found. RESET: the peer sent a plausible RST that the VM has not denied. CLOSED: it only
// lingers for late retransmissions.
enum steer_record { STEER_ABSENT, STEER_PRESENT, STEER_RESET, STEER_CLOSED };

struct steer_facts {
    uint64_t steer;                     /* the VM's steer word, read once */
    uint8_t kind;                       /* enum steer_kind */
    uint8_t direction;                  /* enum steer_direction */
    uint8_t sender;                     /* slot, from a backend */
    uint8_t session, session_owner;     /* enum steer_record */
    uint8_t handshake, handshake_owner; /* of a later fragment: its first one's record */
    uint8_t chance, chance_owner;
    uint8_t refuses;          /* RST of who has no socket: without ACK, or for a segment without one */
    uint8_t doubted;          /* session: only a bare ACK or a crossed RST speaks for it */
    uint8_t restarts;         /* the VM's own SYN or SYN-ACK, and not the one the session began with */
    uint8_t proves_handshake; /* ACK of exactly the noted SYN-ACK */
    uint8_t contradicted;     /* the ports were given to the other one, for another connection */
    uint8_t proves_nothing;   /* the VM acknowledges no more than its SYN-ACK did, or something else */
    uint8_t ends_handshake;   /* RST with the numbers of this very handshake */
    uint8_t connection,
        connection_owner; /* what QUIC's connection id names, asked when nothing else is known */
    uint8_t midway;       /* QUIC: it begins no connection */
    uint8_t looks_reset,
        repeats_reset; /* QUIC: it may say that the original does not know the connection; and it
                                           ends as the last one did */
};

STEER_INLINE struct steer_verdict steer_verdict(uint32_t action, uint32_t slot, uint32_t memory, uint32_t why)
{
    struct steer_verdict v = {(uint8_t)action, (uint8_t)slot, (uint8_t)memory, (uint8_t)why};
    return v;
}

// A record of a backend that is neither owner nor previous says nothing any more.
STEER_INLINE void steer_forget_inactive(struct steer_facts *f)
{
    if (!steer_slot_active(f->steer, f->session_owner))
        f->session = STEER_ABSENT;
    if (!steer_slot_active(f->steer, f->handshake_owner))
        f->handshake = STEER_ABSENT;
    if (!steer_slot_active(f->steer, f->chance_owner))
        f->chance = STEER_ABSENT;
    if (!steer_slot_active(f->steer, f->connection_owner))
        f->connection = STEER_ABSENT;
}

// ---- network -> VM ------------------------------------------------------------------------------

// Kinds that follow addresses, not sessions.
STEER_INLINE struct steer_verdict steer_decide_neighbour_in(const struct steer_facts *f)
{
    uint32_t owner = steer_owner(f->steer);
    switch (f->kind) {
    case STEER_ARP_REQUEST:
        return steer_is_hosting(f->steer)
                   ? steer_verdict(STEER_ANSWER, owner, STEER_KEEP, STEER_WHY_ARP_ANSWERED)
                   : steer_verdict(STEER_FORWARD, owner, STEER_KEEP, STEER_WHY_NEIGHBOUR);
    case STEER_ND_SOLICIT:
    case STEER_ND_PROBE:
        return steer_is_hosting(f->steer)
                   ? steer_verdict(STEER_ANSWER, owner, STEER_KEEP, STEER_WHY_ND_ANSWERED)
                   : steer_verdict(STEER_FORWARD, owner, STEER_KEEP, STEER_WHY_NEIGHBOUR);
    case STEER_DHCP_ANSWER: /* who may ask, hears */
        return steer_verdict(STEER_FORWARD, steer_authority(f->steer), STEER_KEEP, STEER_WHY_HOUSEKEEPING);
    case STEER_ARP_ANNOUNCE:
    case STEER_ND_ANNOUNCE:
        return steer_verdict(STEER_DROP, owner, STEER_KEEP, STEER_WHY_ADDRESS_CONFLICT);
    }
    // Replies and advertisements meant for the VM: the previous owner must refresh its neighbours during
    // the drain too, a clone must know them before the flip, and nothing in the reply says who asked.
    if (steer_slot_hears(f->steer, 0) && steer_slot_hears(f->steer, 1))
        return steer_verdict(STEER_BOTH, owner, STEER_KEEP, STEER_WHY_NEIGHBOUR_BOTH);
    return steer_verdict(STEER_FORWARD, owner, STEER_KEEP, STEER_WHY_NEIGHBOUR);
}

// Whom the records that were found name, session before handshake before second chance; or STEER_SLOTS.
STEER_INLINE uint32_t steer_named_slot(const struct steer_facts *f)
{
    if (f->session)
        return f->session_owner;
    if (f->handshake)
        return f->handshake_owner;
    return f->chance ? f->chance_owner : STEER_SLOTS;
}

STEER_INLINE bool steer_kind_is_icmp_error(uint32_t kind)
{
    return kind >= STEER_ICMP_ERROR && kind <= STEER_ICMP_FOREIGN;
}

// An ICMP error follows the session that it is about. When nobody remembers that one, the error (PMTU) is
// harmless to who does not know it, so both get it; but not what no correct router has sent.
STEER_INLINE struct steer_verdict steer_decide_icmp_error_in(const struct steer_facts *f)
{
    uint32_t owner = steer_owner(f->steer), named = steer_named_slot(f);
    if (f->kind == STEER_ICMP_FOREIGN)
        return steer_verdict(STEER_DROP, owner, STEER_KEEP, STEER_WHY_ICMP_ERROR_FOREIGN);
    if (named < STEER_SLOTS)
        return steer_verdict(STEER_FORWARD, named, STEER_KEEP, STEER_WHY_ICMP_ERROR);
    return steer_is_draining(f->steer)
               ? steer_verdict(STEER_BOTH, owner, STEER_KEEP, STEER_WHY_ICMP_ERROR_BOTH)
               : steer_verdict(STEER_FORWARD, owner, STEER_KEEP, STEER_WHY_ICMP_ERROR_DEFAULT);
}

// A later fragment follows its first one. The pieces of a packet may overtake each other: what comes before the
// first goes to both, because only who gets the first can make anything of it; the other one lets it expire
// without a word (RFC 1122 section 3.3.2: no ICMP without the first).
STEER_INLINE struct steer_verdict steer_decide_fragment_in(const struct steer_facts *f)
{
    if (f->handshake)
        return steer_verdict(STEER_FORWARD, f->handshake_owner, STEER_KEEP, STEER_WHY_FRAGMENT);
    return steer_verdict(steer_is_draining(f->steer) ? STEER_BOTH : STEER_FORWARD, steer_owner(f->steer),
                         STEER_KEEP, STEER_WHY_FRAGMENT_EARLY);
}

// Packets whose session nothing names, and what no host could read.
STEER_INLINE struct steer_verdict steer_decide_portless_in(const struct steer_facts *f)
{
    uint32_t owner = steer_owner(f->steer);
    if (steer_kind_is_icmp_error(f->kind))
        return steer_decide_icmp_error_in(f);
    if (f->kind == STEER_FRAGMENT)
        return steer_decide_fragment_in(f);
    // For the VM's address, but to a group of stations: hosts discard such a packet (RFC 1122 section 3.3.6).
    if (f->kind == STEER_GROUP)
        return steer_verdict(steer_is_draining(f->steer) ? STEER_BOTH : STEER_FORWARD, owner, STEER_KEEP,
                             STEER_WHY_GROUP);
    uint32_t why = f->kind == STEER_TRUNCATED   ? STEER_WHY_TRUNCATED
                   : f->kind == STEER_EXTENSION ? STEER_WHY_EXTENSION_CHAIN
                                                : STEER_WHY_BAD_HEADER;
    return steer_verdict(STEER_DROP, owner, STEER_KEEP, why);
}

STEER_INLINE struct steer_verdict steer_decide_syn_in(const struct steer_facts *f)
{
    uint32_t owner = steer_owner(f->steer);
    // On a live session the owner answers with a challenge ACK (RFC 5961 section 4). Once either end has
    // reset or both have closed, the same ports are a new session.
    if (f->session == STEER_PRESENT)
        return steer_verdict(STEER_FORWARD, f->session_owner, STEER_KEEP, STEER_WHY_SESSION);
    if (f->session != STEER_ABSENT)
        return steer_verdict(STEER_FORWARD, owner, STEER_REOPEN, STEER_WHY_REOPENED);
    if (f->handshake)
        return steer_verdict(STEER_FORWARD, f->handshake_owner, STEER_KEEP, STEER_WHY_HANDSHAKE);
    return steer_verdict(STEER_FORWARD, owner, STEER_GIVE, STEER_WHY_NEW_OWNER);
}

STEER_INLINE struct steer_verdict steer_decide_in(const struct steer_facts *f)
{
    uint32_t owner = steer_owner(f->steer);
    if (f->kind == STEER_SYN)
        return steer_decide_syn_in(f);
    if (f->session)
        return steer_verdict(STEER_FORWARD, f->session_owner, STEER_KEEP, STEER_WHY_SESSION);
    if (f->handshake) {
        // The VM that has only sent its SYN-ACK says nothing more while the application is idle, so its
        // egress alone would hide the connection from the drain. An ACK of the SYN-ACK's own number
        // proves that the peer has seen it: a blind flood would have to guess 32 bits.
        if (f->proves_handshake)
            return steer_verdict(STEER_FORWARD, f->handshake_owner, STEER_PIN, STEER_WHY_PROVEN);
        return steer_verdict(STEER_FORWARD, f->handshake_owner, f->ends_handshake ? STEER_FORGET : STEER_KEEP,
                             STEER_WHY_HANDSHAKE);
    }
    if (f->chance)
        return steer_verdict(STEER_FORWARD, f->chance_owner, STEER_KEEP, STEER_WHY_SECOND_CHANCE);
    if (f->connection)
        return steer_verdict(STEER_FORWARD, f->connection_owner, STEER_GIVE, STEER_WHY_CONNECTION_ID);
    // The middle of a QUIC connection that uses an id which nobody could see being issued. Not remembered: anybody
    // can send such a packet, and what is remembered of the original holds its drain.
    if (f->midway && steer_is_draining(f->steer))
        return steer_verdict(STEER_FORWARD, steer_authority(f->steer), STEER_KEEP, STEER_WHY_PREVIOUS);
    if (f->kind == STEER_UDP || f->kind == STEER_ECHO_REQUEST || f->kind == STEER_OTHER)
        return steer_verdict(STEER_FORWARD, owner, STEER_GIVE, STEER_WHY_NEW_OWNER);
    // The middle or the end of something we do not know, an answer to something we did not see asked: a
    // clone holds copies of the old sockets and must not be asked first, the original knows.
    if (steer_is_draining(f->steer))
        return steer_verdict(STEER_FORWARD, steer_authority(f->steer), STEER_KEEP, STEER_WHY_PREVIOUS);
    return steer_verdict(STEER_FORWARD, owner, STEER_KEEP, STEER_WHY_NEW_OWNER);
}

// ---- VM -> network: the egress fence -------------------------------------------------------------

STEER_INLINE struct steer_verdict steer_fenced(uint32_t why)
{
    return steer_verdict(STEER_DROP, 0, STEER_KEEP, why);
}
STEER_INLINE struct steer_verdict steer_allowed(const struct steer_facts *f, uint32_t memory, uint32_t why)
{
    return steer_verdict(STEER_PASS, f->sender, memory, why);
}

STEER_INLINE struct steer_verdict steer_decide_neighbour_out(const struct steer_facts *f)
{
    bool is_owner = f->sender == steer_owner(f->steer);
    switch (f->kind) {
    case STEER_ARP_REQUEST:
    case STEER_ND_SOLICIT:
        return steer_allowed(f, STEER_KEEP, STEER_WHY_NEIGHBOUR);
    case STEER_ARP_REPLY:
    case STEER_ND_ADVERT:
        if (is_owner && !steer_is_hosting(f->steer))
            return steer_allowed(f, STEER_KEEP, STEER_WHY_NEIGHBOUR);
        return steer_fenced(STEER_WHY_FENCED_REPLY);
    case STEER_DHCP:
        // The lease is the original's: a renewal or release in its name by a clone would shift it.
        return f->sender == steer_authority(f->steer) ? steer_allowed(f, STEER_KEEP, STEER_WHY_HOUSEKEEPING)
                                                      : steer_fenced(STEER_WHY_FENCED_DHCP);
    case STEER_DHCP_ANSWER:
    case STEER_HOUSEKEEPING:
        return is_owner ? steer_allowed(f, STEER_KEEP, STEER_WHY_HOUSEKEEPING)
                        : steer_fenced(STEER_WHY_FENCED_HOUSEKEEPING);
    }
    return is_owner ? steer_allowed(f, STEER_KEEP, STEER_WHY_NEIGHBOUR)
                    : steer_fenced(STEER_WHY_FENCED_ANNOUNCE);
}

// What names no session the original may send; the other one may be a clone and may not while both are active.
STEER_INLINE struct steer_verdict steer_decide_portless_out(const struct steer_facts *f)
{
    uint32_t named = steer_named_slot(f);
    if (f->kind == STEER_ICMP_ERROR && named < STEER_SLOTS)
        return named == f->sender ? steer_allowed(f, STEER_KEEP, STEER_WHY_ICMP_ERROR)
                                  : steer_fenced(STEER_WHY_FENCED);
    uint32_t why = f->kind == STEER_FRAGMENT           ? STEER_WHY_FRAGMENT_EARLY
                   : f->kind == STEER_ICMP_FOREIGN     ? STEER_WHY_ICMP_ERROR_FOREIGN
                   : steer_kind_is_icmp_error(f->kind) ? STEER_WHY_ICMP_ERROR_DEFAULT
                   : f->kind == STEER_EXTENSION        ? STEER_WHY_EXTENSION_CHAIN
                   : f->kind == STEER_VLAN             ? STEER_WHY_VLAN_UNSUPPORTED
                   : f->kind == STEER_TRUNCATED        ? STEER_WHY_TRUNCATED
                                                       : STEER_WHY_BAD_HEADER;
    if (f->kind == STEER_FRAGMENT && f->handshake) /* the record is the sender's own */
        return steer_allowed(f, STEER_KEEP, STEER_WHY_FRAGMENT);
    if (f->kind == STEER_TRUNCATED || f->kind == STEER_BAD || f->kind == STEER_EXTENSION ||
        f->sender != steer_authority(f->steer))
        return steer_fenced(why);
    return steer_allowed(f, STEER_KEEP, why);
}

// In a VLAN that is not the VM's place, where it has no sessions: the original may speak there, a clone would
// speak in its name.
STEER_INLINE struct steer_verdict steer_elsewhere(const struct steer_facts *f)
{
    bool may = steer_slot_active(f->steer, f->sender) && f->sender == steer_authority(f->steer);
    return may ? steer_allowed(f, STEER_KEEP, STEER_WHY_OTHER_VLAN) : steer_fenced(STEER_WHY_OTHER_VLAN);
}

// No session. `given`: handshake or second chance names the sender, `taken`: it names the other one.
STEER_INLINE struct steer_verdict steer_decide_tcp_out(const struct steer_facts *f, bool given, bool taken)
{
    bool draining = steer_is_draining(f->steer);
    bool is_authority = f->sender == steer_authority(f->steer);
    uint32_t why = f->handshake ? STEER_WHY_HANDSHAKE : STEER_WHY_SECOND_CHANCE;
    bool copies = (f->steer & (STEER_DRAINING | STEER_HOSTING)) != 0; /* there may be a clone */
    if (taken)
        return steer_fenced(STEER_WHY_FENCED);
    switch (f->kind) {
    case STEER_SYN: /* a copied socket in SYN-SENT has a session, made by the original's SYN */
        return steer_allowed(f, STEER_PIN, STEER_WHY_OPENED);
    case STEER_SYN_ACK:
        if (given)
            return steer_allowed(f, STEER_NOTE, why);
        return draining ? steer_fenced(STEER_WHY_FENCED) : steer_allowed(f, STEER_NOTE, STEER_WHY_HANDSHAKE);
    case STEER_RST:
        if (given)
            return steer_allowed(f, f->handshake && !f->ends_handshake ? STEER_KEEP : STEER_FORGET, why);
        if (!is_authority)
            return steer_fenced(STEER_WHY_FENCED);
        // It aborts what it holds: an entry is made and closed at once, so that the peer's late segments
        // do not reach a copy of the socket.
        if (!f->refuses)
            return steer_allowed(f, copies && !f->contradicted ? STEER_PIN : STEER_KEEP, STEER_WHY_OPENED);
        // The original does not know it. Before the peer hears so, the other one is asked.
        return draining ? steer_verdict(STEER_DROP, !f->sender, STEER_CHANCE, STEER_WHY_RST_WITHHELD)
                        : steer_allowed(f, STEER_KEEP, STEER_WHY_OPENED);
    }
    if (given && f->proves_nothing)
        return steer_allowed(f, STEER_KEEP, why);
    // Anything else says that the VM holds the session, and who is no clone is right about that.
    if (given)
        return steer_allowed(f, STEER_PIN, why);
    // An old connection and a new one on the same ports, and one of them is dead or forged. Both may speak,
    // each peer knows its numbers; a session is made when the handshake has been decided.
    if (is_authority && f->contradicted)
        return steer_allowed(f, STEER_KEEP, STEER_WHY_PREVIOUS);
    return is_authority ? steer_allowed(f, STEER_PIN, STEER_WHY_OPENED) : steer_fenced(STEER_WHY_FENCED);
}

// The sender is not the one whose session it is. If it may be a clone, what it speaks on is a copy of a
// socket: the RST ends it, where silence would let it repeat itself for a quarter of an hour and then hold
// up the next drain. Nobody else is told: an entry can be wrong about who is no clone, and a segment that
// no entry knows may be of a newcomer that found the table full.
STEER_INLINE struct steer_verdict steer_fenced_session(const struct steer_facts *f)
{
    bool has_number = f->kind == STEER_SEGMENT || f->kind == STEER_SYN_ACK;
    if (!has_number || !steer_is_draining(f->steer) || f->sender == steer_authority(f->steer))
        return steer_fenced(STEER_WHY_FENCED);
    return steer_verdict(STEER_REFUSE, f->sender, STEER_KEEP, STEER_WHY_COPY_REFUSED);
}

STEER_INLINE struct steer_verdict steer_decide_out(const struct steer_facts *f)
{
    bool is_mine = f->session_owner == f->sender;
    // A VM that begins again has no socket for the session any more, however it lost it.
    if (f->session && is_mine && f->restarts)
        return steer_allowed(f, f->kind == STEER_SYN ? STEER_REPIN : STEER_RESTART, STEER_WHY_REOPENED);
    bool disowns = f->doubted && f->refuses && steer_is_draining(f->steer);
    if (f->session == STEER_PRESENT && is_mine && disowns && f->sender == steer_authority(f->steer))
        return steer_verdict(STEER_DROP, !f->sender, STEER_DISOWN, STEER_WHY_RST_WITHHELD);
    bool reopens = f->session == STEER_CLOSED && f->kind == STEER_SYN;
    if (f->session && !reopens)
        return is_mine ? steer_allowed(f, STEER_KEEP, STEER_WHY_SESSION) : steer_fenced_session(f);
    bool given = (f->handshake && f->handshake_owner == f->sender) ||
                 (!f->handshake && f->chance && f->chance_owner == f->sender);
    bool taken = !given && (f->handshake || f->chance);
    if (reopens)
        return taken ? steer_fenced(STEER_WHY_FENCED) : steer_allowed(f, STEER_REPIN, STEER_WHY_REOPENED);
    if (f->kind <= STEER_SEGMENT)
        return steer_decide_tcp_out(f, given, taken);
    if (taken)
        return steer_fenced(STEER_WHY_FENCED);
    if (f->looks_reset && !f->handshake && (!given || f->repeats_reset)) /* quic_reset.h */
        return steer_verdict(STEER_DROP, f->repeats_reset ? !f->sender : f->sender, STEER_CHANCE,
                             STEER_WHY_RST_WITHHELD);
    return steer_allowed(f, STEER_PIN, given ? STEER_WHY_HANDSHAKE : STEER_WHY_OPENED);
}

// ---- entry ----------------------------------------------------------------------------------------

STEER_INLINE bool steer_kind_has_session(uint32_t kind) { return kind >= STEER_SYN && kind <= STEER_OTHER; }
STEER_INLINE bool steer_kind_is_neighbour(uint32_t kind)
{
    return kind >= STEER_ARP_REQUEST && kind <= STEER_HOUSEKEEPING;
}

STEER_INLINE struct steer_verdict steer_decide(struct steer_facts *f)
{
    steer_forget_inactive(f);
    if (f->direction == STEER_FROM_NETWORK) {
        if (steer_kind_has_session(f->kind))
            return steer_decide_in(f);
        return steer_kind_is_neighbour(f->kind) ? steer_decide_neighbour_in(f) : steer_decide_portless_in(f);
    }
    bool announces =
        f->kind == STEER_ARP_ANNOUNCE || f->kind == STEER_ND_ANNOUNCE || f->kind == STEER_ND_PROBE;
    bool asks = f->kind == STEER_ARP_REQUEST || f->kind == STEER_ND_SOLICIT;
    if (!steer_slot_active(f->steer, f->sender) && !(asks && steer_slot_hears(f->steer, f->sender)))
        return steer_fenced(announces ? STEER_WHY_FENCED_ANNOUNCE : STEER_WHY_FENCED);
    if (steer_kind_has_session(f->kind))
        return steer_decide_out(f);
    // Both active VMs may speak to a group, and it makes no session: the chatter of the one that drains (mDNS,
    // SSDP) would keep it from draining for ever.
    if (f->kind == STEER_GROUP)
        return steer_allowed(f, STEER_KEEP, STEER_WHY_GROUP);
    return steer_kind_is_neighbour(f->kind) ? steer_decide_neighbour_out(f) : steer_decide_portless_out(f);
}

#endif
