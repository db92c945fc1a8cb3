// The rule append: what the source has added to a log since the fork goes behind what the destination
// has by now. The one rule that looks at a class as a whole, because its lines change places.
#pragma once

#include "vm_agent/memory/merge.hpp"

namespace godwit::memory {

// One log as both sides see it. `base` and `destination` are the whole files; `source` are the lines of
// the class that the source changed, ascending by offset, each at most once.
struct LogSides {
    const godwit_class_line& line;
    std::span<const std::byte> base;
    std::span<const std::byte> destination;
    std::span<const PlannedLine> source;
};
struct MergedLog {
    std::vector<PlannedLine> writes;
    // Offsets in the file: lines of records both sides had at the fork and changed differently, and
    // the count's when the records of both do not fit or a side has taken records away.
    std::vector<std::uint64_t> conflicts;
};
// `shared` is the rule for records that were there at the fork: an application never rewrites them, so
// it is `fail` unless the request says otherwise.
MergedLog merge_log(const LogSides& log, godwit_rule shared);

}  // namespace godwit::memory
