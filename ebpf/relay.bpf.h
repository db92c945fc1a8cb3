// A switch whose way out is a tunnel relays between that and its ports. The switch at the tunnel's other end steers, and
// lets a VM be on either side of the tunnel under one MAC: so nothing is learnt about who is behind the tunnel. What is
// known behind a port is there, and the rest is up the tunnel; from there, whoever is unknown may be behind any port.
// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
#ifndef GODWIT_EBPF_RELAY_BPF_H
#define GODWIT_EBPF_RELAY_BPF_H

// The uplink's ifindex where it is a tunnel, else 0. Filled by the loader before a port is attached, not pinned.
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, uint32_t);
    __type(value, uint32_t);
} relays SEC(".maps");

STEER_INLINE uint32_t relay_uplink(void)
{
    uint32_t zero = 0;
    const uint32_t *uplink = bpf_map_lookup_elem(&relays, &zero);
    return uplink ? *uplink : 0;
}

STEER_INLINE void learn(struct __sk_buff *skb, struct plane_settings *set, const struct steer_packet *p)
{
    struct plane_station station = {};
    uint32_t ifindex = skb->ifindex;
    if (p->source_mac[0] & 1)
        return;
    __builtin_memcpy(station.mac, p->source_mac, 6);
    uint32_t *known = bpf_map_lookup_elem(&stations, &station);
    if (ifindex == relay_uplink()) {
        if (known) /* it speaks from there now */
            bpf_map_delete_elem(&stations, &station);
        return;
    }
    if (known && *known == ifindex)
        return;
    bpf_map_update_elem(&stations, &station, &ifindex, BPF_ANY);
    set->stations = 1;
}

// What nobody steers: the bridge's, but for a relay, where the bridge would learn on both sides of the tunnel.
STEER_INLINE int relay(struct __sk_buff *skb, const struct steer_packet *p)
{
    uint32_t uplink = relay_uplink();
    struct plane_station station = {};
    if (!uplink || p->destination_mac[0] & 1)
        return TC_ACT_OK;
    __builtin_memcpy(station.mac, p->destination_mac, 6);
    uint32_t *known = bpf_map_lookup_elem(&stations, &station);
    if (known)
        return *known == skb->ifindex ? TC_ACT_SHOT : (int)bpf_redirect(*known, 0);
    return skb->ifindex == uplink ? TC_ACT_OK : (int)bpf_redirect(uplink, 0);
}

#endif
