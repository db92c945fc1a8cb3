#include "vm_agent/memory/diff.hpp"

#include <bit>
#include <cstdlib>
#include <cstring>
#include <immintrin.h>
#include <string>
#include <unistd.h>

namespace godwit::memory {

namespace {

constexpr std::size_t kLinesPerPage = kPageBytes / kLineBytes;
alignas(64) constinit const std::byte kZeroPage[kPageBytes] = {};

std::uint64_t compare_scalar(const std::byte* a, const std::byte* b) {
    std::uint64_t mask = 0;
    for (std::size_t line = 0; line < kLinesPerPage; ++line) {
        std::uint64_t left[8], right[8], differs = 0;
        std::memcpy(left, a + line * kLineBytes, kLineBytes);
        std::memcpy(right, b + line * kLineBytes, kLineBytes);
        for (int i = 0; i < 8; ++i) differs |= left[i] ^ right[i];
        mask |= static_cast<std::uint64_t>(differs != 0) << line;
    }
    return mask;
}

// Nearly every page is equal, and that is asked first: two loads and one instruction a line, no mask.
// The few that differ are read again, from the nearest cache.
__attribute__((target("avx2"))) bool is_equal_avx2(const std::byte* a, const std::byte* b) {
    __m256i differs[4] = {};
    for (std::size_t at = 0; at < kPageBytes; at += 4 * sizeof(__m256i)) {
        const auto* left = reinterpret_cast<const __m256i*>(a + at);
        const auto* right = reinterpret_cast<const __m256i*>(b + at);
        for (int i = 0; i < 4; ++i)
            differs[i] = _mm256_or_si256(
                differs[i],
                _mm256_xor_si256(_mm256_loadu_si256(left + i), _mm256_loadu_si256(right + i)));
    }
    const __m256i any = _mm256_or_si256(_mm256_or_si256(differs[0], differs[1]),
                                        _mm256_or_si256(differs[2], differs[3]));
    return _mm256_testz_si256(any, any) != 0;
}

__attribute__((target("avx2"))) std::uint64_t compare_avx2(const std::byte* a, const std::byte* b) {
    if (is_equal_avx2(a, b)) return 0;
    std::uint64_t mask = 0;
    for (std::size_t line = 0; line < kLinesPerPage; ++line) {
        const auto* left = reinterpret_cast<const __m256i*>(a + line * kLineBytes);
        const auto* right = reinterpret_cast<const __m256i*>(b + line * kLineBytes);
        const __m256i low = _mm256_xor_si256(_mm256_loadu_si256(left), _mm256_loadu_si256(right));
        const __m256i high =
            _mm256_xor_si256(_mm256_loadu_si256(left + 1), _mm256_loadu_si256(right + 1));
        const __m256i both = _mm256_or_si256(low, high);
        mask |= static_cast<std::uint64_t>(_mm256_testz_si256(both, both) == 0) << line;
    }
    return mask;
}

__attribute__((target("avx512f"))) bool is_equal_avx512(const std::byte* a, const std::byte* b) {
    constexpr int kOrXor = 0xf6;  // differs | (left ^ right), one instruction
    __m512i differs[4] = {};
    for (std::size_t at = 0; at < kPageBytes; at += 4 * kLineBytes)
        for (std::size_t i = 0; i < 4; ++i)
            differs[i] =
                _mm512_ternarylogic_epi64(differs[i], _mm512_loadu_si512(a + at + i * kLineBytes),
                                          _mm512_loadu_si512(b + at + i * kLineBytes), kOrXor);
    const __m512i any = _mm512_or_si512(_mm512_or_si512(differs[0], differs[1]),
                                        _mm512_or_si512(differs[2], differs[3]));
    return _mm512_test_epi64_mask(any, any) == 0;
}

__attribute__((target("avx512f"))) std::uint64_t compare_avx512(const std::byte* a,
                                                                const std::byte* b) {
    if (is_equal_avx512(a, b)) return 0;
    std::uint64_t mask = 0;
    for (std::size_t line = 0; line < kLinesPerPage; ++line) {
        const __m512i left = _mm512_loadu_si512(a + line * kLineBytes);
        const __m512i right = _mm512_loadu_si512(b + line * kLineBytes);
        mask |= static_cast<std::uint64_t>(_mm512_cmpneq_epi64_mask(left, right) != 0) << line;
    }
    return mask;
}

std::unexpected<Error> bad_records(const std::string& cause) {
    return fail(Fault::Corrupt, "read changed lines", cause, "malformed-frame");
}

}  // namespace

bool is_supported(Kernel kernel) {
    switch (kernel) {
        case Kernel::avx512:
            return __builtin_cpu_supports("avx512f") != 0;
        case Kernel::avx2:
            return __builtin_cpu_supports("avx2") != 0;
        case Kernel::scalar:
            return true;
    }
    return false;
}

Kernel best_kernel() {
    static const Kernel best = is_supported(Kernel::avx512) ? Kernel::avx512
                               : is_supported(Kernel::avx2) ? Kernel::avx2
                                                            : Kernel::scalar;
    return best;
}

PageCompare page_compare(Kernel kernel) {
    switch (kernel) {
        case Kernel::avx512:
            return compare_avx512;
        case Kernel::avx2:
            return compare_avx2;
        case Kernel::scalar:
            break;
    }
    return compare_scalar;
}

bool is_zero_page(const std::byte* page) {
    // Most pages that are not zero say so in their first words.
    std::uint64_t first[8];
    std::memcpy(first, page, sizeof(first));
    for (std::uint64_t word : first)
        if (word != 0) return false;
    return std::memcmp(page, kZeroPage, kPageBytes) == 0;
}

namespace {

using protocol::wire::kRecordHeadBytes;
using protocol::wire::kRecordHeadMax;
using protocol::wire::RecordKind;

constexpr int kKindShift = 12, kLineShift = 6;
constexpr std::uint16_t kLineMask = 63;

constexpr std::uint64_t run_mask(unsigned first, unsigned last) {
    return (~0ull >> (63 - last)) & (~0ull << first);
}

// Bytes written. The page's number fits: blocks are smaller than 16 TiB.
std::size_t write_head(const LineRecord& record, std::byte* to) {
    const auto first = static_cast<unsigned>(std::countr_zero(record.mask));
    const auto last = 63u - static_cast<unsigned>(std::countl_zero(record.mask));
    RecordKind kind = RecordKind::mask;
    if (record.mask == run_mask(first, last))
        kind = RecordKind::run;
    else if (std::popcount(record.mask) == 2)
        kind = RecordKind::two;
    const auto page = static_cast<std::uint32_t>(record.offset / kPageBytes);
    const unsigned lines = kind == RecordKind::mask ? 0 : first | last << kLineShift;
    const auto shape =
        static_cast<std::uint16_t>(static_cast<unsigned>(kind) << kKindShift | lines);
    std::memcpy(to, &page, sizeof(page));
    std::memcpy(to + sizeof(page), &shape, sizeof(shape));
    if (kind != RecordKind::mask) return kRecordHeadBytes;
    std::memcpy(to + kRecordHeadBytes, &record.mask, sizeof(record.mask));
    return kRecordHeadMax;
}

// Bytes of the head, or 0 when it is none. Each mask has one shape, and no other is taken.
std::size_t read_head(std::span<const std::byte> from, LineRecord& record) {
    std::uint32_t page = 0;
    std::uint16_t shape = 0;
    if (from.size() < kRecordHeadBytes) return 0;
    std::memcpy(&page, from.data(), sizeof(page));
    std::memcpy(&shape, from.data() + sizeof(page), sizeof(shape));
    record.offset = std::uint64_t{page} * kPageBytes;
    const unsigned first = shape & kLineMask, last = shape >> kLineShift & kLineMask;
    if (first > last) return 0;
    std::size_t bytes = kRecordHeadBytes;
    switch (static_cast<RecordKind>(shape >> kKindShift)) {
        case RecordKind::run:
            record.mask = run_mask(first, last);
            break;
        case RecordKind::two:
            record.mask = 1ull << first | 1ull << last;
            break;
        case RecordKind::mask:
            if (from.size() < kRecordHeadMax) return 0;
            std::memcpy(&record.mask, from.data() + kRecordHeadBytes, sizeof(record.mask));
            if (record.mask == 0) return 0;
            bytes = kRecordHeadMax;
            break;
        default:
            return 0;
    }
    std::byte same[kRecordHeadMax];
    return write_head(record, same) == bytes && std::memcmp(same, from.data(), bytes) == 0 ? bytes
                                                                                           : 0;
}

}  // namespace

void Lines::reserve(std::size_t bytes) {
    buffer_.resize(bytes);  // writes zeros: the pages are there
    clear();
}

void Lines::clear() {
    buffer_.clear();
    line_count_ = 0;
}

void Lines::add(std::uint64_t page_offset, std::uint64_t mask, const std::byte* page) {
    std::byte head[protocol::wire::kRecordHeadMax];
    const std::size_t head_bytes = write_head({page_offset, mask}, head);
    buffer_.insert(buffer_.end(), head, head + head_bytes);
    line_count_ += static_cast<std::uint64_t>(std::popcount(mask));
    for (std::uint64_t left = mask; left != 0; left &= left - 1) {
        const std::byte* line =
            page + static_cast<std::size_t>(std::countr_zero(left)) * kLineBytes;
        buffer_.insert(buffer_.end(), line, line + kLineBytes);
    }
}

Result<void> for_each_record(
    std::span<const std::byte> records, std::uint64_t limit,
    const std::function<Result<void>(const LineRecord&, const std::byte* lines)>& visit) {
    while (!records.empty()) {
        LineRecord record{};
        const std::size_t head_bytes = read_head(records, record);
        if (head_bytes == 0)
            return bad_records("a record's head is cut short or has no such shape");
        records = records.subspan(head_bytes);
        if (limit < kPageBytes || record.offset > limit - kPageBytes)
            return bad_records("offset " + std::to_string(record.offset) +
                               " lies outside of the block of " + std::to_string(limit) + " bytes");
        const std::size_t bytes = static_cast<std::size_t>(std::popcount(record.mask)) * kLineBytes;
        if (records.size() < bytes) return bad_records("a record's lines are cut short");
        Result<void> seen = visit(record, records.data());
        if (!seen) return seen;
        records = records.subspan(bytes);
    }
    return {};
}

void apply_record(const LineRecord& record, const std::byte* lines, std::byte* memory) {
    std::byte* page = memory + record.offset;
    for (std::uint64_t left = record.mask; left != 0; left &= left - 1) {
        std::memcpy(page + static_cast<std::size_t>(std::countr_zero(left)) * kLineBytes, lines,
                    kLineBytes);
        lines += kLineBytes;
    }
}

std::vector<std::span<const std::byte>> split_records(std::span<const std::byte> records,
                                                      std::size_t bytes_max) {
    std::vector<std::span<const std::byte>> pieces;
    std::size_t begin = 0, at = 0;
    while (at < records.size()) {
        LineRecord record{};
        const std::size_t head_bytes = read_head(records.subspan(at), record);
        if (head_bytes == 0) std::abort();  // these are our own
        const std::size_t bytes =
            head_bytes + static_cast<std::size_t>(std::popcount(record.mask)) * kLineBytes;
        if (at + bytes - begin > bytes_max) {
            pieces.push_back(records.subspan(begin, at - begin));
            begin = at;
        }
        at += bytes;
    }
    if (at > begin) pieces.push_back(records.subspan(begin, at - begin));
    return pieces;
}

// Lines that follow each other go out in one write.
Result<void> write_record(const LineRecord& record, const std::byte* lines, int fd) {
    std::uint64_t left = record.mask;
    while (left != 0) {
        const int first = std::countr_zero(left);
        const int count = std::countr_one(left >> first);
        const std::size_t bytes = static_cast<std::size_t>(count) * kLineBytes;
        const auto place =
            static_cast<off_t>(record.offset + static_cast<std::uint64_t>(first) * kLineBytes);
        if (pwrite(fd, lines, bytes, place) != static_cast<ssize_t>(bytes))
            return fail_errno(Fault::Lost, "write memory");
        lines += bytes;
        left = first + count >= 64 ? 0 : left >> (first + count) << (first + count);
    }
    return {};
}

Result<DiffCount> diff(const MappedFile& base, const MappedFile& current, Lines& out,
                       Kernel kernel) {
    Result<Extents> base_data = base.extents();
    if (!base_data) return std::unexpected(std::move(base_data).error());
    Result<Extents> current_data = current.extents();
    if (!current_data) return std::unexpected(std::move(current_data).error());
    return diff(Side{base, *base_data}, Side{current, *current_data}, out, kernel);
}

Result<DiffCount> diff(const Side& base, const Side& current, Lines& out, Kernel kernel) {
    if (base.file.size() != current.file.size() || base.file.size() % kPageBytes != 0)
        return fail(Fault::Corrupt, "compare memory", "the two images differ in size");
    const PageCompare compare = page_compare(kernel);
    DiffCount count;
    const std::uint64_t lines_before = out.line_count();
    for (const Stretch& stretch : union_of(base.data, current.data)) {
        count.bytes_compared += stretch.range.length;
        for (std::uint64_t at = stretch.range.offset; at < stretch.range.end(); at += kPageBytes) {
            const std::byte* old_page = stretch.in_base ? base.file.data() + at : kZeroPage;
            const std::byte* new_page = stretch.in_current ? current.file.data() + at : kZeroPage;
            const std::uint64_t mask = compare(old_page, new_page);
            if (mask != 0) out.add(at, mask, new_page);
        }
    }
    count.bytes_changed = (out.line_count() - lines_before) * kLineBytes;
    return count;
}

}  // namespace godwit::memory
