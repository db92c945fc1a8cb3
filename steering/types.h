// The words and records of steering: one steer word per VM, its record, identities, timeouts, and the
// reasons of every verdict. Freestanding C17 that clang -target bpf and C++23 both take. No I/O, no
// allocation: memory belongs to the plane. Units are in the names; a tick is the plane's clock unit
// (jiffies in the kernel, a stepped number in the model) and is compared modulo 2^32.
#ifndef GODWIT_STEERING_TYPES_H
#define GODWIT_STEERING_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STEER_INLINE static inline __attribute__((always_inline))
// Cold and large. Under BPF a global function: the verifier looks at it once by itself instead of once per
// way that leads to it (measured: over 1M verified instructions before, 0.12M for the uplink's program
// and 0.2M for the VM port's after). The price is its interface: numbers, and pointers to plain memory that must be checked for NULL.
#if defined(__bpf__)
#define STEER_COLD __attribute__((noinline))
#else
#define STEER_COLD static inline __attribute__((noinline))
#endif
// Cold too, but takes pointers into the packet, which a global function may not: the verifier follows the call.
#define STEER_APART static __attribute__((noinline, unused))

#define STEER_SLOTS 2u
#define STEER_ADDRESSES_PER_VM 8u
#define STEER_VMS_MAX 8192u /* address_id = vm * 8 + index fits 16 bits */
#define STEER_QUIC_PORTS 6u

// The compiler may not guess where this value comes from.
#define STEER_OPAQUE(value) __asm__ volatile("" : "+r"(value))

// ---- memory order -------------------------------------------------------------------------------
// BPF (mcpu=v3) knows no acquire or release; its xchg and cmpxchg are full barriers, and the volatile
// load keeps the compiler honest. Readers tolerate reordered loads by looking at `meta` twice.
#if defined(__bpf__)
STEER_INLINE uint32_t steer_load32(const uint32_t *p) { return *(const volatile uint32_t *)p; }
STEER_INLINE uint64_t steer_load64(const uint64_t *p) { return *(const volatile uint64_t *)p; }
STEER_INLINE void steer_publish32(uint32_t *p, uint32_t value) { (void)__sync_lock_test_and_set(p, value); }
STEER_INLINE void steer_store32(uint32_t *p, uint32_t value) { *(volatile uint32_t *)p = value; }
#define STEER_PEEK(field) (field)
#define STEER_POKE(field, value) ((field) = (value))
#define STEER_FENCE(order) ((void)0)
STEER_INLINE uint32_t steer_cas32(uint32_t *p, uint32_t expected, uint32_t desired)
{
    return __sync_val_compare_and_swap(p, expected, desired);
}
STEER_INLINE uint64_t steer_cas64(uint64_t *p, uint64_t expected, uint64_t desired)
{
    return __sync_val_compare_and_swap(p, expected, desired);
}
STEER_INLINE uint32_t steer_add32(uint32_t *p, uint32_t delta) { return __sync_fetch_and_add(p, delta); }
STEER_INLINE void steer_and32(uint32_t *p, uint32_t mask) { (void)__sync_fetch_and_and(p, mask); }
#else
STEER_INLINE uint32_t steer_load32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
STEER_INLINE uint64_t steer_load64(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
STEER_INLINE void steer_publish32(uint32_t *p, uint32_t value)
{
    __atomic_store_n(p, value, __ATOMIC_RELEASE);
}
// A key may be read while its slot is being filled for another (the reader finds out and looks elsewhere):
// for the C and C++ memory models such accesses are relaxed atomics between fences.
#define STEER_PEEK(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define STEER_POKE(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELAXED)
#define STEER_FENCE(order) __atomic_thread_fence(order)
STEER_INLINE void steer_store32(uint32_t *p, uint32_t value) { __atomic_store_n(p, value, __ATOMIC_RELAXED); }
STEER_INLINE uint32_t steer_cas32(uint32_t *p, uint32_t expected, uint32_t desired)
{
    __atomic_compare_exchange_n(p, &expected, desired, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    return expected;
}
STEER_INLINE uint64_t steer_cas64(uint64_t *p, uint64_t expected, uint64_t desired)
{
    __atomic_compare_exchange_n(p, &expected, desired, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    return expected;
}
STEER_INLINE uint32_t steer_add32(uint32_t *p, uint32_t delta)
{
    return __atomic_fetch_add(p, delta, __ATOMIC_ACQ_REL);
}
STEER_INLINE void steer_and32(uint32_t *p, uint32_t mask)
{
    (void)__atomic_fetch_and(p, mask, __ATOMIC_ACQ_REL);
}
#endif

// ---- the steer word: one load gives a coherent picture, one store is the flip -------------------
//   bits 0..31 epoch | 32 VALID | 33 HOSTING | 34 DRAINING | 35 owner | 36 previous | 37,38 slot present
//   | 39 original: of two active backends the one that is no clone
#define STEER_VALID (1ull << 32)    /* the VM is managed */
#define STEER_HOSTING (1ull << 33)  /* the switch answers ARP and ND for the addresses */
#define STEER_DRAINING (1ull << 34) /* `previous` exists and still serves what it owns */
#define STEER_OWNER_SHIFT 35
#define STEER_PREVIOUS_SHIFT 36
#define STEER_PRESENT_SHIFT 37
#define STEER_ORIGINAL_SHIFT 39

STEER_INLINE uint32_t steer_epoch(uint64_t word) { return (uint32_t)word; }
STEER_INLINE uint32_t steer_owner(uint64_t word) { return (uint32_t)(word >> STEER_OWNER_SHIFT) & 1u; }
STEER_INLINE uint32_t steer_previous(uint64_t word) { return (uint32_t)(word >> STEER_PREVIOUS_SHIFT) & 1u; }
// Who is asked about what nobody remembers. While two are active it is the original, in both directions:
// a clone holds copies of the sockets that were open when it was made, and a rollback does not change that.
STEER_INLINE uint32_t steer_authority(uint64_t word)
{
    return (uint32_t)(word >> (word & STEER_DRAINING ? STEER_ORIGINAL_SHIFT : STEER_OWNER_SHIFT)) & 1u;
}
STEER_INLINE bool steer_is_draining(uint64_t word) { return (word & STEER_DRAINING) != 0; }
STEER_INLINE bool steer_is_hosting(uint64_t word) { return (word & STEER_HOSTING) != 0; }
STEER_INLINE bool steer_slot_present(uint64_t word, uint32_t slot)
{
    return (word >> (STEER_PRESENT_SHIFT + (slot & 1u))) & 1u;
}
// A backend that may receive and send at all: the owner, and while draining the previous one.
STEER_INLINE bool steer_slot_active(uint64_t word, uint32_t slot)
{
    return slot == steer_owner(word) || (steer_is_draining(word) && slot == steer_previous(word));
}
// A backend that may ask who its neighbours are and hears the answers: a clone must know them before the
// flip, or its first SYN-ACK waits a second for ARP to try again.
STEER_INLINE bool steer_slot_hears(uint64_t word, uint32_t slot)
{
    return steer_slot_present(word, slot) && (steer_slot_active(word, slot) || steer_is_hosting(word));
}
// `flags`: STEER_VALID | STEER_HOSTING | STEER_DRAINING; `present`: bit 0 = slot 0, bit 1 = slot 1. With
// DRAINING the previous owner is taken for the original: right for a first flip, see steer_word_next.
STEER_INLINE uint64_t steer_word(uint32_t epoch, uint32_t owner, uint32_t previous, uint64_t flags,
                                 uint32_t present)
{
    return (uint64_t)epoch | flags | (uint64_t)(owner & 1u) << STEER_OWNER_SHIFT |
           (uint64_t)(previous & 1u) << STEER_PREVIOUS_SHIFT |
           (uint64_t)(present & 3u) << STEER_PRESENT_SHIFT |
           (uint64_t)(previous & 1u) << STEER_ORIGINAL_SHIFT;
}
// The word that follows `now`: the epoch grows when the owner changes, and a flip back during a drain, or
// forth again, keeps the original. Without `draining`, `previous` is ignored.
STEER_INLINE uint64_t steer_word_next(uint64_t now, uint32_t owner, bool draining, uint32_t previous,
                                      bool hosting, uint32_t present)
{
    bool known = (now & STEER_VALID) != 0;
    bool flips = known && steer_owner(now) != (owner & 1u);
    uint64_t flags = STEER_VALID | (hosting ? STEER_HOSTING : 0) | (draining ? STEER_DRAINING : 0);
    uint32_t epoch = steer_epoch(now) + (flips || !known ? 1 : 0);
    uint64_t next = steer_word(epoch, owner, draining ? previous : owner, flags, present);
    if (known && draining && now & STEER_DRAINING)
        next = (next & ~(1ull << STEER_ORIGINAL_SHIFT)) | (now & 1ull << STEER_ORIGINAL_SHIFT);
    return next;
}

// ---- records of the plane's maps ----------------------------------------------------------------
struct steer_backend {
    uint32_t ifindex;
    uint8_t mac[6];
    uint16_t flags; /* STEER_BACKEND_ */
};
#define STEER_BACKEND_NAT 1u /* it has a MAC and temporary addresses of its own: steer_translation */
#define STEER_BACKEND_MAC 2u /* only its MAC is not its sibling's, which peers may still send to */

// What a backend with such a flag is called. Mode nat: for each family in which the VM has a hosted address (CN102932409A
// [0050], [0075]: 10.9.1.10 is hosted, .30 and .31 are temporary). Network order; 0: no such family.
struct steer_translation {
    uint32_t hosted4_be, temporary4_be;
    uint32_t hosted6_be[4], temporary6_be[4];
    uint16_t address_id4, address_id6; /* of the hosted addresses */
    uint8_t mac[6];                    /* the backend's */
    uint8_t reserved[14];
} __attribute__((aligned(64)));

// Idle limits in ticks. Defaults: RFC 5382 REQ-5 (7440 s, 240 s), RFC 4787 REQ-5 (300 s), RFC 5508
// REQ-2 (60 s). The handshake limit is counted from the first packet and not renewed, so that a peer
// that repeats its SYN for ever cannot keep the source from draining.
struct steer_timeouts {
    uint32_t established;
    uint32_t transitory; /* opening or closing */
    uint32_t udp;        /* and every other protocol without an end */
    uint32_t icmp;
    uint32_t handshake;
    uint32_t linger;    /* after the end, for late retransmissions */
    uint32_t tombstone; /* the same for the source's sessions while it is hosted or drains, see session.h */
    uint32_t fragment;  /* how long a first fragment says where the others go, see fragment.h */
};
#define STEER_TIMEOUTS_DEFAULT_S {7440, 240, 300, 60, 30, 3, 900, 30}

// The idle limit of one transport port, in one word so that the sweep never meets half of it: bits 0..31 ticks |
// 32..47 port | 48..55 protocol | 56 it is the peer's port, not the VM's. 0: none.
#define STEER_PORT_LIMITS 8u
STEER_INLINE uint64_t steer_port_limit(uint32_t protocol, uint32_t port, bool of_peer, uint32_t ticks)
{
    return (uint64_t)ticks | (uint64_t)(port & 0xffff) << 32 | (uint64_t)(protocol & 0xff) << 48 |
           (uint64_t)of_peer << 56;
}

// How fast entries may be made, see new_flow.h.
#define STEER_NEW_FLOW_TOKEN 4096u
struct steer_new_flows {
    uint64_t bucket;   /* tick of its last change << 32 | tokens in parts of 4096; 0: never used, full */
    uint32_t per_tick; /* parts; 0: no limit */
    uint32_t burst;    /* parts */
    uint8_t reserved[48];
};

// One managed VM. The first line is written by user space (and rarely), and by the few packets that teach
// something of it for good; the second and the fourth by packets that open or close something; the third is the
// sweep's: an established packet only reads the first.
struct vm_record {
    uint64_t steer; /* the steer word; read with steer_load64 once per packet */
    struct steer_backend backend[STEER_SLOTS];
    uint8_t mac[6]; /* the VM's own, put into ARP and ND answers */
    uint16_t vm;
    uint32_t vlan; /* steer_vlan_within; its backends and its addresses are there and nowhere else */
    // QUIC, see quic.h: how long its connection ids are (bit n: n bytes), and the ports where it is a server.
    uint32_t id_lengths;
    uint16_t quic_port[STEER_QUIC_PORTS]; /* 0: none */
    uint8_t first_line_end[4];

    // Live sessions (closed ones that linger are not counted) and open handshakes, per slot. One
    // global atomic each instead of a counter per core: they change at create and close only, where an
    // atomic add is lost in the noise, and its returned old value shows "reached zero" exactly where and
    // when it happens. Per-core counters would need a sum over cores at every close to notice it.
    uint32_t sessions[STEER_SLOTS];
    uint32_t handshakes[STEER_SLOTS];
    uint32_t untracked;                  /* newcomers that found the table full */
    uint32_t waiting_since[STEER_SLOTS]; /* tick of the oldest unanswered question, 0 = none */
    uint32_t longest_gap;                /* ticks */
    struct steer_timeouts timeouts;

    uint64_t port_limits[STEER_PORT_LIMITS]; /* the first that fits counts */
    struct steer_new_flows new_flows;
} __attribute__((aligned(64)));

struct steer_identity { /* (ifindex, MAC) -> who sends */
    uint16_t vm;
    uint8_t slot;
    uint8_t reserved;
};
struct steer_address { /* hosted or temporary address -> whose it is */
    uint16_t vm;       /* | STEER_TEMPORARY: no such VM, so that hosted ones pay nothing for the difference */
    uint16_t address_id; /* vm * 8 + index; of a temporary one: + the slot that has it */
};
#define STEER_TEMPORARY 0x8000u
// An address means something in its VLAN only: two tenants may have the same one.
struct steer_address_key_v4 {
    uint32_t address_be;
    uint32_t vlan; /* steer_vlan_within */
};
struct steer_address_key_v6 {
    uint32_t address_be[4];
    uint32_t vlan;
};
struct steer_identity_key {
    uint32_t ifindex;
    uint8_t mac[6];
    uint16_t reserved; /* 0: it is hashed */
};

// The place that the tags of a frame name, the outermost first: 0 without tags. A tag of VLAN 0 is a priority and
// names nothing (IEEE 802.1Q section 6.9). Fits 24 bits.
STEER_INLINE uint32_t steer_vlan_within(uint32_t outer, uint32_t tag)
{
    return tag & 0xfff ? outer << 12 | (tag & 0xfff) : outer;
}

enum steer_table {
    STEER_SESSIONS4,
    STEER_SESSIONS6,
    STEER_HANDSHAKES4,
    STEER_HANDSHAKES6,
    STEER_CHANCES4, /* second chances */
    STEER_CHANCES6,
    STEER_FRAGMENTS4, /* whom first fragments belong to */
    STEER_FRAGMENTS6,
    STEER_TABLES
};

// Lines of a table: `home_mask + 1` home lines (a power of two), then `overflow_mask + 1` overflow
// lines (a power of two, an eighth of home). The other tables have no overflow: mask 0.
struct steer_geometry {
    uint32_t home_mask;
    uint32_t overflow_mask;
};
struct steer_config {
    uint32_t seed[6]; /* random at start: peers must not be able to aim at one bucket */
    struct steer_geometry table[STEER_TABLES];
};
STEER_INLINE uint32_t steer_is_session_table(enum steer_table table)
{
    return table == STEER_SESSIONS4 || table == STEER_SESSIONS6;
}
// Their records are open newcomers, and drained means that none is left. A fragment belongs to something that
// is counted itself.
STEER_INLINE uint32_t steer_is_counted_newcomer(enum steer_table table)
{
    return table >= STEER_HANDSHAKES4 && table <= STEER_CHANCES6;
}
STEER_INLINE uint32_t steer_is_v6_table(enum steer_table table) { return (uint32_t)table & 1u; }
STEER_INLINE uint32_t steer_lines(enum steer_table table, struct steer_geometry geometry)
{
    return geometry.home_mask + 1 + (steer_is_session_table(table) ? geometry.overflow_mask + 1 : 0);
}

// ---- what a verdict says -------------------------------------------------------------------------
enum steer_action {
    STEER_PASS,    /* ordinary switching: not ours, or a backend's frame that may go out */
    STEER_FORWARD, /* to backend[slot] and nowhere else */
    STEER_BOTH,    /* a copy to each active backend */
    STEER_ANSWER,  /* turn it into an ARP reply or NA (rewrite.h) and send it back where it came from */
    STEER_DROP,
    STEER_REFUSE /* drop it, and tell its sender with an RST (rewrite.h) that its socket is dead */
};

enum steer_memory {
    STEER_KEEP,    /* remember nothing new; a session that was found is tracked */
    STEER_PIN,     /* make the session for `slot`, forget handshake and second chance */
    STEER_GIVE,    /* remember that `slot` was given this newcomer */
    STEER_REOPEN,  /* drop the closed session, then GIVE */
    STEER_REPIN,   /* drop the closed session, then PIN */
    STEER_RESTART, /* drop the session the VM has replaced, then NOTE the new handshake */
    STEER_NOTE,    /* remember the SYN-ACK's sequence number in the handshake */
    STEER_DISOWN,  /* drop a doubted session, then CHANCE */
    STEER_CHANCE,  /* remember that `slot` gets the next try */
    STEER_FORGET   /* handshake and second chance are over */
};

// Every verdict has one reason: the counter, the metric label and the word in `godwit flows`.
// Append only: numbers are stored in pinned maps that outlive a program.
#define STEER_REASONS(X)                                                                                   \
    X(NOT_MANAGED, "not-managed")                 /* no hosted address, no known sender */                 \
    X(SESSION, "session")                         /* the entry's owner */                                  \
    X(HANDSHAKE, "handshake")                     /* who was given the first packet */                     \
    X(SECOND_CHANCE, "second-chance")             /* previous refused, default owner is tried */           \
    X(NEW_OWNER, "new-owner")                     /* newcomer, default owner */                            \
    X(PREVIOUS, "previous")                       /* unknown old traffic, its authority */                 \
    X(OPENED, "opened")                           /* the VM opened or confirmed a session */               \
    X(REOPENED, "reopened")                       /* SYN on a closed entry */                              \
    X(PROVEN, "proven")                           /* ACK that knows the SYN-ACK's number */                \
    X(RST_WITHHELD, "rst-withheld")               /* previous refused while draining */                    \
    X(FENCED, "fenced")                           /* not the sender's to send */                           \
    X(FENCED_ANNOUNCE, "fenced-announce")         /* ARP/ND announcement by a non-owner */                 \
    X(FENCED_REPLY, "fenced-reply")               /* ARP/ND reply while the switch answers */              \
    X(FENCED_HOUSEKEEPING, "fenced-housekeeping") /* MLD, RS of a non-owner */                             \
    X(SPOOFED_SOURCE, "spoofed-source")           /* another VM's hosted address as source */              \
    X(UNTRACKED, "untracked")                     /* table full, forwarded without entry */                \
    X(CONTENDED, "contended")                     /* bucket busy, forwarded; next packet retries */        \
    X(ARP_ANSWERED, "arp-answered")                                                                        \
    X(ND_ANSWERED, "nd-answered")                                                                          \
    X(NEIGHBOUR, "neighbour")               /* ARP/ND that follows the owner */                            \
    X(NEIGHBOUR_BOTH, "neighbour-both")     /* replies both backends need */                               \
    X(ADDRESS_CONFLICT, "address-conflict") /* somebody else claims a hosted address */                    \
    X(HOUSEKEEPING, "housekeeping")         /* DHCP, MLD, RS of the owner */                               \
    X(FRAGMENT_UNSUPPORTED, "fragment-unsupported")                                                        \
    X(EXTENSION_UNSUPPORTED, "extension-unsupported")                                                      \
    X(VLAN_UNSUPPORTED, "vlan-unsupported") /* more than two tags */                                       \
    X(ICMP_ERROR_DEFAULT, "icmp-error-default")                                                            \
    X(ICMP_ERROR_BOTH, "icmp-error-both")                                                                  \
    X(TRUNCATED, "truncated")                                                                              \
    X(BAD_HEADER, "bad-header")                                                                            \
    X(NO_BACKEND, "no-backend")         /* the slot it belongs to is not there */                          \
    X(PLANE, "plane")                   /* the plane could not carry it out */                             \
    X(RESET_TOLD, "reset-told")         /* the peer of a reset session gets its RST */                     \
    X(COPY_REFUSED, "copy-refused")     /* a clone spoke on a copied socket and gets its RST */            \
    X(TEMPORARY, "temporary")           /* to or from a temporary address itself, as it is */              \
    X(UNTRANSLATABLE, "untranslatable") /* no address of it can be rewritten: AH, header out of reach */   \
    X(ICMP_ERROR, "icmp-error")         /* about a session, follows its owner */                           \
    X(ICMP_ERROR_FOREIGN, "icmp-error-foreign") /* about a packet its addressee has not sent */            \
    X(FRAGMENT, "fragment")                     /* goes where its first one went */                        \
    X(FRAGMENT_EARLY, "fragment-early")         /* its first one has not been seen */                      \
    X(EXTENSION_CHAIN, "extension-chain")       /* more extension headers than anybody sends */            \
    X(FENCED_DHCP, "fenced-dhcp")               /* a clone about the lease of the original */              \
    X(GROUP, "group")                           /* multicast or broadcast of an active VM */               \
    X(OTHER_VLAN, "other-vlan")                 /* tagged, and nobody managed is in that VLAN */           \
    X(CONNECTION_ID, "connection-id")           /* a QUIC connection from another address, its owner */    \
    X(WORKER_BUSY, "worker-busy")           /* plane dpdk: the ring of the worker it belongs to is full */ \
    X(TUNNEL_UNKNOWN, "tunnel-unknown")     /* an outer header for us, and no tunnel has its VNI */        \
    X(TUNNEL_FOREIGN, "tunnel-foreign")     /* not from the other end of its tunnel */                     \
    X(TUNNEL_HEADER, "tunnel-header")       /* cut off, or lengths that contradict each other */           \
    X(TUNNEL_NEIGHBOUR, "tunnel-neighbour") /* somebody else claims to be the other end */                 \
    X(TUNNEL_DOWN, "tunnel-down")           /* the other end has not answered who it is */                 \
    X(TUNNEL_LENGTH, "tunnel-length")       /* longer than the underlay takes */                           \
    X(NEW_FLOW_LIMIT, "new-flow-limit")     /* it begins something, and the VM has had enough of that */

enum steer_why {
#define STEER_WHY_ENUM(name, text) STEER_WHY_##name,
    STEER_REASONS(STEER_WHY_ENUM)
#undef STEER_WHY_ENUM
        STEER_WHYS
};

#if !defined(__bpf__)
STEER_INLINE const char *steer_why_name(uint32_t why)
{
    static const char *const names[] = {
#define STEER_WHY_NAME(name, text) text,
        STEER_REASONS(STEER_WHY_NAME)
#undef STEER_WHY_NAME
    };
    return why < STEER_WHYS ? names[why] : "?";
}
#endif

struct steer_verdict {
    uint8_t action; /* enum steer_action */
    uint8_t slot;   /* the backend meant by FORWARD and by the memory operation */
    uint8_t memory; /* enum steer_memory */
    uint8_t why;    /* enum steer_why */
};

_Static_assert(sizeof(struct vm_record) == 256, "read mostly, counters, what the sweep reads, new flows");
_Static_assert(offsetof(struct vm_record, port_limits) == 128, "nor do they with what the sweep reads");
_Static_assert(offsetof(struct vm_record, sessions) == 64, "counters do not share the first line");
_Static_assert(sizeof(struct steer_translation) == 64, "one line");
_Static_assert(sizeof(struct steer_identity_key) == 12, "hashed as bytes, no hidden padding");

#endif
