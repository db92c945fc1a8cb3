// What the generator programs of dataplane.bpf.c and their user space share.
// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
#ifndef GODWIT_BENCH_GENERATOR_H
#define GODWIT_BENCH_GENERATOR_H

#include <stdint.h>

enum bench_target { BENCH_NOTHING, BENCH_PLANE, BENCH_LRU, BENCH_TARGETS };

// Sessions are numbered. In random order a full-period generator modulo a power of two visits each of them
// once before it repeats.
struct bench_control {
    uint32_t target; /* enum bench_target */
    uint32_t mask;   /* sessions - 1 */
    uint32_t at;
    uint32_t in_order;
    uint32_t stranger; /* who begins a connection next: each is another one */
    uint32_t reserved;
    uint64_t misses; /* of the LRU hash: must stay 0 where every session is known */
};

struct bench_lru_key {
    uint32_t peer_be;
    uint16_t peer_port, vm_port;
    uint16_t address_id;
    uint8_t protocol, reserved;
    uint32_t unused;
};
struct bench_lru_value {
    uint32_t owner, last_tick, vm_edge, peer_edge;
};

#endif
