#include "vm_agent/memory/merge.hpp"

#include "vm_agent/memory/diff.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace godwit::memory {

using protocol::OnConflict;
using protocol::wire::kConflictsMax;
using protocol::wire::kLineBytes;

namespace {

constexpr std::size_t kWordsPerLine = kLineBytes / sizeof(std::uint64_t);
using Words = std::array<std::uint64_t, kWordsPerLine>;

Line line_at(std::span<const std::byte> bytes, std::uint64_t offset) {
    Line line;
    std::memcpy(line.data(), bytes.data() + offset, kLineBytes);
    return line;
}

std::string hex(const Line& line) {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string text;
    text.reserve(2 * kLineBytes);
    for (std::byte byte : line) {
        text.push_back(kDigits[std::to_integer<unsigned>(byte) >> 4]);
        text.push_back(kDigits[std::to_integer<unsigned>(byte) & 15]);
    }
    return text;
}

MergedLine write_if_new(const Line& bytes, const Line& destination) {
    return {bytes == destination ? LineFate::keep : LineFate::write, bytes};
}

template <typename Combine>
MergedLine by_words(const Line& base, const Line& source, const Line& destination,
                    Combine combine) {
    const Words old_words = std::bit_cast<Words>(base);
    const Words source_words = std::bit_cast<Words>(source);
    Words words = std::bit_cast<Words>(destination);
    for (std::size_t i = 0; i < kWordsPerLine; ++i)
        words[i] = combine(old_words[i], source_words[i], words[i]);
    return write_if_new(std::bit_cast<Line>(words), destination);
}

}  // namespace

Result<SlotMap> SlotMap::read(std::span<const std::byte> data) {
    SlotMap map;
    if (data.size() < GODWIT_HEADER_BYTES)
        return fail(Fault::Corrupt, "read a region's header",
                    "the region is smaller than one page");
    godwit_header_page page;
    std::memcpy(&page, data.data(), sizeof(page));
    if (page.head.magic == 0) return map;
    const char* why = "";
    if (godwit_header_check(&page, data.size(), &why) != 0)
        return fail(Fault::Corrupt, "read a region's header", why, "bad-region");
    map.classes_.assign(page.classes, page.classes + page.head.class_count);
    return map;
}

const godwit_class_line* SlotMap::class_at(std::uint64_t offset) const {
    auto after = std::ranges::upper_bound(classes_, offset, {}, &godwit_class_line::offset);
    if (after == classes_.begin()) return nullptr;
    const godwit_class_line& line = *std::prev(after);
    const std::uint64_t bytes = std::uint64_t{line.slot_bytes} * line.slot_count;
    return offset - line.offset < bytes ? &line : nullptr;
}

godwit_rule SlotMap::rule_at(std::uint64_t offset) const {
    const godwit_class_line* line = class_at(offset);
    return line ? static_cast<godwit_rule>(line->rule) : GODWIT_FAIL;
}

std::string SlotMap::slot_at(std::uint64_t offset) const {
    if (offset < GODWIT_HEADER_BYTES) return "header";
    const godwit_class_line* line = class_at(offset);
    if (!line) return "unassigned";
    return std::string(line->name) + "[" +
           std::to_string((offset - line->offset) / line->slot_bytes) + "]";
}

godwit_rule effective_rule(godwit_rule rule, OnConflict on_conflict) {
    if (rule != GODWIT_FAIL || on_conflict == OnConflict::fail) return rule;
    return on_conflict == OnConflict::source_wins ? GODWIT_SOURCE_WINS : GODWIT_DESTINATION_WINS;
}

MergedLine merge_line(godwit_rule rule, const Line& base, const Line& source,
                      const Line& destination) {
    // The arithmetic rules speak for every changed line: two sides that both counted to 119 have
    // counted twice, although their bytes are the same.
    if (rule == GODWIT_ADD_DELTA)
        return by_words(base, source, destination,
                        [](auto old, auto src, auto dst) { return dst + src - old; });
    if (rule == GODWIT_MAX)
        return by_words(base, source, destination,
                        [](auto, auto src, auto dst) { return std::max(src, dst); });
    if (destination == base) return write_if_new(source, destination);
    if (source == destination) return {};
    if (rule == GODWIT_SOURCE_WINS) return {LineFate::write, source};
    if (rule == GODWIT_DESTINATION_WINS) return {};
    return {LineFate::conflict, {}};
}

Result<void> plan_merge(const RegionView& region, std::span<const std::byte> records,
                        OnConflict on_conflict, MergePlan& plan) {
    if (region.base.size() != region.destination.size() ||
        region.base.size() < GODWIT_LABEL_BYTES + GODWIT_HEADER_BYTES)
        return fail(Fault::Corrupt, "merge region " + region.name, "the images differ in size");
    Result<SlotMap> slots = SlotMap::read(region.base.subspan(GODWIT_LABEL_BYTES));
    if (!slots) return std::unexpected(std::move(slots).error().within("merge " + region.name));

    auto merge_one = [&](std::uint64_t offset, const std::byte* bytes) {
        Line source;
        std::memcpy(source.data(), bytes, kLineBytes);
        const Line base = line_at(region.base, offset);
        const Line destination = line_at(region.destination, offset);
        const std::uint64_t place = offset - GODWIT_LABEL_BYTES;
        const godwit_rule rule = effective_rule(slots->rule_at(place), on_conflict);
        const MergedLine merged = merge_line(rule, base, source, destination);
        if (merged.fate == LineFate::write) plan.writes.push_back({offset, merged.bytes});
        if (merged.fate != LineFate::conflict) return;
        ++plan.conflict_count;
        if (plan.conflicts.size() < kConflictsMax)
            plan.conflicts.push_back({region.name, offset, slots->slot_at(place), hex(base),
                                      hex(source), hex(destination)});
    };
    return for_each_record(
        records, region.base.size(),
        [&](const LineRecord& record, const std::byte* lines) -> Result<void> {
            const std::uint64_t role_mask = 1ull << (GODWIT_ROLE_OFFSET / kLineBytes);
            if (record.offset < GODWIT_LABEL_BYTES ||
                (record.offset == GODWIT_LABEL_BYTES && (record.mask & role_mask) != 0))
                return fail(Fault::Corrupt, "merge region " + region.name,
                            "the peer sent lines of the label area or the role word",
                            "malformed-frame");
            for (std::uint64_t left = record.mask; left != 0; left &= left - 1) {
                merge_one(
                    record.offset + static_cast<std::uint64_t>(std::countr_zero(left)) * kLineBytes,
                    lines);
                lines += kLineBytes;
            }
            return {};
        });
}

void apply_plan(const MergePlan& plan, std::span<std::byte> destination) {
    for (const PlannedLine& line : plan.writes)
        std::memcpy(destination.data() + line.offset, line.bytes.data(), kLineBytes);
}

}  // namespace godwit::memory
