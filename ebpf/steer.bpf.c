// The eBPF plane: XDP on uplinks, tc on VM ports. What happens to a packet is decided in steering/; here
// it is carried out and counted.
//   uplink     XDP: to the backend's port, or dropped; what it passes meets uplink_slow
//   uplink_slow tc: what is answered, and the few frames that both backends of a draining VM must get. XDP
//              cannot copy, and its XDP_TX out of a veth wakes only a peer that runs XDP itself. And frames in
//              several pieces that XDP cannot send (pieces.bpf.h)
//   vm_port     tc: the egress fence, then out of the uplink or to another VM of this switch. On a switch with
//              tunnels on every port (ebpf/ports.hpp)
//   underlay    tc: only the other end of a tunnel may speak through it
// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
#include "ebpf/maps.bpf.h"

#include <linux/pkt_cls.h>

#include "steering/ending.h"
#include "steering/rewrite.h"
#include "steering/steer.h"
#include "steering/translate.h"

// Room to work in that is not stack: a call chain has 512 bytes of that, for all its functions together. One per
// processor is enough, for the programs run with bottom halves off and none is entered again while it works:
// what they send is queued.
struct room {
    struct steer_case work;
    struct steer_packet packet;
};
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, uint32_t);
    __type(value, struct room);
} rooms SEC(".maps");

STEER_INLINE struct room *own_room(void)
{
    uint32_t zero = 0;
    return bpf_map_lookup_elem(&rooms, &zero);
}

enum { HEADERS_BYTES = 128 }; /* Ethernet, IPv6 and TCP with all its options */

STEER_INLINE void count_packet(uint32_t ifindex, uint32_t action, uint32_t why)
{
    const struct plane_settings *set = plane_settings();
    if (!set)
        return;
    const struct plane_port_place *place = &set->places[plane_place_of(ifindex, set->places_factor)];
    uint32_t number = place->ifindex == ifindex ? place->number : 0;
    struct steer_tally *tally = bpf_map_lookup_elem(&tallies, &number);
    if (tally)
        ++tally->packets[steer_tally_cell(action, why)];
}

STEER_INLINE struct plane_backend_counters *backend_counters(uint32_t vm, uint32_t slot)
{
    uint32_t index = vm * STEER_SLOTS + (slot & 1);
    return bpf_map_lookup_elem(&backends, &index);
}

STEER_INLINE void count_to(const struct vm_record *vm, uint32_t slot)
{
    struct plane_backend_counters *counters = backend_counters(vm->vm, slot);
    if (counters)
        ++counters->to;
}

// ---- mode nat ---------------------------------------------------------------------------------------

#include "ebpf/pieces.bpf.h"
#include "ebpf/translate.bpf.h"
#include "ebpf/watch.bpf.h"

// ---- XDP on an uplink -------------------------------------------------------------------------------

SEC("xdp.frags")
int uplink(struct xdp_md *ctx)
{
    const uint8_t *data = (const uint8_t *)(long)ctx->data;
    const uint8_t *data_end = (const uint8_t *)(long)ctx->data_end;
    const uint32_t linear = (uint32_t)(data_end - data), bytes = (uint32_t)bpf_xdp_get_buff_len(ctx);
    struct steer_plane plane = {ctx->ingress_ifindex};
    struct room *room = own_room();
    struct steer_packet p;
    if (!room)
        return XDP_DROP;
    if (is_cut_short(linear, bytes))
        return XDP_PASS;
    steer_parse(&p, data, data_end, bytes);
    if (steer_is_told(&plane, &p)) {
        count_packet(plane.ifindex, STEER_REFUSE, STEER_WHY_RESET_TOLD);
        if (is_watched())
            record_xdp(ctx, &p, STEER_REFUSE | (uint32_t)STEER_WHY_RESET_TOLD << 24, STEER_FLOW_NO_VM);
        return XDP_PASS;
    }

    struct steer_outcome out =
        steer_from_network(&plane, &room->work, &p, (struct steer_bytes){data, data_end});
    const bool left = linear < bytes && is_left_to_slow(&out);
    if (!left && out.verdict.action == STEER_FORWARD && out.vm &&
        steer_is_translated(out.vm, out.verdict.slot) &&
        translate_xdp(ctx, steer_translation_of(&plane, out.vm->vm, out.verdict.slot)) != 0)
        out.verdict = steer_verdict(STEER_DROP, 0, STEER_KEEP, STEER_WHY_UNTRANSLATABLE);
    count_packet(plane.ifindex, out.verdict.action, out.verdict.why);
    if (is_watched())
        record_xdp(ctx, &p, steer_verdict_number(out.verdict), vm_number(out.vm));
    switch (out.verdict.action) {
    case STEER_DROP:
        return XDP_DROP;
    case STEER_FORWARD:
        if (!out.vm)
            return XDP_DROP;
        if (left)
            return XDP_PASS;
        count_to(out.vm, out.verdict.slot);
        return (int)bpf_redirect_map(&tx_ports, out.vm->backend[out.verdict.slot & 1].ifindex, XDP_DROP);
    default: /* PASS: the kernel's; ANSWER, BOTH: uplink_slow */
        return XDP_PASS;
    }
}

// ---- tc ---------------------------------------------------------------------------------------------

// Headers may lie beyond the linear part of a socket buffer. A call of its own: what is parsed is the same to
// the verifier then whichever way it came about (vm_port: 0.35M instead of 0.7M verified instructions).
STEER_COLD int parse_skb(struct __sk_buff *skb, struct steer_packet *p)
{
    if (!p)
        return 0;
    const uint8_t *data = (const uint8_t *)(long)skb->data;
    const uint8_t *data_end = (const uint8_t *)(long)skb->data_end;
    uint32_t want = skb->len < HEADERS_BYTES ? skb->len : HEADERS_BYTES;
    if ((uint32_t)(data_end - data) < want) {
        bpf_skb_pull_data(skb, want);
        data = (const uint8_t *)(long)skb->data;
        data_end = (const uint8_t *)(long)skb->data_end;
    }
    steer_parse(p, data, data_end, skb->len);
    // The kernel takes the outer tag out of the frame before tc sees it, and puts it back behind us.
    if (skb->vlan_present) {
        if (p->tag_bytes < STEER_TAGS_MAX * 4) {
            p->vlan = steer_vlan_within(skb->vlan_tci & 0xfff, p->vlan);
        } else {
            p->kind = STEER_VLAN;
            p->family = 0;
        }
    }
    return 0;
}

STEER_INLINE void copy_to_backends(struct __sk_buff *skb, const struct steer_packet *p, struct vm_record *vm)
{
    uint64_t word = steer_load64(&vm->steer);
    for (uint32_t slot = 0; slot < STEER_SLOTS; ++slot)
        if (steer_slot_hears(word, slot)) {
            const struct steer_translation *names =
                steer_is_translated(vm, slot) ? steer_translation_of(NULL, vm->vm, slot) : NULL;
            if (names && translate_skb(skb, names, STEER_TOWARDS) != 0)
                continue;
            count_to(vm, slot);
            bpf_clone_redirect(skb, vm->backend[slot].ifindex, 0);
            if (names && (translate_skb(skb, names, STEER_UNDO) != 0 ||
                          bpf_skb_store_bytes(skb, 0, p->destination_mac, 6, 0) != 0))
                return;
        }
}

STEER_COLD int answer_arp(struct __sk_buff *skb, const struct vm_record *vm, uint32_t tag_bytes)
{
    if (!vm || bpf_skb_pull_data(skb, tag_bytes + STEER_ARP_FRAME_BYTES) != 0)
        return TC_ACT_SHOT;
    uint8_t *data = (uint8_t *)(long)skb->data, *end = (uint8_t *)(long)skb->data_end;
    bool written = tag_bytes == 0   ? steer_answer_arp_tagged(data, end, 0, vm->mac)
                   : tag_bytes == 4 ? steer_answer_arp_tagged(data, end, 4, vm->mac)
                                    : steer_answer_arp_tagged(data, end, 8, vm->mac);
    return written ? (int)bpf_redirect(skb->ifindex, 0) : TC_ACT_SHOT;
}
STEER_COLD int answer_nd(struct __sk_buff *skb, const struct vm_record *vm, uint32_t tag_bytes)
{
    if (!vm || bpf_skb_change_tail(skb, tag_bytes + STEER_NA_FRAME_BYTES, 0) != 0 ||
        bpf_skb_pull_data(skb, tag_bytes + STEER_NA_FRAME_BYTES) != 0)
        return TC_ACT_SHOT;
    uint8_t *data = (uint8_t *)(long)skb->data, *end = (uint8_t *)(long)skb->data_end;
    bool written = tag_bytes == 0   ? steer_answer_nd_tagged(data, end, 0, vm->mac)
                   : tag_bytes == 4 ? steer_answer_nd_tagged(data, end, 4, vm->mac)
                                    : steer_answer_nd_tagged(data, end, 8, vm->mac);
    return written ? (int)bpf_redirect(skb->ifindex, 0) : TC_ACT_SHOT;
}

STEER_INLINE int write_rst(struct __sk_buff *skb, const struct steer_packet *p, bool wide)
{
    struct steer_rst rst;
    const uint32_t tags = p->tag_bytes, bytes = wide ? STEER_RST6_FRAME_BYTES : STEER_RST4_FRAME_BYTES;
    steer_rst_to_sender(&rst, p, wide);
    if (bpf_skb_change_tail(skb, tags + bytes, 0) != 0 || bpf_skb_pull_data(skb, tags + bytes) != 0)
        return TC_ACT_SHOT;
    uint8_t *data = (uint8_t *)(long)skb->data;
    const uint8_t *end = (uint8_t *)(long)skb->data_end;
    if (tags == 0 && data + bytes <= end)
        steer_write_rst_tagged(data, 0, &rst);
    else if (tags == 4 && data + 4 + bytes <= end)
        steer_write_rst_tagged(data, 4, &rst);
    else if (tags == 8 && data + 8 + bytes <= end)
        steer_write_rst_tagged(data, 8, &rst);
    else
        return TC_ACT_SHOT;
    return (int)bpf_redirect(skb->ifindex, 0);
}
// Apart, so that the compiler does not merge the two into offsets the verifier cannot follow.
STEER_COLD int send_rst4(struct __sk_buff *skb, const struct steer_packet *p)
{
    return p ? write_rst(skb, p, false) : TC_ACT_SHOT;
}
STEER_COLD int send_rst6(struct __sk_buff *skb, const struct steer_packet *p)
{
    return p ? write_rst(skb, p, true) : TC_ACT_SHOT;
}

STEER_INLINE bool may_be_slow(uint32_t kind)
{
    return steer_kind_is_icmp_error(kind) || kind == STEER_FRAGMENT || kind == STEER_GROUP ||
           (kind >= STEER_ARP_REQUEST && kind <= STEER_HOUSEKEEPING);
}

STEER_INLINE void note_slow(struct __sk_buff *skb, const struct steer_packet *p,
                            const struct steer_outcome *out)
{
    count_packet(skb->ifindex, out->verdict.action, out->verdict.why);
    if (is_watched())
        record_skb(skb, p, steer_verdict_number(out->verdict), vm_number(out->vm));
}

// What `uplink` has looked at is counted, and to ask again is free: the decision for these kinds changes nothing, and
// of a frame in pieces what the first one has made is found now. It may come out otherwise, though: what an ICMP error
// is about may have become known meanwhile.
SEC("tc")
int uplink_slow(struct __sk_buff *skb)
{
    struct steer_plane plane = {skb->ifindex};
    struct room *room = own_room();
    const uint32_t linear = (uint32_t)(skb->data_end - skb->data);
    const bool in_pieces = linear < skb->len, fresh = is_cut_short(linear, skb->len);
    if (!room)
        return TC_ACT_SHOT;
    struct steer_packet *p = &room->packet;
    parse_skb(skb, p);
    if (steer_is_told(&plane, p)) {
        if (fresh)
            count_packet(plane.ifindex, STEER_REFUSE, STEER_WHY_RESET_TOLD);
        return p->family == 4 ? send_rst4(skb, p) : send_rst6(skb, p);
    }
    if (!in_pieces && !may_be_slow(p->kind))
        return TC_ACT_OK;
    struct steer_bytes frame = {(const uint8_t *)(long)skb->data, (const uint8_t *)(long)skb->data_end};
    struct steer_outcome out = steer_from_network(&plane, &room->work, p, frame);
    bool written = !is_rewritten(&out) || rewrite_addresses(skb, &out) == 0;
    if (!written)
        out.verdict = steer_fenced(STEER_WHY_UNTRANSLATABLE);
    if (fresh || !written)
        note_slow(skb, p, &out);
    if (!out.vm)
        return out.verdict.action == STEER_DROP ? TC_ACT_SHOT : TC_ACT_OK;
    switch (out.verdict.action) {
    case STEER_PASS:
        return TC_ACT_OK;
    case STEER_ANSWER:
        return out.verdict.why == STEER_WHY_ND_ANSWERED ? answer_nd(skb, out.vm, p->tag_bytes)
                                                        : answer_arp(skb, out.vm, p->tag_bytes);
    case STEER_FORWARD:
        count_to(out.vm, out.verdict.slot);
        return (int)bpf_redirect(out.vm->backend[out.verdict.slot & 1].ifindex, 0);
    case STEER_BOTH:
        copy_to_backends(skb, p, out.vm);
    }
    return TC_ACT_SHOT;
}

// A managed VM's broadcast goes everywhere but back and to its sibling: the bridge of the sibling's host
// would learn the shared MAC on the wrong side and cut the sibling off. (Unless each has its own.)
STEER_INLINE int flood(struct __sk_buff *skb, const struct plane_settings *set, const struct vm_record *vm)
{
    bool shared = !(vm->backend[0].flags | vm->backend[1].flags);
    for (uint32_t i = 0; i < PLANE_PORTS_MAX; ++i) {
        uint32_t ifindex = set->ports[i].ifindex;
        if (i >= set->ports_count)
            break;
        if (ifindex == skb->ifindex ||
            (shared && (ifindex == vm->backend[0].ifindex || ifindex == vm->backend[1].ifindex)))
            continue;
        bpf_clone_redirect(skb, ifindex, 0);
    }
    return TC_ACT_SHOT;
}

// Out of the port where the destination was seen, else out of the one uplink.
STEER_INLINE int leave(struct __sk_buff *skb, const struct plane_settings *set, const struct steer_packet *p,
                       const struct vm_record *vm)
{
    if (p->destination_mac[0] & 1)
        return flood(skb, set, vm);
    if (set->stations) {
        struct plane_station station = {};
        __builtin_memcpy(station.mac, p->destination_mac, 6);
        uint32_t *ifindex = bpf_map_lookup_elem(&stations, &station);
        if (ifindex)
            return (int)bpf_redirect(*ifindex, 0);
    }
    return set->uplink ? (int)bpf_redirect(set->uplink, 0) : TC_ACT_OK;
}

#include "ebpf/relay.bpf.h"
#include "ebpf/underlay.bpf.h"

// A neighbour that speaks to nobody but the VM must be found when it is answered.
STEER_COLD int learn_stranger(struct __sk_buff *skb, const struct steer_packet *p)
{
    struct steer_plane plane = {skb->ifindex};
    struct plane_settings *set = plane_settings();
    if (set && p && !steer_sender(&plane, p->source_mac))
        learn(skb, set, p);
    return 0;
}

STEER_INLINE void count_from(struct steer_plane *plane, const struct steer_packet *p,
                             const struct steer_outcome *out)
{
    bool passes = out->verdict.action == STEER_PASS;
    uint32_t slot = out->verdict.slot;
    if (!passes) { /* the verdict of a fenced frame names no slot */
        const struct steer_identity *sender = steer_sender(plane, p->source_mac);
        if (!sender)
            return;
        slot = sender->slot;
    }
    struct plane_backend_counters *counters = backend_counters(out->vm->vm, slot);
    if (counters && passes)
        ++counters->from;
    else if (counters)
        ++counters->fenced;
}

SEC("tc")
int vm_port(struct __sk_buff *skb)
{
    struct steer_plane plane = {skb->ifindex};
    struct plane_settings *set = plane_settings();
    struct room *room = own_room();
    if (!set || !room)
        return TC_ACT_SHOT;
    struct steer_packet *p = &room->packet;
    parse_skb(skb, p);
    if (steer_is_told(&plane, p)) { /* an unmanaged station behind this port */
        count_packet(plane.ifindex, STEER_REFUSE, STEER_WHY_RESET_TOLD);
        if (is_watched())
            record_skb(skb, p, STEER_REFUSE | (uint32_t)STEER_WHY_RESET_TOLD << 24, STEER_FLOW_NO_VM);
        return p->family == 4 ? send_rst4(skb, p) : send_rst6(skb, p);
    }
    struct steer_bytes frame = {(const uint8_t *)(long)skb->data, (const uint8_t *)(long)skb->data_end};
    struct steer_outcome out = steer_packet(&plane, &room->work, p, frame);
    if (is_rewritten(&out) && rewrite_addresses(skb, &out) != 0)
        out.verdict = steer_fenced(STEER_WHY_UNTRANSLATABLE);
    if (!out.vm && out.verdict.action != STEER_DROP && is_for_a_tunnel(skb))
        out.verdict = steer_verdict(STEER_DROP, 0, STEER_KEEP, STEER_WHY_TUNNEL_FOREIGN);
    count_packet(plane.ifindex, out.verdict.action, out.verdict.why);
    if (is_watched())
        record_skb(skb, p, steer_verdict_number(out.verdict), vm_number(out.vm));
    if (!out.vm && out.verdict.action == STEER_DROP)
        return TC_ACT_SHOT;
    // A VM's frame that may leave is the VM's own.
    if (!out.vm || (out.verdict.action != STEER_PASS && out.verdict.action != STEER_DROP &&
                    out.verdict.action != STEER_REFUSE))
        learn_stranger(skb, p);
    if (!out.vm)
        return relay(skb, p);
    switch (out.verdict.action) {
    case STEER_PASS:
        count_from(&plane, p, &out);
        return leave(skb, set, p, out.vm);
    case STEER_FORWARD:
        count_to(out.vm, out.verdict.slot);
        return (int)bpf_redirect(out.vm->backend[out.verdict.slot & 1].ifindex, 0);
    case STEER_BOTH:
        copy_to_backends(skb, p, out.vm);
        return TC_ACT_SHOT;
    case STEER_ANSWER:
        return out.verdict.why == STEER_WHY_ND_ANSWERED ? answer_nd(skb, out.vm, p->tag_bytes)
                                                        : answer_arp(skb, out.vm, p->tag_bytes);
    case STEER_REFUSE:
        count_from(&plane, p, &out);
        return p->family == 4 ? send_rst4(skb, p) : send_rst6(skb, p);
    default:
        count_from(&plane, p, &out);
        return TC_ACT_SHOT;
    }
}

#include "ebpf/housekeeping.bpf.h"

char LICENSE[] SEC("license") = "GPL";
