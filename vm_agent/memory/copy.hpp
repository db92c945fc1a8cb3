// The two halves of a copy: what the source reads, compares and sends, and what the destination
// takes in. Blocking; each runs on a worker thread. See protocol/agent_wire.hpp for the order of
// frames.
#pragma once

#include "vm_agent/memory/diff.hpp"
#include "vm_agent/memory/frame.hpp"
#include "vm_agent/memory/image.hpp"

#include <atomic>
#include <memory>

namespace godwit::memory {

// Read by the REST side while a worker thread counts.
struct CopyProgress {
    std::atomic<std::uint64_t> bytes_total = 0, bytes_copied = 0, bytes_compared = 0,
                               bytes_diff = 0;
};

class CopySource {
public:
    // Maps the guest's memory and makes an empty base. Rejected/no-memory when the host has no room
    // for a base copy of what is resident.
    static Result<CopySource> open(const std::vector<BlockFile>& blocks,
                                   std::shared_ptr<CopyProgress> progress);

    // The one memory copy, source running: ZERO for every block, then every page that is not zero.
    // What is sent is read from the base, so a page the guest changes meanwhile is seen by the
    // compare.
    Result<void> send_base(FrameChannel& channel);
    // Page tables and buffers, right before the pause.
    Result<void> get_ready();
    // The one compare, guest paused: no network, no page fault where it can be helped.
    Result<void> capture();
    // Source running again: base becomes the image of the fork, its root is proven equal.
    Result<Root> send_diff(FrameChannel& channel, std::uint64_t epoch);
    // The image of the fork, block by block; valid after send_diff.
    const Image& fork_image() const { return base_; }

private:
    Image now_, base_;
    std::vector<Lines> lines_;  // one per block
    std::shared_ptr<CopyProgress> progress_;
};

Result<void> send_devices(FrameChannel& channel, int fd, std::uint64_t bytes);

// The destination's memory until PATCHED has been said. Frames name blocks by number; a place
// outside of a block is refused as Corrupt and nothing is written.
struct CopyLanding {
    Root root{};
    std::uint64_t epoch = 0;
};
Result<CopyLanding> receive_copy(FrameChannel& channel, Image& image);
// A memfd with the whole device state, positioned at its start.
Result<Descriptor> receive_devices(FrameChannel& channel);

}  // namespace godwit::memory
