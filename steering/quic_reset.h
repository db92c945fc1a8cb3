// A server that does not know a connection answers with a Stateless Reset (RFC 9000 section 10.3), and a clone has the
// original's key for it: what the wrong one of the two says ends the connection of the other. It cannot be told from
// any other short packet, but for its end: the last 16 bytes are made of the id that it answers and are the same each
// time, where a protected packet has an authentication tag that no second one has. So the original's first short
// answer on no session is withheld, a packet lost to QUIC; the next one either ends otherwise and passes, or it does
// not, and the other VM gets a second chance (decide.h). Only when both refuse does the client hear of it.
#ifndef GODWIT_STEERING_QUIC_RESET_H
#define GODWIT_STEERING_QUIC_RESET_H

#include "steering/parse.h"
#include "steering/wire.h"

// Of a UDP payload. The least is section 10.3's; nobody makes them longer than they have to be.
enum { STEER_RESET_BYTES_MIN = 21, STEER_RESET_BYTES_MAX = 128, STEER_TOKEN_BYTES = 16 };

// A number made of the last 16 bytes of a datagram that may be one; 0: it is none.
STEER_APART uint32_t steer_quic_token(const uint8_t *data, const uint8_t *end, uint32_t payload_at)
{
    if (payload_at < WIRE_UDP_BYTES)
        return 0;
    const uint8_t *udp = data + ((payload_at - WIRE_UDP_BYTES) & 0xff);
    if (udp + WIRE_UDP_BYTES + 1 > end || udp[WIRE_UDP_BYTES] & WIRE_QUIC_LONG)
        return 0;
    uint32_t bytes = wire_load16(udp + 4) - (uint32_t)WIRE_UDP_BYTES;
    if (bytes < STEER_RESET_BYTES_MIN || bytes > STEER_RESET_BYTES_MAX)
        return 0;
    const uint8_t *token = udp + WIRE_UDP_BYTES + ((bytes - STEER_TOKEN_BYTES) & 0xff);
    if (token + STEER_TOKEN_BYTES > end)
        return 0;
    uint32_t number = 0;
#pragma clang loop unroll(full)
    for (uint32_t i = 0; i < STEER_TOKEN_BYTES; i += 4) {
        number = (number ^ wire_load32(token + i)) * 0x9e3779b1u;
        number ^= number >> 15;
    }
    return number ? number : 1;
}

#endif
