// Is a segment of the connection that a newcomer's record is about? Pure, like the decision. Needs the plane's
// hooks of slot.h, for the records.
#ifndef GODWIT_STEERING_FITS_H
#define GODWIT_STEERING_FITS_H

#include "steering/handshake.h"
#include "steering/parse.h"
#include "steering/session.h"

// From the peer: the number behind its SYN. From the VM: the refusal that acknowledges that SYN, or its own
// number behind the SYN-ACK. Not the RST with which a VM answers somebody's forged ACK: the client's real
// one is still to come.
STEER_INLINE bool steer_rst_ends_handshake(const struct steer_newcomer *handshake,
                                           const struct steer_packet *p)
{
    if (!p->from_backend)
        return p->seq == handshake->peer_edge;
    if (p->tcp_flags & WIRE_TCP_ACK && p->ack == handshake->peer_edge)
        return true;
    return handshake->meta & STEER_META_NOTED && p->seq == handshake->vm_edge + 1;
}

// Is this segment of the connection that the handshake record is about? A SYN forged for somebody's ports
// makes a record too, and without this look it would lead the client's own segments astray.
STEER_INLINE bool steer_handshake_fits(const struct steer_newcomer *handshake, const struct steer_packet *p)
{
    bool acks = (p->tcp_flags & WIRE_TCP_ACK) != 0;
    bool noted = (handshake->meta & STEER_META_NOTED) != 0;
    if (p->kind != STEER_SEGMENT && (p->kind != STEER_RST || !p->from_backend))
        return true;
    if (p->from_backend)
        return (acks || noted) && !(acks && p->ack - handshake->peer_edge >= STEER_WINDOW) &&
               !(noted && p->seq - handshake->vm_edge >= STEER_WINDOW);
    return p->seq + 1 - handshake->peer_edge <= STEER_WINDOW &&
           !(acks && noted && p->ack - handshake->vm_edge > STEER_WINDOW);
}

// The same for a second chance: the refusal was about a segment with this acknowledgement (a RST takes its
// number from there, RFC 9293 section 3.5.2), so that a refused forgery does not lead the client astray.
STEER_INLINE bool steer_chance_fits(const struct steer_newcomer *chance, const struct steer_packet *p)
{
    if (p->kind < STEER_SYN || p->kind > STEER_SEGMENT || p->kind == STEER_SYN)
        return true;
    uint32_t number = p->from_backend ? p->seq : p->ack;
    return number - chance->vm_edge + STEER_WINDOW <= 2u * STEER_WINDOW;
}

#endif
