// Which parts of a sparse file hold data. Holes are never read through a map: on tmpfs that would
// allocate them.
#pragma once

#include "lib/error.hpp"

#include <cstdint>
#include <vector>

namespace godwit::memory {

struct Extent {
    std::uint64_t offset = 0, length = 0;
    std::uint64_t end() const { return offset + length; }
    friend bool operator==(const Extent&, const Extent&) = default;
};
using Extents = std::vector<Extent>;  // ascending, disjoint

// SEEK_DATA / SEEK_HOLE from 0 to `size`, widened to whole pages.
Result<Extents> data_extents(int fd, std::uint64_t size);
// The same, when `known` was true before: only its holes are looked into. The kernel walks data page by
// page (about 25 ms per GiB, seen), holes in one step. Data that has been punched out since is still
// named: it reads as zeros, and reading allocates it again.
Result<Extents> grown_extents(int fd, std::uint64_t size, const Extents& known);
std::uint64_t total_bytes(const Extents& extents);

// A stretch where the two files agree on being data or hole; stretches that are holes in both are
// left out.
struct Stretch {
    Extent range;
    bool in_base = false, in_current = false;
    friend bool operator==(const Stretch&, const Stretch&) = default;
};
std::vector<Stretch> union_of(const Extents& base, const Extents& current);

}  // namespace godwit::memory
