// Steering mode nat on the wire: one address of a frame rewritten, hosted <-> temporary, and every checksum
// that covers it, incrementally. `steer_find_fields` says where they lie; a plane that owns the bytes then
// calls `steer_translate`, one whose checksums may be unfinished (tc) uses the fields with its own means.
// Sources: CN102932409A [0050], [0060], [0061] (the scheme); RFC 1624 (checksums); RFC 3022 section 4.2 and
// 4.3 (what a NAT rewrites, ICMP errors included); RFC 768 and RFC 6935 (a UDP checksum of zero).
#ifndef GODWIT_STEERING_TRANSLATE_H
#define GODWIT_STEERING_TRANSLATE_H

#include "steering/rewrite.h"
#include "steering/types.h"
#include "steering/wire.h"

enum steer_way {
    STEER_TOWARDS, /* the backend: destination hosted -> temporary, and its MAC */
    STEER_BACK     /* from it: source temporary -> hosted */
};

// One address becomes another.
struct steer_change {
    uint32_t before4_be, after4_be;
    uint32_t before6_be[4], after6_be[4];
};

STEER_INLINE void steer_change_to_temporary(struct steer_change *c, const struct steer_translation *names)
{
    c->before4_be = names->hosted4_be;
    c->after4_be = names->temporary4_be;
    __builtin_memcpy(c->before6_be, names->hosted6_be, 16);
    __builtin_memcpy(c->after6_be, names->temporary6_be, 16);
}
STEER_INLINE void steer_change_to_hosted(struct steer_change *c, const struct steer_translation *names)
{
    c->before4_be = names->temporary4_be;
    c->after4_be = names->hosted4_be;
    __builtin_memcpy(c->before6_be, names->temporary6_be, 16);
    __builtin_memcpy(c->after6_be, names->hosted6_be, 16);
}

enum {
    STEER_REACH_BYTES = 192, /* headers beyond it are not looked at */
    STEER_REACH_MASK = 0xff, /* what the verifier is told about an offset */
    STEER_EXTENSIONS_MAX = 6
};

// Offsets from the frame's first byte, all below STEER_REACH_BYTES.
struct steer_fields {
    uint32_t family;      /* 4 or 6; 0: this frame does not carry the address */
    uint32_t ip;          /* IP header; 0: there is none */
    uint32_t sum;         /* transport checksum that covers the address; 0: there is none */
    uint32_t may_be_zero; /* UDP: a sum of 0 says that there is none */
    uint32_t embedded;    /* IP header inside an ICMP error that has the address too; 0: none */
};

STEER_INLINE bool steer_same_address(const uint8_t *a, const uint32_t *b, bool wide)
{
    if (!wide)
        return wire_load32_be(a) == b[0];
    return wire_load32_be(a) == b[0] && wire_load32_be(a + 4) == b[1] && wire_load32_be(a + 8) == b[2] &&
           wire_load32_be(a + 12) == b[3];
}

STEER_INLINE uint32_t steer_source_offset(bool wide) { return wide ? 8 : 12; }
STEER_INLINE uint32_t steer_destination_offset(bool wide) { return wide ? 24 : 16; }
STEER_INLINE uint32_t steer_ip_bytes(bool wide) { return wide ? WIRE_IPV6_BYTES : WIRE_IPV4_BYTES; }

// Outside it is the destination on the way towards the backend and the source on the way back; the packet
// inside an ICMP error went the other way.
STEER_INLINE uint32_t steer_address_offset(bool wide, bool back)
{
    return back ? steer_source_offset(wide) : steer_destination_offset(wide);
}

// Transport checksums over the pseudo header, by protocol; 0: none. SCTP, GRE and ESP have none, and ICMPv4
// has no pseudo header (RFC 792).
STEER_INLINE uint32_t steer_sum_offset(uint8_t protocol, bool wide)
{
    switch (protocol) {
    case WIRE_PROTOCOL_TCP:
        return 16;
    case WIRE_PROTOCOL_UDP:
    case WIRE_PROTOCOL_DCCP:
    case WIRE_PROTOCOL_UDPLITE:
        return 6;
    case WIRE_PROTOCOL_ICMPV6:
        return wide ? 2 : 0;
    }
    return 0;
}

STEER_INLINE bool steer_is_icmp_error(uint8_t type, bool wide)
{
    if (wide)
        return type <= WIRE_ICMPV6_ERROR_MAX;
    return type == WIRE_ICMP_UNREACHABLE || type == WIRE_ICMP_SOURCE_QUENCH || type == WIRE_ICMP_REDIRECT ||
           type == WIRE_ICMP_TIME_EXCEEDED || type == WIRE_ICMP_PARAMETER;
}

// The header behind IPv6's own and its extensions. `at` is its offset, 0 in a later fragment, which has none.
// False: nobody may change this packet (AH, RFC 4302 section 3.3.3.1.2.1), or its chain is too long.
STEER_INLINE bool steer_skip_extensions(const uint8_t *data, const uint8_t *data_end, uint32_t *at,
                                        uint8_t *protocol)
{
    uint32_t offset = *at;
    uint8_t next = *protocol;
    for (uint32_t i = 0; i < STEER_EXTENSIONS_MAX; ++i) {
        if (next != WIRE_PROTOCOL_HOP_BY_HOP && next != WIRE_PROTOCOL_ROUTING &&
            next != WIRE_PROTOCOL_DESTINATION && next != WIRE_PROTOCOL_FRAGMENT) {
            *at = offset;
            *protocol = next;
            return next != WIRE_PROTOCOL_AH;
        }
        const uint8_t *header = data + (offset & STEER_REACH_MASK);
        if (offset > STEER_REACH_BYTES || header + 8 > data_end)
            return false;
        if (next == WIRE_PROTOCOL_FRAGMENT) {
            if (wire_load16(header + 2) & 0xfff8) { /* the rest of its chain went with the first one */
                *at = 0;
                return true;
            }
            offset += 8;
        } else {
            offset += ((uint32_t)header[1] + 1) * 8;
        }
        next = header[0];
    }
    return false;
}

// What lies behind the IP header: `l4` and `end` are offsets, `end` is where the packet says it ends.
STEER_INLINE bool steer_find_transport(struct steer_fields *f, const uint8_t *data, const uint8_t *data_end,
                                       uint32_t l4, uint32_t end, uint8_t protocol,
                                       const struct steer_change *c, bool back)
{
    bool wide = f->family == 6;
    uint32_t sum = steer_sum_offset(protocol, wide);
    uint8_t icmp = wide ? WIRE_PROTOCOL_ICMPV6 : WIRE_PROTOCOL_ICMP;
    const uint8_t *transport = data + (l4 & STEER_REACH_MASK);
    if (sum) {
        // Also when only padding lies there: a first fragment may be shorter than its header.
        if (l4 + sum + 2 > end || l4 + sum + 2 > STEER_REACH_BYTES || transport + sum + 2 > data_end)
            return false;
        f->sum = l4 + sum;
        f->may_be_zero = protocol == WIRE_PROTOCOL_UDP;
    }
    if (protocol != icmp)
        return true;
    if (l4 > STEER_REACH_BYTES || transport + 1 > data_end)
        return false;
    uint32_t embedded = l4 + WIRE_ICMP_BYTES;
    if (!steer_is_icmp_error(transport[0], wide) || embedded + steer_ip_bytes(wide) > end)
        return true;
    const uint8_t *inner = data + (embedded & STEER_REACH_MASK);
    if (embedded + steer_ip_bytes(wide) > STEER_REACH_BYTES || inner + steer_ip_bytes(wide) > data_end)
        return false;
    if (inner[0] >> 4 == (wide ? 6 : 4) && steer_same_address(inner + steer_address_offset(wide, !back),
                                                              wide ? c->before6_be : &c->before4_be, wide))
        f->embedded = embedded;
    return true;
}

STEER_INLINE bool steer_find_fields4(struct steer_fields *f, const uint8_t *data, const uint8_t *data_end,
                                     uint32_t ip, const struct steer_change *c, bool back)
{
    const uint8_t *header = data + (ip & STEER_REACH_MASK);
    if (header + WIRE_IPV4_BYTES > data_end)
        return false;
    f->ip = ip;
    if (!steer_same_address(header + steer_address_offset(false, back), &c->before4_be, false))
        return true;
    f->family = 4;
    if (header[9] == WIRE_PROTOCOL_AH)
        return false;
    if (wire_load16(header + 6) & 0x1fff) /* a later fragment has no transport header */
        return true;
    return steer_find_transport(f, data, data_end, ip + (uint32_t)(header[0] & 0x0f) * 4,
                                ip + wire_load16(header + 2), header[9], c, back);
}

STEER_INLINE bool steer_find_fields6(struct steer_fields *f, const uint8_t *data, const uint8_t *data_end,
                                     uint32_t ip, const struct steer_change *c, bool back)
{
    const uint8_t *header = data + (ip & STEER_REACH_MASK);
    if (header + WIRE_IPV6_BYTES > data_end)
        return false;
    f->ip = ip;
    if (!steer_same_address(header + steer_address_offset(true, back), c->before6_be, true))
        return true;
    f->family = 6;
    uint32_t l4 = ip + WIRE_IPV6_BYTES;
    uint8_t protocol = header[6];
    uint32_t end = l4 + wire_load16(header + 4);
    if (!steer_skip_extensions(data, data_end, &l4, &protocol))
        return false;
    return l4 == 0 || steer_find_transport(f, data, data_end, l4, end, protocol, c, back);
}

// False: the address is there, but the frame cannot be rewritten (STEER_WHY_UNTRANSLATABLE).
STEER_INLINE bool steer_find_fields(struct steer_fields *f, const uint8_t *data, const uint8_t *data_end,
                                    const struct steer_change *c, bool back)
{
    uint32_t ip = WIRE_ETH_BYTES;
    __builtin_memset(f, 0, sizeof(*f));
    if (data + WIRE_ETH_BYTES > data_end)
        return true;
    uint16_t type = wire_load16(data + 12);
    for (uint32_t i = 0; i < STEER_TAGS_MAX; ++i) {
        if (type != WIRE_ETHERTYPE_VLAN && type != WIRE_ETHERTYPE_QINQ)
            break;
        if (data + ip + 4 > data_end)
            return true;
        type = wire_load16(data + ip + 2);
        ip += 4;
    }
    if (type == WIRE_ETHERTYPE_IPV4)
        return steer_find_fields4(f, data, data_end, ip, c, back);
    if (type == WIRE_ETHERTYPE_IPV6)
        return steer_find_fields6(f, data, data_end, ip, c, back);
    return true;
}

// ---- for planes that own the bytes ------------------------------------------------------------------------

// What a sum of 16-bit words grows by when `bytes` of `before` become `after`: ~m + m' of RFC 1624.
STEER_INLINE uint32_t steer_checksum_delta(const uint32_t *before, const uint32_t *after, uint32_t bytes)
{
    return steer_checksum_add(0, (const uint8_t *)after, bytes) + bytes / 2 * 0xffffu -
           steer_checksum_add(0, (const uint8_t *)before, bytes);
}

STEER_INLINE void steer_adjust_sum(uint8_t *sum, uint32_t delta, bool may_be_zero)
{
    uint16_t old = wire_load16(sum);
    if (may_be_zero && old == 0)
        return;
    uint16_t fresh = steer_checksum_fold((uint16_t)~old + delta);
    wire_store16(sum, may_be_zero && fresh == 0 ? 0xffff : fresh);
}

STEER_INLINE bool steer_rewrite4(uint8_t *data, const uint8_t *data_end, const struct steer_fields *f,
                                 const struct steer_change *c, bool back)
{
    uint32_t delta = steer_checksum_delta(&c->before4_be, &c->after4_be, 4);
    uint8_t *ip = data + (f->ip & STEER_REACH_MASK);
    if (ip + WIRE_IPV4_BYTES > data_end)
        return false;
    __builtin_memcpy(ip + steer_address_offset(false, back), &c->after4_be, 4);
    steer_adjust_sum(ip + 10, delta, false);
    if (f->sum) {
        uint8_t *sum = data + (f->sum & STEER_REACH_MASK);
        if (sum + 2 > data_end)
            return false;
        steer_adjust_sum(sum, delta, f->may_be_zero);
    }
    if (f->embedded) {
        // The address and the header's own sum change in opposite ways: the ICMP checksum over both stays.
        uint8_t *inner = data + (f->embedded & STEER_REACH_MASK);
        if (inner + WIRE_IPV4_BYTES > data_end)
            return false;
        __builtin_memcpy(inner + steer_address_offset(false, !back), &c->after4_be, 4);
        steer_adjust_sum(inner + 10, delta, false);
    }
    return true;
}

STEER_INLINE bool steer_rewrite6(uint8_t *data, const uint8_t *data_end, const struct steer_fields *f,
                                 const struct steer_change *c, bool back)
{
    uint32_t delta = steer_checksum_delta(c->before6_be, c->after6_be, 16);
    uint8_t *ip = data + (f->ip & STEER_REACH_MASK);
    if (ip + WIRE_IPV6_BYTES > data_end)
        return false;
    __builtin_memcpy(ip + steer_address_offset(true, back), c->after6_be, 16);
    if (f->embedded) {
        // Covered by the ICMPv6 checksum once more, and by nothing of its own.
        uint8_t *inner = data + (f->embedded & STEER_REACH_MASK);
        if (inner + WIRE_IPV6_BYTES > data_end)
            return false;
        __builtin_memcpy(inner + steer_address_offset(true, !back), c->after6_be, 16);
        delta += delta;
    }
    if (f->sum) {
        uint8_t *sum = data + (f->sum & STEER_REACH_MASK);
        if (sum + 2 > data_end)
            return false;
        steer_adjust_sum(sum, delta, f->may_be_zero);
    }
    return true;
}

// Rewrites the frame in place: the address where it is there, the backend's MAC on every IP packet. False: it cannot be done, drop the frame.
STEER_INLINE bool steer_translate(uint8_t *data, const uint8_t *data_end,
                                  const struct steer_translation *names, enum steer_way way)
{
    struct steer_fields f;
    struct steer_change c;
    bool back = way == STEER_BACK;
    if (back)
        steer_change_to_hosted(&c, names);
    else
        steer_change_to_temporary(&c, names);
    if (!steer_find_fields(&f, data, data_end, &c, back))
        return false;
    if (!back && f.ip && data + 6 <= data_end)
        __builtin_memcpy(data, names->mac, 6);
    if (f.family == 0)
        return true;
    return f.family == 4 ? steer_rewrite4(data, data_end, &f, &c, back)
                         : steer_rewrite6(data, data_end, &f, &c, back);
}

#endif
