#include "vm_agent/memory/codec.hpp"
#include "vm_agent/memory/copy.hpp"

#include <cerrno>
#include <sys/mman.h>
#include <unistd.h>

namespace godwit::memory {

using namespace protocol::wire;

namespace {

std::unexpected<Error> malformed(std::string cause) {
    return fail(Fault::Corrupt, "take in memory", std::move(cause), "malformed-frame");
}

// Through the file, not the map: a full host is ENOSPC here and would be a SIGBUS there.
Result<void> write_at(int fd, std::span<const std::byte> bytes, std::uint64_t offset) {
    while (!bytes.empty()) {
        const ssize_t written = pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) {
            auto full = fail_errno(Fault::Conflict, "take in memory");
            full.error().slug = "no-memory";
            return full;
        }
        bytes = bytes.subspan(static_cast<std::size_t>(written));
        offset += static_cast<std::uint64_t>(written);
    }
    return {};
}

Result<MappedFile*> block_of(Image& image, std::uint32_t number) {
    if (number >= image.blocks().size())
        return malformed("block " + std::to_string(number) + " of " +
                         std::to_string(image.blocks().size()));
    return &image.blocks()[number];
}

Result<void> take_range(Image& image, FrameType type, std::span<const std::byte> payload) {
    Result<RangeHead> head = take<RangeHead>(payload, "a range");
    if (!head) return std::unexpected(std::move(head).error());
    Result<MappedFile*> block = block_of(image, head->block);
    if (!block) return std::unexpected(std::move(block).error());
    const std::uint64_t size = (*block)->size();
    if (head->offset % kPageBytes != 0 || head->length % kPageBytes != 0 || head->length == 0 ||
        head->length > size || head->offset > size - head->length)
        return malformed("range of " + std::to_string(head->length) + " bytes at " +
                         std::to_string(head->offset) + " does not lie in block " +
                         std::to_string(head->block) + " of " + std::to_string(size) + " bytes");
    if (type == FrameType::zero) {
        if (!payload.empty()) return malformed("a ZERO frame with bytes behind it");
        return (*block)->punch({head->offset, head->length});
    }
    if (head->codec != Codec::raw) {
        Result<std::vector<std::byte>> bytes = decompressed(head->codec, payload, head->length);
        if (!bytes) return std::unexpected(std::move(bytes).error());
        return write_at((*block)->fd(), *bytes, head->offset);
    }
    if (payload.size() != head->length)
        return malformed("a BASE frame of " + std::to_string(payload.size()) +
                         " bytes says it has " + std::to_string(head->length));
    return write_at((*block)->fd(), payload, head->offset);
}

Result<void> take_diff(Image& image, std::span<const std::byte> payload) {
    Result<BlockHead> head = take<BlockHead>(payload, "the block of a DIFF");
    if (!head) return std::unexpected(std::move(head).error());
    Result<MappedFile*> block = block_of(image, head->block);
    if (!block) return std::unexpected(std::move(block).error());
    std::vector<std::byte> unpacked;
    if (head->codec != Codec::raw) {
        Result<PackedHead> packed = take<PackedHead>(payload, "the size of a packed DIFF");
        if (!packed) return std::unexpected(std::move(packed).error());
        Result<std::vector<std::byte>> bytes =
            decompressed(head->codec, payload, packed->raw_bytes);
        if (!bytes) return std::unexpected(std::move(bytes).error());
        unpacked = std::move(*bytes);
        payload = unpacked;
    }
    const int fd = (*block)->fd();
    return for_each_record(payload, (*block)->size(),
                           [fd](const LineRecord& record, const std::byte* lines) {
                               return write_record(record, lines, fd);
                           });
}

// After the base: lines, and pages that have become zero.
bool is_change(FrameType type) {
    return type == FrameType::diff || type == FrameType::zero;
}

Result<void> take_change(Image& image, const Frame& frame) {
    if (frame.type == FrameType::zero) return take_range(image, frame.type, frame.payload);
    return take_diff(image, frame.payload);
}

Result<Root> prove(const Image& image, const Root& theirs, std::string_view when) {
    Result<Root> ours = image.root();
    if (ours && *ours != theirs)
        return fail(Fault::Corrupt, "prove both memories equal",
                    "after the " + std::string(when) + ": root " + to_hex(*ours) + " here, " +
                        to_hex(theirs) + " at the source",
                    "memory-differs");
    return ours;
}

// Proves what BASE_END says, and says so.
Result<void> hold(FrameChannel& channel, const Image& image, std::span<const std::byte> payload,
                  std::string_view when) {
    Result<Root> theirs = take<Root>(payload, "the root of BASE_END");
    if (!theirs) return std::unexpected(std::move(theirs).error());
    Result<Root> ours = prove(image, *theirs, when);
    if (!ours) return std::unexpected(std::move(ours).error());
    return channel.send(FrameType::base_held, bytes_of(*ours));
}

}  // namespace

Result<void> receive_base(FrameChannel& channel, Image& image) {
    while (true) {
        Result<Frame> frame = channel.receive();
        if (!frame) return std::unexpected(std::move(frame).error());
        if (frame->type == FrameType::zero || frame->type == FrameType::base) {
            Result<void> taken = take_range(image, frame->type, frame->payload);
            if (!taken) return taken;
            continue;
        }
        if (frame->type != FrameType::base_end)
            return malformed("neither BASE, ZERO nor BASE_END came");
        return hold(channel, image, frame->payload, "base copy");
    }
}

Result<void> receive_rounds(FrameChannel& channel, Image& image) {
    while (true) {
        Result<Frame> frame = channel.receive();
        if (!frame) return std::unexpected(std::move(frame).error());
        if (frame->type == FrameType::standby) return {};
        if (!is_change(frame->type) && frame->type != FrameType::base_end)
            return malformed("neither DIFF, ZERO, BASE_END nor STANDBY came");
        Result<void> taken = is_change(frame->type) ? take_change(image, *frame)
                                                    : hold(channel, image, frame->payload, "round");
        if (!taken) return taken;
    }
}

Result<CopyLanding> receive_copy(FrameChannel& channel, Image& image) {
    Result<void> base = receive_base(channel, image);
    if (!base) return std::unexpected(std::move(base).error());
    return receive_changes(channel, image);
}

Result<CopyLanding> receive_changes(FrameChannel& channel, Image& image) {
    while (true) {
        Result<Frame> frame = channel.receive();
        if (!frame) return std::unexpected(std::move(frame).error());
        if (is_change(frame->type)) {
            Result<void> taken = take_change(image, *frame);
            if (!taken) return std::unexpected(std::move(taken).error());
            continue;
        }
        if (frame->type != FrameType::diff_end)
            return malformed("neither DIFF, ZERO nor DIFF_END came");
        std::span<const std::byte> payload = frame->payload;
        Result<DiffEnd> end = take<DiffEnd>(payload, "the root of DIFF_END");
        if (!end) return std::unexpected(std::move(end).error());
        Result<Root> ours = prove(image, end->root, "diff");
        if (!ours) return std::unexpected(std::move(ours).error());
        return CopyLanding{*ours, end->epoch};
    }
}

Result<Descriptor> receive_devices(FrameChannel& channel) {
    Descriptor file(memfd_create("godwit-devices", MFD_CLOEXEC));
    if (!file) return fail_errno(Fault::Retry, "make room for the device state");
    std::uint64_t at = 0, total = 0;
    do {
        Result<Frame> frame = channel.expect(FrameType::devstate);
        if (!frame) return std::unexpected(std::move(frame).error());
        std::span<const std::byte> payload = frame->payload;
        Result<DevstateHead> head = take<DevstateHead>(payload, "a piece of device state");
        if (!head) return std::unexpected(std::move(head).error());
        if (at == 0) total = head->total;
        if (head->total != total || total == 0 || total > kDevstateMax || head->offset != at ||
            payload.empty() || payload.size() > total - at)
            return malformed("a piece of device state of " + std::to_string(payload.size()) +
                             " bytes at " + std::to_string(head->offset) + " of " +
                             std::to_string(head->total));
        Result<void> written = write_at(file.get(), payload, at);
        if (!written) return std::unexpected(std::move(written).error());
        at += payload.size();
    } while (at < total);
    lseek(file.get(), 0, SEEK_SET);
    return file;
}

}  // namespace godwit::memory
