// Writing packets down for who watches (steering/flow.h): into a ring buffer, with the record reserved in place,
// because the programs have no stack left. Not pinned: a new process brings programs, watch and ring of its own,
// and what an old one was watching ends with it.
// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
#ifndef GODWIT_EBPF_WATCH_BPF_H
#define GODWIT_EBPF_WATCH_BPF_H

#include "steering/flow.h"

// Mapped by user space, which alone turns it on.
struct steer_watch watch SEC(".data.watch");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4 * 1024 * 1024);
} flows SEC(".maps");

// What a record of one packet is made of, in numbers.
struct flow_said {
    uint32_t verdict, vm, wanted, snap, out;
};

// Where a frame leaves, when there is one such port.
STEER_INLINE uint32_t leaves_by(uint32_t in, const struct steer_packet *p, uint32_t action, uint32_t slot,
                                uint32_t vm)
{
    if (action == STEER_ANSWER || action == STEER_REFUSE)
        return in;
    if (vm == STEER_FLOW_NO_VM)
        return 0;
    if (action == STEER_FORWARD) {
        struct vm_record *record = steer_vm(NULL, vm);
        return record ? record->backend[slot & 1].ifindex : 0;
    }
    const struct plane_settings *set = plane_settings();
    if (action != STEER_PASS || !set || p->destination_mac[0] & 1)
        return 0;
    if (set->stations) {
        struct plane_station station = {};
        __builtin_memcpy(station.mac, p->destination_mac, 6);
        uint32_t *ifindex = bpf_map_lookup_elem(&stations, &station);
        if (ifindex)
            return *ifindex;
    }
    return set->uplink;
}

STEER_INLINE void fill(struct steer_flow *flow, const struct steer_packet *p, const struct flow_said *said,
                       uint32_t in, uint32_t length)
{
    flow->time_ns = bpf_ktime_get_ns();
    flow->in = in;
    flow->out = said->out;
    flow->length = length;
    flow->captured = 0;
    flow->wanted = (uint8_t)said->wanted;
    steer_describe(flow, p, said->verdict, said->vm);
}

// A reservation's size must be a constant to the verifier, and functions of their own keep it one.
STEER_INLINE uint32_t write_skb(struct __sk_buff *skb, const struct steer_packet *p,
                                const struct flow_said *said, uint32_t room)
{
    struct steer_flow *flow = bpf_ringbuf_reserve(&flows, sizeof(*flow) + room, 0);
    if (!flow)
        return 0;
    fill(flow, p, said, skb->ifindex, skb->len);
    uint32_t bytes = skb->len < said->snap ? skb->len : said->snap;
    if (room && bytes >= 1 && bytes <= room && bpf_skb_load_bytes(skb, 0, flow + 1, bytes) == 0)
        flow->captured = (uint16_t)bytes;
    bpf_ringbuf_submit(flow, 0);
    return 1;
}
STEER_APART uint32_t write_skb_header(struct __sk_buff *skb, const struct steer_packet *p,
                                      const struct flow_said *said)
{
    return write_skb(skb, p, said, 0);
}
STEER_APART uint32_t write_skb_small(struct __sk_buff *skb, const struct steer_packet *p,
                                     const struct flow_said *said)
{
    return write_skb(skb, p, said, STEER_SNAP_SMALL);
}
STEER_APART uint32_t write_skb_large(struct __sk_buff *skb, const struct steer_packet *p,
                                     const struct flow_said *said)
{
    return write_skb(skb, p, said, STEER_SNAP_MAX);
}

STEER_INLINE uint32_t write_xdp(struct xdp_md *ctx, const struct steer_packet *p,
                                const struct flow_said *said, uint32_t room)
{
    struct steer_flow *flow = bpf_ringbuf_reserve(&flows, sizeof(*flow) + room, 0);
    if (!flow)
        return 0;
    uint32_t length = (uint32_t)bpf_xdp_get_buff_len(ctx);
    fill(flow, p, said, ctx->ingress_ifindex, length);
    uint32_t bytes = length < said->snap ? length : said->snap;
    if (room && bytes >= 1 && bytes <= room && bpf_xdp_load_bytes(ctx, 0, flow + 1, bytes) == 0)
        flow->captured = (uint16_t)bytes;
    bpf_ringbuf_submit(flow, 0);
    return 1;
}
STEER_APART uint32_t write_xdp_header(struct xdp_md *ctx, const struct steer_packet *p,
                                      const struct flow_said *said)
{
    return write_xdp(ctx, p, said, 0);
}
STEER_APART uint32_t write_xdp_small(struct xdp_md *ctx, const struct steer_packet *p,
                                     const struct flow_said *said)
{
    return write_xdp(ctx, p, said, STEER_SNAP_SMALL);
}
STEER_APART uint32_t write_xdp_large(struct xdp_md *ctx, const struct steer_packet *p,
                                     const struct flow_said *said)
{
    return write_xdp(ctx, p, said, STEER_SNAP_MAX);
}

// Apart, so that what they have looked at is one unknown number to the verifier afterwards.
STEER_COLD uint32_t wanted_by(const struct steer_packet *p, uint32_t why, uint32_t vm)
{
    return p ? steer_wanted(&watch, p, why, vm, bpf_get_prandom_u32()) : 0;
}
STEER_COLD uint32_t snap_of(uint32_t wanted) { return steer_snap(&watch, wanted); }
STEER_COLD uint32_t unwritten(uint32_t wanted)
{
    steer_unwritten(&watch, wanted);
    return 0;
}

STEER_INLINE bool is_wanted(struct flow_said *said, const struct steer_packet *p, uint32_t in)
{
    said->wanted = wanted_by(p, said->verdict >> 24, said->vm);
    if (!said->wanted)
        return false;
    said->snap = snap_of(said->wanted);
    said->out = leaves_by(in, p, said->verdict & 0xff, said->verdict >> 8 & 0xff, said->vm);
    return true;
}

STEER_COLD int record_skb(struct __sk_buff *skb, const struct steer_packet *p, uint32_t verdict, uint32_t vm)
{
    struct flow_said said = {verdict, vm};
    if (!p || !is_wanted(&said, p, skb->ifindex))
        return 0;
    uint32_t written = said.snap == 0                  ? write_skb_header(skb, p, &said)
                       : said.snap <= STEER_SNAP_SMALL ? write_skb_small(skb, p, &said)
                                                       : write_skb_large(skb, p, &said);
    if (!written)
        unwritten(said.wanted);
    return 0;
}

STEER_COLD int record_xdp(struct xdp_md *ctx, const struct steer_packet *p, uint32_t verdict, uint32_t vm)
{
    struct flow_said said = {verdict, vm};
    if (!p || !is_wanted(&said, p, ctx->ingress_ifindex))
        return 0;
    uint32_t written = said.snap == 0                  ? write_xdp_header(ctx, p, &said)
                       : said.snap <= STEER_SNAP_SMALL ? write_xdp_small(ctx, p, &said)
                                                       : write_xdp_large(ctx, p, &said);
    if (!written)
        unwritten(said.wanted);
    return 0;
}

STEER_INLINE bool is_watched(void) { return __builtin_expect(watch.on != 0, 0); }
STEER_INLINE uint32_t vm_number(const struct vm_record *vm) { return vm ? vm->vm : STEER_FLOW_NO_VM; }

#endif
