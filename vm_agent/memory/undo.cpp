#include "vm_agent/memory/undo.hpp"

#include "vm_agent/durable_file.hpp"

#include <cstring>

#include <xxhash.h>

namespace godwit::memory {

namespace {

constexpr std::uint64_t kUndoMagic = 0x314f444e55574447;  // "GDWUNDO1"

struct UndoHead {
    std::uint64_t magic, count, checksum;
};
struct UndoEntry {
    std::uint64_t region, offset;
    Line bytes;
};
static_assert(sizeof(UndoEntry) == 80);

}  // namespace

std::vector<UndoLine> undo_of(std::uint32_t region, const MergePlan& plan,
                              std::span<const std::byte> destination) {
    std::vector<UndoLine> lines;
    lines.reserve(plan.writes.size());
    for (const PlannedLine& write : plan.writes) {
        UndoLine line{region, write.offset, {}};
        std::memcpy(line.bytes.data(), destination.data() + write.offset, line.bytes.size());
        lines.push_back(line);
    }
    return lines;
}

Result<void> write_undo(const std::string& path, const std::vector<UndoLine>& lines) {
    std::string text(sizeof(UndoHead) + lines.size() * sizeof(UndoEntry), '\0');
    char* at = text.data() + sizeof(UndoHead);
    for (const UndoLine& line : lines) {
        const UndoEntry entry{line.region, line.offset, line.bytes};
        std::memcpy(at, &entry, sizeof(entry));
        at += sizeof(entry);
    }
    const UndoHead head{
        kUndoMagic, lines.size(),
        XXH3_64bits(text.data() + sizeof(UndoHead), text.size() - sizeof(UndoHead))};
    std::memcpy(text.data(), &head, sizeof(head));
    return replace_file(path, text);
}

Result<std::vector<UndoLine>> read_undo(const std::string& path) {
    Result<std::string> text = read_file(path);
    if (!text) return std::unexpected(std::move(text).error());
    UndoHead head{};
    if (text->size() >= sizeof(head)) std::memcpy(&head, text->data(), sizeof(head));
    const std::size_t body = text->size() - std::min(text->size(), sizeof(head));
    if (head.magic != kUndoMagic || body != head.count * sizeof(UndoEntry) ||
        XXH3_64bits(text->data() + sizeof(head), body) != head.checksum)
        return fail(Fault::Corrupt, "read " + path, "is not a whole undo file");
    std::vector<UndoLine> lines(head.count);
    const char* at = text->data() + sizeof(head);
    for (UndoLine& line : lines) {
        UndoEntry entry{};
        std::memcpy(&entry, at, sizeof(entry));
        line = {static_cast<std::uint32_t>(entry.region), entry.offset, entry.bytes};
        at += sizeof(entry);
    }
    return lines;
}

}  // namespace godwit::memory
