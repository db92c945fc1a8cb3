// The compare of the contract: base against current, 64-byte lines out. Memory-bound; the kernel is
// chosen once at run time. `Lines` is the format of the wire (LineRecord + lines), so that what was
// found is what is sent.
#pragma once

#include "lib/error.hpp"

#include "protocol/agent_wire.hpp"
#include "vm_agent/memory/mapped_file.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace godwit::memory {

using protocol::wire::kLineBytes;
using protocol::wire::kPageBytes;
using protocol::wire::LineRecord;

enum class Kernel { scalar, avx2, avx512 };
bool is_supported(Kernel kernel);
Kernel best_kernel();

// Bit i: line i of the two pages differs. Pages need no alignment beyond 8 bytes.
using PageCompare = std::uint64_t (*)(const std::byte* a, const std::byte* b);
PageCompare page_compare(Kernel kernel);

bool is_zero_page(const std::byte* page);

// Records of changed lines, in ascending order of their pages.
class Lines {
public:
    // Room that is already faulted in: what fits there costs no page fault during a pause.
    void reserve(std::size_t bytes);
    void add(std::uint64_t page_offset, std::uint64_t mask, const std::byte* page);
    std::span<const std::byte> bytes() const { return {buffer_.data(), buffer_.size()}; }
    std::uint64_t line_count() const { return line_count_; }
    void clear();

private:
    std::vector<std::byte> buffer_;
    std::uint64_t line_count_ = 0;
};

// Calls back for each record; Corrupt when the bytes are no records or name a place outside of
// `limit`. Trusts nothing: these bytes come from another host.
Result<void> for_each_record(
    std::span<const std::byte> records, std::uint64_t limit,
    const std::function<Result<void>(const LineRecord&, const std::byte* lines)>& visit);
// Consecutive pieces of whole records, each of at most `bytes_max` (more than one record has).
std::vector<std::span<const std::byte>> split_records(std::span<const std::byte> records,
                                                      std::size_t bytes_max);
// The same lines through the file: memory that runs out is an error here and not a SIGBUS.
Result<void> write_record(const LineRecord& record, const std::byte* lines, int fd);
// Copies one record's lines to their places.
void apply_record(const LineRecord& record, const std::byte* lines, std::byte* memory);

struct DiffCount {
    std::uint64_t bytes_compared = 0, bytes_changed = 0;
};
// Everything that differs inside the union of both files' data. A place that is a hole on one side
// compares as zero and is not touched on that side.
Result<DiffCount> diff(const MappedFile& base, const MappedFile& current, Lines& out,
                       Kernel kernel = best_kernel());
// The same, where the data is known already: nothing is asked of the kernel.
struct Side {
    const MappedFile& file;
    const Extents& data;
};
Result<DiffCount> diff(const Side& base, const Side& current, Lines& out,
                       Kernel kernel = best_kernel());

}  // namespace godwit::memory
