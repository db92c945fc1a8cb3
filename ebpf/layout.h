// What the eBPF programs and the loader share: map values and the arguments of the programs that user
// space runs. Changing anything here changes GODWIT_LAYOUT.
// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
#ifndef GODWIT_EBPF_LAYOUT_H
#define GODWIT_EBPF_LAYOUT_H

#include "steering/layout.h"
#include "steering/slot.h"
#include "steering/tally.h"
#include "steering/types.h"

enum { PLANE_PORTS_MAX = 32 };
enum plane_port_role { PLANE_UPLINK = 1, PLANE_VM_PORT = 2 };

struct plane_port {
    uint32_t ifindex; /* 0: none */
    uint32_t role;
};

// The port's number in `tallies`, by a hash of its ifindex that user space has chosen so that no two ports meet.
struct plane_port_place {
    uint32_t ifindex;
    uint32_t number;
};
enum { PLANE_PLACES_SHIFT = 24 }; /* 256 places */

// One value, mapped by user space. The programs only read it, but for `stations`.
struct plane_settings {
    uint32_t layout;
    uint32_t ports_count;
    uint32_t uplink;   /* ifindex, when there is exactly one; else 0 and the kernel's bridge decides */
    uint32_t resets;   /* not 0: somebody in `resets` must still be told */
    uint32_t stations; /* not 0: unmanaged stations were learnt behind VM ports */
    uint32_t ticks_per_second;
    struct plane_port ports[PLANE_PORTS_MAX];
    uint32_t attached_count; /* interfaces with a program of ours: ports, and underlays of tunnels */
    uint32_t attached[PLANE_PORTS_MAX];
    struct steer_config steer;
    uint32_t places_factor; /* odd */
    uint32_t reserved;
    uint64_t owner;      /* hash of the switch's id */
    uint64_t generation; /* dataplane/left_tables.hpp */
    struct plane_port_place places[1 << (32 - PLANE_PLACES_SHIFT)];
    uint64_t port_names[STEER_TALLY_PORTS]; /* dataplane/port_numbers.hpp */
};
_Static_assert((uint32_t)PLANE_PORTS_MAX < STEER_TALLY_PORTS, "a number for every port");

STEER_INLINE uint32_t plane_place_of(uint32_t ifindex, uint32_t factor)
{
    return (uint32_t)(ifindex * factor) >> PLANE_PLACES_SHIFT;
}

struct plane_backend_counters { /* of vm * 2 + slot */
    uint64_t to, from, fenced;
};

struct plane_drained { /* ring buffer */
    uint32_t vm;
    uint32_t epoch;
};

struct plane_station {
    uint8_t mac[6];
    uint16_t reserved;
};

// Argument of `sweep` and `end_sessions`, in and out.
struct plane_sweep {
    uint32_t cursor[STEER_TABLES];
    uint32_t lines;
    uint32_t live, closed, removed;
};
struct plane_end {
    uint32_t vm, slot;
    uint32_t tell; /* 1: the peers of TCP sessions are answered with an RST */
    uint32_t reset, dropped;
};
struct plane_untouched { /* argument of `end_untouched` */
    uint64_t stamp;
    struct steer_key key;
    uint32_t wide;
    uint32_t ended;
};

#endif
