/* What recordd and its clients say to each other, and the record it keeps per session.
 *
 * TCP port 7000: frames of a type byte, a zero byte and the payload's length (16 bits, big-endian).
 *   'H' u64 session id        -> 'W'   begins a session: a record of its own in the region
 *   'D' bytes                 -> 'D'   counted, added to the checksum, echoed
 *   'I' nothing               -> 'W'   who answers
 *   'Q' nothing               -> 'R'*  every record, then 'E' u64 count
 *   'W' struct recordd_identity, 'R' struct recordd_record
 * UDP port 7001: a datagram comes back behind a struct recordd_identity.
 * Numbers are little-endian, as they lie in the region. */
#ifndef GODWIT_LAB_RECORDD_H
#define GODWIT_LAB_RECORDD_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RECORDD_TCP_PORT 7000
#define RECORDD_UDP_PORT 7001
#define RECORDD_HEADER_BYTES 4u
#define RECORDD_PAYLOAD_MAX 4096u

/* Who answers: the region's role and epoch at that moment, and the slot of the session's record. */
struct recordd_identity {
    uint64_t role; /* enum godwit_role */
    uint64_t epoch;
    uint64_t slot;
};

enum recordd_state { RECORDD_OPEN = 1, RECORDD_CLOSED = 2 };

/* One 64-byte line, so that a merge takes a record as a whole or not at all. */
struct recordd_record {
    uint64_t session;
    uint64_t state; /* enum recordd_state; kept when the session has closed */
    uint64_t bytes;
    uint64_t messages;
    uint64_t checksum; /* FNV-1a over all bytes in order */
    uint64_t role;     /* of the instance that made the record */
    uint64_t epoch;
    uint64_t reserved;
};

#define RECORDD_CHECKSUM_START 14695981039346656037ull

static inline uint64_t recordd_checksum(uint64_t checksum, const void *bytes, uint64_t length)
{
    const uint8_t *at = (const uint8_t *)bytes;
    for (uint64_t i = 0; i < length; ++i) checksum = (checksum ^ at[i]) * 1099511628211ull;
    return checksum;
}

#ifdef __cplusplus
}
#endif
#endif
