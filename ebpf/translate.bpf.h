// Mode nat carried out: steering/translate.h says what is rewritten. XDP owns the bytes; tc has frames whose
// checksum is unfinished (partial, GSO) and leaves it to the kernel's helpers, which know.
// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
#ifndef GODWIT_EBPF_TRANSLATE_BPF_H
#define GODWIT_EBPF_TRANSLATE_BPF_H

// Since Linux 6.16: the packet's own sum does not change, because IPv6 addresses and the transport checksum
// change in opposite ways. Older kernels do not take the flag, and mend the sum when they look at it.
enum { SUM_OF_IPV6 = 1 << 7 };

enum { STEER_UNDO = STEER_BACK + 1 }; /* takes STEER_TOWARDS back, but for the MAC */

STEER_COLD int translate_xdp(struct xdp_md *ctx, const struct steer_translation *names)
{
    if (!names)
        return -1;
    uint8_t *data = (uint8_t *)(long)ctx->data;
    return steer_translate(data, (const uint8_t *)(long)ctx->data_end, names, STEER_TOWARDS) ? 0 : -1;
}

STEER_INLINE long change_sum6(struct __sk_buff *skb, uint32_t at, uint64_t delta, uint64_t flags)
{
    if (bpf_l4_csum_replace(skb, at, 0, delta, flags | SUM_OF_IPV6) == 0)
        return 0;
    return bpf_l4_csum_replace(skb, at, 0, delta, flags);
}

// Outside and inside an ICMP error.
STEER_COLD int rewrite_skb4(struct __sk_buff *skb, const struct steer_fields *f, const struct steer_change *c,
                            uint32_t back)
{
    if (!f || !c)
        return -1;
    uint64_t zero = f->may_be_zero ? BPF_F_MARK_MANGLED_0 : 0;
    uint32_t before = c->before4_be, after = c->after4_be;
    if (bpf_l3_csum_replace(skb, f->ip + 10, before, after, 4) != 0 ||
        bpf_skb_store_bytes(skb, f->ip + steer_address_offset(false, back), &after, 4, 0) != 0)
        return -1;
    if (f->sum && bpf_l4_csum_replace(skb, f->sum, before, after, BPF_F_PSEUDO_HDR | zero | 4) != 0)
        return -1;
    if (f->embedded &&
        (bpf_l3_csum_replace(skb, f->embedded + 10, before, after, 4) != 0 ||
         bpf_skb_store_bytes(skb, f->embedded + steer_address_offset(false, !back), &after, 4, 0) != 0))
        return -1;
    return 0;
}

STEER_COLD int rewrite_skb6(struct __sk_buff *skb, const struct steer_fields *f, const struct steer_change *c,
                            uint32_t back)
{
    if (!f || !c)
        return -1;
    uint64_t zero = f->may_be_zero ? BPF_F_MARK_MANGLED_0 : 0;
    int64_t delta = bpf_csum_diff((uint32_t *)c->before6_be, 16, (uint32_t *)c->after6_be, 16, 0);
    if (delta < 0 ||
        bpf_skb_store_bytes(skb, f->ip + steer_address_offset(true, back), c->after6_be, 16, 0) != 0)
        return -1;
    if (f->sum && change_sum6(skb, f->sum, (uint64_t)delta, BPF_F_PSEUDO_HDR | zero) != 0)
        return -1;
    // Inside an ICMPv6 error it is payload, covered by the checksum once more.
    if (f->embedded && (bpf_skb_store_bytes(skb, f->embedded + steer_address_offset(true, !back),
                                            c->after6_be, 16, 0) != 0 ||
                        bpf_l4_csum_replace(skb, f->sum, 0, (uint64_t)delta, 0) != 0))
        return -1;
    return 0;
}

// Not 0: it could not be done, and the frame is not fit to be sent.
STEER_COLD int translate_skb(struct __sk_buff *skb, const struct steer_translation *names, uint32_t way)
{
    struct steer_fields f;
    struct steer_change c;
    bool back = way == STEER_BACK;
    if (!names)
        return -1;
    uint32_t want = skb->len < STEER_REACH_BYTES ? skb->len : STEER_REACH_BYTES;
    const uint8_t *data = (const uint8_t *)(long)skb->data;
    if ((const uint8_t *)(long)skb->data_end - data < want) {
        bpf_skb_pull_data(skb, want);
        data = (const uint8_t *)(long)skb->data;
    }
    if (way == STEER_TOWARDS)
        steer_change_to_temporary(&c, names);
    else
        steer_change_to_hosted(&c, names);
    if (!steer_find_fields(&f, data, (const uint8_t *)(long)skb->data_end, &c, back))
        return -1;
    if (way == STEER_TOWARDS && f.ip && bpf_skb_store_bytes(skb, 0, names->mac, 6, 0) != 0)
        return -1;
    if (f.family == 0)
        return 0;
    return f.family == 4 ? rewrite_skb4(skb, &f, &c, back) : rewrite_skb6(skb, &f, &c, back);
}

STEER_INLINE bool is_rewritten(const struct steer_outcome *out)
{
    return out->source || (out->verdict.action == STEER_FORWARD && out->vm &&
                           steer_is_translated(out->vm, out->verdict.slot));
}

// The source first: inside an ICMP error both may be the same session's addresses.
STEER_INLINE int rewrite_addresses(struct __sk_buff *skb, const struct steer_outcome *out)
{
    bool leaves = out->verdict.action == STEER_PASS || out->verdict.action == STEER_FORWARD ||
                  out->verdict.action == STEER_BOTH;
    if (out->source && leaves && translate_skb(skb, out->source, STEER_BACK) != 0)
        return -1;
    if (out->verdict.action != STEER_FORWARD || !out->vm || !steer_is_translated(out->vm, out->verdict.slot))
        return 0;
    return translate_skb(skb, steer_translation_of(NULL, out->vm->vm, out->verdict.slot), STEER_TOWARDS);
}

#endif
