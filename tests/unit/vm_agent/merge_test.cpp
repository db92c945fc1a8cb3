// Stories of the merge: which rule holds where, what a hostile peer may not write, undo after a
// crash.
#include "vm_agent/memory/merge.hpp"

#include "tests/fakes/temporary_directory.hpp"
#include "vm_agent/memory/diff.hpp"
#include "vm_agent/memory/undo.hpp"

#include <cstring>

#include <gtest/gtest.h>

namespace {

using namespace godwit;
using fakes::TemporaryDirectory;
using namespace godwit::memory;
using protocol::OnConflict;

constexpr std::uint64_t kRegion = 4 << 20;
constexpr std::uint64_t kData = GODWIT_LABEL_BYTES;
constexpr std::uint64_t kSessions = kData + GODWIT_HEADER_BYTES;  // 64 slots of one line
constexpr std::uint64_t kTotals = kSessions + 64 * 64;            // add-delta, one line
constexpr std::uint64_t kLog = kTotals + 64;     // a count and three records of two lines
constexpr std::uint64_t kFree = kLog + 4 * 128;  // no class: under fail

class Merge : public testing::Test {
protected:
    Merge() : base(kRegion), source(kRegion), destination(kRegion) {
        godwit_header_page page{};
        page.head = {GODWIT_REGION_MAGIC,
                     GODWIT_REGION_VERSION,
                     GODWIT_HEADER_BYTES,
                     1 << 20,
                     3,
                     GODWIT_LINE_BYTES,
                     {}};
        page.classes[0] = {"sessions", GODWIT_SOURCE_WINS, GODWIT_FIXED, 64, 64, 4096, {}};
        page.classes[1] = {"totals", GODWIT_ADD_DELTA, GODWIT_FIXED, 64, 1, 4096 + 64 * 64, {}};
        page.classes[2] = {"audit", GODWIT_APPEND, GODWIT_LOG, 128, 4, kLog - kData, {}};
        std::memcpy(base.data() + kData, &page, sizeof(page));
        source = destination = base;
    }
    // One line that says who wrote it.
    void append(std::vector<std::byte>& image, std::uint64_t tag) {
        const std::uint64_t count = word(image, kLog);
        set(image, kLog, count + 1);
        set(image, kLog + (count + 1) * 128, GODWIT_SLOT_USED);
        set(image, kLog + (count + 1) * 128 + 64, tag);
    }
    std::uint64_t logged(std::uint64_t index) {
        return word(destination, kLog + (index + 1) * 128 + 64);
    }
    void set(std::vector<std::byte>& image, std::uint64_t offset, std::uint64_t word) {
        std::memcpy(image.data() + offset, &word, 8);
    }
    std::uint64_t word(const std::vector<std::byte>& image, std::uint64_t offset) {
        std::uint64_t value = 0;
        std::memcpy(&value, image.data() + offset, 8);
        return value;
    }
    Lines changed_on_source() {
        Lines lines;
        for (std::uint64_t at = kData; at < kRegion; at += kPageBytes) {
            const std::uint64_t mask =
                page_compare(Kernel::scalar)(base.data() + at, source.data() + at);
            if (mask != 0) lines.add(at, mask, source.data() + at);
        }
        return lines;
    }
    Result<void> plan(OnConflict on_conflict = OnConflict::fail) {
        found = {};
        Lines lines = changed_on_source();
        const RegionView view{"r", base, destination};
        return plan_merge(view, lines.bytes(), on_conflict, found);
    }

    std::vector<std::byte> base, source, destination;
    MergePlan found;
};

TEST_F(Merge, WhatOnlyOneSideChangedIsKept) {
    set(source, kFree, 7);
    set(destination, kFree + 64, 8);
    ASSERT_TRUE(plan());
    apply_plan(found, destination);
    EXPECT_EQ(word(destination, kFree), 7u);
    EXPECT_EQ(word(destination, kFree + 64), 8u);
    EXPECT_EQ(found.writes.size(), 1u);
}

TEST_F(Merge, LineChangedOnBothSidesIsAConflictWithItsPlaceAndBytes) {
    set(base, kFree, 0);
    set(source, kFree, 1);
    set(destination, kFree, 2);
    ASSERT_TRUE(plan());
    ASSERT_EQ(found.conflicts.size(), 1u);
    EXPECT_EQ(found.conflict_count, 1u);
    EXPECT_EQ(found.conflicts[0].offset, kFree);
    EXPECT_EQ(found.conflicts[0].slot, "unassigned");
    EXPECT_EQ(found.conflicts[0].source.substr(0, 4), "0100");
    EXPECT_EQ(found.conflicts[0].destination.substr(0, 4), "0200");
    EXPECT_EQ(found.conflicts[0].base.size(), 128u);
    EXPECT_TRUE(found.writes.empty());
}

TEST_F(Merge, TheRequestSettlesWhatTheRuleLeavesOpen) {
    set(source, kFree, 1);
    set(destination, kFree, 2);
    ASSERT_TRUE(plan(OnConflict::source_wins));
    ASSERT_EQ(found.writes.size(), 1u);
    apply_plan(found, destination);
    EXPECT_EQ(word(destination, kFree), 1u);
    set(destination, kFree, 2);
    ASSERT_TRUE(plan(OnConflict::destination_wins));
    EXPECT_TRUE(found.writes.empty());
    EXPECT_EQ(found.conflict_count, 0u);
}

TEST_F(Merge, BothSidesDoingTheSameIsNoConflict) {
    set(source, kFree, 5);
    set(destination, kFree, 5);
    ASSERT_TRUE(plan());
    EXPECT_EQ(found.conflict_count, 0u);
    EXPECT_TRUE(found.writes.empty());
}

TEST_F(Merge, CountersOfBothSidesAddUpEvenIfTheyLookTheSame) {
    set(base, kTotals, 100);
    source = destination = base;
    set(source, kTotals, 119);
    set(destination, kTotals, 119);
    ASSERT_TRUE(plan());
    apply_plan(found, destination);
    EXPECT_EQ(word(destination, kTotals), 138u);
}

TEST_F(Merge, TheRuleIsTheOneOfTheSlotsClass) {
    set(source, kSessions + 64, 1);
    set(destination, kSessions + 64, 2);
    ASSERT_TRUE(plan());
    apply_plan(found, destination);
    EXPECT_EQ(word(destination, kSessions + 64), 1u);
    EXPECT_EQ(found.conflict_count, 0u);
}

TEST_F(Merge, LogsOfBothSidesAreJoinedTheSourcesBehind) {
    append(base, 1);
    source = destination = base;
    append(source, 10);
    append(destination, 20);
    ASSERT_TRUE(plan());
    apply_plan(found, destination);
    EXPECT_EQ(found.conflict_count, 0u);
    EXPECT_EQ(word(destination, kLog), 3u);
    EXPECT_EQ(logged(0), 1u);
    EXPECT_EQ(logged(1), 20u);
    EXPECT_EQ(logged(2), 10u);
}

TEST_F(Merge, LogWithoutRoomForBothIsAConflictWhateverTheRequestSays) {
    append(source, 10);
    append(source, 11);
    append(destination, 20);
    append(destination, 21);
    for (OnConflict choice : {OnConflict::fail, OnConflict::source_wins}) {
        ASSERT_TRUE(plan(choice));
        ASSERT_EQ(found.conflicts.size(), 1u);
        EXPECT_EQ(found.conflicts[0].slot, "audit[count]");
        EXPECT_EQ(found.conflicts[0].source.substr(0, 2), "02");
        EXPECT_TRUE(found.writes.empty());
    }
}

// The guest's words are not trusted: a count that went back, or beyond the end.
TEST_F(Merge, LogWhoseCountIsNoContinuationIsAConflict) {
    append(base, 1);
    source = destination = base;
    for (std::uint64_t count : {0ull, 4ull, ~0ull}) {
        set(source, kLog, count);
        ASSERT_TRUE(plan());
        EXPECT_EQ(found.conflict_count, 1u) << count;
        EXPECT_TRUE(found.writes.empty());
    }
    source = base;
    append(source, 10);
    set(destination, kLog, ~0ull - 1);
    ASSERT_TRUE(plan());
    EXPECT_EQ(found.conflict_count, 1u);
}

TEST_F(Merge, RecordOfBeforeTheForkThatBothRewroteIsAConflict) {
    append(base, 1);
    source = destination = base;
    set(source, kLog + 128 + 64, 2);
    set(destination, kLog + 128 + 64, 3);
    ASSERT_TRUE(plan());
    ASSERT_EQ(found.conflicts.size(), 1u);
    EXPECT_EQ(found.conflicts[0].slot, "audit[0]");
    ASSERT_TRUE(plan(OnConflict::source_wins));
    apply_plan(found, destination);
    EXPECT_EQ(logged(0), 2u);
}

TEST_F(Merge, LineOfALogSentTwiceIsRefused) {
    append(source, 10);
    Lines lines;
    const std::uint64_t page = kLog / kPageBytes * kPageBytes;
    for (int i = 0; i < 2; ++i) lines.add(page, 1ull << ((kLog - page) / 64), source.data() + page);
    const RegionView view{"r", base, destination};
    EXPECT_EQ(plan_merge(view, lines.bytes(), OnConflict::fail, found).error().slug,
              "malformed-frame");
}

TEST_F(Merge, SlotsAreNamed) {
    Result<SlotMap> slots = SlotMap::read(std::span(base).subspan(kData));
    ASSERT_TRUE(slots);
    EXPECT_EQ(slots->slot_at(0), "header");
    EXPECT_EQ(slots->slot_at(4096), "sessions[0]");
    EXPECT_EQ(slots->slot_at(4096 + 63 * 64), "sessions[63]");
    EXPECT_EQ(slots->slot_at(4096 + 64 * 64), "totals[0]");
    EXPECT_EQ(slots->slot_at(kLog - kData), "audit[count]");
    EXPECT_EQ(slots->slot_at(kLog - kData + 128), "audit[0]");
    EXPECT_EQ(slots->slot_at(kFree - kData), "unassigned");
    EXPECT_EQ(slots->rule_at(kFree - kData), GODWIT_FAIL);
}

TEST_F(Merge, RegionNobodyFormattedIsUnderFail) {
    std::memset(base.data() + kData, 0, GODWIT_HEADER_BYTES);
    source = destination = base;
    set(source, kSessions, 1);
    set(destination, kSessions, 2);
    ASSERT_TRUE(plan());
    EXPECT_EQ(found.conflict_count, 1u);
}

TEST_F(Merge, DamagedHeaderIsCorrupt) {
    auto* page = reinterpret_cast<godwit_header_page*>(base.data() + kData);
    page->classes[1].slot_count = 0x7fffffff;
    source = destination = base;
    Result<void> planned = plan();
    ASSERT_FALSE(planned);
    EXPECT_EQ(planned.error().fault, Fault::Corrupt);
    EXPECT_NE(planned.error().cause.find("outside"), std::string::npos);
}

TEST_F(Merge, PeerMayNotWriteTheRoleWordNorTheLabelArea) {
    const std::uint64_t role_line = 1ull << (GODWIT_ROLE_OFFSET / 64);
    for (auto [page, mask] : {std::pair<std::uint64_t, std::uint64_t>{kData, role_line},
                              {kData, ~0ull},
                              {0, 1},
                              {kData - kPageBytes, 1}}) {
        Lines lines;
        lines.add(page, mask, source.data() + page);
        MergePlan nothing;
        const RegionView view{"r", base, destination};
        Result<void> planned = plan_merge(view, lines.bytes(), OnConflict::source_wins, nothing);
        ASSERT_FALSE(planned) << page;
        EXPECT_EQ(planned.error().slug, "malformed-frame");
    }
}

TEST_F(Merge, PeerMayNotWriteBehindTheRegion) {
    Lines lines;
    lines.add(kRegion, 1, source.data());
    const RegionView view{"r", base, destination};
    EXPECT_EQ(plan_merge(view, lines.bytes(), OnConflict::fail, found).error().fault,
              Fault::Corrupt);
}

TEST_F(Merge, MoreConflictsThanAreReportedAreCounted) {
    const std::uint64_t many = protocol::wire::kConflictsMax + 44;
    for (std::uint64_t i = 0; i < many; ++i) {
        set(source, kFree + i * 64, 1);
        set(destination, kFree + i * 64, 2);
    }
    ASSERT_TRUE(plan());
    EXPECT_EQ(found.conflicts.size(), protocol::wire::kConflictsMax);
    EXPECT_EQ(found.conflict_count, many);
}

TEST_F(Merge, UndoPutsBackWhatThePatchOverwrote) {
    TemporaryDirectory folder;
    const std::string file = folder.file("undo");
    set(source, kFree, 1);
    set(source, kSessions, 9);
    const std::vector<std::byte> before = destination;
    ASSERT_TRUE(plan());
    ASSERT_TRUE(write_undo(file, undo_of(0, found, destination)));
    apply_plan(found, destination);
    EXPECT_NE(destination, before);
    Result<std::vector<UndoLine>> undo = read_undo(file);
    ASSERT_TRUE(undo);
    for (const UndoLine& line : *undo)
        std::memcpy(destination.data() + line.offset, line.bytes.data(), line.bytes.size());
    EXPECT_EQ(destination, before);
}

TEST(Undo, DamagedFilesAreCorruptAndAbsentOnesMissing) {
    TemporaryDirectory folder;
    const std::string file = folder.file("undo");
    EXPECT_EQ(read_undo(file).error().fault, Fault::Missing);
    ASSERT_TRUE(write_undo(file, {{0, 64, {}}, {1, 128, {}}}));
    ASSERT_EQ(read_undo(file)->size(), 2u);
    ASSERT_EQ(truncate(file.c_str(), 100), 0);
    EXPECT_EQ(read_undo(file).error().fault, Fault::Corrupt);
    ASSERT_EQ(truncate(file.c_str(), 3), 0);
    EXPECT_EQ(read_undo(file).error().fault, Fault::Corrupt);
}

}  // namespace
