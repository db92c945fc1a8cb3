#include "vm_agent/memory/merge.hpp"

#include "vm_agent/memory/diff.hpp"
#include "vm_agent/memory/merge_log.hpp"

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

namespace {

// Goes over what the source changed, line by line; logs are put aside and merged as a whole.
class Planner {
public:
    Planner(const RegionView& region, const SlotMap& slots, OnConflict on_conflict, MergePlan& plan)
        : region_(region), slots_(slots), on_conflict_(on_conflict), plan_(plan) {}

    Result<void> take(const LineRecord& record, const std::byte* lines) {
        const std::uint64_t role_mask =
            1ull << (GODWIT_ROLE_OFFSET / kLineBytes) | 1ull << (GODWIT_QUIET_OFFSET / kLineBytes);
        if (record.offset < GODWIT_LABEL_BYTES ||
            (record.offset == GODWIT_LABEL_BYTES && (record.mask & role_mask) != 0))
            return fail(Fault::Corrupt, "merge region " + region_.name,
                        "the peer sent lines of the label area, the role word or the quiet word",
                        "malformed-frame");
        for (std::uint64_t left = record.mask; left != 0; left &= left - 1) {
            PlannedLine line{
                record.offset + static_cast<std::uint64_t>(std::countr_zero(left)) * kLineBytes,
                {}};
            std::memcpy(line.bytes.data(), lines, kLineBytes);
            lines += kLineBytes;
            if (slots_.rule_at(line.offset - GODWIT_LABEL_BYTES) == GODWIT_APPEND)
                of_logs_.push_back(line);
            else
                merge_one(line);
        }
        return {};
    }

    Result<void> finish() {
        std::ranges::sort(of_logs_, {}, &PlannedLine::offset);
        for (std::size_t begin = 0; begin < of_logs_.size();) {
            const godwit_class_line* log =
                slots_.class_at(of_logs_[begin].offset - GODWIT_LABEL_BYTES);
            std::size_t end = begin + 1;
            while (end < of_logs_.size() &&
                   slots_.class_at(of_logs_[end].offset - GODWIT_LABEL_BYTES) == log) {
                if (of_logs_[end].offset == of_logs_[end - 1].offset)
                    return fail(Fault::Corrupt, "merge region " + region_.name,
                                "the peer sent a line twice", "malformed-frame");
                ++end;
            }
            merge_one_log({*log, region_.base, region_.destination,
                           std::span(of_logs_).subspan(begin, end - begin)});
            begin = end;
        }
        return {};
    }

private:
    void merge_one(const PlannedLine& line) {
        const godwit_rule rule =
            effective_rule(slots_.rule_at(line.offset - GODWIT_LABEL_BYTES), on_conflict_);
        const MergedLine merged = merge_line(rule, line_at(region_.base, line.offset), line.bytes,
                                             line_at(region_.destination, line.offset));
        if (merged.fate == LineFate::write) plan_.writes.push_back({line.offset, merged.bytes});
        if (merged.fate == LineFate::conflict) note_conflict(line.offset, line.bytes);
    }

    void merge_one_log(const LogSides& log) {
        MergedLog merged = merge_log(log, effective_rule(GODWIT_FAIL, on_conflict_));
        plan_.writes.insert(plan_.writes.end(), merged.writes.begin(), merged.writes.end());
        for (std::uint64_t offset : merged.conflicts) {
            auto sent = std::ranges::lower_bound(log.source, offset, {}, &PlannedLine::offset);
            const bool found = sent != log.source.end() && sent->offset == offset;
            note_conflict(offset, found ? sent->bytes : line_at(region_.base, offset));
        }
    }

    void note_conflict(std::uint64_t offset, const Line& source) {
        ++plan_.conflict_count;
        if (plan_.conflicts.size() >= kConflictsMax) return;
        plan_.conflicts.push_back({region_.name, offset,
                                   slots_.slot_at(offset - GODWIT_LABEL_BYTES),
                                   hex(line_at(region_.base, offset)), hex(source),
                                   hex(line_at(region_.destination, offset))});
    }

    const RegionView& region_;
    const SlotMap& slots_;
    const OnConflict on_conflict_;
    MergePlan& plan_;
    std::vector<PlannedLine> of_logs_;
};

}  // namespace

Result<void> plan_merge(const RegionView& region, std::span<const std::byte> records,
                        OnConflict on_conflict, MergePlan& plan) {
    if (region.base.size() != region.destination.size() ||
        region.base.size() < GODWIT_LABEL_BYTES + GODWIT_HEADER_BYTES)
        return fail(Fault::Corrupt, "merge region " + region.name, "the images differ in size");
    Result<SlotMap> slots = SlotMap::read(region.base.subspan(GODWIT_LABEL_BYTES));
    if (!slots) return std::unexpected(std::move(slots).error().within("merge " + region.name));
    Planner planner(region, *slots, on_conflict, plan);
    Result<void> taken = for_each_record(records, region.base.size(),
                                         [&](const LineRecord& record, const std::byte* lines) {
                                             return planner.take(record, lines);
                                         });
    return taken ? planner.finish() : taken;
}

void apply_plan(const MergePlan& plan, std::span<std::byte> destination) {
    for (const PlannedLine& line : plan.writes)
        std::memcpy(destination.data() + line.offset, line.bytes.data(), kLineBytes);
}

}  // namespace godwit::memory
