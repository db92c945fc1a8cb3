// Frames the switch writes itself: ARP replies and NDP advertisements for hosted addresses, gratuitous ones
// after a handover, RSTs that end what is left, and the incremental checksum for changed words.
// Sources: RFC 826, RFC 5227 (announcement), RFC 4861 section 4.4 and 7.2, RFC 9293 section 3.5.2, RFC 1624.
#ifndef GODWIT_STEERING_REWRITE_H
#define GODWIT_STEERING_REWRITE_H

#include "steering/parse.h"
#include "steering/types.h"
#include "steering/wire.h"

enum {
    STEER_ARP_FRAME_BYTES = WIRE_ETH_BYTES + WIRE_ARP_BYTES,
    STEER_NA_FRAME_BYTES = WIRE_ETH_BYTES + WIRE_IPV6_BYTES + WIRE_ND_BYTES + 8,
    STEER_RST4_FRAME_BYTES = WIRE_ETH_BYTES + WIRE_IPV4_BYTES + WIRE_TCP_BYTES,
    STEER_RST6_FRAME_BYTES = WIRE_ETH_BYTES + WIRE_IPV6_BYTES + WIRE_TCP_BYTES
};

// ---- Internet checksum (RFC 1071) -----------------------------------------------------------------
STEER_INLINE uint16_t steer_checksum_fold(uint32_t sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}
// `bytes` is a constant and even: unrolled, no loop over a variable length in BPF.
STEER_INLINE uint32_t steer_checksum_add(uint32_t sum, const uint8_t *p, uint32_t bytes)
{
#pragma clang loop unroll(full)
    for (uint32_t i = 0; i < bytes; i += 2) sum += wire_load16(p + i);
    return sum;
}
// RFC 1624 equation 3: HC' = ~(~HC + ~m + m').
STEER_INLINE uint16_t steer_checksum_replace(uint16_t checksum, uint16_t before, uint16_t after)
{
    return steer_checksum_fold((uint32_t)(uint16_t)~checksum + (uint16_t)~before + after);
}

STEER_INLINE void steer_write_eth(uint8_t *eth, const uint8_t *to, const uint8_t *from, uint16_t type)
{
    __builtin_memcpy(eth, to, 6);
    __builtin_memcpy(eth + 6, from, 6);
    wire_store16(eth + 12, type);
}

// ---- frames with tags ---------------------------------------------------------------------------------
// What is written over a tagged frame keeps its tags: they step aside, the frame is written `tag_bytes` further
// as if it had none, and they come back. `tag_bytes` (0, 4 or 8) and the 12 bytes behind it are inside the frame.
struct steer_tags {
    uint8_t kept[STEER_TAGS_MAX * 4];
};
STEER_INLINE void steer_lift_tags(struct steer_tags *tags, uint8_t *data, uint32_t tag_bytes)
{
    uint8_t macs[12];
    __builtin_memcpy(macs, data, 12);
    __builtin_memcpy(tags->kept, data + 12, 4);
    if (tag_bytes > 4)
        __builtin_memcpy(tags->kept + 4, data + 16, 4);
    __builtin_memcpy(data + tag_bytes, macs, 12);
}
STEER_INLINE void steer_put_tags_back(const struct steer_tags *tags, uint8_t *data, uint32_t tag_bytes)
{
    uint8_t macs[12];
    __builtin_memcpy(macs, data + tag_bytes, 12);
    __builtin_memcpy(data, macs, 12);
    if (tag_bytes == 0)
        return;
    __builtin_memcpy(data + 12, tags->kept, 4);
    if (tag_bytes > 4)
        __builtin_memcpy(data + 16, tags->kept + 4, 4);
}

// ---- answers in place -------------------------------------------------------------------------------

// Turns the ARP request in the frame into the reply of the VM with `mac`. False: the frame is too short.
STEER_INLINE bool steer_answer_arp(uint8_t *data, const uint8_t *data_end, const uint8_t *mac)
{
    uint8_t asker_mac[6], asker_ip[4], asked_ip[4];
    if (data + STEER_ARP_FRAME_BYTES > data_end)
        return false;
    uint8_t *arp = data + WIRE_ETH_BYTES;
    __builtin_memcpy(asker_mac, arp + 8, 6);
    __builtin_memcpy(asker_ip, arp + 14, 4);
    __builtin_memcpy(asked_ip, arp + 24, 4);
    steer_write_eth(data, asker_mac, mac, WIRE_ETHERTYPE_ARP);
    wire_store16(arp + 6, WIRE_ARP_REPLY);
    __builtin_memcpy(arp + 8, mac, 6);
    __builtin_memcpy(arp + 14, asked_ip, 4);
    __builtin_memcpy(arp + 18, asker_mac, 6);
    __builtin_memcpy(arp + 24, asker_ip, 4);
    return true;
}

// The same behind tags; they stay. Likewise below.
STEER_INLINE bool steer_answer_arp_tagged(uint8_t *data, const uint8_t *data_end, uint32_t tag_bytes,
                                          const uint8_t *mac)
{
    struct steer_tags tags;
    if (data + tag_bytes + STEER_ARP_FRAME_BYTES > data_end)
        return false;
    steer_lift_tags(&tags, data, tag_bytes);
    steer_answer_arp(data + tag_bytes, data_end, mac);
    steer_put_tags_back(&tags, data, tag_bytes);
    return true;
}

// IPv6 header and NA with a target link-layer option over 72 bytes from `ip`; the ICMPv6 checksum too.
STEER_INLINE void steer_write_na(uint8_t *ip, const uint8_t *from, const uint8_t *to, const uint8_t *target,
                                 const uint8_t *mac, uint8_t flags)
{
    __builtin_memset(ip, 0, WIRE_IPV6_BYTES + WIRE_ND_BYTES + 8);
    uint8_t *na = ip + WIRE_IPV6_BYTES;
    ip[0] = 0x60;
    wire_store16(ip + 4, WIRE_ND_BYTES + 8);
    ip[6] = WIRE_PROTOCOL_ICMPV6;
    ip[7] = 255;
    __builtin_memcpy(ip + 8, from, 16);
    __builtin_memcpy(ip + 24, to, 16);
    na[0] = WIRE_ICMPV6_NEIGHBOUR_ADVERT;
    na[4] = flags;
    __builtin_memcpy(na + 8, target, 16);
    na[24] = WIRE_ND_OPTION_TARGET_MAC;
    na[25] = 1;
    __builtin_memcpy(na + 26, mac, 6);
    uint32_t sum = WIRE_ND_BYTES + 8 + WIRE_PROTOCOL_ICMPV6; /* pseudo header, RFC 8200 section 8.1 */
    sum = steer_checksum_add(sum, ip + 8, 32);
    sum = steer_checksum_add(sum, na, WIRE_ND_BYTES + 8);
    wire_store16(na + 2, steer_checksum_fold(sum));
}

// Turns the neighbour solicitation into the advertisement. The frame must have been grown or cut to
// STEER_NA_FRAME_BYTES by the plane; false when it is shorter. A probe (DAD) is answered to all nodes.
STEER_INLINE bool steer_answer_nd(uint8_t *data, const uint8_t *data_end, const uint8_t *mac)
{
    uint8_t asker[16] __attribute__((aligned(4))), target[16], to_mac[6];
    if (data + STEER_NA_FRAME_BYTES > data_end)
        return false;
    uint8_t *ip = data + WIRE_ETH_BYTES;
    uint32_t any = 0;
    __builtin_memcpy(asker, ip + 8, 16);
    __builtin_memcpy(target, ip + WIRE_IPV6_BYTES + 8, 16);
    __builtin_memcpy(to_mac, data + 6, 6);
    any = wire_load32_be(asker) | wire_load32_be(asker + 4) | wire_load32_be(asker + 8) |
          wire_load32_be(asker + 12);
    uint8_t flags = WIRE_ND_OVERRIDE | (any ? WIRE_ND_SOLICITED : 0);
    if (!any) { /* ff02::1 */
        __builtin_memset(asker, 0, 16);
        asker[0] = 0xff;
        asker[1] = 0x02;
        asker[15] = 1;
        __builtin_memset(to_mac, 0, 6);
        to_mac[0] = to_mac[1] = 0x33;
        to_mac[5] = 1;
    }
    steer_write_eth(data, to_mac, mac, WIRE_ETHERTYPE_IPV6);
    steer_write_na(ip, target, asker, target, mac, flags);
    return true;
}

STEER_INLINE bool steer_answer_nd_tagged(uint8_t *data, const uint8_t *data_end, uint32_t tag_bytes,
                                         const uint8_t *mac)
{
    struct steer_tags tags;
    if (data + tag_bytes + STEER_NA_FRAME_BYTES > data_end)
        return false;
    steer_lift_tags(&tags, data, tag_bytes);
    steer_answer_nd(data + tag_bytes, data_end, mac);
    steer_put_tags_back(&tags, data, tag_bytes);
    return true;
}

// ---- announcements and resets: user space builds these into its own buffer ------------------------

// Gratuitous ARP request for `address_be`, STEER_ARP_FRAME_BYTES long.
STEER_INLINE void steer_write_arp_announcement(uint8_t *frame, const uint8_t *mac, uint32_t address_be)
{
    uint8_t *arp = frame + WIRE_ETH_BYTES;
    uint8_t everyone[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    steer_write_eth(frame, everyone, mac, WIRE_ETHERTYPE_ARP);
    __builtin_memset(arp, 0, WIRE_ARP_BYTES);
    wire_store16(arp, 1);
    wire_store16(arp + 2, WIRE_ETHERTYPE_IPV4);
    arp[4] = 6;
    arp[5] = 4;
    wire_store16(arp + 6, WIRE_ARP_REQUEST);
    __builtin_memcpy(arp + 8, mac, 6);
    __builtin_memcpy(arp + 14, &address_be, 4);
    __builtin_memcpy(arp + 24, &address_be, 4);
}

// Unsolicited NA to all nodes, STEER_NA_FRAME_BYTES long.
STEER_INLINE void steer_write_nd_announcement(uint8_t *frame, const uint8_t *mac, const uint8_t *address)
{
    uint8_t all_nodes[16] = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    uint8_t all_nodes_mac[6] = {0x33, 0x33, 0, 0, 0, 1};
    steer_write_eth(frame, all_nodes_mac, mac, WIRE_ETHERTYPE_IPV6);
    steer_write_na(frame + WIRE_ETH_BYTES, address, all_nodes, address, mac, WIRE_ND_OVERRIDE);
}

struct steer_rst {
    uint8_t from_mac[6], to_mac[6];
    uint32_t from[4], to[4]; /* network order, IPv4 in word 0 */
    uint16_t from_port, to_port;
    uint32_t seq, ack; /* ack is used when `acks` */
    bool acks, wide;
};

STEER_INLINE void steer_write_rst_tcp(uint8_t *tcp, const struct steer_rst *rst, uint32_t pseudo_sum)
{
    __builtin_memset(tcp, 0, WIRE_TCP_BYTES);
    wire_store16(tcp, rst->from_port);
    wire_store16(tcp + 2, rst->to_port);
    wire_store32(tcp + 4, rst->seq);
    wire_store32(tcp + 8, rst->acks ? rst->ack : 0);
    tcp[12] = WIRE_TCP_BYTES / 4 << 4;
    tcp[13] = (uint8_t)(WIRE_TCP_RST | (rst->acks ? WIRE_TCP_ACK : 0));
    uint32_t sum = pseudo_sum + WIRE_TCP_BYTES + WIRE_PROTOCOL_TCP;
    wire_store16(tcp + 16, steer_checksum_fold(steer_checksum_add(sum, tcp, WIRE_TCP_BYTES)));
}

// Returns the frame's length: STEER_RST4_FRAME_BYTES or STEER_RST6_FRAME_BYTES.
STEER_INLINE uint32_t steer_write_rst(uint8_t *frame, const struct steer_rst *rst)
{
    uint8_t *ip = frame + WIRE_ETH_BYTES;
    steer_write_eth(frame, rst->to_mac, rst->from_mac, rst->wide ? WIRE_ETHERTYPE_IPV6 : WIRE_ETHERTYPE_IPV4);
    if (rst->wide) {
        __builtin_memset(ip, 0, WIRE_IPV6_BYTES);
        ip[0] = 0x60;
        wire_store16(ip + 4, WIRE_TCP_BYTES);
        ip[6] = WIRE_PROTOCOL_TCP;
        ip[7] = 64;
        __builtin_memcpy(ip + 8, rst->from, 16);
        __builtin_memcpy(ip + 24, rst->to, 16);
        steer_write_rst_tcp(ip + WIRE_IPV6_BYTES, rst, steer_checksum_add(0, ip + 8, 32));
        return STEER_RST6_FRAME_BYTES;
    }
    __builtin_memset(ip, 0, WIRE_IPV4_BYTES);
    ip[0] = 0x45;
    wire_store16(ip + 2, WIRE_IPV4_BYTES + WIRE_TCP_BYTES);
    wire_store16(ip + 6, 0x4000); /* don't fragment */
    ip[8] = 64;
    ip[9] = WIRE_PROTOCOL_TCP;
    __builtin_memcpy(ip + 12, rst->from, 4);
    __builtin_memcpy(ip + 16, rst->to, 4);
    wire_store16(ip + 10, steer_checksum_fold(steer_checksum_add(0, ip, WIRE_IPV4_BYTES)));
    steer_write_rst_tcp(ip + WIRE_IPV4_BYTES, rst, steer_checksum_add(0, ip + 12, 8));
    return STEER_RST4_FRAME_BYTES;
}

// Over a frame that has `tag_bytes` of tags and room for the RST behind them.
STEER_INLINE void steer_write_rst_tagged(uint8_t *data, uint32_t tag_bytes, const struct steer_rst *rst)
{
    struct steer_tags tags;
    steer_lift_tags(&tags, data, tag_bytes);
    steer_write_rst(data + tag_bytes, rst);
    steer_put_tags_back(&tags, data, tag_bytes);
}

// The RST that tells the sender of `p` that its connection is dead. It acknowledges nothing and has exactly
// the number the sender expects next: its own ACK (RFC 9293 section 3.10.7.1), so that one who checks windows
// believes it (RFC 5961 section 3).
STEER_INLINE void steer_rst_to_sender(struct steer_rst *rst, const struct steer_packet *p, bool wide)
{
    __builtin_memset(rst, 0, sizeof(*rst));
    rst->from_port = p->destination_port;
    rst->to_port = p->source_port;
    rst->seq = p->ack;
    rst->wide = wide;
    __builtin_memcpy(rst->from_mac, p->destination_mac, 6);
    __builtin_memcpy(rst->to_mac, p->source_mac, 6);
    __builtin_memcpy(rst->from, p->destination, 16);
    __builtin_memcpy(rst->to, p->source, 16);
}

#endif
