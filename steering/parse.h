// One frame -> what steering needs to know of it. Every byte is read behind a bound check against
// `data_end`, with the shape the BPF verifier accepts. Parsing decides nothing about ownership: it names
// the kind of packet, and the reason when a header is short or broken.
#ifndef GODWIT_STEERING_PARSE_H
#define GODWIT_STEERING_PARSE_H

#include "steering/types.h"
#include "steering/wire.h"

enum steer_kind {
    STEER_NOT_IP, /* some other EtherType: ordinary switching */
    STEER_SYN,
    STEER_SYN_ACK,
    STEER_RST,
    STEER_SEGMENT, /* any other TCP segment */
    STEER_UDP,
    STEER_ECHO_REQUEST,
    STEER_ECHO_REPLY,
    STEER_OTHER,       /* a protocol without ports: addresses and protocol are the key */
    STEER_GROUP,       /* to a multicast or broadcast MAC, without a connection */
    STEER_ARP_REQUEST, /* source/destination = sender/target protocol address */
    STEER_ARP_REPLY,
    STEER_ARP_ANNOUNCE, /* gratuitous or a probe for an address (sender 0), RARP */
    STEER_ND_SOLICIT,   /* destination = target of the solicitation */
    STEER_ND_PROBE,     /* DAD: solicitation from the unspecified address */
    STEER_ND_ADVERT,    /* solicited, source = target, destination = IPv6 destination */
    STEER_ND_ANNOUNCE,  /* unsolicited advertisement, source = target */
    STEER_ND_ROUTER_ADVERT,
    STEER_DHCP,         /* of a client, to its server: it speaks of the VM's address */
    STEER_DHCP_ANSWER,  /* of the server */
    STEER_HOUSEKEEPING, /* IGMP, MLD, RS: a host configuring itself */
    STEER_ICMP_ERROR,   /* the session it is about was read */
    STEER_ICMP_OPAQUE,  /* what it is about cannot be read: cut short, a later fragment, a redirect of ND */
    STEER_ICMP_FOREIGN, /* about a packet that its addressee has not sent */
    STEER_FRAGMENT,     /* not the first: no ports. The first one is of the kind that its headers say */
    STEER_EXTENSION,    /* a chain of extension headers that is longer than anybody's */
    STEER_VLAN,         /* more than two tags */
    STEER_TRUNCATED,    /* shorter than its own headers say */
    STEER_BAD,          /* contradicts itself */
    STEER_KINDS
};

enum steer_fragment { STEER_WHOLE, STEER_FIRST_FRAGMENT, STEER_LATER_FRAGMENT };

// Addresses are in network order as they lie; an IPv4 address is word 0, the others are 0.
struct steer_packet {
    uint8_t kind;   /* enum steer_kind */
    uint8_t family; /* 4, 6, or 0 when no address was read */
    uint8_t protocol;
    uint8_t tcp_flags;
    uint16_t source_port; /* host order; echo: identifier, see steer_key_of */
    uint16_t destination_port;
    union {
        struct {
            uint32_t seq, ack;
            uint32_t length; /* TCP payload bytes plus one for SYN and one for FIN: sequence space used */
            uint32_t fragment_id; /* IPv4: identification and protocol, IPv6: identification */
        };
        // ICMP error: where the packet it is about was going. Who sent that one is `destination`, and protocol
        // and ports are those of its answer, so that they make the session's key; echo: only the asker's port.
        uint32_t embedded[4];
    };
    uint32_t source[4];
    uint32_t destination[4];
    uint8_t source_mac[6];
    uint8_t destination_mac[6];
    uint8_t from_backend; /* direction, set by steer.h */
    uint8_t fragment;     /* enum steer_fragment */
    uint8_t tag_bytes;    /* between the MAC addresses and the EtherType: 0, 4 or 8 */
    uint8_t payload_at;   /* UDP: where its payload begins in the frame; 0: not there, or beyond 255 bytes */
    uint32_t vlan;        /* steer_vlan_within */
};

#if defined(__bpf__)
// The verifier forgets what it knows of `p`, of a number. Else it would follow everything behind the parser once
// for every way through it.
__attribute__((noinline)) uint32_t steer_settle(struct steer_packet *p)
{
    if (!p)
        return 0;
    __asm__ volatile("" ::: "memory");
    return 1;
}
__attribute__((noinline)) uint32_t steer_unknown(uint32_t value)
{
    STEER_OPAQUE(value);
    return value;
}
#else
STEER_INLINE uint32_t steer_settle(struct steer_packet *p) { return p != NULL; }
STEER_INLINE uint32_t steer_unknown(uint32_t value) { return value; }
#endif

STEER_INLINE uint8_t steer_tcp_kind(uint8_t flags)
{
    if (flags & WIRE_TCP_RST)
        return STEER_RST;
    if (flags & WIRE_TCP_SYN)
        return flags & WIRE_TCP_ACK ? STEER_SYN_ACK : STEER_SYN;
    return STEER_SEGMENT;
}

// `l4_bytes` is what the IP header promises behind itself.
STEER_INLINE uint8_t steer_parse_tcp(struct steer_packet *p, const uint8_t *l4, const uint8_t *data_end,
                                     uint32_t l4_bytes)
{
    if (l4 + WIRE_TCP_BYTES > data_end || l4_bytes < WIRE_TCP_BYTES)
        return STEER_TRUNCATED;
    uint32_t header_bytes = (uint32_t)(l4[12] >> 4) * 4;
    if (header_bytes < WIRE_TCP_BYTES || header_bytes > l4_bytes)
        return STEER_BAD;
    uint8_t flags = l4[13];
    // SYN with FIN or RST, or no flag at all, is never sent by a TCP (RFC 9293 section 3.10).
    if ((flags & WIRE_TCP_SYN && flags & (WIRE_TCP_FIN | WIRE_TCP_RST)) ||
        !(flags & (WIRE_TCP_SYN | WIRE_TCP_RST | WIRE_TCP_ACK)))
        return STEER_BAD;
    p->source_port = wire_load16(l4);
    p->destination_port = wire_load16(l4 + 2);
    p->seq = wire_load32(l4 + 4);
    p->ack = wire_load32(l4 + 8);
    p->tcp_flags = flags;
    p->length = l4_bytes - header_bytes + (flags & WIRE_TCP_SYN ? 1 : 0) + (flags & WIRE_TCP_FIN ? 1 : 0);
    return steer_tcp_kind(flags);
}

// `l4_at`: how far `l4` lies behind the beginning of the IP header.
STEER_INLINE uint8_t steer_parse_udp(struct steer_packet *p, const uint8_t *l4, const uint8_t *data_end,
                                     uint32_t l4_bytes, uint32_t l4_at)
{
    if (l4 + WIRE_UDP_BYTES > data_end || l4_bytes < WIRE_UDP_BYTES)
        return STEER_TRUNCATED;
    uint32_t payload_at = WIRE_ETH_BYTES + p->tag_bytes + l4_at + WIRE_UDP_BYTES;
    p->payload_at = (uint8_t)(payload_at <= 0xff ? payload_at : 0);
    p->source_port = wire_load16(l4);
    p->destination_port = wire_load16(l4 + 2);
    if ((p->source_port == WIRE_DHCP_CLIENT_PORT && p->destination_port == WIRE_DHCP_SERVER_PORT) ||
        (p->source_port == WIRE_DHCPV6_CLIENT_PORT && p->destination_port == WIRE_DHCPV6_SERVER_PORT))
        return STEER_DHCP;
    if ((p->source_port == WIRE_DHCP_SERVER_PORT && p->destination_port == WIRE_DHCP_CLIENT_PORT) ||
        (p->source_port == WIRE_DHCPV6_SERVER_PORT && p->destination_port == WIRE_DHCPV6_CLIENT_PORT))
        return STEER_DHCP_ANSWER;
    return STEER_UDP;
}

STEER_INLINE void steer_copy_v6(uint32_t *out, const uint8_t *in)
{
    out[0] = wire_load32_be(in);
    out[1] = wire_load32_be(in + 4);
    out[2] = wire_load32_be(in + 8);
    out[3] = wire_load32_be(in + 12);
}

// ---- fragments and extension headers --------------------------------------------------------------------

enum { STEER_TAGS_MAX = 2, STEER_CHAIN_MAX = 8, STEER_CHAIN_BYTES_MAX = 2048 };
#define STEER_NO_HEADER 0xffffffffu

// RFC 791 section 3.2, RFC 8200 section 4.5: all but the last are whole words, and no packet is made of them
// that is longer than one can be.
STEER_INLINE bool steer_is_bad_fragment(uint32_t offset_words, bool more, uint32_t bytes)
{
    return (more && (bytes == 0 || bytes % 8)) || offset_words * 8 + bytes > 0xffff;
}

// STEER_KINDS: it is the first one, what follows is parsed as ever.
STEER_APART uint32_t steer_parse_fragment_v4(struct steer_packet *p, uint32_t place, uint32_t id,
                                             uint32_t bytes)
{
    uint32_t offset_words = place & WIRE_IPV4_OFFSET;
    if (steer_is_bad_fragment(offset_words, (place & WIRE_IPV4_MORE) != 0, bytes))
        return STEER_BAD;
    p->fragment_id = (uint32_t)p->protocol << 16 | id;
    p->fragment = offset_words ? STEER_LATER_FRAGMENT : STEER_FIRST_FRAGMENT;
    if (offset_words == 0)
        return STEER_KINDS;
    switch (p->protocol) {
    case WIRE_PROTOCOL_TCP: /* it would write over the flags, RFC 1858 section 4.2.1 */
        return offset_words == 1 ? STEER_BAD : STEER_FRAGMENT;
    case WIRE_PROTOCOL_UDP:
    case WIRE_PROTOCOL_ICMP:
    case WIRE_PROTOCOL_IGMP:
    case WIRE_PROTOCOL_AH:
        return STEER_FRAGMENT;
    }
    return STEER_OTHER; /* the addresses and the protocol are the key anyway */
}

// The fragment header at `h`, with `bytes` behind it. STEER_KINDS: go on with what follows.
STEER_INLINE uint32_t steer_parse_fragment_v6(struct steer_packet *p, const uint8_t *h, uint32_t bytes,
                                              bool embedded)
{
    uint32_t place = wire_load16(h + 2);
    bool more = (place & 1) != 0;
    if (p->fragment || (!embedded && steer_is_bad_fragment(place >> 3, more, bytes)))
        return STEER_BAD;
    if (!more && place >> 3 == 0)
        return STEER_KINDS; /* atomic, RFC 6946 */
    p->fragment_id = wire_load32(h + 4);
    p->fragment = place >> 3 ? STEER_LATER_FRAGMENT : STEER_FIRST_FRAGMENT;
    return place >> 3 ? STEER_FRAGMENT : STEER_KINDS;
}

STEER_INLINE bool steer_is_extension(const struct steer_packet *p)
{
    switch (p->protocol) {
    case WIRE_PROTOCOL_HOP_BY_HOP:
    case WIRE_PROTOCOL_ROUTING:
    case WIRE_PROTOCOL_DESTINATION:
    case WIRE_PROTOCOL_FRAGMENT:
        return p->family == 6;
    case WIRE_PROTOCOL_AH:
        return true;
    }
    return false;
}

// Where the header behind the extension headers begins, counted from `l4`; p->protocol is its. Or
// STEER_NO_HEADER, with the reason in p->kind. `embedded`: of a packet that is not here as a whole.
STEER_APART uint32_t steer_walk_extensions(struct steer_packet *p, const uint8_t *l4, const uint8_t *data_end,
                                           uint32_t l4_bytes, bool embedded)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < STEER_CHAIN_MAX && at < STEER_CHAIN_BYTES_MAX; ++i) {
        uint32_t kind = STEER_KINDS, bytes = WIRE_EXTENSION_BYTES;
        if (!steer_is_extension(p))
            return at;
        const uint8_t *h = l4 + at;
        if (h + WIRE_EXTENSION_BYTES > data_end || at + WIRE_EXTENSION_BYTES > l4_bytes) {
            p->kind = STEER_TRUNCATED;
            return STEER_NO_HEADER;
        }
        if (p->protocol == WIRE_PROTOCOL_FRAGMENT)
            kind = steer_parse_fragment_v6(p, h, l4_bytes - at - WIRE_EXTENSION_BYTES, embedded);
        else if (p->protocol == WIRE_PROTOCOL_AH)
            bytes = ((uint32_t)h[1] + 2) * 4;
        else
            bytes = ((uint32_t)h[1] + 1) * 8;
        // RFC 8200 section 4.1: hop-by-hop is the first or none.
        if ((p->protocol == WIRE_PROTOCOL_HOP_BY_HOP && i > 0) ||
            (p->protocol == WIRE_PROTOCOL_ROUTING && h[2] == WIRE_ROUTING_TYPE_SOURCE && h[3] != 0))
            kind = STEER_BAD;
        if (kind != STEER_KINDS) {
            p->kind = (uint8_t)kind;
            return STEER_NO_HEADER;
        }
        p->protocol = h[0];
        steer_settle(p);
        at = steer_unknown(at + bytes);
        if (at > l4_bytes) {
            p->kind = STEER_TRUNCATED;
            return STEER_NO_HEADER;
        }
    }
    p->kind = STEER_EXTENSION;
    return STEER_NO_HEADER;
}

// ---- what an ICMP error is about ----------------------------------------------------------------------

// RFC 792 promises eight bytes behind the embedded header, and we need no more. The lengths in there are the
// original packet's and say nothing about this one.
STEER_INLINE uint8_t steer_parse_embedded_l4(struct steer_packet *p, const uint8_t *l4,
                                             const uint8_t *data_end, uint8_t protocol)
{
    bool v4 = protocol == WIRE_PROTOCOL_ICMP;
    p->protocol = protocol;
    p->source_port = p->destination_port = 0;
    if (protocol != WIRE_PROTOCOL_TCP && protocol != WIRE_PROTOCOL_UDP && !v4 &&
        protocol != WIRE_PROTOCOL_ICMPV6)
        return STEER_ICMP_ERROR;
    if (l4 + WIRE_EMBEDDED_L4_BYTES > data_end)
        return STEER_ICMP_OPAQUE;
    if (protocol == WIRE_PROTOCOL_TCP || protocol == WIRE_PROTOCOL_UDP) {
        p->destination_port = wire_load16(l4);
        p->source_port = wire_load16(l4 + 2);
    } else if (l4[0] == (v4 ? WIRE_ICMP_ECHO_REQUEST : WIRE_ICMPV6_ECHO_REQUEST))
        p->destination_port = wire_load16(l4 + 4);
    else if (l4[0] == (v4 ? WIRE_ICMP_ECHO_REPLY : WIRE_ICMPV6_ECHO_REPLY))
        p->source_port = wire_load16(l4 + 4);
    else
        return STEER_ICMP_OPAQUE;
    return STEER_ICMP_ERROR;
}

STEER_INLINE uint8_t steer_parse_embedded_v4(struct steer_packet *p, const uint8_t *ip,
                                             const uint8_t *data_end, uint32_t bytes)
{
    if (ip + WIRE_IPV4_BYTES > data_end || bytes < WIRE_IPV4_BYTES + WIRE_EMBEDDED_L4_BYTES)
        return STEER_ICMP_OPAQUE;
    uint32_t header_bytes = (uint32_t)(ip[0] & 0x0f) * 4;
    if (ip[0] >> 4 != 4 || header_bytes < WIRE_IPV4_BYTES || header_bytes + WIRE_EMBEDDED_L4_BYTES > bytes)
        return STEER_ICMP_OPAQUE;
    if (wire_load32_be(ip + 12) != p->destination[0])
        return STEER_ICMP_FOREIGN;
    if (wire_load16(ip + 6) & 0x1fff)
        return STEER_ICMP_OPAQUE;
    p->embedded[0] = wire_load32_be(ip + 16);
    return steer_parse_embedded_l4(p, ip + header_bytes, data_end, ip[9]);
}

STEER_INLINE uint8_t steer_parse_embedded_v6(struct steer_packet *p, const uint8_t *ip,
                                             const uint8_t *data_end, uint32_t bytes)
{
    uint32_t sender[4];
    if (ip + WIRE_IPV6_BYTES > data_end || bytes < WIRE_IPV6_BYTES + WIRE_EMBEDDED_L4_BYTES ||
        ip[0] >> 4 != 6)
        return STEER_ICMP_OPAQUE;
    steer_copy_v6(sender, ip + 8);
    if ((sender[0] ^ p->destination[0]) | (sender[1] ^ p->destination[1]) | (sender[2] ^ p->destination[2]) |
        (sender[3] ^ p->destination[3]))
        return STEER_ICMP_FOREIGN;
    p->protocol = ip[6];
    uint32_t at = steer_walk_extensions(p, ip + WIRE_IPV6_BYTES, data_end, bytes - WIRE_IPV6_BYTES, true);
    p->fragment = STEER_WHOLE; /* the error itself is */
    steer_copy_v6(p->embedded, ip + 24);
    if (at >= STEER_CHAIN_BYTES_MAX)
        return STEER_ICMP_OPAQUE;
    return steer_parse_embedded_l4(p, ip + WIRE_IPV6_BYTES + at, data_end, p->protocol);
}

STEER_APART uint32_t steer_parse_embedded(struct steer_packet *p, const uint8_t *ip, const uint8_t *data_end,
                                          uint32_t bytes)
{
    return p->family == 4 ? steer_parse_embedded_v4(p, ip, data_end, bytes)
                          : steer_parse_embedded_v6(p, ip, data_end, bytes);
}

STEER_INLINE uint8_t steer_parse_icmp(struct steer_packet *p, const uint8_t *l4, const uint8_t *data_end,
                                      uint32_t l4_bytes)
{
    if (l4 + WIRE_ICMP_BYTES > data_end || l4_bytes < WIRE_ICMP_BYTES)
        return STEER_TRUNCATED;
    p->source_port = p->destination_port = wire_load16(l4 + 4);
    switch (l4[0]) {
    case WIRE_ICMP_ECHO_REQUEST:
        return STEER_ECHO_REQUEST;
    case WIRE_ICMP_ECHO_REPLY:
        return STEER_ECHO_REPLY;
    case WIRE_ICMP_UNREACHABLE:
    case WIRE_ICMP_SOURCE_QUENCH:
    case WIRE_ICMP_REDIRECT:
    case WIRE_ICMP_TIME_EXCEEDED:
    case WIRE_ICMP_PARAMETER:
        return (uint8_t)steer_parse_embedded(p, l4 + WIRE_ICMP_BYTES, data_end, l4_bytes - WIRE_ICMP_BYTES);
    }
    p->source_port = p->destination_port = 0;
    return STEER_OTHER;
}

STEER_INLINE uint8_t steer_parse_neighbour(struct steer_packet *p, const uint8_t *l4, const uint8_t *data_end,
                                           uint32_t l4_bytes)
{
    if (l4 + WIRE_ND_BYTES > data_end || l4_bytes < WIRE_ND_BYTES)
        return STEER_TRUNCATED;
    if (l4[0] == WIRE_ICMPV6_NEIGHBOUR_SOLICIT) {
        bool probe = !(p->source[0] | p->source[1] | p->source[2] | p->source[3]);
        steer_copy_v6(p->destination, l4 + 8);
        return probe ? STEER_ND_PROBE : STEER_ND_SOLICIT;
    }
    steer_copy_v6(p->source, l4 + 8);
    return l4[4] & WIRE_ND_SOLICITED ? STEER_ND_ADVERT : STEER_ND_ANNOUNCE;
}

STEER_INLINE uint8_t steer_parse_icmpv6(struct steer_packet *p, const uint8_t *l4, const uint8_t *data_end,
                                        uint32_t l4_bytes)
{
    if (l4 + WIRE_ICMP_BYTES > data_end || l4_bytes < WIRE_ICMP_BYTES)
        return STEER_TRUNCATED;
    uint8_t type = l4[0];
    if (type == WIRE_ICMPV6_NEIGHBOUR_SOLICIT || type == WIRE_ICMPV6_NEIGHBOUR_ADVERT)
        return steer_parse_neighbour(p, l4, data_end, l4_bytes);
    if (type <= WIRE_ICMPV6_ERROR_MAX)
        return (uint8_t)steer_parse_embedded(p, l4 + WIRE_ICMP_BYTES, data_end, l4_bytes - WIRE_ICMP_BYTES);
    if (type == WIRE_ICMPV6_REDIRECT) /* embedded behind options only, RFC 4861 section 4.5 */
        return STEER_ICMP_OPAQUE;
    if (type == WIRE_ICMPV6_ROUTER_ADVERT)
        return STEER_ND_ROUTER_ADVERT;
    if ((type >= WIRE_ICMPV6_MLD_QUERY && type <= WIRE_ICMPV6_ROUTER_SOLICIT) ||
        type == WIRE_ICMPV6_MLD2_REPORT)
        return STEER_HOUSEKEEPING;
    if (type != WIRE_ICMPV6_ECHO_REQUEST && type != WIRE_ICMPV6_ECHO_REPLY)
        return STEER_OTHER;
    p->source_port = p->destination_port = wire_load16(l4 + 4);
    return type == WIRE_ICMPV6_ECHO_REQUEST ? STEER_ECHO_REQUEST : STEER_ECHO_REPLY;
}

STEER_INLINE uint8_t steer_parse_ipv4(struct steer_packet *p, const uint8_t *ip, const uint8_t *data_end,
                                      uint32_t ip_bytes)
{
    if (ip + WIRE_IPV4_BYTES > data_end)
        return STEER_TRUNCATED;
    uint32_t header_bytes = (uint32_t)(ip[0] & 0x0f) * 4;
    uint32_t total_bytes = wire_load16(ip + 2);
    if (ip[0] >> 4 != 4 || header_bytes < WIRE_IPV4_BYTES || total_bytes < header_bytes)
        return STEER_BAD;
    p->family = 4;
    p->protocol = ip[9];
    p->source[0] = wire_load32_be(ip + 12);
    p->destination[0] = wire_load32_be(ip + 16);
    if (total_bytes > ip_bytes)
        return STEER_TRUNCATED;
    const uint8_t *l4 = ip + header_bytes;
    uint32_t l4_at = header_bytes;
    uint32_t l4_bytes = total_bytes - header_bytes;
    uint32_t place = wire_load16(ip + 6) & (WIRE_IPV4_MORE | WIRE_IPV4_OFFSET);
    if (place) {
        uint32_t kind = steer_parse_fragment_v4(p, place, wire_load16(ip + 4), l4_bytes);
        if (kind != STEER_KINDS)
            return (uint8_t)kind;
    }
    if (p->protocol == WIRE_PROTOCOL_AH) {
        uint32_t at = steer_walk_extensions(p, l4, data_end, l4_bytes, false);
        if (at >= STEER_CHAIN_BYTES_MAX)
            return p->kind;
        l4 += at;
        l4_at += at;
        l4_bytes -= at;
    }
    switch (p->protocol) {
    case WIRE_PROTOCOL_TCP:
        return steer_parse_tcp(p, l4, data_end, l4_bytes);
    case WIRE_PROTOCOL_UDP:
        return steer_parse_udp(p, l4, data_end, l4_bytes, l4_at);
    case WIRE_PROTOCOL_ICMP:
        return steer_parse_icmp(p, l4, data_end, l4_bytes);
    case WIRE_PROTOCOL_IGMP:
        return STEER_HOUSEKEEPING;
    }
    return STEER_OTHER;
}

STEER_INLINE uint8_t steer_parse_ipv6(struct steer_packet *p, const uint8_t *ip, const uint8_t *data_end,
                                      uint32_t ip_bytes)
{
    if (ip + WIRE_IPV6_BYTES > data_end)
        return STEER_TRUNCATED;
    if (ip[0] >> 4 != 6)
        return STEER_BAD;
    uint32_t l4_bytes = wire_load16(ip + 4);
    const uint8_t *l4 = ip + WIRE_IPV6_BYTES;
    uint32_t l4_at = WIRE_IPV6_BYTES;
    p->family = 6;
    p->protocol = ip[6];
    steer_copy_v6(p->source, ip + 8);
    steer_copy_v6(p->destination, ip + 24);
    if (l4_bytes + WIRE_IPV6_BYTES > ip_bytes)
        return STEER_TRUNCATED;
    if (p->protocol != WIRE_PROTOCOL_TCP && p->protocol != WIRE_PROTOCOL_UDP) {
        uint32_t at = steer_walk_extensions(p, l4, data_end, l4_bytes, false);
        if (at >= STEER_CHAIN_BYTES_MAX)
            return p->kind;
        l4 += at;
        l4_at += at;
        l4_bytes -= at;
    }
    switch (p->protocol) {
    case WIRE_PROTOCOL_TCP:
        return steer_parse_tcp(p, l4, data_end, l4_bytes);
    case WIRE_PROTOCOL_UDP:
        return steer_parse_udp(p, l4, data_end, l4_bytes, l4_at);
    case WIRE_PROTOCOL_ICMPV6:
        return steer_parse_icmpv6(p, l4, data_end, l4_bytes);
    }
    return STEER_OTHER;
}

STEER_INLINE uint8_t steer_parse_arp(struct steer_packet *p, const uint8_t *arp, const uint8_t *data_end,
                                     bool reverse)
{
    if (arp + WIRE_ARP_BYTES > data_end)
        return STEER_TRUNCATED;
    // Ethernet and IPv4 are the only pair we speak (RFC 826).
    if (wire_load16(arp) != 1 || wire_load16(arp + 2) != WIRE_ETHERTYPE_IPV4 || arp[4] != 6 || arp[5] != 4)
        return STEER_BAD;
    p->family = 4;
    p->source[0] = wire_load32_be(arp + 14);
    p->destination[0] = wire_load32_be(arp + 24);
    if (reverse || p->source[0] == p->destination[0] || p->source[0] == 0)
        return STEER_ARP_ANNOUNCE;
    switch (wire_load16(arp + 6)) {
    case WIRE_ARP_REQUEST:
        return STEER_ARP_REQUEST;
    case WIRE_ARP_REPLY:
        return STEER_ARP_REPLY;
    }
    return STEER_BAD;
}

STEER_INLINE bool steer_is_tag(uint32_t ethertype)
{
    return ethertype == WIRE_ETHERTYPE_VLAN || ethertype == WIRE_ETHERTYPE_QINQ;
}

// One tag, or two (IEEE 802.1ad). Returns the EtherType behind them, or 0 with the reason in p->kind.
STEER_APART uint32_t steer_parse_tags(struct steer_packet *p, const uint8_t *data, const uint8_t *data_end,
                                      uint32_t type)
{
    for (uint32_t at = WIRE_ETH_BYTES; at < WIRE_ETH_BYTES + STEER_TAGS_MAX * 4; at += 4) {
        const uint8_t *tag = data + at;
        if (tag + 4 > data_end) {
            p->kind = STEER_TRUNCATED;
            return 0;
        }
        p->vlan = steer_vlan_within(p->vlan, wire_load16(tag));
        p->tag_bytes += 4;
        type = wire_load16(tag + 2);
        if (!steer_is_tag(type))
            return type;
    }
    p->kind = STEER_VLAN;
    return 0;
}

STEER_INLINE void steer_parse_frame(struct steer_packet *p, const uint8_t *data, const uint8_t *data_end,
                                    uint32_t frame_bytes)
{
    __builtin_memset(p, 0, sizeof(*p));
    if (data + WIRE_ETH_BYTES > data_end) {
        p->kind = STEER_TRUNCATED;
        return;
    }
    wire_copy_mac(p->destination_mac, data);
    wire_copy_mac(p->source_mac, data + 6);
    uint32_t type = wire_load16(data + 12);
    uint64_t at = WIRE_ETH_BYTES;
    if (steer_is_tag(type)) {
        type = steer_parse_tags(p, data, data_end, type);
        if (!type)
            return;
        at = steer_unknown(WIRE_ETH_BYTES + p->tag_bytes) & 31u;
        type = steer_unknown(type);
    }
    const uint8_t *l3 = data + at;
    STEER_OPAQUE(frame_bytes); /* else it becomes a difference of pointers in 32 bits */
    uint32_t l3_bytes = frame_bytes - (uint32_t)at;
    switch (type) {
    case WIRE_ETHERTYPE_IPV4:
        p->kind = steer_parse_ipv4(p, l3, data_end, l3_bytes);
        return;
    case WIRE_ETHERTYPE_IPV6:
        p->kind = steer_parse_ipv6(p, l3, data_end, l3_bytes);
        return;
    case WIRE_ETHERTYPE_ARP:
        p->kind = steer_parse_arp(p, l3, data_end, /*reverse=*/false);
        return;
    case WIRE_ETHERTYPE_RARP:
        p->kind = steer_parse_arp(p, l3, data_end, /*reverse=*/true);
        return;
    }
    p->kind = STEER_NOT_IP;
}

// `frame_bytes` is the whole frame's length; [data, data_end) may be only its linear beginning.
STEER_INLINE void steer_parse(struct steer_packet *p, const uint8_t *data, const uint8_t *data_end,
                              uint32_t frame_bytes)
{
    steer_parse_frame(p, data, data_end, frame_bytes);
    if (p->destination_mac[0] & 1 &&
        (p->kind == STEER_UDP || p->kind == STEER_ECHO_REQUEST || p->kind == STEER_OTHER))
        p->kind = STEER_GROUP;
    if (p->kind > STEER_UDP || p->fragment || p->tag_bytes)
        steer_settle(p);
}

#endif
