// What comes over an underlay for a tunnel of ours: VXLAN, RFC 7348 section 5. The outer headers are read once, for
// both planes, before anything is believed: lengths against the frame and against each other, then the ends. Only
// the end that a tunnel was made for is heard (section 7 leaves that to the operator).
// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
#ifndef GODWIT_STEERING_TUNNEL_H
#define GODWIT_STEERING_TUNNEL_H

#include "steering/wire.h"

enum {
    STEER_VXLAN_BYTES = 8,
    STEER_OUTER_BYTES = WIRE_ETH_BYTES + WIRE_IPV4_BYTES + WIRE_UDP_BYTES + STEER_VXLAN_BYTES,
    STEER_LEAST_DATAGRAM = WIRE_UDP_BYTES + STEER_VXLAN_BYTES + WIRE_ETH_BYTES,
    STEER_VXLAN_HAS_VNI = 0x08, /* the I flag */
};

struct steer_tunnel {
    uint32_t local_be, remote_be;
    uint32_t vni; /* 0: none */
    uint16_t udp_port;
    uint16_t port; /* the plane's number of the port that it is */
};

enum steer_outer {
    STEER_OUTER_OTHER,   /* nothing of ours: whoever else has the underlay may have it */
    STEER_OUTER_MINE,    /* `outer_bytes` of headers, then a frame */
    STEER_OUTER_UNKNOWN, /* no tunnel of ours has this number */
    STEER_OUTER_FOREIGN, /* not from the tunnel's other end */
    STEER_OUTER_BAD      /* cut off, or lengths that contradict each other */
};

struct steer_arrival {
    uint32_t source_be, destination_be;
    uint32_t vni; /* 0: it says none */
    uint16_t udp_port;
    uint16_t outer_bytes; /* of the headers in front of the inner frame; 0: lengths are wrong */
    uint32_t used_bytes;  /* of the whole frame; what lies behind is padding */
    uint32_t fragment;    /* of a datagram whose ports it may not even have */
};

// False: no datagram that could be a tunnel's. A fragment could be: put together again it would be taken for one by
// whoever asks only then. The other end sends none.
STEER_INLINE bool steer_read_outer(const uint8_t *data, const uint8_t *end, uint32_t frame_bytes,
                                   struct steer_arrival *a)
{
    const uint8_t *ip = data + WIRE_ETH_BYTES;
    if (ip + WIRE_IPV4_BYTES > end || wire_load16(data + 12) != WIRE_ETHERTYPE_IPV4)
        return false;
    uint32_t head = (ip[0] & 0xfu) * 4, total = wire_load16(ip + 2);
    if (ip[0] >> 4 != 4 || head < WIRE_IPV4_BYTES || ip[9] != WIRE_PROTOCOL_UDP)
        return false;
    __builtin_memcpy(&a->source_be, ip + 12, 4);
    __builtin_memcpy(&a->destination_be, ip + 16, 4);
    a->udp_port = 0;
    a->vni = 0;
    a->outer_bytes = 0;
    a->used_bytes = 0;
    a->fragment = wire_load16(ip + 6) & (WIRE_IPV4_MORE | WIRE_IPV4_OFFSET);
    if (a->fragment)
        return true;
    const uint8_t *udp = ip + head;
    if (udp + WIRE_UDP_BYTES > end)
        return false;
    a->udp_port = wire_load16(udp + 2);
    uint32_t datagram = wire_load16(udp + 4), least = STEER_LEAST_DATAGRAM;
    const uint8_t *vxlan = udp + WIRE_UDP_BYTES;
    if (datagram < least || head + datagram != total || WIRE_ETH_BYTES + total > frame_bytes ||
        vxlan + STEER_VXLAN_BYTES > end)
        return true;
    a->used_bytes = WIRE_ETH_BYTES + total;
    a->outer_bytes = (uint16_t)(head + STEER_OUTER_BYTES - WIRE_IPV4_BYTES);
    if (vxlan[0] & STEER_VXLAN_HAS_VNI)
        a->vni = (uint32_t)vxlan[4] << 16 | (uint32_t)vxlan[5] << 8 | vxlan[6];
    return true;
}

// What one tunnel makes of it, and the best of what several do: `so_far` begins as OTHER. A datagram to an end of
// ours and its port is a tunnel's and nobody else's.
STEER_INLINE enum steer_outer steer_match_outer(const struct steer_tunnel *tunnel,
                                                const struct steer_arrival *a, enum steer_outer so_far)
{
    if (!tunnel->vni || tunnel->local_be != a->destination_be ||
        (!a->fragment && tunnel->udp_port != a->udp_port))
        return so_far;
    if (!a->outer_bytes)
        return STEER_OUTER_BAD;
    if (tunnel->vni != a->vni)
        return so_far == STEER_OUTER_OTHER ? STEER_OUTER_UNKNOWN : so_far;
    return tunnel->remote_be == a->source_be ? STEER_OUTER_MINE : STEER_OUTER_FOREIGN;
}

// RFC 7348 section 4.1: the source port by a hash of the inner flow, in the dynamic range; the same for every packet of
// it, so without ports for fragments of one.
STEER_INLINE uint16_t steer_outer_port(const uint8_t *data, const uint8_t *end)
{
    uint32_t hash = 0x9e3779b9u;
    const uint8_t *ip = data + WIRE_ETH_BYTES, *from = data, *until = data + 12, *ports = end;
    if (ip > end)
        return 49152;
    uint16_t type = wire_load16(data + 12);
    if (type == WIRE_ETHERTYPE_IPV4 && ip + WIRE_IPV4_BYTES <= end) {
        from = ip + 12;
        until = ip + 20;
        bool whole = !(wire_load16(ip + 6) & (WIRE_IPV4_MORE | WIRE_IPV4_OFFSET));
        if (whole && (ip[9] == WIRE_PROTOCOL_TCP || ip[9] == WIRE_PROTOCOL_UDP))
            ports = ip + (ip[0] & 0xfu) * 4;
    } else if (type == WIRE_ETHERTYPE_IPV6 && ip + WIRE_IPV6_BYTES <= end) {
        from = ip + 8;
        until = ip + 40;
        if (ip[6] == WIRE_PROTOCOL_TCP || ip[6] == WIRE_PROTOCOL_UDP)
            ports = ip + WIRE_IPV6_BYTES;
    }
    for (; from < until; from += 4) hash = (hash ^ wire_load32(from)) * 0x85ebca6bu;
    if (ports + 4 <= end)
        hash = (hash ^ wire_load32(ports)) * 0x85ebca6bu;
    return (uint16_t)(49152 | ((hash ^ hash >> 16) & 0x3fff));
}

STEER_INLINE uint8_t steer_outer_why(enum steer_outer outer)
{
    return outer == STEER_OUTER_UNKNOWN   ? STEER_WHY_TUNNEL_UNKNOWN
           : outer == STEER_OUTER_FOREIGN ? STEER_WHY_TUNNEL_FOREIGN
                                          : STEER_WHY_TUNNEL_HEADER;
}

#endif
