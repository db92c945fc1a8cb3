// Which rule holds where in a region, and what a place is called: read from the header page the
// application has written, of which nothing is believed before it is checked.
#pragma once

#include "lib/error.hpp"

#include "vm_agent/region/godwit_region.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace godwit::memory {

// Offsets count from the start of the
// region's data (behind the label area).
class SlotMap {
public:
    // `data` is the copy made at the fork. A region nobody formatted has no classes: every line is
    // under `fail`. A damaged header is Corrupt with the reason.
    static Result<SlotMap> read(std::span<const std::byte> data);
    // The same, from the header page alone, of a region with `length_bytes` of data.
    static Result<SlotMap> read_page(std::span<const std::byte> page, std::uint64_t length_bytes);
    godwit_rule rule_at(std::uint64_t offset) const;
    // "sessions[12]", of a log "audit[7]" or "audit[count]", "header", or "unassigned".
    std::string slot_at(std::uint64_t offset) const;
    const godwit_class_line* class_at(std::uint64_t offset) const;  // nullptr: none

private:
    std::vector<godwit_class_line> classes_;  // ascending, disjoint
};

// As the rules, kinds and roles are called everywhere: "source-wins", "log", "clone".
std::string rule_name(std::uint32_t rule);
std::string kind_name(std::uint32_t kind);
std::string role_name(std::uint64_t role);
// A guest's text, at most `length` bytes of it: whatever is not printable ASCII becomes '?'.
std::string guest_text(const char* text, std::size_t length);

}  // namespace godwit::memory
