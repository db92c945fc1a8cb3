// The underlay of tunnels. The kernel takes the headers off and hands the frame to the tunnel's device, where it meets
// vm_port; but it asks only for the number and not who sends. That is asked here.
// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
#ifndef GODWIT_EBPF_UNDERLAY_BPF_H
#define GODWIT_EBPF_UNDERLAY_BPF_H

#include "steering/tunnel.h"

// Filled by the loader before a port is attached; without tunnels empty. Not pinned: each process brings its own
// with its programs.
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, PLANE_PORTS_MAX);
    __type(key, uint32_t);
    __type(value, struct steer_tunnel);
} tunnels SEC(".maps");

enum { OUTER_MOST = WIRE_ETH_BYTES + 60 + WIRE_UDP_BYTES + STEER_VXLAN_BYTES }; /* with all options of IPv4 */

STEER_INLINE bool has_tunnels(void)
{
    uint32_t first = 0;
    const struct steer_tunnel *tunnel = bpf_map_lookup_elem(&tunnels, &first);
    return tunnel && tunnel->vni;
}

// Whatever tag the kernel has taken out is beside the frame.
STEER_INLINE enum steer_outer look_at_outer(struct __sk_buff *skb)
{
    const uint8_t *data = (const uint8_t *)(long)skb->data, *end = (const uint8_t *)(long)skb->data_end;
    uint32_t want = skb->len < OUTER_MOST ? skb->len : OUTER_MOST;
    if ((uint32_t)(end - data) < want) {
        bpf_skb_pull_data(skb, want);
        data = (const uint8_t *)(long)skb->data;
        end = (const uint8_t *)(long)skb->data_end;
    }
    struct steer_arrival arrival;
    enum steer_outer outer = STEER_OUTER_OTHER;
    if (!steer_read_outer(data, end, skb->len, &arrival))
        return outer;
    for (uint32_t i = 0; i < PLANE_PORTS_MAX; ++i) {
        uint32_t index = i;
        const struct steer_tunnel *tunnel = bpf_map_lookup_elem(&tunnels, &index);
        if (!tunnel || !tunnel->vni)
            break;
        outer = steer_match_outer(tunnel, &arrival, outer);
    }
    return outer;
}

// The socket of a tunnel hears every interface of the machine. What comes for it by another port than its underlay has
// not been asked who it is.
STEER_COLD int is_for_a_tunnel(struct __sk_buff *skb)
{
    return has_tunnels() && look_at_outer(skb) != STEER_OUTER_OTHER;
}

// A tag of VLAN 0 (802.1p) the kernel takes off and goes on; another one is a VLAN device's, where nobody asks.
STEER_INLINE enum steer_outer judge_underlay(struct __sk_buff *skb)
{
    const uint32_t vlan = skb->vlan_present ? skb->vlan_tci & 0xfffu : 0;
    const uint8_t *data = (const uint8_t *)(long)skb->data, *end = (const uint8_t *)(long)skb->data_end;
    if (skb->vlan_present && !vlan && data + WIRE_ETH_BYTES <= end &&
        (wire_load16(data + 12) == WIRE_ETHERTYPE_VLAN || wire_load16(data + 12) == WIRE_ETHERTYPE_QINQ))
        return STEER_OUTER_BAD;
    enum steer_outer outer = look_at_outer(skb);
    return vlan && outer == STEER_OUTER_MINE ? STEER_OUTER_FOREIGN : outer;
}

SEC("tc")
int underlay(struct __sk_buff *skb)
{
    enum steer_outer outer = judge_underlay(skb);
    if (outer == STEER_OUTER_OTHER || outer == STEER_OUTER_MINE)
        return TC_ACT_OK;
    count_packet(skb->ifindex, STEER_DROP, steer_outer_why(outer));
    return TC_ACT_SHOT;
}

#endif
