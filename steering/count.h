// Exact counters of live sessions and open handshakes per (VM, backend), and the moment both are zero on a
// draining one. They change when something opens or ends, never per packet.
// Needs the plane's hooks of slot.h.
#ifndef GODWIT_STEERING_COUNT_H
#define GODWIT_STEERING_COUNT_H

#include "steering/slot.h"

// Level, not edge: the picture is re-read here, and user space reads the counters again after the grace
// period of the flip, so that an add still in flight on another core cannot be missed for good.
STEER_INLINE void steer_check_drained(struct steer_plane *plane, struct vm_record *vm, uint32_t slot)
{
    uint64_t word = steer_load64(&vm->steer);
    if (steer_is_draining(word) && slot == steer_previous(word) &&
        steer_load32(&vm->sessions[slot & 1u]) == 0 && steer_load32(&vm->handshakes[slot & 1u]) == 0)
        steer_drained(plane, vm, steer_epoch(word));
}

STEER_INLINE void steer_session_up(struct vm_record *vm, uint32_t slot)
{
    steer_add32(&vm->sessions[slot & 1u], 1);
}
STEER_INLINE void steer_session_down(struct steer_plane *plane, struct vm_record *vm, uint32_t slot)
{
    if (steer_add32(&vm->sessions[slot & 1u], (uint32_t)-1) == 1)
        steer_check_drained(plane, vm, slot);
}
STEER_INLINE void steer_handshake_up(struct vm_record *vm, uint32_t slot)
{
    steer_add32(&vm->handshakes[slot & 1u], 1);
}
STEER_INLINE void steer_handshake_down(struct steer_plane *plane, struct vm_record *vm, uint32_t slot)
{
    if (steer_add32(&vm->handshakes[slot & 1u], (uint32_t)-1) == 1)
        steer_check_drained(plane, vm, slot);
}

// ---- longest wait of a peer for any answer, while hosted or draining -----------------------------
// `waiting_since` 0 means that nobody waits, so tick 0 is stored as 1. Races between cores cost at most
// one sample: the figure is a report, no rule depends on it.
STEER_INLINE void steer_question(struct vm_record *vm, uint32_t slot, uint32_t tick)
{
    uint32_t *since = &vm->waiting_since[slot & 1u];
    if (steer_load32(since) == 0)
        steer_store32(since, tick ? tick : 1);
}
STEER_INLINE void steer_answered(struct vm_record *vm, uint32_t slot, uint32_t tick)
{
    uint32_t since = steer_load32(&vm->waiting_since[slot & 1u]);
    if (since == 0)
        return;
    steer_store32(&vm->waiting_since[slot & 1u], 0);
    if (tick - since > steer_load32(&vm->longest_gap) && (int32_t)(tick - since) > 0)
        steer_store32(&vm->longest_gap, tick - since);
}

#endif
