#include "vm_agent/memory/extents.hpp"

#include "protocol/agent_wire.hpp"

#include <algorithm>
#include <cerrno>
#include <unistd.h>

namespace godwit::memory {

namespace {

constexpr std::uint64_t kPage = protocol::wire::kPageBytes;

// Adds [begin, end) in whole pages, joined with the one before where they touch.
void add(Extents& extents, std::uint64_t begin, std::uint64_t end) {
    begin = begin / kPage * kPage;
    end = (end + kPage - 1) / kPage * kPage;
    if (!extents.empty() && begin <= extents.back().end())
        extents.back().length = std::max(extents.back().end(), end) - extents.back().offset;
    else
        extents.push_back({begin, end - begin});
}

// Adds the data that begins in [begin, end), up to `end`.
Result<void> add_data(int fd, std::uint64_t begin, std::uint64_t end, Extents& extents) {
    for (std::uint64_t at = begin; at < end;) {
        const off_t data = lseek(fd, static_cast<off_t>(at), SEEK_DATA);
        if (data < 0 && errno == ENXIO) break;  // only a hole is left
        if (data < 0) return fail_errno(Fault::Retry, "look for data in a memory file");
        if (static_cast<std::uint64_t>(data) >= end) break;
        const off_t hole = lseek(fd, data, SEEK_HOLE);
        if (hole < 0) return fail_errno(Fault::Retry, "look for holes in a memory file");
        at = std::min(static_cast<std::uint64_t>(hole), end);
        add(extents, static_cast<std::uint64_t>(data), at);
    }
    return {};
}

}  // namespace

Result<Extents> data_extents(int fd, std::uint64_t size) {
    return grown_extents(fd, size, {});
}

Result<Extents> grown_extents(int fd, std::uint64_t size, const Extents& known) {
    Extents extents;
    std::uint64_t hole = 0;
    for (const Extent& one : known) {
        Result<void> grown = add_data(fd, hole, one.offset, extents);
        if (!grown) return std::unexpected(std::move(grown).error());
        add(extents, one.offset, one.end());
        hole = one.end();
    }
    Result<void> grown = add_data(fd, hole, size, extents);
    if (!grown) return std::unexpected(std::move(grown).error());
    return extents;
}

std::uint64_t total_bytes(const Extents& extents) {
    std::uint64_t sum = 0;
    for (const Extent& extent : extents) sum += extent.length;
    return sum;
}

// One walk over both lists: at each step the next place where either list changes its mind.
std::vector<Stretch> union_of(const Extents& base, const Extents& current) {
    std::vector<Stretch> stretches;
    std::size_t b = 0, c = 0;
    std::uint64_t at = 0;
    while (b < base.size() || c < current.size()) {
        const bool in_base = b < base.size() && base[b].offset <= at;
        const bool in_current = c < current.size() && current[c].offset <= at;
        std::uint64_t next = UINT64_MAX;
        if (b < base.size()) next = std::min(next, in_base ? base[b].end() : base[b].offset);
        if (c < current.size())
            next = std::min(next, in_current ? current[c].end() : current[c].offset);
        if ((in_base || in_current) && next > at)
            stretches.push_back({{at, next - at}, in_base, in_current});
        at = next;
        if (b < base.size() && base[b].end() <= at) ++b;
        if (c < current.size() && current[c].end() <= at) ++c;
    }
    return stretches;
}

}  // namespace godwit::memory
