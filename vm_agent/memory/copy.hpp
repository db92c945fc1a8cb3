// The two halves of a copy: what the source reads, compares and sends, and what the destination
// takes in. Blocking; each runs on a worker thread. See protocol/agent_wire.hpp for the order of
// frames.
#pragma once

#include "vm_agent/memory/codec.hpp"
#include "vm_agent/memory/diff.hpp"
#include "vm_agent/memory/frame.hpp"
#include "vm_agent/memory/image.hpp"

#include <atomic>
#include <memory>

namespace godwit::memory {

// Read by the REST side while a worker thread counts.
struct CopyProgress {
    std::atomic<std::uint64_t> bytes_total = 0, bytes_copied = 0, bytes_compared = 0,
                               bytes_diff = 0, bytes_zero = 0, bytes_compressed = 0;
    Meter copied;  // bytes_copied per second
};

class CopySource {
public:
    // Maps the guest's memory and makes an empty base. Rejected/no-memory when the host has no room
    // for a base copy of what is resident.
    static Result<CopySource> open(const std::vector<BlockFile>& blocks,
                                   std::shared_ptr<CopyProgress> progress,
                                   Compression compression = Compression::off);

    // The one memory copy, source running: ZERO for every block, then every page that is not zero.
    // What is sent is read from the base, so a page the guest changes meanwhile is seen by the
    // compare.
    Result<void> send_base(FrameChannel& channel);
    // Method whole, source running, after capture(): sends what was found and has it proven equal.
    Result<void> send_round(FrameChannel& channel);
    // After capture() with the source running: how long a pause would be that compares, sends and
    // proves as much, at the rates measured so far, and at `limit` bytes per second where there is one.
    double expected_pause_ms(std::uint64_t limit) const;
    // Forgets what capture() found.
    void forget_capture();
    // Page tables, buffers and extents: before the first compare, after each round, and right before
    // the pause.
    Result<void> get_ready();
    // The one compare, guest paused: no network, no page fault where it can be helped.
    // Also made while it runs (for a round, for a reckoning): what is found is then what is sent, and
    // the next compare sees what the guest wrote meanwhile.
    Result<void> capture();
    // Source running again: base becomes the image of the fork, its root is proven equal.
    Result<Root> send_diff(FrameChannel& channel, std::uint64_t epoch);
    // The image of the fork, block by block; valid after send_diff.
    const Image& fork_image() const { return base_; }

private:
    Result<void> look_for_data();
    Result<void> send_range(FrameChannel& channel, std::uint32_t block, Extent range);
    Result<void> send_run(FrameChannel& channel, std::uint32_t block, Extent run);
    Result<void> copy_chunk(FrameChannel& channel, std::uint32_t block, Extent chunk);
    Result<void> send_records(FrameChannel& channel, std::uint32_t block,
                              std::span<const std::byte> records);
    Result<void> send_zeroed(FrameChannel& channel, std::uint32_t block, Extent range);
    Result<void> send_lines(FrameChannel& channel);
    Result<void> prove_held(FrameChannel& channel);

    Image now_, base_;
    std::vector<Lines> lines_;  // one per block
    // Where data was, per block, when get_ready() looked: a pause looks for what is new only.
    std::vector<Extents> now_data_, base_data_;
    std::shared_ptr<CopyProgress> progress_;
    Packer packer_{Compression::off};
    // Measured, for the reckoning of a pause.
    double wire_bytes_per_ms_ = 0, compare_ms_ = 0, prove_ms_ = 0;
};

Result<void> send_devices(FrameChannel& channel, int fd, std::uint64_t bytes);

// The destination's memory until PATCHED has been said. Frames name blocks by number; a place
// outside of a block is refused as Corrupt and nothing is written.
struct CopyLanding {
    Root root{};
    std::uint64_t epoch = 0;
};
Result<CopyLanding> receive_copy(FrameChannel& channel, Image& image);
// The parts of it, between which method whole has its rounds: these end when the source says
// STANDBY.
Result<void> receive_base(FrameChannel& channel, Image& image);
Result<void> receive_rounds(FrameChannel& channel, Image& image);
Result<CopyLanding> receive_changes(FrameChannel& channel, Image& image);
// A memfd with the whole device state, positioned at its start.
Result<Descriptor> receive_devices(FrameChannel& channel);

}  // namespace godwit::memory
