// Packets by the port they came in, what was done with them, and why: what a plane counts of every packet, once.
// Freestanding C, shared by the planes and whoever reads their counters.
#ifndef GODWIT_STEERING_TALLY_H
#define GODWIT_STEERING_TALLY_H

#include "steering/types.h"

// Ports have numbers from 1, kept with the counters (dataplane/port_numbers.hpp). Number 0 has what came by ports
// that are gone.
#define STEER_TALLY_PORTS 33u
#define STEER_TALLY_REASONS 64u
#define STEER_TALLY_ACTIONS 8u

struct steer_tally { /* of one port */
    uint64_t packets[STEER_TALLY_REASONS * STEER_TALLY_ACTIONS];
};
_Static_assert((uint32_t)STEER_WHYS <= STEER_TALLY_REASONS, "a cell for every reason");
_Static_assert((uint32_t)STEER_REFUSE < STEER_TALLY_ACTIONS, "a cell for every action");

// In range whatever it is given, so that no check is needed.
STEER_INLINE uint32_t steer_tally_cell(uint32_t action, uint32_t why)
{
    return (why % STEER_TALLY_REASONS) * STEER_TALLY_ACTIONS + action % STEER_TALLY_ACTIONS;
}

#if !defined(__bpf__)
// Of one reason, whatever was done.
STEER_INLINE uint64_t steer_tally_of(const struct steer_tally *tally, uint32_t why)
{
    uint64_t sum = 0;
    for (uint32_t action = 0; action < STEER_TALLY_ACTIONS; ++action)
        sum += __atomic_load_n(&tally->packets[steer_tally_cell(action, why)], __ATOMIC_RELAXED);
    return sum;
}
#endif

#endif
