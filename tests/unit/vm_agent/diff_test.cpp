// The compare against a naive one, on every kernel this machine has: random pages, holes, tails.
#include "vm_agent/memory/diff.hpp"

#include "vm_agent/memory/root.hpp"

#include <bit>
#include <cstring>
#include <optional>
#include <random>

#include <gtest/gtest.h>

namespace {

using namespace godwit;
using namespace godwit::memory;

constexpr std::uint64_t kPages = 64;
constexpr std::uint64_t kBytes = kPages * kPageBytes;

MappedFile blank(std::uint64_t bytes = kBytes) {
    Result<MappedFile> file = MappedFile::anonymous("gwt", bytes);
    if (!file) throw std::runtime_error(file.error().text());
    return std::move(*file);
}

void fill(MappedFile& file, std::uint64_t page, std::mt19937_64& random) {
    for (std::uint64_t at = page * kPageBytes; at < (page + 1) * kPageBytes; at += 8) {
        const std::uint64_t word = random();
        std::memcpy(file.data() + at, &word, 8);
    }
}

// What diff() must find: every line that differs, compared byte by byte.
std::vector<std::uint64_t> differing_lines(const MappedFile& a, const MappedFile& b) {
    std::vector<std::uint64_t> lines;
    for (std::uint64_t at = 0; at < a.size(); at += kLineBytes)
        if (std::memcmp(a.data() + at, b.data() + at, kLineBytes) != 0) lines.push_back(at);
    return lines;
}

std::vector<std::uint64_t> lines_in(const Lines& lines, std::uint64_t limit) {
    std::vector<std::uint64_t> found;
    Result<void> read = for_each_record(
        lines.bytes(), limit, [&](const LineRecord& record, const std::byte*) -> Result<void> {
            for (std::uint64_t left = record.mask; left != 0; left &= left - 1)
                found.push_back(record.offset + std::countr_zero(left) * kLineBytes);
            return {};
        });
    EXPECT_TRUE(read);
    return found;
}

class EveryKernel : public testing::TestWithParam<Kernel> {
protected:
    void SetUp() override {
        if (!is_supported(GetParam())) GTEST_SKIP() << "not on this machine";
    }
};

TEST_P(EveryKernel, FindsExactlyTheLinesThatDiffer) {
    std::mt19937_64 random(1);
    for (int round = 0; round < 30; ++round) {
        MappedFile base = blank(), now = blank();
        for (std::uint64_t page = 0; page < kPages; ++page) {
            const auto kind = random() % 5;
            if (kind == 0) continue;  // a hole in both
            if (kind != 1) fill(base, page, random);
            if (kind != 2) fill(now, page, random);
            if (kind < 3) continue;  // 1: hole in base, 2: hole now
            std::memcpy(now.data() + page * kPageBytes, base.data() + page * kPageBytes,
                        kPageBytes);
            for (auto changes = random() % 6; changes > 0; --changes)
                now.data()[page * kPageBytes + random() % kPageBytes] ^= std::byte{1};
        }
        Lines lines;
        Result<DiffCount> count = diff(base, now, lines, GetParam());
        ASSERT_TRUE(count) << count.error().text();
        EXPECT_EQ(lines_in(lines, kBytes), differing_lines(base, now));
        EXPECT_EQ(count->bytes_changed, lines.line_count() * kLineBytes);
    }
}

TEST_P(EveryKernel, SeesTheFirstAndTheLastByteOfAPage) {
    MappedFile base = blank(), now = blank();
    now.data()[0] = std::byte{1};
    now.data()[kBytes - 1] = std::byte{1};
    Lines lines;
    ASSERT_TRUE(diff(base, now, lines, GetParam()));
    EXPECT_EQ(lines_in(lines, kBytes), (std::vector<std::uint64_t>{0, kBytes - kLineBytes}));
}

INSTANTIATE_TEST_SUITE_P(Diff, EveryKernel,
                         testing::Values(Kernel::scalar, Kernel::avx2, Kernel::avx512));

TEST(Diff, HolesOfEitherSideAreNotTouched) {
    MappedFile base = blank(), now = blank();
    base.data()[3 * kPageBytes] = std::byte{1};
    now.data()[7 * kPageBytes] = std::byte{1};
    const Extents base_before = *base.extents(), now_before = *now.extents();
    Lines lines;
    ASSERT_TRUE(diff(base, now, lines));
    EXPECT_EQ(*base.extents(), base_before);
    EXPECT_EQ(*now.extents(), now_before);
    EXPECT_EQ(lines_in(lines, kBytes),
              (std::vector<std::uint64_t>{3 * kPageBytes, 7 * kPageBytes}));
}

TEST(Diff, AppliedToTheBaseGivesTheImage) {
    std::mt19937_64 random(2);
    MappedFile base = blank(), now = blank();
    for (std::uint64_t page = 0; page < kPages; page += 3) fill(base, page, random);
    for (std::uint64_t page = 0; page < kPages; page += 2) fill(now, page, random);
    Lines lines;
    ASSERT_TRUE(diff(base, now, lines));
    for (std::span<const std::byte> piece : split_records(lines.bytes(), 3 * kPageBytes)) {
        EXPECT_LE(piece.size(), 3 * kPageBytes);
        Result<void> applied =
            for_each_record(piece, kBytes, [&](const LineRecord& record, const std::byte* bytes) {
                return write_record(record, bytes, base.fd());
            });
        ASSERT_TRUE(applied);
    }
    EXPECT_TRUE(differing_lines(base, now).empty());
    EXPECT_EQ(*root_of({&base}), *root_of({&now}));
}

TEST(Diff, ImagesOfDifferentSizeAreRefused) {
    MappedFile base = blank(), now = blank(kBytes + kPageBytes);
    Lines lines;
    EXPECT_EQ(diff(base, now, lines).error().fault, Fault::Corrupt);
}

TEST(Extents, UnionSaysWhichSideHasWhat) {
    const Extents base{{0, 8192}, {40960, 4096}};
    const Extents now{{4096, 8192}, {65536, 4096}};
    const std::vector<Stretch> expected{{{0, 4096}, true, false},
                                        {{4096, 4096}, true, true},
                                        {{8192, 4096}, false, true},
                                        {{40960, 4096}, true, false},
                                        {{65536, 4096}, false, true}};
    EXPECT_EQ(union_of(base, now), expected);
    EXPECT_TRUE(union_of({}, {}).empty());
}

TEST(Extents, WhatHasGrownIsFoundInTheHolesOfWhatWasKnown) {
    std::mt19937_64 random(4);
    for (int round = 0; round < 50; ++round) {
        MappedFile file = blank();
        const auto touch = [&] { file.data()[random() % kBytes] = std::byte{1}; };
        for (auto pages = random() % 20; pages > 0; --pages) touch();
        const Extents known = *file.extents();
        for (auto pages = random() % 20; pages > 0; --pages) touch();
        EXPECT_EQ(*grown_extents(file.fd(), kBytes, known), *file.extents());
    }
    // Punched out since: still named, and it reads as zeros.
    MappedFile file = blank();
    file.data()[0] = std::byte{1};
    const Extents known = *file.extents();
    ASSERT_TRUE(file.punch({0, kPageBytes}));
    EXPECT_EQ(*grown_extents(file.fd(), kBytes, known), known);
    EXPECT_EQ(file.data()[0], std::byte{0});
}

TEST(Root, HolesHashLikeTheZerosTheyReadAs) {
    const std::uint64_t bytes = kLeafBytes * 2 + 12 * kPageBytes;
    MappedFile sparse = blank(bytes), full = blank(bytes);
    std::memset(full.data(), 0, bytes);
    ASSERT_GT(total_bytes(*full.extents()), total_bytes(*sparse.extents()));
    EXPECT_EQ(*root_of({&sparse}), *root_of({&full}));
    sparse.data()[bytes - 1] = std::byte{1};
    EXPECT_NE(*root_of({&sparse}), *root_of({&full}));
    full.data()[bytes - 1] = std::byte{1};
    EXPECT_EQ(*root_of({&sparse}), *root_of({&full}));
}

TEST(Root, TheSameBytesInOtherBlocksAreAnotherRoot) {
    MappedFile one = blank(kPageBytes), two = blank(kPageBytes), both = blank(2 * kPageBytes);
    EXPECT_NE(*root_of({&one, &two}), *root_of({&both}));
}

// As on the wire, whatever it means: page, shape, perhaps a mask, and room for lines.
std::vector<std::byte> record_of(std::uint32_t page, std::uint16_t shape, std::size_t line_bytes,
                                 std::optional<std::uint64_t> mask = std::nullopt) {
    std::vector<std::byte> bytes(6 + (mask ? 8 : 0) + line_bytes);
    std::memcpy(bytes.data(), &page, 4);
    std::memcpy(bytes.data() + 4, &shape, 2);
    if (mask) std::memcpy(bytes.data() + 6, &*mask, 8);
    return bytes;
}

TEST(Records, HeadsAreSmallAndSayWhichLines) {
    struct Case {
        std::uint64_t mask;
        std::size_t head_bytes;
    };
    std::vector<std::byte> page(kPageBytes, std::byte{7});
    for (auto [mask, head_bytes] :
         {Case{1, 6}, Case{1ull << 63, 6}, Case{~0ull, 6}, Case{6, 6}, Case{5, 6},
          Case{1ull << 63 | 1, 6}, Case{0b1011, 14}, Case{0xaaaaaaaaaaaaaaaa, 14}}) {
        Lines lines;
        lines.add(5 * kPageBytes, mask, page.data());
        const std::size_t changed = static_cast<std::size_t>(std::popcount(mask)) * kLineBytes;
        EXPECT_EQ(lines.bytes().size(), head_bytes + changed);
        EXPECT_LE(lines.bytes().size(), changed * 11 / 10) << mask;
        LineRecord seen{};
        ASSERT_TRUE(
            for_each_record(lines.bytes(), kBytes, [&](const LineRecord& record, const std::byte*) {
                seen = record;
                return Result<void>{};
            }));
        EXPECT_EQ(seen.offset, 5 * kPageBytes);
        EXPECT_EQ(seen.mask, mask);
    }
}

// Hostile records: each is refused by name.
std::string refusal_of(const std::vector<std::byte>& bytes, std::uint64_t limit) {
    Result<void> read = for_each_record(
        bytes, limit, [](const LineRecord&, const std::byte*) { return Result<void>{}; });
    return read ? "" : read.error().cause;
}

TEST(Records, HostileOnesAreRefusedByName) {
    const auto has = [](const std::string& refusal, const char* part) {
        EXPECT_NE(refusal.find(part), std::string::npos) << refusal;
    };
    constexpr std::uint16_t kTwo = 1 << 12, kMask = 2 << 12;
    EXPECT_EQ(refusal_of(record_of(0, 0, 64), kPageBytes), "");
    has(refusal_of(std::vector<std::byte>(5), kBytes), "cut short");
    has(refusal_of(record_of(0, kMask, 0), kBytes), "cut short");
    has(refusal_of(record_of(0, 1 << 6, 64), kBytes), "lines are cut short");
    has(refusal_of(record_of(0, kMask, 64, 0), kBytes), "no such shape");
    has(refusal_of(record_of(0, 1, 64), kBytes), "no such shape");               // from line 1 to 0
    has(refusal_of(record_of(0, 3 << 12, 64), kBytes), "no such shape");         // no such kind
    has(refusal_of(record_of(0, kTwo | 1 << 6, 128), kBytes), "no such shape");  // it is a run
    has(refusal_of(record_of(0, kMask, 64, 1), kBytes), "no such shape");        // it is a run
    has(refusal_of(record_of(0, kMask | 1, 256, 0b1011), kBytes), "no such shape");
    has(refusal_of(record_of(kPages, 0, 64), kBytes), "outside");
    has(refusal_of(record_of(~0u, 0, 64), kBytes), "outside");
    has(refusal_of(record_of(0, 0, 64), 100), "outside");
}

}  // namespace
