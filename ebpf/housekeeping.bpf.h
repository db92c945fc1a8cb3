// Programs that user space runs by BPF_PROG_TEST_RUN. In the kernel they run to their end even when the
// process is killed meanwhile, so an entry and its counter never disagree.
// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
#ifndef GODWIT_EBPF_HOUSEKEEPING_BPF_H
#define GODWIT_EBPF_HOUSEKEEPING_BPF_H

// ---- ageing -----------------------------------------------------------------------------------------
struct sweep_state {
    struct steer_swept swept;
    uint32_t cursor, lines;
};

// One callback per table: the table must be a constant where its lines are looked up.
#define SWEEP_TABLE(name, TABLE)                                              \
    static long sweep_##name(uint32_t i, struct sweep_state *state)           \
    {                                                                         \
        struct steer_plane plane = {0};                                       \
        uint32_t index = state->cursor + i;                                   \
        if (index >= state->lines)                                            \
            index -= state->lines;                                            \
        return steer_sweep_line(&plane, TABLE, index, &state->swept) ? 0 : 1; \
    }
SWEEP_TABLE(sessions4, STEER_SESSIONS4)
SWEEP_TABLE(sessions6, STEER_SESSIONS6)
SWEEP_TABLE(handshakes4, STEER_HANDSHAKES4)
SWEEP_TABLE(handshakes6, STEER_HANDSHAKES6)
SWEEP_TABLE(chances4, STEER_CHANCES4)
SWEEP_TABLE(chances6, STEER_CHANCES6)
SWEEP_TABLE(fragments4, STEER_FRAGMENTS4)
SWEEP_TABLE(fragments6, STEER_FRAGMENTS6)

#define SWEEP(name, TABLE)                                                                  \
    state.lines = steer_lines(TABLE, steer_config(NULL)->table[TABLE]);                     \
    state.cursor = arg->cursor[TABLE] < state.lines ? arg->cursor[TABLE] : 0;               \
    bpf_loop(arg->lines < state.lines ? arg->lines : state.lines, sweep_##name, &state, 0); \
    arg->cursor[TABLE] = (state.cursor + arg->lines) % state.lines;

SEC("syscall")
int sweep(struct plane_sweep *arg)
{
    struct sweep_state state = {};
    SWEEP(sessions4, STEER_SESSIONS4)
    SWEEP(sessions6, STEER_SESSIONS6)
    SWEEP(handshakes4, STEER_HANDSHAKES4)
    SWEEP(handshakes6, STEER_HANDSHAKES6)
    SWEEP(chances4, STEER_CHANCES4)
    SWEEP(chances6, STEER_CHANCES6)
    SWEEP(fragments4, STEER_FRAGMENTS4)
    SWEEP(fragments6, STEER_FRAGMENTS6)
    arg->live = state.swept.live;
    arg->closed = state.swept.closed;
    arg->removed = state.swept.removed;
    return 0;
}

// ---- the end of everything a slot owns ----------------------------------------------------------------
#define END_TABLE(name, TABLE)                                         \
    static long end_##name(uint32_t index, struct steer_ending *state) \
    {                                                                  \
        struct steer_plane plane = {0};                                \
        return steer_end_line(&plane, TABLE, index, state) ? 0 : 1;    \
    }
END_TABLE(sessions4, STEER_SESSIONS4)
END_TABLE(sessions6, STEER_SESSIONS6)
END_TABLE(handshakes4, STEER_HANDSHAKES4)
END_TABLE(handshakes6, STEER_HANDSHAKES6)
END_TABLE(chances4, STEER_CHANCES4)
END_TABLE(chances6, STEER_CHANCES6)
END_TABLE(fragments4, STEER_FRAGMENTS4)
END_TABLE(fragments6, STEER_FRAGMENTS6)

#define END(name, TABLE) \
    bpf_loop(steer_lines(TABLE, steer_config(NULL)->table[TABLE]), end_##name, &state, 0);

SEC("syscall")
int end_sessions(struct plane_end *arg)
{
    struct steer_ending state = {arg->vm, arg->slot, arg->tell, 0, 0};
    struct plane_settings *set = plane_settings();
    if (set && arg->tell)
        set->resets = 1;
    END(sessions4, STEER_SESSIONS4)
    END(sessions6, STEER_SESSIONS6)
    END(handshakes4, STEER_HANDSHAKES4)
    END(handshakes6, STEER_HANDSHAKES6)
    END(chances4, STEER_CHANCES4)
    END(chances6, STEER_CHANCES6)
    END(fragments4, STEER_FRAGMENTS4)
    END(fragments6, STEER_FRAGMENTS6)
    arg->reset = state.reset;
    arg->dropped = state.dropped;
    return 0;
}

// One session, if nothing has happened to it since user space saw it.
SEC("syscall")
int end_untouched(struct plane_untouched *arg)
{
    struct steer_plane plane = {0};
    struct steer_key key = arg->key;
    arg->ended = arg->wide ? steer_end_untouched(&plane, STEER_SESSIONS6, &key, arg->stamp)
                           : steer_end_untouched(&plane, STEER_SESSIONS4, &key, arg->stamp);
    return 0;
}

// User space has no other way to read the unit of last_tick.
SEC("syscall")
int read_tick(uint64_t *arg)
{
    *arg = bpf_jiffies64();
    return 0;
}

#endif
