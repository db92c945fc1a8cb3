// What two agents say to each other about memory: frames on one TCP connection, little-endian.
//
//   destination (listens)                     source (connects)
//   CHALLENGE(nonce)                    ->
//                                       <-    HELLO(Hello as JSON, with the proof)
//   WELCOME(Welcome as JSON)            ->
//   copy:                               <-    ZERO, BASE ... BASE_END(root)      source runs
//   BASE_HELD(root)                     ->
//                                       <-    DIFF, ZERO ... DIFF_END(root,      what changed until
//                                             epoch)                             the fork
//   PATCHED(root)                       ->                                       equal, or ABORT
//                                       <-    DEVSTATE ...                       QEMU's device
//                                       state
//   LOADED                              ->                                       the clone is
//                                                                                ready, paused
//   regions (method boot): as copy, of the regions alone and without device state: PATCHED is the
//   last word
//   whole: as copy, with this between BASE_HELD and the last DIFF, while the source runs:
//                                       <-    DIFF ... BASE_END(root)            a round; none or
//   BASE_HELD(root)                     ->                                       several
//                                       <-    STANDBY                            the stop is next
//   STANDING_BY                         ->                                       QEMU is there, its
//                                                                                link is up
//   merge:                              <-    MERGE ... MERGE_END(MergeEnd as JSON)
//   MERGED(MergeOutcome as JSON)        ->
// Either side may say ABORT(text) at any time and close.
//
// What follows WELCOME is a session, and a session outlives its connections. Each side keeps what it
// has sent until ACK(number of frames received, in FrameHead::sequence) says that it came; at most
// kWindowBytes of it, so ACKs are also the sender's credit. After a cut the source connects and greets
// again with Hello::resume; HELLO and WELCOME say how many frames of the session each side has, and
// each sends the other again what is missing, once. A destination that does not know the session (its
// agent was restarted) refuses, and the copy begins anew.
//
// Each frame is a FrameHead and payload_bytes of payload. The checksum is XXH3-64 of the head's
// first 16 bytes followed by the payload. Sequence numbers count from 0 in each direction, of the
// greeting per connection and then of the session; a gap is an error. ACKs are not counted. The proof is HMAC-SHA256 with the shared peer token as key over proof_text(): who does
// not know the token learns nothing and is refused, and a recorded HELLO cannot be used with
// another nonce.
#pragma once

#include "protocol/agent_api.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <boost/describe.hpp>

namespace godwit::protocol::wire {

constexpr std::uint32_t kFrameMagic = 0x54415747;  // "GWAT"
constexpr std::uint16_t kFrameVersion = 4;
constexpr std::uint32_t kChunkBytes = 1 << 20;  // of memory in one frame
constexpr std::uint32_t kPayloadMax = kChunkBytes + 64 * 1024;
// Sent and not yet acknowledged, per direction; enough for 10 Gbit/s at 10 ms.
constexpr std::size_t kWindowBytes = 16 << 20;
constexpr std::size_t kAckEveryBytes = 2
                                       << 20;  // of bulk; every other frame is acknowledged at once
constexpr std::uint32_t kHelloMax =
    64 * 1024;  // before the proof is checked nothing larger is read
constexpr std::uint64_t kDevstateMax = 256ull << 20;
constexpr std::size_t kBlocksMax = 16;
constexpr std::size_t kConflictsMax = 256;  // reported; more are counted
constexpr std::size_t kLineBytes = 64;
constexpr std::size_t kPageBytes = 4096;  // 64 lines: one mask

enum class FrameType : std::uint16_t {
    challenge = 1,
    hello = 2,
    welcome = 3,
    zero = 4,
    base = 5,
    base_end = 6,
    base_held = 7,
    diff = 8,
    diff_end = 9,
    patched = 10,
    devstate = 11,
    loaded = 12,
    merge = 13,
    merge_end = 14,
    merged = 15,
    abort = 16,
    standby = 17,
    standing_by = 18,
    ack = 19,
};
BOOST_DESCRIBE_ENUM(FrameType, challenge, hello, welcome, zero, base, base_end, base_held, diff,
                    diff_end, patched, devstate, loaded, merge, merge_end, merged, abort, standby,
                    standing_by, ack)
constexpr std::uint16_t kFrameTypeLast = 19;

struct FrameHead {
    std::uint32_t magic;
    std::uint16_t version;
    std::uint16_t type;
    std::uint32_t payload_bytes;
    std::uint32_t sequence;  // of ACK: how many frames of the session came
    std::uint64_t checksum;
};
static_assert(sizeof(FrameHead) == 24);

// How a piece of memory is packed: LZ4's block format, or one Zstandard frame (RFC 8878).
enum class Codec : std::uint32_t { raw = 0, lz4 = 1, zstd = 2 };

// Payload of BASE: this, then the bytes. Payload of ZERO: this alone, `length` bytes become zero.
struct RangeHead {
    std::uint32_t block;   // index into Hello::blocks
    Codec codec;           // of ZERO: raw
    std::uint64_t offset;  // multiple of kPageBytes
    std::uint64_t
        length;  // multiple of kPageBytes; of BASE: what the bytes that follow are unpacked
};
static_assert(sizeof(RangeHead) == 24);

// Payload of DIFF and MERGE: BlockHead, unless raw a PackedHead, then packed or not records: a page and which
// of its lines changed, then these lines, lowest first. As most pages change in one place, a record's head
// has 6 bytes: the page's number (32 bits) and its shape (16 bits), which is a kind (the upper 4 bits) and two
// line numbers a <= b of 6 bits, a in the lowest: lines a to b; or a and b alone, a + 1 < b; or, with
// a = b = 0, those of the mask of 64 bits that follows. 64 changed bytes are 70 on the wire, and at no pattern
// more than 1.1 times as many.
struct BlockHead {
    std::uint32_t block;
    Codec codec;  // of MERGE: raw
};
static_assert(sizeof(BlockHead) == 8);
struct PackedHead {
    std::uint64_t raw_bytes;  // at most kPayloadMax
};
static_assert(sizeof(PackedHead) == 8);
constexpr std::size_t kRecordHeadBytes = 6, kRecordHeadMax = 14;
enum class RecordKind : std::uint16_t { run = 0, two = 1, mask = 2 };
// A record's head as both sides think of it.
struct LineRecord {
    std::uint64_t offset;  // of the page, multiple of kPageBytes
    std::uint64_t mask;    // bit i: line i of the page follows; never 0
};

// 128-bit XXH3 root over the blocks: memory/root.hpp says how it is made.
struct Root {
    std::uint64_t low, high;
    friend bool operator==(const Root&, const Root&) = default;
};
static_assert(sizeof(Root) == 16);
struct DiffEnd {
    Root root;
    std::uint64_t epoch;  // the clone's, one more than the source had; of `whole`: the same
};
static_assert(sizeof(DiffEnd) == 24);

// Payload of DEVSTATE: this, then a piece of the stream.
struct DevstateHead {
    std::uint64_t total;   // of the whole stream, the same in each frame; at most kDevstateMax
    std::uint64_t offset;  // pieces come in order
};
static_assert(sizeof(DevstateHead) == 16);

enum class Purpose { copy, merge, whole, regions };
BOOST_DESCRIBE_ENUM(Purpose, copy, merge, whole, regions)

struct Block {
    std::string name;  // "ram", or "region:" and the region's name
    std::uint64_t bytes = 0;
    static constexpr std::string_view kRequired[] = {"name", "bytes"};
};
BOOST_DESCRIBE_STRUCT(Block, (), (name, bytes))

struct Hello {
    Purpose purpose = Purpose::copy;
    Command command;
    std::string vm, machine, cpu, qemu_version, accelerator;
    std::uint32_t vcpus = 0;
    std::vector<Block> blocks;
    std::string session;         // the source's choice, 64 random hex digits
    bool resume = false;         // the session exists already, its connection was cut
    std::uint32_t received = 0;  // frames of the session that the source has from the destination
    std::string nonce;           // the source's own, 64 hex digits
    std::string proof;           // 64 hex digits
    static constexpr std::string_view kRequired[] = {"purpose", "command", "vm",   "blocks",
                                                     "session", "nonce",   "proof"};
};
BOOST_DESCRIBE_STRUCT(Hello, (),
                      (purpose, command, vm, machine, cpu, qemu_version, accelerator, vcpus, blocks,
                       session, resume, received, nonce, proof))

struct Welcome {
    std::string host, proof;     // the destination proves itself as well
    std::uint32_t received = 0;  // frames of the session that the destination has
    static constexpr std::string_view kRequired[] = {"host", "proof"};
};
BOOST_DESCRIBE_STRUCT(Welcome, (), (host, proof, received))

struct MergeEnd {
    OnConflict on_conflict = OnConflict::fail;
    std::string base_root;  // hex root over the region bases: both sides must hold the same
    static constexpr std::string_view kRequired[] = {"on_conflict", "base_root"};
};
BOOST_DESCRIBE_STRUCT(MergeEnd, (), (on_conflict, base_root))

struct MergeOutcome {
    std::string job;
    bool applied = false;
    std::uint64_t bytes_patched = 0;
    std::uint64_t conflict_count = 0;
    double pause_ms = 0;
    std::vector<Conflict> conflicts;  // at most kConflictsMax
    static constexpr std::string_view kRequired[] = {"job", "applied"};
};
BOOST_DESCRIBE_STRUCT(MergeOutcome, (),
                      (job, applied, bytes_patched, conflict_count, pause_ms, conflicts))

// What both proofs are made over; `side` is "source" or "destination", `received` what that side has.
inline std::string proof_text(std::string_view side, std::string_view challenge, const Hello& hello,
                              std::uint32_t received) {
    std::string text = "godwit-agent/3 ";
    text.append(side).append(" ").append(challenge).append(" ").append(hello.nonce).append(" ");
    text.append(hello.command.job).append(" ").append(hello.vm).append(" ");
    text.append(std::to_string(hello.command.token)).append(" ").append(hello.session);
    text.append(hello.resume ? " again " : " new ").append(std::to_string(received));
    return text;
}

}  // namespace godwit::protocol::wire
