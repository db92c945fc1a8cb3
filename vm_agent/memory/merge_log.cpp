#include "vm_agent/memory/merge_log.hpp"

#include <algorithm>
#include <cstring>

namespace godwit::memory {

using protocol::wire::kLineBytes;

namespace {

Line line_at(std::span<const std::byte> bytes, std::uint64_t offset) {
    Line line;
    std::memcpy(line.data(), bytes.data() + offset, kLineBytes);
    return line;
}

std::uint64_t count_in(const Line& line) {
    std::uint64_t count = 0;
    std::memcpy(&count, line.data() + offsetof(godwit_log_line, count), sizeof(count));
    return count;
}

class Merging {
public:
    Merging(const LogSides& log, godwit_rule shared)
        : log_(log),
          shared_(shared),
          start_(GODWIT_LABEL_BYTES + log.line.offset),
          room_(log.line.slot_count - 1) {}

    MergedLog merge() && {
        const Line destination = line_at(log_.destination, start_);
        const std::uint64_t base_count = count_in(line_at(log_.base, start_));
        const std::uint64_t source_count = count_in(source_line(start_));
        const std::uint64_t count = count_in(destination);
        // Each is a guest's word: compared before it is reckoned with.
        const bool sound = base_count <= source_count && base_count <= count &&
                           source_count <= room_ && count <= room_;
        if (!sound || source_count - base_count > room_ - count) {
            merged_.conflicts.push_back(start_);
            return std::move(merged_);
        }
        merge_shared(base_count);
        for (std::uint64_t i = base_count; i < source_count; ++i)
            copy_record(i, count + (i - base_count));
        const std::uint64_t total = count + (source_count - base_count);
        Line cursor = destination;
        std::memcpy(cursor.data() + offsetof(godwit_log_line, count), &total, sizeof(total));
        if (cursor != destination) merged_.writes.push_back({start_, cursor});
        return std::move(merged_);
    }

private:
    std::uint64_t record_offset(std::uint64_t index) const {
        return start_ + (index + 1) * log_.line.slot_bytes;
    }
    // As the source has it: what it did not send is as it was at the fork.
    Line source_line(std::uint64_t offset) const {
        auto found = std::ranges::lower_bound(log_.source, offset, {}, &PlannedLine::offset);
        const bool sent = found != log_.source.end() && found->offset == offset;
        return sent ? found->bytes : line_at(log_.base, offset);
    }
    // A record in flight at the fork is finished by both, to the same bytes.
    void merge_shared(std::uint64_t base_count) {
        for (const PlannedLine& line : log_.source) {
            if (line.offset < record_offset(0) || line.offset >= record_offset(base_count))
                continue;
            const MergedLine one = merge_line(shared_, line_at(log_.base, line.offset), line.bytes,
                                              line_at(log_.destination, line.offset));
            if (one.fate == LineFate::write) merged_.writes.push_back({line.offset, one.bytes});
            if (one.fate == LineFate::conflict) merged_.conflicts.push_back(line.offset);
        }
    }
    void copy_record(std::uint64_t from, std::uint64_t to) {
        for (std::uint64_t at = 0; at < log_.line.slot_bytes; at += kLineBytes) {
            const Line bytes = source_line(record_offset(from) + at);
            const std::uint64_t place = record_offset(to) + at;
            if (bytes != line_at(log_.destination, place)) merged_.writes.push_back({place, bytes});
        }
    }

    const LogSides& log_;
    const godwit_rule shared_;
    const std::uint64_t start_, room_;
    MergedLog merged_;
};

}  // namespace

MergedLog merge_log(const LogSides& log, godwit_rule shared) {
    return Merging(log, shared).merge();
}

}  // namespace godwit::memory
