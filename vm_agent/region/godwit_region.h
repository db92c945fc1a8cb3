/* A migration region: the shared memory in which an application keeps what must survive the move of
 * its VM. In the guest it is a virtio-pmem device in devdax mode (/dev/dax0.0, a second one
 * /dev/dax1.0); in a test it is a plain file. No dependencies: C17, compiles with -static, usable
 * from C++. Installed it is found by `pkg-config godwit-region`.
 *
 *   static const struct godwit_class_spec classes[] = {
 *       {"sessions", GODWIT_SOURCE_WINS, GODWIT_ALLOCATED, sizeof(struct my_session), 4096},
 *       {"totals", GODWIT_ADD_DELTA, GODWIT_FIXED, 64, 1},
 *   };
 *   struct godwit_region region;
 *   int error = godwit_region_open(&region, "/dev/dax0.0", classes, 2);
 *   if (error) die("%s: %s", strerror(-error), region.error);
 *   int64_t slot = godwit_slot_allocate(&region, 0, session_id);
 *   if (godwit_slot_is_mine(&region, 0, slot))
 *       write_through(godwit_slot_payload(&region, 0, slot));
 *
 * What the application must know about a migration:
 * - At the fork the whole VM is copied at one instant. The original goes on as GODWIT_SOURCE and
 *   keeps the sessions it has; the copy starts as GODWIT_CLONE and gets new ones. Before and after
 *   a migration the role is GODWIT_SOLE. The host changes the role word while the VM is paused at
 *   the fork, so the clone sees its role before it executes anything.
 * - A clone still holds the file descriptors of the original's sessions. It must not serve them nor
 *   touch their slots: ask godwit_slot_is_mine() before each write; it costs two loads.
 * - Slots need no shared bitmap: a source allocates even indexes only, a clone odd ones only, so
 *   the two never take the same slot. Each side therefore has half of what was free at the fork.
 * - When the source's sessions have ended, the host merges what the source changed since the fork
 *   into the clone's region, by 64-byte lines, under the rule of each slot class.
 * - One write of an application may be in flight at the fork and so be made by both sides. Classes
 *   owned by sessions should use GODWIT_SOURCE_WINS, which settles that for the source.
 * - A log (GODWIT_LOG, GODWIT_APPEND) is never rewritten, only appended to. A merge puts what the
 *   source appended since the fork behind what the clone has by then, so an index is good for
 *   reading on, not as a name. If the records of both do not fit, that is a conflict.
 */
#ifndef GODWIT_REGION_H
#define GODWIT_REGION_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#define GODWIT_ASSERT(what, text) static_assert(what, text)
#else
#define GODWIT_ASSERT(what, text) _Static_assert(what, text)
#endif

/* ---- The layout, shared by the guest's library and the agent on the host. All little-endian. ----
 */

#define GODWIT_REGION_MAGIC 0x4752544957444f47ull /* "GODWITRG" */
#define GODWIT_REGION_VERSION 1u
#define GODWIT_LINE_BYTES 64u
#define GODWIT_HEADER_BYTES 4096u
#define GODWIT_CLASSES_MAX 32u
/* In the host's file the guest's devdax data begins behind the namespace label area. */
#define GODWIT_LABEL_BYTES 0x200000u
#define GODWIT_ROLE_OFFSET 64u /* of the role word, from the start of the data */
#define GODWIT_QUIET_OFFSET (GODWIT_HEADER_BYTES - GODWIT_LINE_BYTES)

/* How a 64-byte line that the source changed meets the destination's line at the merge.
 * Lines the source did not change keep the destination's bytes, lines only the source changed take
 * the source's; the rule speaks where both changed. */
enum godwit_rule {
    GODWIT_FAIL = 0,        /* different bytes are a conflict; nothing is patched (default) */
    GODWIT_SOURCE_WINS = 1, /* owned by a session of the source */
    GODWIT_DESTINATION_WINS = 2,
    GODWIT_ADD_DELTA = 3, /* u64 words: destination + source - base, wrapping */
    GODWIT_MAX = 4,       /* u64 words: the larger of source and destination */
    GODWIT_APPEND = 5,    /* a log: the destination's records, then those the source added since the fork */
};

enum godwit_kind {
    GODWIT_FIXED = 0,     /* plain records, always there: counters, tables */
    GODWIT_ALLOCATED = 1, /* each slot has a state line in front of its payload */
    GODWIT_LOG =
        2, /* rule append, and only it: slot 0 is the count, the others records behind a state line */
};

enum godwit_role { GODWIT_SOLE = 0, GODWIT_SOURCE = 1, GODWIT_CLONE = 2 };

/* Line 0 of the header page. `magic` is written last, so a half made header is no header. */
struct godwit_header_line {
    uint64_t magic;
    uint32_t version;
    uint32_t header_bytes; /* GODWIT_HEADER_BYTES */
    uint64_t data_bytes;   /* header page and all slots; at most the device */
    uint32_t class_count;
    uint32_t line_bytes; /* GODWIT_LINE_BYTES */
    uint8_t reserved[32];
};
GODWIT_ASSERT(sizeof(struct godwit_header_line) == 64, "header line is one line");

/* Line 1. Only the host writes it; all zero means GODWIT_SOLE in epoch 0. Role and epoch are one
 * word, (epoch << 8) | role, so that a reader never sees the one without the other. */
struct godwit_role_line {
    uint64_t word;
    uint8_t reserved[56];
};
GODWIT_ASSERT(sizeof(struct godwit_role_line) == 64, "role line is one line");

/* Lines 2 and on: one per slot class. */
struct godwit_class_line {
    char name[24];       /* zero terminated */
    uint32_t rule;       /* enum godwit_rule */
    uint32_t kind;       /* enum godwit_kind */
    uint32_t slot_bytes; /* multiple of 64, state line included */
    uint32_t slot_count;
    uint64_t offset; /* of slot 0 from the start of the data, multiple of 64 */
    uint8_t reserved[16];
};
GODWIT_ASSERT(sizeof(struct godwit_class_line) == 64, "class line is one line");

/* The last line. Only the guest writes it: the role word under which it has written its last. The host
 * need not look for changes then. Never merged. */
struct godwit_quiet_line {
    uint64_t word;
    uint8_t reserved[56];
};
GODWIT_ASSERT(sizeof(struct godwit_quiet_line) == 64, "quiet line is one line");

struct godwit_header_page {
    struct godwit_header_line head;
    struct godwit_role_line role;
    struct godwit_class_line classes[GODWIT_CLASSES_MAX];
    uint8_t reserved[GODWIT_HEADER_BYTES - (3 + GODWIT_CLASSES_MAX) * 64];
    struct godwit_quiet_line quiet;
};
GODWIT_ASSERT(sizeof(struct godwit_header_page) == GODWIT_HEADER_BYTES, "header is one page");
GODWIT_ASSERT(offsetof(struct godwit_header_page, role) == GODWIT_ROLE_OFFSET, "role on line 1");
GODWIT_ASSERT(offsetof(struct godwit_header_page, quiet) == GODWIT_QUIET_OFFSET, "quiet on the last line");

enum godwit_slot_state { GODWIT_SLOT_FREE = 0, GODWIT_SLOT_USED = 1, GODWIT_SLOT_CLAIMED = 2 };

/* First line of a slot of an allocated class, and of a record of a log. */
struct godwit_slot_line {
    uint64_t state; /* enum godwit_slot_state */
    uint64_t tag;   /* the application's own key of the slot; of a record: its bytes */
    uint64_t born;  /* role word when it was allocated; of a record: read before its place was taken */
    uint8_t reserved[40];
};
GODWIT_ASSERT(sizeof(struct godwit_slot_line) == 64, "slot line is one line");

/* First line of slot 0 of a log. Record i lies in slot i + 1. */
struct godwit_log_line {
    uint64_t count; /* records whose place is taken; each says itself whether it is finished */
    uint8_t reserved[56];
};
GODWIT_ASSERT(sizeof(struct godwit_log_line) == 64, "log line is one line");

/* ---- The library ---- */

struct godwit_class_spec {
    const char *name;      /* at most 23 bytes */
    enum godwit_rule rule; /* ADD_DELTA and MAX: fixed classes only; APPEND: logs only */
    enum godwit_kind kind;
    uint32_t payload_bytes; /* of one slot or record; rounded up to whole lines */
    uint32_t slot_count;    /* of a log: the records it has room for, source and clone together */
};

struct godwit_region {
    struct godwit_header_page *page;
    size_t length_bytes;
    uint32_t hint[GODWIT_CLASSES_MAX]; /* where the next allocation looks first */
    const char *error;                 /* what was wrong, static text; set when open fails */
};

/* Maps `path`. An empty region is formatted with `classes`; a formatted one must have the same
 * classes. 0, or -errno with region->error: ENOENT and the like from the system, ENOSPC the classes
 * do not fit, EINVAL a class is malformed, EPROTO the header is of another version or damaged,
 * EEXIST the region holds other classes. */
int godwit_region_open(struct godwit_region *region, const char *path,
                       const struct godwit_class_spec *classes, unsigned class_count);
void godwit_region_close(struct godwit_region *region);

enum godwit_role godwit_region_role(const struct godwit_region *region);
uint64_t godwit_region_epoch(const struct godwit_region *region); /* grows at each fork */

/* As the source, once its sessions have ended and all is written: nothing more will be, and the host may
 * merge at once instead of watching the region. 0; -EPERM in every other role. */
int godwit_region_say_quiet(struct godwit_region *region);

/* Index of a fresh slot, its payload zeroed; -ENOSPC when this side's half is full. Thread safe. */
int64_t godwit_slot_allocate(struct godwit_region *region, unsigned class_index, uint64_t tag);
/* 0; -EPERM if the slot belongs to the other side, -EINVAL if it is not in use. */
int godwit_slot_free(struct godwit_region *region, unsigned class_index, uint64_t index);
/* May this side write the slot now? A clone owns what it allocated itself, and nothing else. */
int godwit_slot_is_mine(const struct godwit_region *region, unsigned class_index, uint64_t index);
int godwit_slot_in_use(const struct godwit_region *region, unsigned class_index, uint64_t index);
uint64_t godwit_slot_tag(const struct godwit_region *region, unsigned class_index, uint64_t index);
/* First used slot with this tag, or -ENOENT: how a restarted application finds its records. */
int64_t godwit_slot_find(const struct godwit_region *region, unsigned class_index, uint64_t tag);
/* The record's bytes (allocated: behind the state line). NULL if there is no such slot. */
void *godwit_slot_payload(const struct godwit_region *region, unsigned class_index, uint64_t index);
uint64_t godwit_slot_count(const struct godwit_region *region, unsigned class_index);

/* The words of add-delta and max are changed by one instruction: a guest that stood still for the merge
 * between reading and writing one would write the merged value away. */
static inline uint64_t godwit_word_add(uint64_t *word, uint64_t delta)
{
    return __atomic_add_fetch(word, delta, __ATOMIC_RELAXED);
}
static inline void godwit_word_raise(uint64_t *word, uint64_t value)
{
    uint64_t now = __atomic_load_n(word, __ATOMIC_RELAXED);
    while (now < value &&
           !__atomic_compare_exchange_n(word, &now, value, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

/* Takes the next place of a log and writes `length` bytes there, at most the class's payload. The
 * record's index; -ENOSPC the log is full, -EINVAL no log or too long a record. Thread safe, also
 * against the host's merge: a place once taken stays the writer's. */
int64_t godwit_log_append(struct godwit_region *region, unsigned class_index, const void *record,
                          uint32_t length);
/* Records 0 .. count-1; one whose writer is not finished, or has died, reads as NULL. */
uint64_t godwit_log_count(const struct godwit_region *region, unsigned class_index);
const void *godwit_log_record(const struct godwit_region *region, unsigned class_index, uint64_t index,
                              uint32_t *length);

/* Host side and tests: is this page a sound header for `length_bytes` of data? 0 or -EPROTO with
 * *why set to static text. Trusts nothing in the page: every offset and size is checked. */
int godwit_header_check(const struct godwit_header_page *page, uint64_t length_bytes, const char **why);
static inline uint64_t godwit_role_word(uint64_t epoch, enum godwit_role role)
{
    return (epoch << 8) | (uint64_t)role;
}

#ifdef __cplusplus
}
#endif
#endif
