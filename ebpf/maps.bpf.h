// The maps, and steering's hooks over them. Sizes marked 1 are set by the loader.
// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
#ifndef GODWIT_EBPF_MAPS_BPF_H
#define GODWIT_EBPF_MAPS_BPF_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "ebpf/layout.h"
#include "steering/parse.h"

// Arrays and not hashes: the lookup is inlined, a session costs one cache line (ARCHITECTURE.md).
#define LINE_TABLE(name)                   \
    struct {                               \
        __uint(type, BPF_MAP_TYPE_ARRAY);  \
        __uint(map_flags, BPF_F_MMAPABLE); \
        __uint(max_entries, 1);            \
        __type(key, uint32_t);             \
        __type(value, struct steer_line);  \
    } name SEC(".maps")

LINE_TABLE(sessions4);
LINE_TABLE(sessions6);
LINE_TABLE(handshakes4);
LINE_TABLE(handshakes6);
LINE_TABLE(chances4);
LINE_TABLE(chances6);
LINE_TABLE(fragments4);
LINE_TABLE(fragments6);

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, STEER_VMS_MAX);
    __type(key, uint32_t);
    __type(value, struct vm_record);
} vms SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, uint32_t);
    __type(value, struct plane_settings);
} settings SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, STEER_VMS_MAX *STEER_ADDRESSES_PER_VM);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct steer_address_key_v4);
    __type(value, struct steer_address);
} hosted4 SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, STEER_VMS_MAX *STEER_ADDRESSES_PER_VM);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct steer_address_key_v6);
    __type(value, struct steer_address);
} hosted6 SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, STEER_VMS_MAX *STEER_SLOTS);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct steer_identity_key);
    __type(value, struct steer_identity);
} identities SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, STEER_TALLY_PORTS);
    __type(key, uint32_t);
    __type(value, struct steer_tally);
} tallies SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, STEER_VMS_MAX *STEER_SLOTS);
    __type(key, uint32_t);
    __type(value, struct plane_backend_counters);
} backends SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 64 * 1024);
} drained SEC(".maps");

// Backends in mode nat, by vm * 2 + slot.
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, STEER_VMS_MAX *STEER_SLOTS);
    __type(key, uint32_t);
    __type(value, struct steer_translation);
} translations SEC(".maps");

// Who addressed a temporary address itself, and when last. Bounded: who falls out and then hears from the
// backend without asking hears from the hosted address.
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 16384);
    __type(key, struct steer_key);
    __type(value, uint32_t);
} direct SEC(".maps");

// XDP can only send out of ports that stand here; key and value are the ifindex.
struct {
    __uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
    __uint(max_entries, PLANE_PORTS_MAX);
    __type(key, uint32_t);
    __type(value, struct bpf_devmap_val);
} tx_ports SEC(".maps");

// TCP sessions that were ended with their peers to be told. Bounded: who has not spoken when it falls
// out is told by the VM's own RST.
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 65536);
    __type(key, struct steer_key);
    __type(value, uint64_t);
} resets SEC(".maps");

// Unmanaged stations behind VM ports, learnt like a bridge does, so that a managed VM reaches them.
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 4096);
    __type(key, struct plane_station);
    __type(value, uint32_t);
} stations SEC(".maps");

// ---- hooks of steering/slot.h ---------------------------------------------------------------------
struct steer_plane {
    uint32_t ifindex; /* where the frame came in */
};

STEER_INLINE struct plane_settings *plane_settings(void)
{
    uint32_t zero = 0;
    return bpf_map_lookup_elem(&settings, &zero);
}

STEER_INLINE struct steer_line *steer_line(struct steer_plane *plane, enum steer_table table, uint32_t index)
{
    switch (table) {
    case STEER_SESSIONS4:
        return bpf_map_lookup_elem(&sessions4, &index);
    case STEER_SESSIONS6:
        return bpf_map_lookup_elem(&sessions6, &index);
    case STEER_HANDSHAKES4:
        return bpf_map_lookup_elem(&handshakes4, &index);
    case STEER_HANDSHAKES6:
        return bpf_map_lookup_elem(&handshakes6, &index);
    case STEER_CHANCES4:
        return bpf_map_lookup_elem(&chances4, &index);
    case STEER_CHANCES6:
        return bpf_map_lookup_elem(&chances6, &index);
    case STEER_FRAGMENTS4:
        return bpf_map_lookup_elem(&fragments4, &index);
    default:
        return bpf_map_lookup_elem(&fragments6, &index);
    }
}

// Fixed at load: the verifier and the JIT know the masks.
const volatile struct steer_config fixed_config = {};
STEER_INLINE const struct steer_config *steer_config(struct steer_plane *plane)
{
    const struct steer_config *config = (const struct steer_config *)&fixed_config;
    // The loader writes it after compilation: without this the compiler would fold the zeros in.
    asm volatile("" : "+r"(config));
    return config;
}

// Jiffies: reading the clock costs 35 to 40 ns more and idle limits are seconds.
STEER_INLINE uint32_t steer_tick(struct steer_plane *plane) { return (uint32_t)bpf_jiffies64(); }

STEER_INLINE struct vm_record *steer_vm(struct steer_plane *plane, uint32_t vm)
{
    return bpf_map_lookup_elem(&vms, &vm);
}

STEER_INLINE const struct steer_address *steer_hosted(struct steer_plane *plane, const struct steer_packet *p,
                                                      const uint32_t *be)
{
    if (p->family == 4) {
        struct steer_address_key_v4 key = {be[0], p->vlan};
        return bpf_map_lookup_elem(&hosted4, &key);
    }
    struct steer_address_key_v6 key = {{be[0], be[1], be[2], be[3]}, p->vlan};
    return bpf_map_lookup_elem(&hosted6, &key);
}

STEER_INLINE const struct steer_identity *steer_sender(struct steer_plane *plane, const uint8_t *source_mac)
{
    struct steer_identity_key key = {.ifindex = plane->ifindex};
    __builtin_memcpy(key.mac, source_mac, 6);
    return bpf_map_lookup_elem(&identities, &key);
}

STEER_INLINE const struct steer_translation *steer_translation_of(struct steer_plane *plane, uint32_t vm,
                                                                  uint32_t slot)
{
    uint32_t index = vm * STEER_SLOTS + (slot & 1);
    return bpf_map_lookup_elem(&translations, &index);
}

STEER_INLINE uint32_t *steer_direct(struct steer_plane *plane, const struct steer_key *key, bool make)
{
    uint32_t never = 0;
    uint32_t *seen = bpf_map_lookup_elem(&direct, key);
    if (seen || !make)
        return seen;
    bpf_map_update_elem(&direct, key, &never, BPF_NOEXIST);
    return bpf_map_lookup_elem(&direct, key);
}

STEER_INLINE void steer_drained(struct steer_plane *plane, struct vm_record *vm, uint32_t epoch)
{
    struct plane_drained event = {vm->vm, epoch};
    bpf_ringbuf_output(&drained, &event, sizeof(event), 0);
}

// ---- hooks of steering/ending.h -------------------------------------------------------------------
STEER_INLINE bool steer_resets_unused(struct steer_plane *plane)
{
    struct plane_settings *set = plane_settings();
    return !set || !set->resets;
}
STEER_INLINE bool steer_reset_known(struct steer_plane *plane, const struct steer_key *key)
{
    return bpf_map_lookup_elem(&resets, key) != NULL;
}
STEER_INLINE void steer_reset_add(struct steer_plane *plane, const struct steer_key *key)
{
    uint64_t now = bpf_jiffies64();
    bpf_map_update_elem(&resets, key, &now, BPF_ANY);
}
STEER_INLINE void steer_reset_remove(struct steer_plane *plane, const struct steer_key *key)
{
    bpf_map_delete_elem(&resets, key);
}

#endif
