#include "vm_agent/memory/copy.hpp"

#include <algorithm>
#include <bit>
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

Result<void> send_zero(FrameChannel& channel, std::uint32_t block, Extent range) {
    const RangeHead head{block, Codec::raw, range.offset, range.length};
    Result<void> sent = channel.send(FrameType::zero, bytes_of(head));
    if (!sent) return std::unexpected(channel.reason_of(std::move(sent).error()));
    return {};
}

bool is_zeroed_page(const LineRecord& record, const std::byte* lines) {
    return record.mask == ~0ull && is_zero_page(lines);
}

// The pages among the records that have become zero as ranges, the other records as they were.
struct Sorted {
    Extents zeroed;
    std::vector<std::byte> kept;
};

Result<Sorted> sorted(std::span<const std::byte> records, std::uint64_t limit) {
    Sorted found;
    const std::byte* begin = records.data();  // of the record: its head is in front of its lines
    Result<void> seen = for_each_record(
        records, limit, [&](const LineRecord& record, const std::byte* lines) -> Result<void> {
            const std::byte* end = lines + std::popcount(record.mask) * kLineBytes;
            if (!is_zeroed_page(record, lines)) {
                found.kept.insert(found.kept.end(), begin, end);
            } else if (!found.zeroed.empty() && found.zeroed.back().end() == record.offset) {
                found.zeroed.back().length += kPageBytes;
            } else {
                found.zeroed.push_back({record.offset, kPageBytes});
            }
            begin = end;
            return {};
        });
    if (!seen) return std::unexpected(std::move(seen).error());
    return found;
}

bool has_zeroed_page(std::span<const std::byte> records, std::uint64_t limit) {
    bool found = false;
    (void)for_each_record(records, limit, [&](const LineRecord& record, const std::byte* lines) {
        found = found || is_zeroed_page(record, lines);
        return Result<void>{};
    });
    return found;
}

}  // namespace

Result<CopySource> CopySource::open(const std::vector<BlockFile>& blocks,
                                    std::shared_ptr<CopyProgress> progress,
                                    Compression compression) {
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
    copy.packer_ = Packer(compression);
    copy.progress_->bytes_total = *resident;
    return copy;
}

Result<void> CopySource::send_range(FrameChannel& channel, std::uint32_t block, Extent range) {
    const std::span<const std::byte> bytes =
        base_.blocks()[block].bytes().subspan(range.offset, range.length);
    const Packer::Packed packed = packer_.pack(bytes, channel.link_bytes_per_s());
    const RangeHead head{block, packed.codec, range.offset, range.length};
    Result<void> sent = channel.send(FrameType::base, bytes_of(head), packed.bytes);
    if (!sent) return std::unexpected(channel.reason_of(std::move(sent).error()));
    if (packed.codec != Codec::raw) progress_->bytes_compressed += range.length;
    return {};
}

Result<void> CopySource::send_run(FrameChannel& channel, std::uint32_t block, Extent run) {
    for (std::uint64_t at = run.offset; at < run.end(); at += kChunkBytes) {
        const std::uint64_t length = std::min<std::uint64_t>(kChunkBytes, run.end() - at);
        Result<void> sent = send_range(channel, block, {at, length});
        if (!sent) return sent;
    }
    return {};
}

// Copies the pages of a chunk that are not zero into the base and sends each run of them.
Result<void> CopySource::copy_chunk(FrameChannel& channel, std::uint32_t block, Extent chunk) {
    const MappedFile &now = now_.blocks()[block], &base = base_.blocks()[block];
    std::uint64_t run = chunk.offset;  // [run, at) is copied and not yet sent
    for (std::uint64_t at = chunk.offset; at < chunk.end(); at += kPageBytes) {
        // The guest may write between the look and the copy: either way the base is what is sent,
        // and a page taken for zero is a hole on both sides.
        if (!is_zero_page(now.data() + at)) {
            std::memcpy(base.data() + at, now.data() + at, kPageBytes);
            continue;
        }
        Result<void> sent = send_run(channel, block, {run, at - run});
        if (!sent) return sent;
        progress_->bytes_zero += kPageBytes;
        run = at + kPageBytes;
    }
    return send_run(channel, block, {run, chunk.end() - run});
}

Result<void> CopySource::send_base(FrameChannel& channel) {
    const auto begin = std::chrono::steady_clock::now();
    for (std::uint32_t block = 0; block < now_.blocks().size(); ++block) {
        const MappedFile& now = now_.blocks()[block];
        Result<void> sent = send_zero(channel, block, {0, now.size()});
        if (!sent) return sent;
        Result<Extents> extents = now.extents();
        if (!extents) return std::unexpected(std::move(extents).error());
        for (const Extent& extent : *extents) {
            for (std::uint64_t at = extent.offset; at < extent.end(); at += kChunkBytes) {
                const std::uint64_t end = std::min<std::uint64_t>(at + kChunkBytes, extent.end());
                sent = copy_chunk(channel, block, {at, end - at});
                if (!sent) return sent;
                const std::uint64_t copied = progress_->bytes_copied += end - at;
                progress_->copied.note(end - at, std::chrono::steady_clock::now());
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

double CopySource::expected_pause_ms(std::uint64_t limit) const {
    double bytes_per_ms = std::max(wire_bytes_per_ms_, 1.0);
    if (limit != 0) bytes_per_ms = std::min(bytes_per_ms, static_cast<double>(limit) / 1000.0);
    std::uint64_t bytes = 0;
    for (const Lines& lines : lines_) bytes += lines.bytes().size();
    return kQemuPauseMs + compare_ms_ + prove_ms_ + static_cast<double>(bytes) / bytes_per_ms;
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

Result<void> CopySource::send_records(FrameChannel& channel, std::uint32_t block,
                                      std::span<const std::byte> records) {
    MappedFile& base = base_.blocks()[block];
    for (std::span<const std::byte> piece : split_records(records, kChunkBytes)) {
        const Packer::Packed packed = packer_.pack(piece, channel.link_bytes_per_s());
        const BlockHead head{block, packed.codec};
        const PackedHead size{piece.size()};
        std::vector<std::byte> heads(bytes_of(head).begin(), bytes_of(head).end());
        if (packed.codec != Codec::raw)
            heads.insert(heads.end(), bytes_of(size).begin(), bytes_of(size).end());
        Result<void> sent = channel.send(FrameType::diff, heads, packed.bytes);
        if (!sent) return std::unexpected(channel.reason_of(std::move(sent).error()));
        Result<void> applied = for_each_record(
            piece, base.size(), [&](const LineRecord& record, const std::byte* lines) {
                apply_record(record, lines, base.data());
                return Result<void>{};
            });
        if (!applied) return applied;
    }
    return {};
}

Result<void> CopySource::send_zeroed(FrameChannel& channel, std::uint32_t block, Extent range) {
    Result<void> sent = send_zero(channel, block, range);
    return sent ? base_.blocks()[block].punch(range) : sent;
}

Result<void> CopySource::send_lines(FrameChannel& channel) {
    for (std::uint32_t block = 0; block < lines_.size(); ++block) {
        const std::uint64_t size = base_.blocks()[block].size();
        const std::span<const std::byte> records = lines_[block].bytes();
        Sorted apart;
        const bool apart_at_all = has_zeroed_page(records, size);
        if (apart_at_all) {
            Result<Sorted> done = sorted(records, size);
            if (!done) return std::unexpected(std::move(done).error());
            apart = std::move(*done);
        }
        Result<void> sent = send_records(channel, block, apart_at_all ? apart.kept : records);
        for (const Extent& range : apart.zeroed) {
            if (sent) sent = send_zeroed(channel, block, range);
            progress_->bytes_zero += range.length;
        }
        if (!sent) return sent;
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
