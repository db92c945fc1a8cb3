// The three-way merge of a region: copy at the fork, source now, destination now, line by line
// under the rule of the slot class a line lies in. Planning is pure; applying is guarded by an undo
// file.
#pragma once

#include "lib/error.hpp"

#include "protocol/agent_wire.hpp"
#include "vm_agent/layout/slot_map.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace godwit::memory {

using Line = std::array<std::byte, protocol::wire::kLineBytes>;

enum class LineFate { keep, write, conflict };
struct MergedLine {
    LineFate fate = LineFate::keep;
    Line bytes{};  // what the destination shall hold when fate is write
};
// The definition of every rule but append (merge_log.hpp); `source` differs from `base`.
MergedLine merge_line(godwit_rule rule, const Line& base, const Line& source,
                      const Line& destination);
// The class's rule, or for `fail` what the request says instead.
godwit_rule effective_rule(godwit_rule rule, protocol::OnConflict on_conflict);

struct PlannedLine {
    std::uint64_t offset = 0;  // in the region's file
    Line bytes{};
};
struct MergePlan {
    std::vector<PlannedLine> writes;
    std::vector<protocol::Conflict> conflicts;  // the first kConflictsMax
    std::uint64_t conflict_count = 0;
};

// One region as both sides see it; spans are whole files of the same size, label area included.
struct RegionView {
    std::string name;
    std::span<const std::byte> base;
    std::span<std::byte> destination;
};
// `records` are the source's changed lines in wire format. The label area, the role line and places
// outside of the region are refused as Corrupt: nobody on another host may write there.
Result<void> plan_merge(const RegionView& region, std::span<const std::byte> records,
                        protocol::OnConflict on_conflict, MergePlan& plan);

void apply_plan(const MergePlan& plan, std::span<std::byte> destination);

}  // namespace godwit::memory
