// Wire formats as byte offsets and numbers. Own definitions, because linux/ip.h and netinet/in.h cannot
// meet in one C++ file. Loads are made of bytes: they are unaligned-safe, and clang joins them into one
// load and a byte swap. Sources: RFC 791, 8200, 9293, 768, 792, 4443, 826, 903, 4861, 8999, 9000, IEEE 802.1Q.
#ifndef GODWIT_STEERING_WIRE_H
#define GODWIT_STEERING_WIRE_H

#include "steering/types.h"

enum {
    WIRE_ETH_BYTES = 14,
    WIRE_ARP_BYTES = 28,
    WIRE_IPV4_BYTES = 20,
    WIRE_IPV6_BYTES = 40,
    WIRE_TCP_BYTES = 20,
    WIRE_UDP_BYTES = 8,
    WIRE_ICMP_BYTES = 8,
    WIRE_EMBEDDED_L4_BYTES = 8, /* of the packet an ICMP error is about, RFC 792 */
    WIRE_EXTENSION_BYTES = 8,   /* the shortest IPv6 extension header, and the fragment header */
    WIRE_IPV4_MORE = 0x2000,    /* flags and offset field: more fragments follow */
    WIRE_IPV4_OFFSET = 0x1fff,
    WIRE_ND_BYTES = 24, /* NS and NA without options */

    WIRE_ETHERTYPE_IPV4 = 0x0800,
    WIRE_ETHERTYPE_ARP = 0x0806,
    WIRE_ETHERTYPE_RARP = 0x8035,
    WIRE_ETHERTYPE_IPV6 = 0x86dd,
    WIRE_ETHERTYPE_VLAN = 0x8100,
    WIRE_ETHERTYPE_QINQ = 0x88a8,

    WIRE_PROTOCOL_HOP_BY_HOP = 0,
    WIRE_PROTOCOL_ICMP = 1,
    WIRE_PROTOCOL_IGMP = 2,
    WIRE_PROTOCOL_TCP = 6,
    WIRE_PROTOCOL_UDP = 17,
    WIRE_PROTOCOL_DCCP = 33,
    WIRE_PROTOCOL_ROUTING = 43,
    WIRE_PROTOCOL_FRAGMENT = 44,
    WIRE_PROTOCOL_AH = 51,
    WIRE_PROTOCOL_ICMPV6 = 58,
    WIRE_PROTOCOL_DESTINATION = 60,
    WIRE_PROTOCOL_MOBILITY = 135,
    WIRE_PROTOCOL_UDPLITE = 136,

    WIRE_ROUTING_TYPE_SOURCE = 0, /* RFC 5095: not to be honoured */

    WIRE_TCP_FIN = 0x01,
    WIRE_TCP_SYN = 0x02,
    WIRE_TCP_RST = 0x04,
    WIRE_TCP_PSH = 0x08,
    WIRE_TCP_ACK = 0x10,

    WIRE_ARP_REQUEST = 1,
    WIRE_ARP_REPLY = 2,

    WIRE_ICMP_ECHO_REPLY = 0,
    WIRE_ICMP_UNREACHABLE = 3,
    WIRE_ICMP_SOURCE_QUENCH = 4,
    WIRE_ICMP_REDIRECT = 5,
    WIRE_ICMP_ECHO_REQUEST = 8,
    WIRE_ICMP_TIME_EXCEEDED = 11,
    WIRE_ICMP_PARAMETER = 12,

    WIRE_ICMPV6_ERROR_MAX = 127, /* types below 128 are errors, RFC 4443 section 2.1 */
    WIRE_ICMPV6_ECHO_REQUEST = 128,
    WIRE_ICMPV6_ECHO_REPLY = 129,
    WIRE_ICMPV6_MLD_QUERY = 130,
    WIRE_ICMPV6_MLD_DONE = 132,
    WIRE_ICMPV6_ROUTER_SOLICIT = 133,
    WIRE_ICMPV6_ROUTER_ADVERT = 134,
    WIRE_ICMPV6_NEIGHBOUR_SOLICIT = 135,
    WIRE_ICMPV6_NEIGHBOUR_ADVERT = 136,
    WIRE_ICMPV6_REDIRECT = 137,
    WIRE_ICMPV6_MLD2_REPORT = 143,

    WIRE_ND_SOLICITED = 0x40, /* first flag byte of an NA */
    WIRE_ND_OVERRIDE = 0x20,
    WIRE_ND_OPTION_TARGET_MAC = 2,

    WIRE_QUIC_LONG = 0x80,
    WIRE_QUIC_V1 = 1,
    WIRE_QUIC_V2 = 0x6b3343cf,
    WIRE_QUIC_DRAFTS = 0xff0000, /* the upper 24 bits */

    WIRE_DHCP_CLIENT_PORT = 68,
    WIRE_DHCP_SERVER_PORT = 67,
    WIRE_DHCPV6_CLIENT_PORT = 546,
    WIRE_DHCPV6_SERVER_PORT = 547
};

#if defined(__bpf__)
// The BPF target takes no misaligned load for granted and would make one load of every byte (measured: 72
// instructions for two IPv4 addresses and ports). The verifier allows them in packets and map values where
// the machine does; on the stack such bytes must be aligned.
typedef uint16_t __attribute__((may_alias)) wire_u16;
typedef uint32_t __attribute__((may_alias)) wire_u32;
STEER_INLINE uint16_t wire_load16(const uint8_t *p) { return __builtin_bswap16(*(const wire_u16 *)p); }
STEER_INLINE uint32_t wire_load32(const uint8_t *p) { return __builtin_bswap32(*(const wire_u32 *)p); }
STEER_INLINE uint32_t wire_load32_be(const uint8_t *p) { return *(const wire_u32 *)p; }
STEER_INLINE void wire_store16(uint8_t *p, uint16_t value) { *(wire_u16 *)p = __builtin_bswap16(value); }
STEER_INLINE void wire_store32(uint8_t *p, uint32_t value) { *(wire_u32 *)p = __builtin_bswap32(value); }
STEER_INLINE void wire_copy_mac(uint8_t *to, const uint8_t *from)
{
    const wire_u16 *words = (const wire_u16 *)from;
    wire_u16 *copy = (wire_u16 *)to;
    copy[0] = words[0];
    copy[1] = words[1];
    copy[2] = words[2];
}
STEER_INLINE bool wire_mac_equal(const uint8_t *a, const uint8_t *b)
{
    const wire_u16 *x = (const wire_u16 *)a, *y = (const wire_u16 *)b;
    return ((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2])) == 0;
}
#else
STEER_INLINE uint16_t wire_load16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
STEER_INLINE uint32_t wire_load32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}
// Network order kept: addresses are compared and hashed as they lie.
STEER_INLINE uint32_t wire_load32_be(const uint8_t *p)
{
    uint32_t value;
    __builtin_memcpy(&value, p, 4);
    return value;
}
STEER_INLINE void wire_store16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}
STEER_INLINE void wire_store32(uint8_t *p, uint32_t value)
{
    wire_store16(p, (uint16_t)(value >> 16));
    wire_store16(p + 2, (uint16_t)value);
}
STEER_INLINE bool wire_mac_equal(const uint8_t *a, const uint8_t *b)
{
    return (((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]) | (a[5] ^ b[5])) ==
            0);
}
STEER_INLINE void wire_copy_mac(uint8_t *to, const uint8_t *from) { __builtin_memcpy(to, from, 6); }
#endif

#endif
