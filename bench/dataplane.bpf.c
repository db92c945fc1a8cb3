// The eBPF plane under a generator. The first line takes in the plane's own source, so that what is measured
// is compiled exactly as what runs. A generator rewrites the tuple of the test frame, so that every repeat of
// BPF_PROG_TEST_RUN is another session, and tail calls what is measured; BENCH_NOTHING measures the
// generator alone.
// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
#include "ebpf/steer.bpf.c"

#include "bench/generator.h"

enum {
    FRAME_SOURCE_IP = 26,
    FRAME_DESTINATION_IP = 30,
    FRAME_SOURCE_PORT = 34,
    FRAME_DESTINATION_PORT = 36,
    FRAME_TUPLE_END = 38
};

struct bench_control control = {};

struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, BENCH_TARGETS);
    __type(key, uint32_t);
    __type(value, uint32_t);
} xdp_targets SEC(".maps"), tc_targets SEC(".maps");

// What a switch without a table of its own would use.
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 1);
    __type(key, struct bench_lru_key);
    __type(value, struct bench_lru_value);
} lru SEC(".maps");

STEER_INLINE uint32_t next_session(void)
{
    uint32_t at = control.at;
    control.at = control.in_order ? at + 1 : at * 1664525u + 1013904223u;
    return at & control.mask;
}

// From 10.128.0.0 upwards; the port varies too.
STEER_INLINE void write_peer(uint8_t *ip, uint8_t *port, uint32_t session)
{
    wire_store32(ip, 0x0a800000u + session);
    wire_store16(port, (uint16_t)(1024 + (session * 2654435761u >> 18)));
}

SEC("xdp.frags") /* tail calls stay among such programs */
int from_peers(struct xdp_md *ctx)
{
    uint8_t *data = (uint8_t *)(long)ctx->data;
    if (data + FRAME_TUPLE_END > (uint8_t *)(long)ctx->data_end)
        return XDP_ABORTED;
    write_peer(data + FRAME_SOURCE_IP, data + FRAME_SOURCE_PORT, next_session());
    bpf_tail_call(ctx, &xdp_targets, control.target);
    return XDP_ABORTED;
}

// Of who has never been here (owner_of_newcomer() asks from 192.0.2.0); with the frame that user space gives, a SYN.
SEC("xdp.frags")
int from_strangers(struct xdp_md *ctx)
{
    uint8_t *data = (uint8_t *)(long)ctx->data;
    if (data + FRAME_TUPLE_END > (uint8_t *)(long)ctx->data_end)
        return XDP_ABORTED;
    wire_store32(data + FRAME_SOURCE_IP, 0xc8000000u + control.stranger++);
    bpf_tail_call(ctx, &xdp_targets, BENCH_PLANE);
    return XDP_ABORTED;
}

SEC("tc")
int from_vm(struct __sk_buff *skb)
{
    uint8_t *data = (uint8_t *)(long)skb->data;
    if (data + FRAME_TUPLE_END > (uint8_t *)(long)skb->data_end)
        return TC_ACT_SHOT;
    write_peer(data + FRAME_DESTINATION_IP, data + FRAME_DESTINATION_PORT, next_session());
    bpf_tail_call(skb, &tc_targets, control.target);
    return TC_ACT_SHOT;
}

SEC("xdp.frags")
int nothing_xdp(struct xdp_md *ctx) { return XDP_PASS; }

SEC("tc")
int nothing_tc(struct __sk_buff *skb) { return TC_ACT_OK; }

STEER_INLINE void lru_key_of(struct bench_lru_key *key, const struct steer_packet *p, bool from_vm)
{
    __builtin_memset(key, 0, sizeof(*key));
    key->peer_be = from_vm ? p->destination[0] : p->source[0];
    key->peer_port = from_vm ? p->destination_port : p->source_port;
    key->vm_port = from_vm ? p->source_port : p->destination_port;
    key->protocol = p->protocol;
}

// Parse, look up, write the time: less than the plane does, which also finds the VM, decides, follows TCP
// and looks up the port to send to.
SEC("xdp.frags")
int lru_xdp(struct xdp_md *ctx)
{
    const uint8_t *data = (const uint8_t *)(long)ctx->data;
    const uint8_t *data_end = (const uint8_t *)(long)ctx->data_end;
    struct steer_packet p;
    struct bench_lru_key key;
    steer_parse(&p, data, data_end, (uint32_t)(data_end - data));
    lru_key_of(&key, &p, false);
    struct bench_lru_value *value = bpf_map_lookup_elem(&lru, &key);
    if (!value) {
        ++control.misses;
        return XDP_DROP;
    }
    value->last_tick = (uint32_t)bpf_jiffies64();
    return XDP_PASS;
}

SEC("tc")
int lru_tc(struct __sk_buff *skb)
{
    struct steer_packet p;
    struct bench_lru_key key;
    parse_skb(skb, &p);
    lru_key_of(&key, &p, true);
    if (bpf_map_lookup_elem(&lru, &key))
        return TC_ACT_OK;
    struct bench_lru_value value = {0, (uint32_t)bpf_jiffies64(), p.seq, p.ack};
    return bpf_map_update_elem(&lru, &key, &value, BPF_NOEXIST) == 0 ? TC_ACT_OK : TC_ACT_SHOT;
}
