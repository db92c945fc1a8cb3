// The memory layout of sessions and handshakes: 64-byte lines, one cache line each, keys and hot state side
// by side. An IPv4 session takes half a line, an IPv6 one a whole line. table.h says how lines are found.
//
// A plane includes this file, defines `struct steer_plane` and the hooks below (static inline, under BPF
// always_inline), and then includes steering/steer.h, which composes everything:
//   struct steer_line *steer_line(struct steer_plane *, enum steer_table, uint32_t index)   NULL: no such
//   const struct steer_config *steer_config(struct steer_plane *)
//   uint32_t steer_tick(struct steer_plane *)
//   struct vm_record *steer_vm(struct steer_plane *, uint32_t vm)                           NULL: no such
//   const struct steer_address *steer_hosted(struct steer_plane *, const struct steer_packet *, const uint32_t *be)
//       `be` is an address of the packet, of its family and in its VLAN
//   const struct steer_identity *steer_sender(struct steer_plane *, const uint8_t *source_mac)
//   const struct steer_translation *steer_translation_of(struct steer_plane *, uint32_t vm, uint32_t slot)
//   uint32_t *steer_direct(struct steer_plane *, const struct steer_key *, bool make)
//       the tick at which a peer last addressed a temporary address itself: a bounded memory that forgets the
//       oldest. address_id is the temporary address's. NULL: not known, and not made
//   void steer_drained(struct steer_plane *, struct vm_record *, uint32_t epoch)   both counters hit zero
// `table` is a constant wherever speed matters, so a switch over it costs nothing there.
#ifndef GODWIT_STEERING_SLOT_H
#define GODWIT_STEERING_SLOT_H

#include "steering/types.h"

// ---- a slot -------------------------------------------------------------------------------------
// meta: bits 0-1 life | 2 owner | 3.. state flags | 24-31 generation. Every change of state is a CAS of
// the whole word, so a reader that held the slot while it was freed and filled again (ABA) fails.
enum {
    STEER_EMPTY = 0,
    STEER_BUSY = 1, /* being filled: readers skip it */
    STEER_LIVE = 2,
    STEER_LIFE_MASK = 3,
    STEER_META_OWNER_SHIFT = 2,
    STEER_META_OWNER = 1 << STEER_META_OWNER_SHIFT,
    STEER_META_CLOSED = 1 << 3, /* lingers, not counted as live */
    STEER_META_RESET = 1 << 4,  /* the peer sent a plausible RST; still counted, the VM may deny it */
    STEER_META_FIN_VM = 1 << 5,
    STEER_META_FIN_PEER = 1 << 6,
    STEER_META_FIN_VM_ACKED = 1 << 7,
    STEER_META_FIN_PEER_ACKED = 1 << 8,
    STEER_META_HEARD_PEER = 1 << 9, /* both heard: established, the long timeout */
    STEER_META_HEARD_VM = 1 << 10,
    STEER_META_NOTED = 1 << 11,   /* handshake: vm_edge is the SYN-ACK's sequence number */
    STEER_META_SPILLED = 1 << 12, /* lies in the overflow area */
    STEER_META_DOUBTED = 1 << 13, /* the VM spoke after a RST, the peer has not: short limit */
    STEER_META_OPENING = 1 << 14, /* the VM has sent its SYN and acknowledged nothing yet */
    STEER_META_WHOLE = 1 << 15,   /* seen from its beginning: no FIN of the VM has passed before the entry */
    STEER_META_HALF_USED = 1 << 16, /* one has closed, and the other one has sent data since */
    STEER_META_STATE = 0x00fffffc,  /* owner and flags */
    STEER_META_GENERATION_SHIFT = 24
};
#define STEER_META_ENDING \
    (STEER_META_CLOSED | STEER_META_RESET | STEER_META_DOUBTED | STEER_META_FIN_VM | STEER_META_FIN_PEER)

enum { STEER_BUCKET_LOCK = 1u << 30, STEER_BUCKET_SPILLED = (1u << 30) - 1 };

struct steer_slot {
    uint32_t peer_be; /* IPv4 address, or the first word of the IPv6 one */
    uint16_t peer_port;
    uint16_t vm_port;
    uint16_t address_id;
    uint8_t protocol;
    uint8_t reserved;
    uint32_t meta;
    uint32_t last_tick;
    uint32_t vm_edge;   /* session: the VM's SYN, later FIN sequence number; handshake: its SYN-ACK's */
    uint32_t peer_edge; /* session: last acknowledgement the VM sent, after the peer's FIN that FIN's
                           sequence number; handshake: the sequence number behind the peer's SYN */
    uint32_t bucket;    /* first slot of a home line: lock bit and number of spilled entries; in a spilled
                           entry: the index of its home line */
};
struct steer_line {
    union {
        struct steer_slot slot[2]; /* IPv4 */
        struct {
            struct steer_slot first; /* IPv6 */
            uint32_t peer_rest[3];
            uint32_t last_peer_rest[3]; /* of a QUIC connection id, see quic.h */
            uint32_t unused[2];
        } wide;
    };
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct steer_slot) == 32, "two sessions to a line");
_Static_assert(sizeof(struct steer_line) == 64, "one cache line");

// Its first 12 bytes lie as in a slot.
struct steer_key {
    uint32_t peer_be;
    uint16_t peer_port;
    uint16_t vm_port;
    uint16_t address_id;
    uint8_t protocol;
    uint8_t reserved;
    uint32_t peer_rest[3]; /* 0 for IPv4 */
};
_Static_assert(offsetof(struct steer_key, protocol) == offsetof(struct steer_slot, protocol), "one order");

struct steer_swept { /* what a sweep saw; every count is slots */
    uint32_t live, closed, removed;
};

STEER_INLINE uint32_t steer_meta_owner(uint32_t meta) { return meta >> STEER_META_OWNER_SHIFT & 1u; }
STEER_INLINE uint32_t steer_meta_life(uint32_t meta) { return meta & STEER_LIFE_MASK; }
STEER_INLINE uint32_t steer_meta_generation(uint32_t meta)
{
    return meta & 0xffu << STEER_META_GENERATION_SHIFT;
}
STEER_INLINE uint32_t steer_meta_next_generation(uint32_t meta)
{
    return steer_meta_generation(meta) + (1u << STEER_META_GENERATION_SHIFT);
}
STEER_INLINE uint32_t steer_key_vm(uint32_t address_id) { return address_id / STEER_ADDRESSES_PER_VM; }

// An open session as somebody has seen it: whatever happens to it changes this number.
STEER_INLINE uint64_t steer_session_stamp(const struct steer_slot *slot)
{
    return (uint64_t)steer_load32(&slot->meta) << 32 | steer_load32(&slot->last_tick);
}

#endif
