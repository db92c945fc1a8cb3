#include "vm_agent/memory/copy.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

namespace godwit::memory {

using namespace protocol::wire;

namespace {

constexpr std::size_t kDiffReserve = 16 << 20;    // faulted in before the pause, per copy
constexpr std::uint64_t kHeadroom = 64ull << 20;  // left to the host beside the base copy
// QEMU's own part of a pause: it stops, writes and reads device state. Seen: 6 to 15 ms.
constexpr double kQemuPauseMs = 20;

double ms_since(std::chrono::steady_clock::time_point begin) {
    const auto taken = std::chrono::steady_clock::now() - begin;
    return std::chrono::duration<double, std::milli>(taken).count();
}

Result<void> send_range(FrameChannel& channel, FrameType type, const RangeHead& head,
                        std::span<const std::byte> bytes) {
    Result<void> sent = channel.send(type, bytes_of(head), bytes);
    if (!sent) return std::unexpected(channel.reason_of(std::move(sent).error()));
    return {};
}

Result<void> send_run(FrameChannel& channel, std::uint32_t block, const MappedFile& base,
                      std::uint64_t begin, std::uint64_t end) {
    for (std::uint64_t at = begin; at < end; at += kChunkBytes) {
        const std::uint64_t length = std::min<std::uint64_t>(kChunkBytes, end - at);
        Result<void> sent = send_range(channel, FrameType::base, {block, 0, at, length},
                                       base.bytes().subspan(at, length));
        if (!sent) return sent;
    }
    return {};
}

// Copies the pages of [begin, end) that are not zero into the base and sends each run of them.
Result<void> copy_chunk(FrameChannel& channel, std::uint32_t block, const MappedFile& now,
                        const MappedFile& base, std::uint64_t begin, std::uint64_t end) {
    std::uint64_t run = begin;  // [run, at) is copied and not yet sent
    for (std::uint64_t at = begin; at < end; at += kPageBytes) {
        // The guest may write between the look and the copy: either way the base is what is sent,
        // and a page taken for zero is a hole on both sides.
        if (!is_zero_page(now.data() + at)) {
            std::memcpy(base.data() + at, now.data() + at, kPageBytes);
            continue;
        }
        Result<void> sent = send_run(channel, block, base, run, at);
        if (!sent) return sent;
        run = at + kPageBytes;
    }
    return send_run(channel, block, base, run, end);
}

}  // namespace

Result<CopySource> CopySource::open(const std::vector<BlockFile>& blocks,
                                    std::shared_ptr<CopyProgress> progress) {
    Result<Image> now = Image::open(blocks);
    if (!now) return std::unexpected(std::move(now).error());
    Result<std::uint64_t> resident = now->resident_bytes();
    if (!resident) return std::unexpected(std::move(resident).error());
    const std::uint64_t available = meminfo_bytes("MemAvailable");
    if (*resident + kHeadroom > available)
        return fail(Fault::Conflict, "make a base copy",
                    "it needs " + std::to_string(*resident) + " bytes and " +
                        std::to_string(available) + " are available on this host",
                    "no-memory");
    Result<Image> base = Image::blank(*now);
    if (!base) return std::unexpected(std::move(base).error());
    CopySource copy;
    copy.lines_.resize(blocks.size());
    copy.now_ = std::move(*now);
    copy.base_ = std::move(*base);
    copy.progress_ = std::move(progress);
    copy.progress_->bytes_total = *resident;
    return copy;
}

Result<void> CopySource::send_base(FrameChannel& channel) {
    const auto begin = std::chrono::steady_clock::now();
    for (std::uint32_t block = 0; block < now_.blocks().size(); ++block) {
        const MappedFile& now = now_.blocks()[block];
        Result<void> sent = send_range(channel, FrameType::zero, {block, 0, 0, now.size()}, {});
        if (!sent) return sent;
        Result<Extents> extents = now.extents();
        if (!extents) return std::unexpected(std::move(extents).error());
        for (const Extent& extent : *extents) {
            for (std::uint64_t at = extent.offset; at < extent.end(); at += kChunkBytes) {
                const std::uint64_t end = std::min<std::uint64_t>(at + kChunkBytes, extent.end());
                sent = copy_chunk(channel, block, now, base_.blocks()[block], at, end);
                if (!sent) return sent;
                const std::uint64_t copied = progress_->bytes_copied += end - at;
                // The guest has touched new pages since the total was taken.
                if (copied > progress_->bytes_total) progress_->bytes_total = copied;
            }
        }
    }
    wire_bytes_per_ms_ = static_cast<double>(channel.bytes_sent()) / ms_since(begin);
    return prove_held(channel);
}

// Both sides hash in turn here as they do in the pause: the time it takes is the time it will take.
Result<void> CopySource::prove_held(FrameChannel& channel) {
    const auto begin = std::chrono::steady_clock::now();
    Result<Root> root = base_.root();
    if (!root) return std::unexpected(std::move(root).error());
    Result<void> sent = channel.send(FrameType::base_end, bytes_of(*root));
    if (!sent) return std::unexpected(channel.reason_of(std::move(sent).error()));
    Result<Frame> held = channel.expect(FrameType::base_held);
    if (!held) return std::unexpected(std::move(held).error());
    prove_ms_ = ms_since(begin);
    return {};
}

Result<void> CopySource::send_round(FrameChannel& channel) {
    Result<void> sent = send_lines(channel);
    return sent ? prove_held(channel) : sent;
}

double CopySource::expected_pause_ms() const {
    std::uint64_t bytes = 0;
    for (const Lines& lines : lines_) bytes += lines.bytes().size();
    return kQemuPauseMs + compare_ms_ + prove_ms_ +
           static_cast<double>(bytes) / std::max(wire_bytes_per_ms_, 1.0);
}

void CopySource::forget_capture() {
    for (Lines& lines : lines_) lines = {};
}

Result<void> CopySource::get_ready() {
    for (Lines& lines : lines_) lines.reserve(kDiffReserve / lines_.size());
    Result<void> ready = now_.populate();
    if (ready) ready = base_.populate();
    return ready ? look_for_data() : ready;
}

Result<void> CopySource::look_for_data() {
    now_data_.clear();
    base_data_.clear();
    for (std::size_t block = 0; block < lines_.size(); ++block) {
        Result<Extents> now = now_.blocks()[block].extents();
        if (!now) return std::unexpected(std::move(now).error());
        Result<Extents> base = base_.blocks()[block].extents();
        if (!base) return std::unexpected(std::move(base).error());
        now_data_.push_back(std::move(*now));
        base_data_.push_back(std::move(*base));
    }
    return {};
}

Result<void> CopySource::capture() {
    const auto begin = std::chrono::steady_clock::now();
    for (std::size_t block = 0; block < lines_.size(); ++block) {
        const MappedFile &base = base_.blocks()[block], &now = now_.blocks()[block];
        Result<Extents> data = grown_extents(now.fd(), now.size(), now_data_[block]);
        if (!data) return std::unexpected(std::move(data).error());
        Result<DiffCount> count = diff({base, base_data_[block]}, {now, *data}, lines_[block]);
        if (!count) return std::unexpected(std::move(count).error());
        progress_->bytes_compared += count->bytes_compared;
    }
    compare_ms_ = ms_since(begin);
    return {};
}

Result<void> CopySource::send_lines(FrameChannel& channel) {
    for (std::uint32_t block = 0; block < lines_.size(); ++block) {
        MappedFile& base = base_.blocks()[block];
        const BlockHead head{block, 0};
        for (std::span<const std::byte> piece : split_records(lines_[block].bytes(), kChunkBytes)) {
            Result<void> sent = channel.send(FrameType::diff, bytes_of(head), piece);
            if (!sent) return std::unexpected(channel.reason_of(std::move(sent).error()));
            Result<void> applied = for_each_record(
                piece, base.size(), [&](const LineRecord& record, const std::byte* lines) {
                    apply_record(record, lines, base.data());
                    return Result<void>{};
                });
            if (!applied) return std::unexpected(std::move(applied).error());
        }
        progress_->bytes_diff += lines_[block].line_count() * kLineBytes;
        lines_[block] = {};
    }
    return {};
}

Result<Root> CopySource::send_diff(FrameChannel& channel, std::uint64_t epoch) {
    Result<void> lines_sent = send_lines(channel);
    if (!lines_sent) return std::unexpected(std::move(lines_sent).error());
    Result<Root> root = base_.root();
    if (!root) return root;
    const DiffEnd end{*root, epoch};
    Result<void> sent = channel.send(FrameType::diff_end, bytes_of(end));
    if (!sent) return std::unexpected(channel.reason_of(std::move(sent).error()));
    Result<Frame> patched = channel.expect(FrameType::patched);
    if (!patched) return std::unexpected(std::move(patched).error());
    std::span<const std::byte> payload = patched->payload;
    Result<Root> theirs = take<Root>(payload, "the root of PATCHED");
    if (theirs && *theirs != *root)
        return fail(Fault::Corrupt, "prove both memories equal",
                    "root " + to_hex(*root) + " here, " + to_hex(*theirs) + " there");
    return theirs;
}

Result<void> send_devices(FrameChannel& channel, int fd, std::uint64_t bytes) {
    std::vector<std::byte> piece(kChunkBytes);
    for (std::uint64_t at = 0; at < bytes;) {
        const ssize_t got =
            pread(fd, piece.data(), std::min<std::uint64_t>(piece.size(), bytes - at),
                  static_cast<off_t>(at));
        if (got <= 0) return fail_errno(Fault::Retry, "read the device state");
        const DevstateHead head{bytes, at};
        Result<void> sent = channel.send(FrameType::devstate, bytes_of(head),
                                         std::span(piece).first(static_cast<std::size_t>(got)));
        if (!sent) return std::unexpected(channel.reason_of(std::move(sent).error()));
        at += static_cast<std::uint64_t>(got);
    }
    Result<Frame> loaded = channel.expect(FrameType::loaded);
    if (!loaded) return std::unexpected(std::move(loaded).error());
    return {};
}

}  // namespace godwit::memory
