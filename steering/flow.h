// What is written down of one packet when somebody watches: who, where, and with what verdict, the same record
// from every plane. And who wants it: samples, reasons that are always told, and captures of single sessions.
// Freestanding like the rest of steering/; the plane owns `steer_watch` and the room for the records.
#ifndef GODWIT_STEERING_FLOW_H
#define GODWIT_STEERING_FLOW_H

#include "steering/parse.h"

#define STEER_FLOW_NO_VM 0xffffu
#define STEER_FLOW_SAMPLED 0x80u /* in `wanted`; the other bits are captures */
#define STEER_CAPTURES 4u
#define STEER_WATCH_SAMPLES 1u
#define STEER_WATCH_CAPTURES 2u
#define STEER_SNAP_SMALL 256u
#define STEER_SNAP_MAX 2048u /* more than a frame of 1500 bytes with its tags */

struct steer_flow {
    uint64_t time_ns;  /* the plane's monotonic clock */
    uint32_t in, out;  /* ports as the plane numbers them; out 0: dropped, several, or ordinary switching */
    uint32_t length;   /* of the frame, bytes */
    uint16_t captured; /* bytes of it behind this record */
    uint16_t vm;       /* STEER_FLOW_NO_VM: nobody's */
    struct steer_verdict verdict;
    uint8_t wanted; /* by whom */
    uint8_t kind, family, protocol, tcp_flags, fragment;
    uint16_t source_port, destination_port;
    uint8_t source_mac[6], destination_mac[6];
    uint8_t reserved[2];
    uint32_t source[4], destination[4];
};

// Frames between two ends, in both directions; an end is an address, a port, both, or neither (0).
struct steer_capture {
    uint32_t snap;    /* bytes of each frame, at most STEER_SNAP_MAX; 0: this one is free */
    int32_t left;     /* frames it still takes; packets count it down */
    uint32_t lost;    /* frames that found no room */
    uint16_t vm;      /* STEER_FLOW_NO_VM: any */
    uint8_t protocol; /* 0: any */
    uint8_t reserved;
    uint16_t port[2];
    uint32_t address[2][4];
    uint8_t line_end[12];
};

// All zero: nobody watches, and a packet pays one load and one branch for it.
struct steer_watch {
    uint32_t on;        /* STEER_WATCH_ */
    uint32_t every;     /* one packet in so many, by chance (as RFC 3176 samples); 0: none */
    uint64_t always[4]; /* a bit per reason */
    uint8_t first_line_end[24];

    // Samples that may still be written. User space fills it up again, so that a flood of samples ends where
    // nobody reads them, and also when who reads them has died.
    int32_t budget;
    uint32_t lost; /* samples without budget or room */
    uint8_t second_line_end[56];

    struct steer_capture capture[STEER_CAPTURES];
};

// How a verdict crosses into a function that only takes numbers. What is remembered is not told: keeping it until
// here would cost the verifier more than it is worth.
STEER_INLINE uint32_t steer_verdict_number(struct steer_verdict v)
{
    return (uint32_t)v.action | (uint32_t)v.slot << 8 | (uint32_t)v.why << 24;
}
STEER_INLINE struct steer_verdict steer_number_verdict(uint32_t said)
{
    struct steer_verdict v = {(uint8_t)said, (uint8_t)(said >> 8), STEER_KEEP, (uint8_t)(said >> 24)};
    return v;
}

// Everything that the packet and its verdict say. The plane adds time, ports, length and bytes.
STEER_INLINE void steer_describe(struct steer_flow *flow, const struct steer_packet *p, uint32_t said,
                                 uint32_t vm)
{
    flow->vm = (uint16_t)vm;
    flow->verdict = steer_number_verdict(said);
    flow->kind = p->kind;
    flow->family = p->family;
    flow->protocol = p->protocol;
    flow->tcp_flags = p->tcp_flags;
    flow->fragment = p->fragment;
    flow->source_port = p->source_port;
    flow->destination_port = p->destination_port;
    for (uint32_t i = 0; i < 6; ++i) {
        flow->source_mac[i] = p->source_mac[i];
        flow->destination_mac[i] = p->destination_mac[i];
    }
    flow->reserved[0] = flow->reserved[1] = 0;
    for (uint32_t i = 0; i < 4; ++i) {
        flow->source[i] = p->source[i];
        flow->destination[i] = p->destination[i];
    }
}

// 1 unless x is 0, without a branch: the verifier would follow both ways of each, and for every capture.
STEER_INLINE uint32_t steer_is_set(uint32_t x)
{
    uint32_t sign = x | (0u - x);
    STEER_OPAQUE(sign);
    return sign >> 31;
}

STEER_INLINE uint32_t steer_end_differs(const uint32_t *want, uint32_t want_port, const uint32_t *address,
                                        uint32_t port)
{
    uint32_t any = want[0] | want[1] | want[2] | want[3];
    uint32_t differs =
        (want[0] ^ address[0]) | (want[1] ^ address[1]) | (want[2] ^ address[2]) | (want[3] ^ address[3]);
    STEER_OPAQUE(differs); /* else the words are compared one by one again */
    return (steer_is_set(any) & steer_is_set(differs)) |
           (steer_is_set(want_port) & steer_is_set(want_port ^ port));
}

// Later fragments have no ports and match by their addresses. An ICMP error belongs to the session it is about.
STEER_INLINE uint32_t steer_capture_wants(const struct steer_capture *c, const struct steer_packet *p,
                                          uint32_t vm)
{
    const uint32_t *source = p->kind == STEER_ICMP_ERROR ? p->embedded : p->source;
    uint32_t ports = steer_is_set(p->fragment ^ STEER_LATER_FRAGMENT);
    uint32_t first = c->port[0] * ports, second = c->port[1] * ports;
    uint32_t other = (1u - steer_is_set(c->snap)) |
                     (steer_is_set(c->vm ^ STEER_FLOW_NO_VM) & steer_is_set(c->vm ^ vm)) |
                     (steer_is_set(c->protocol) & steer_is_set((uint32_t)c->protocol ^ p->protocol));
    uint32_t there = steer_end_differs(c->address[0], first, source, p->source_port) |
                     steer_end_differs(c->address[1], second, p->destination, p->destination_port);
    uint32_t back = steer_end_differs(c->address[0], first, p->destination, p->destination_port) |
                    steer_end_differs(c->address[1], second, source, p->source_port);
    return (other | (there & back)) == 0;
}

// Takes one from what may still be written.
STEER_INLINE bool steer_spend(int32_t *left)
{
    if ((int32_t)steer_load32((const uint32_t *)left) <= 0)
        return false;
    steer_add32((uint32_t *)left, (uint32_t)-1);
    return true;
}

// Who wants this packet: STEER_FLOW_SAMPLED, a bit per capture. `chance` is a random number.
STEER_INLINE uint32_t steer_wanted(struct steer_watch *w, const struct steer_packet *p, uint32_t why,
                                   uint32_t vm, uint32_t chance)
{
    uint32_t wanted = 0;
    bool drawn = w->every != 0 && chance % w->every == 0;
    if (drawn || (w->always[why >> 6 & 3] >> (why & 63) & 1)) {
        if (steer_spend(&w->budget))
            wanted = STEER_FLOW_SAMPLED;
        else
            steer_add32(&w->lost, 1);
    }
    if (!(w->on & STEER_WATCH_CAPTURES))
        return wanted;
    // Unrolled it would need more stack than a BPF program has.
#pragma clang loop unroll(disable)
    for (uint32_t i = 0; i < STEER_CAPTURES; ++i)
        if (steer_unknown(steer_capture_wants(&w->capture[i], p, vm)) && steer_spend(&w->capture[i].left))
            wanted |= 1u << i;
    return wanted;
}

// As many bytes as the most curious of them takes.
STEER_INLINE uint32_t steer_snap(const struct steer_watch *w, uint32_t wanted)
{
    uint32_t snap = 0;
    for (uint32_t i = 0; i < STEER_CAPTURES; ++i)
        if (wanted >> i & 1 && w->capture[i].snap > snap)
            snap = w->capture[i].snap;
    return snap;
}

// It was wanted, and there was no room: everybody hears of it.
STEER_INLINE void steer_unwritten(struct steer_watch *w, uint32_t wanted)
{
    if (wanted & STEER_FLOW_SAMPLED)
        steer_add32(&w->lost, 1);
    for (uint32_t i = 0; i < STEER_CAPTURES; ++i)
        if (wanted >> i & 1) {
            steer_add32(&w->capture[i].lost, 1);
            steer_add32((uint32_t *)&w->capture[i].left, 1);
        }
}

_Static_assert(sizeof(struct steer_flow) == 88, "read by another program");
_Static_assert(sizeof(struct steer_capture) == 64, "one line each: they are counted down by all cores");
_Static_assert(sizeof(struct steer_watch) == 128 + 64 * STEER_CAPTURES, "read mostly, counted, captures");

#endif
