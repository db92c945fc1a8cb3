// Stories of the region library: formatting, allocation on both sides of a fork, damaged headers.
// A fork is what it is in production: a byte copy of the file plus another role word.
#include "vm_agent/region/godwit_region.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>

namespace {

constexpr std::size_t kRegionBytes = 1 << 20;
const godwit_class_spec kClasses[] = {
    {"sessions", GODWIT_SOURCE_WINS, GODWIT_ALLOCATED, 100, 64},
    {"totals", GODWIT_ADD_DELTA, GODWIT_FIXED, 64, 2},
    {"audit", GODWIT_APPEND, GODWIT_LOG, 100, 5},
};

class TemporaryRegion {
public:
    TemporaryRegion() {
        char path[] = "/tmp/gwtregionXXXXXX";
        int fd = mkstemp(path);
        path_ = path;
        if (ftruncate(fd, kRegionBytes) != 0) std::abort();
        close(fd);
    }
    ~TemporaryRegion() {
        if (region.page) godwit_region_close(&region);
        std::remove(path_.c_str());
    }
    int open() { return godwit_region_open(&region, path_.c_str(), kClasses, 3); }
    void set_role(std::uint64_t epoch, godwit_role role) {
        region.page->role.word = godwit_role_word(epoch, role);
    }
    const char* path() const { return path_.c_str(); }

    godwit_region region{};

private:
    std::string path_;
};

struct Fork {
    TemporaryRegion source, clone;

    void fork(std::uint64_t epoch) {
        ASSERT_EQ(clone.open(), 0) << clone.region.error;
        std::memcpy(clone.region.page, source.region.page, kRegionBytes);
        source.set_role(epoch, GODWIT_SOURCE);
        clone.set_role(epoch, GODWIT_CLONE);
    }
};

TEST(Region, FreshOneIsFormattedAndFoundAgain) {
    TemporaryRegion file;
    ASSERT_EQ(file.open(), 0);
    EXPECT_EQ(godwit_region_role(&file.region), GODWIT_SOLE);
    std::int64_t slot = godwit_slot_allocate(&file.region, 0, 4711);
    ASSERT_GE(slot, 0);
    std::strcpy(static_cast<char*>(godwit_slot_payload(&file.region, 0, slot)), "hello");
    godwit_region_close(&file.region);

    ASSERT_EQ(file.open(), 0) << file.region.error;
    EXPECT_EQ(godwit_slot_find(&file.region, 0, 4711), slot);
    EXPECT_STREQ(static_cast<char*>(godwit_slot_payload(&file.region, 0, slot)), "hello");
}

TEST(Region, FormattingLeavesTheHostsRoleWordAlone) {
    TemporaryRegion file;
    int fd = ::open(file.path(), O_RDWR);
    std::uint64_t word = godwit_role_word(9, GODWIT_CLONE);
    ASSERT_EQ(pwrite(fd, &word, sizeof(word), GODWIT_ROLE_OFFSET), 8);
    close(fd);
    ASSERT_EQ(file.open(), 0);
    EXPECT_EQ(godwit_region_role(&file.region), GODWIT_CLONE);
    EXPECT_EQ(godwit_region_epoch(&file.region), 9u);
}

TEST(Region, SourceAndCloneNeverTakeTheSameSlot) {
    Fork both;
    ASSERT_EQ(both.source.open(), 0);
    for (int i = 0; i < 10; ++i) ASSERT_GE(godwit_slot_allocate(&both.source.region, 0, 1), 0);
    both.fork(1);
    std::vector<int> taken(64);
    for (godwit_region* side : {&both.source.region, &both.clone.region}) {
        std::int64_t slot = 0;
        while ((slot = godwit_slot_allocate(side, 0, 2)) >= 0) ++taken[slot];
        EXPECT_EQ(slot, -ENOSPC);
    }
    EXPECT_EQ(std::count(taken.begin(), taken.end(), 1), 54);
    EXPECT_EQ(std::count(taken.begin(), taken.end(), 0), 10);
}

TEST(Region, CloneOwnsOnlyWhatItAllocatedItself) {
    Fork both;
    ASSERT_EQ(both.source.open(), 0);
    std::int64_t old_slot = godwit_slot_allocate(&both.source.region, 0, 7);
    both.fork(3);
    EXPECT_TRUE(godwit_slot_is_mine(&both.source.region, 0, old_slot));
    EXPECT_FALSE(godwit_slot_is_mine(&both.clone.region, 0, old_slot));
    EXPECT_EQ(godwit_slot_free(&both.clone.region, 0, old_slot), -EPERM);
    std::int64_t new_slot = godwit_slot_allocate(&both.clone.region, 0, 8);
    EXPECT_TRUE(godwit_slot_is_mine(&both.clone.region, 0, new_slot));
    EXPECT_EQ(godwit_slot_free(&both.clone.region, 0, new_slot), 0);
    EXPECT_EQ(godwit_slot_free(&both.clone.region, 0, new_slot), -EINVAL);
    // Adopted: the clone is the only one left and owns everything.
    both.clone.set_role(3, GODWIT_SOLE);
    EXPECT_TRUE(godwit_slot_is_mine(&both.clone.region, 0, old_slot));
}

TEST(Region, LogKeepsWhatIsAppendedUntilItIsFull) {
    TemporaryRegion file;
    ASSERT_EQ(file.open(), 0) << file.region.error;
    EXPECT_EQ(godwit_slot_count(&file.region, 2), 5u);
    for (std::int64_t i = 0; i < 5; ++i)
        EXPECT_EQ(godwit_log_append(&file.region, 2, "hello", 5), i);
    EXPECT_EQ(godwit_log_append(&file.region, 2, "hello", 5), -ENOSPC);
    EXPECT_EQ(godwit_log_count(&file.region, 2), 5u);
    std::uint32_t length = 0;
    const void* record = godwit_log_record(&file.region, 2, 4, &length);
    ASSERT_NE(record, nullptr);
    EXPECT_EQ(std::string(static_cast<const char*>(record), length), "hello");
    EXPECT_EQ(godwit_log_record(&file.region, 2, 5, &length), nullptr);
}

TEST(Region, LogRefusesWhatIsNoRecordOfIt) {
    TemporaryRegion file;
    ASSERT_EQ(file.open(), 0);
    const char long_record[129] = {};
    EXPECT_EQ(godwit_log_append(&file.region, 2, long_record, 129), -EINVAL);
    EXPECT_EQ(godwit_log_append(&file.region, 2, long_record, 128), 0);
    EXPECT_EQ(godwit_log_append(&file.region, 0, "x", 1), -EINVAL);
    EXPECT_EQ(godwit_log_append(&file.region, 3, "x", 1), -EINVAL);
    EXPECT_EQ(godwit_slot_allocate(&file.region, 2, 1), -EINVAL);
    EXPECT_EQ(godwit_slot_payload(&file.region, 2, 0), nullptr);
    EXPECT_EQ(godwit_log_count(&file.region, 1), 0u);
}

// A merge between the two steps of an append: the place stays the writer's, the merged come behind it.
TEST(Region, PlaceTakenBeforeAMergeIsFilledAfterIt) {
    TemporaryRegion file;
    ASSERT_EQ(file.open(), 0);
    auto* data = reinterpret_cast<char*>(file.region.page);
    auto* log = reinterpret_cast<godwit_log_line*>(data + file.region.page->classes[2].offset);
    log->count = 1;  // taken, its writer paused
    EXPECT_EQ(godwit_log_record(&file.region, 2, 0, nullptr), nullptr);
    log->count = 3;  // merged
    EXPECT_EQ(godwit_log_append(&file.region, 2, "x", 1), 3);
    log->count = ~0ull;  // not the library's doing: neither read nor written beyond the end
    EXPECT_EQ(godwit_log_append(&file.region, 2, "x", 1), -ENOSPC);
    EXPECT_EQ(godwit_log_count(&file.region, 2), 5u);
}

TEST(Region, OtherClassesThanTheStoredOnesAreRefused) {
    TemporaryRegion file;
    ASSERT_EQ(file.open(), 0);
    godwit_region_close(&file.region);
    EXPECT_EQ(godwit_region_open(&file.region, file.path(), kClasses, 1), -EEXIST);
    EXPECT_EQ(file.region.page, nullptr);
}

TEST(Region, BadClassesAreRefusedWithTheReason) {
    TemporaryRegion file;
    const godwit_class_spec too_many[] = {{"x", GODWIT_FAIL, GODWIT_FIXED, 1 << 20, 2}};
    const godwit_class_spec counter[] = {{"x", GODWIT_MAX, GODWIT_ALLOCATED, 8, 2}};
    const godwit_class_spec append[] = {{"x", GODWIT_APPEND, GODWIT_FIXED, 8, 2}};
    const godwit_class_spec log[] = {{"x", GODWIT_SOURCE_WINS, GODWIT_LOG, 8, 2}};
    const godwit_class_spec name[] = {
        {"a name of more than 23 bytes", GODWIT_FAIL, GODWIT_FIXED, 8, 2}};
    EXPECT_EQ(godwit_region_open(&file.region, file.path(), too_many, 1), -ENOSPC);
    EXPECT_EQ(godwit_region_open(&file.region, file.path(), counter, 1), -EINVAL);
    EXPECT_EQ(godwit_region_open(&file.region, file.path(), append, 1), -EINVAL);
    EXPECT_EQ(godwit_region_open(&file.region, file.path(), log, 1), -EINVAL);
    EXPECT_EQ(godwit_region_open(&file.region, file.path(), name, 1), -EINVAL);
    EXPECT_NE(file.region.error, nullptr);
    EXPECT_EQ(godwit_region_open(&file.region, "/nonexistent/region", kClasses, 2), -ENOENT);
}

TEST(Region, DamagedHeadersAreRefused) {
    TemporaryRegion file;
    ASSERT_EQ(file.open(), 0);
    const godwit_header_page good = *file.region.page;
    const char* why = nullptr;
    ASSERT_EQ(godwit_header_check(&good, kRegionBytes, &why), 0);
    EXPECT_EQ(godwit_header_check(&good, 4096, &why), -EPROTO);
    auto damaged = [&](auto change) {
        godwit_header_page page = good;
        change(page);
        why = nullptr;
        int result = godwit_header_check(&page, kRegionBytes, &why);
        EXPECT_NE(why, nullptr);
        return result;
    };
    EXPECT_EQ(damaged([](auto& p) { p.head.version = 2; }), -EPROTO);
    EXPECT_EQ(damaged([](auto& p) { p.head.class_count = 33; }), -EPROTO);
    EXPECT_EQ(damaged([](auto& p) { p.head.data_bytes = ~0ull; }), -EPROTO);
    EXPECT_EQ(damaged([](auto& p) { p.classes[0].offset = ~0ull - 63; }), -EPROTO);
    EXPECT_EQ(damaged([](auto& p) { p.classes[0].slot_count = ~0u; }), -EPROTO);
    EXPECT_EQ(damaged([](auto& p) { p.classes[1].offset = p.classes[0].offset; }), -EPROTO);
    EXPECT_EQ(damaged([](auto& p) { p.classes[0].rule = 99; }), -EPROTO);
    EXPECT_EQ(damaged([](auto& p) { p.classes[0].kind = GODWIT_LOG; }), -EPROTO);
    EXPECT_EQ(damaged([](auto& p) { p.classes[2].rule = GODWIT_FAIL; }), -EPROTO);
    EXPECT_EQ(damaged([](auto& p) { p.classes[2].slot_count = 1; }), -EPROTO);
    EXPECT_EQ(damaged([](auto& p) { p.classes[0].slot_bytes = 63; }), -EPROTO);
    EXPECT_EQ(damaged([](auto& p) { std::memset(p.classes[0].name, 'x', 24); }), -EPROTO);
}

TEST(Region, OnlyTheSourceSaysThatItIsQuietAndOnlyForItsEpoch) {
    Fork fork;
    ASSERT_EQ(fork.source.open(), 0) << fork.source.region.error;
    EXPECT_EQ(godwit_region_say_quiet(&fork.source.region), -EPERM) << "alone nobody waits for it";
    fork.fork(7);
    EXPECT_EQ(godwit_region_say_quiet(&fork.clone.region), -EPERM);
    EXPECT_EQ(godwit_region_say_quiet(&fork.source.region), 0);
    const godwit_header_page* page = fork.source.region.page;
    EXPECT_EQ(page->quiet.word, page->role.word);
    fork.source.set_role(8, GODWIT_SOURCE);
    EXPECT_NE(page->quiet.word, page->role.word) << "what was said is of the migration before";
}

}  // namespace
