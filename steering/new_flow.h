// How fast entries may be made for one VM: a token bucket in its record, off unless the operator sets it. Only what
// begins something takes a token, SYNs, datagrams and pings that nothing is known of. A session, a handshake in progress
// and the middle of a connection nobody remembers never do, so a flood beyond the limit costs its own newcomers and no
// record of anybody else's: it is refused before a handshake is remembered, and so evicts none.
// Needs the plane's hooks of slot.h.
#ifndef GODWIT_STEERING_NEW_FLOW_H
#define GODWIT_STEERING_NEW_FLOW_H

#include "steering/decide.h"
#include "steering/slot.h"

enum { STEER_NEW_FLOW_TRIES = 4 };

// Its tokens after `tick`, at most the burst. A tick a little behind the bucket's is another core's.
STEER_INLINE uint64_t steer_tokens(const struct steer_new_flows *flows, uint64_t bucket, uint32_t tick)
{
    uint32_t passed = tick - (uint32_t)(bucket >> 32);
    if (bucket == 0)
        return flows->burst; /* never used */
    if (passed > 0xffffff00u)
        passed = 0;
    uint64_t tokens = (uint32_t)bucket + (uint64_t)passed * flows->per_tick;
    return tokens < flows->burst ? tokens : flows->burst;
}

// One token, if there is one. Four lost races are as good as none: who begins something tries again.
STEER_INLINE bool steer_take_token(struct steer_new_flows *flows, uint32_t tick)
{
    for (uint32_t i = 0; i < STEER_NEW_FLOW_TRIES; ++i) {
        uint64_t bucket = steer_load64(&flows->bucket);
        uint64_t tokens = steer_tokens(flows, bucket, tick);
        uint32_t passed = tick - (uint32_t)(bucket >> 32);
        uint32_t at = bucket && passed > 0xffffff00u ? (uint32_t)(bucket >> 32) : tick;
        if (tokens < STEER_NEW_FLOW_TOKEN)
            return false;
        uint64_t next = (uint64_t)at << 32 | (uint32_t)(tokens - STEER_NEW_FLOW_TOKEN);
        if (steer_cas64(&flows->bucket, bucket, next) == bucket)
            return true;
    }
    return false;
}

// Does the packet begin what its verdict is about to remember, and faster than its VM may?
STEER_COLD uint32_t steer_is_too_fast(struct steer_plane *plane, uint32_t address_id, uint32_t tick,
                                      uint32_t kind, uint32_t why)
{
    bool begins = kind == STEER_SYN || kind == STEER_UDP || kind == STEER_ECHO_REQUEST || kind == STEER_OTHER;
    bool known = why != STEER_WHY_NEW_OWNER && why != STEER_WHY_REOPENED && why != STEER_WHY_OPENED;
    if (!plane || !begins || known)
        return 0;
    struct vm_record *vm = steer_vm(plane, steer_key_vm(address_id));
    return vm && vm->new_flows.per_tick && !steer_take_token(&vm->new_flows, tick);
}

STEER_INLINE bool steer_is_refused(struct steer_plane *plane, uint32_t address_id, uint32_t tick,
                                   const struct steer_packet *p, struct steer_verdict *v)
{
    if (!steer_is_too_fast(plane, address_id, tick, p->kind, v->why))
        return false;
    *v = steer_fenced(STEER_WHY_NEW_FLOW_LIMIT);
    return true;
}

#endif
