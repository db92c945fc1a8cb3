// The DPDK plane's memory: what survives a process, and what is put right after one that was killed.
#include "dataplane/dpdk/hooks.hpp"

#include "steering/layout.h"
#include "steering/steer.h"

#include "dataplane/dpdk/ending.hpp"
#include "dataplane/dpdk/left.hpp"
#include "dataplane/dpdk/repair.hpp"
#include "dataplane/dpdk/resets.hpp"
#include "dataplane/dpdk/shard.hpp"
#include "dataplane/dpdk/table_file.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <gtest/gtest.h>

namespace godwit::test {
namespace {

constexpr dataplane::TableSizes kSmall{1024, 1024, 256};

class SessionFile : public testing::Test {
protected:
    SessionFile() { std::filesystem::create_directory(folder_); }
    ~SessionFile() override { std::filesystem::remove_all(folder_); }
    std::unique_ptr<dpdk::TableFile> open() {
        auto file = dpdk::TableFile::open(path_, kSmall);
        if (!file) ADD_FAILURE() << file.error().text();
        return file ? std::move(*file) : nullptr;
    }
    std::string slug() {
        auto file = dpdk::TableFile::open(path_, kSmall);
        return file ? "" : file.error().slug + "|" + file.error().cause;
    }
    void overwrite(long at, std::uint32_t value) {
        std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(at);
        file.write(reinterpret_cast<const char*>(&value), sizeof(value));
    }
    // A live session of VM 3's first address, owned by `slot`.
    static steer_key pin(dpdk::Tables& tables, std::uint16_t peer_port, std::uint32_t slot) {
        steer_plane plane{.tables = &tables};
        steer_key key{0x0a000009, peer_port, 80, 3 * STEER_ADDRESSES_PER_VM, 6, 0, {}};
        steer_fresh fresh{slot << STEER_META_OWNER_SHIFT, 1, 0, 0, 0, 0, 0};
        EXPECT_EQ(steer_session_pin(&plane, STEER_SESSIONS4, &key, &fresh), STEER_INSERTED);
        return key;
    }
    static bool knows(dpdk::Tables& tables, const steer_key& key) {
        steer_plane plane{.tables = &tables};
        std::uint32_t meta = 0;
        return steer_find(&plane, STEER_SESSIONS4, &key, &meta) != nullptr;
    }

    const std::string folder_ = "/dev/shm/gwt" + std::to_string(getpid()) + "-tables";
    const std::string path_ = folder_ + "/sessions";
};

TEST_F(SessionFile, TheNextProcessFindsTheSessionsOfTheLast) {
    auto first = open();
    EXPECT_FALSE(first->adopted());
    EXPECT_EQ(first->silent_for().count(), 0);
    const steer_key key = pin(first->tables(), 4000, 1);
    first->tables().resets->add(key);
    const auto seed = first->tables().config.seed[0];
    first->beat(dpdk::tick_now() - dpdk::kTicksPerSecond * 5);
    first.reset();
    auto second = open();
    ASSERT_TRUE(second->adopted());
    EXPECT_EQ(second->repaired(), (dpdk::Repaired{1, 0, 0}));
    EXPECT_EQ(second->tables().config.seed[0], seed);
    EXPECT_TRUE(knows(second->tables(), key));
    EXPECT_TRUE(second->tables().resets->contains(key));
    EXPECT_EQ(second->tables().vms[3].sessions[1], 1u);
    EXPECT_GE(second->silent_for().count(), 5000);
}

TEST_F(SessionFile, TheNextProcessGoesOnCounting) {
    auto first = open();
    constexpr std::size_t kLast = STEER_TALLY_REASONS * STEER_TALLY_ACTIONS - 1;
    ASSERT_EQ(first->tables().counters.size(), dpdk::kWorkersMax);
    for (unsigned worker = 0; worker < dpdk::kWorkersMax; ++worker) {
        dpdk::CounterSet& set = first->tables().counters[worker];
        EXPECT_EQ(set.tallies.back().packets[kLast], 0u);
        set.tallies.back().packets[kLast] = 7 + worker;
        set.backends.back() = {1, 2, 3 + worker};
    }
    first->port_names().back() = 9;
    first.reset();
    auto second = open();
    EXPECT_EQ(second->port_names().back(), 9u);
    for (unsigned worker = 0; worker < dpdk::kWorkersMax; ++worker) {
        const dpdk::CounterSet& set = second->tables().counters[worker];
        EXPECT_EQ(set.tallies.back().packets[kLast], 7u + worker);
        EXPECT_EQ(set.backends.back().fenced, 3u + worker);
    }
    EXPECT_EQ(second->repaired(), (dpdk::Repaired{0, 0, 0}));
}

TEST_F(SessionFile, TwoProcessesDoNotShareIt) {
    auto first = open();
    EXPECT_NE(slug().find("another godwit-switch uses it"), std::string::npos);
}

TEST_F(SessionFile, AnotherLayoutIsNotTouched) {
    pin(open()->tables(), 4000, 0);
    overwrite(8, 99);
    EXPECT_TRUE(slug().starts_with("layout-mismatch|"));
    overwrite(8, GODWIT_LAYOUT);
    EXPECT_TRUE(open()->adopted());
    std::filesystem::resize_file(path_, std::filesystem::file_size(path_) - 4096);
    EXPECT_TRUE(slug().starts_with("layout-mismatch|")) << "a shorter file is another layout";
}

TEST_F(SessionFile, OneThatWasNeverFinishedOrIsOfAnEarlierBootIsMadeAnew) {
    const steer_key key = pin(open()->tables(), 4000, 0);
    overwrite(8, 0);
    auto unfinished = open();
    EXPECT_FALSE(unfinished->adopted());
    EXPECT_FALSE(knows(unfinished->tables(), key));
    unfinished.reset();
    overwrite(16, 0x30303030);  // the boot's id
    EXPECT_FALSE(open()->adopted());
}

TEST_F(SessionFile, WithoutRoomItIsAnErrorAndNoCrash) {
    auto file = dpdk::TableFile::open("/proc/gwt-no-such", kSmall);
    ASSERT_FALSE(file);
    EXPECT_EQ(file.error().fault, Fault::Rejected);
}

TEST_F(SessionFile, OneOnADiskIsRefusedAndLeavesNothing) {
    const auto is_memory = [](const std::string& folder) {
        struct statfs about{};
        return statfs(folder.c_str(), &about) != 0 || about.f_type == TMPFS_MAGIC ||
               access(folder.c_str(), W_OK) != 0;
    };
    const std::vector<std::string> folders{".", "/var/tmp", "/tmp"};
    const auto disk = std::ranges::find_if_not(folders, is_memory);
    if (disk == folders.end()) GTEST_SKIP() << "this machine has no disk to write to";
    const std::string path = *disk + "/gwt" + std::to_string(getpid()) + "-sessions";
    auto file = dpdk::TableFile::open(path, kSmall);
    ASSERT_FALSE(file);
    EXPECT_EQ(file.error().fault, Fault::Rejected);
    EXPECT_NE(file.error().cause.find("set dpdk.table_dir"), std::string::npos);
    EXPECT_FALSE(std::filesystem::exists(path));
}

// Looked for at every start of the other plane: what anybody may have put there is not believed.
TEST_F(SessionFile, WhatLiesWhereOthersMayWriteIsNobodysTable) {
    pin(open()->tables(), 4000, 1);
    EXPECT_EQ(*dpdk::TableFile::generation_of(path_, 0), 1u);
    std::filesystem::permissions(folder_, std::filesystem::perms::all);
    EXPECT_EQ(*dpdk::TableFile::generation_of(path_, 0), 0u);
    std::filesystem::permissions(folder_, std::filesystem::perms::owner_all);
    std::filesystem::permissions(path_, std::filesystem::perms::all);
    EXPECT_EQ(*dpdk::TableFile::generation_of(path_, 0), 0u);
    std::filesystem::remove(path_);
    ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
    EXPECT_EQ(*dpdk::TableFile::generation_of(path_, 0), 0u) << "and nobody waits for its writer";
}

// The clocks differ, ages do not.
TEST_F(SessionFile, TablesOfAnotherClockKeepTheirAges) {
    const std::string other = path_ + "-other";
    auto from = open();
    const steer_key key = pin(from->tables(), 4000, 1);
    from->tables().resets->add(key);
    for (const dpdk::CounterSet& worker : from->tables().counters) worker.tallies[3].packets[7] = 9;
    from->tables().counters[1].backends[7].to = 5;
    from->tables().vms[3].steer = STEER_VALID;
    from->tables().vms[3].longest_gap = 200;
    const auto seed = from->tables().config.seed[0];
    from.reset();
    auto left = dpdk::find_left(path_, 0);
    ASSERT_TRUE(left && *left) << "nobody runs on it";
    EXPECT_EQ((*left)->generation(), 1u);
    auto image = (*left)->stop();
    ASSERT_TRUE(image);
    image->clock = {1001, 100};  // pinned at tick 1: ten seconds ago
    auto made = dpdk::TableFile::make(other, (*left)->config(), 0);
    ASSERT_TRUE(made) << made.error().text();
    EXPECT_EQ(*dpdk::TableFile::generation_of(other, 0), 0u) << "not before it is filled";
    (*made)->fill(*image, 2);
    (*left)->remove();
    EXPECT_EQ(*dpdk::TableFile::generation_of(path_, 0), 0u);
    EXPECT_EQ(*dpdk::TableFile::generation_of(other, 0), 2u);
    EXPECT_EQ(*dpdk::TableFile::generation_of(other, 77), 0u) << "another switch's";
    dpdk::Tables& tables = (*made)->tables();
    EXPECT_TRUE(knows(tables, key));
    EXPECT_EQ(tables.config.seed[0], seed) << "or nothing would be found";
    EXPECT_TRUE(tables.resets->contains(key));
    EXPECT_EQ(tables.vms[3].sessions[1], 1u);
    EXPECT_EQ(tables.vms[3].longest_gap, 1000u) << "2 s";
    EXPECT_EQ(tables.counters[0].tallies[3].packets[7], 9u * tables.counters.size())
        << "all workers'";
    EXPECT_EQ(tables.counters[0].backends[7].to, 5u);
    steer_plane plane{.tables = &tables};
    std::uint32_t meta = 0;
    const steer_slot* slot = steer_find(&plane, STEER_SESSIONS4, &key, &meta);
    const std::uint32_t age = dpdk::tick_now() - slot->last_tick;
    EXPECT_GE(age, 10 * dpdk::kTicksPerSecond);
    EXPECT_LT(age, 100 * dpdk::kTicksPerSecond);
    unlink(other.c_str());
}

TEST(LeftTables, WhatWasTouchedAfterTheClockWasReadIsNotOld) {
    const dataplane::TableClock from{5, 250}, to{1000, 500};
    EXPECT_EQ(dataplane::carried_over(5, from, to), 1000u);
    EXPECT_EQ(dataplane::carried_over(7, from, to), 1000u);
    EXPECT_EQ(dataplane::carried_over(5u - 250, from, to), 500u) << "through the wrap";
}

TEST_F(SessionFile, WhatAKillHasLeftHalfDoneIsPutRight) {
    auto file = open();
    dpdk::Tables& tables = file->tables();
    const steer_key first = pin(tables, 4000, 0), second = pin(tables, 4001, 1);
    const std::span<struct steer_line> lines = tables.lines[STEER_SESSIONS4];
    struct steer_line* empty = lines.data();
    while (steer_meta_life(empty->slot[0].meta) || steer_meta_life(empty->slot[1].meta)) ++empty;
    empty->slot[1].meta = STEER_BUSY;
    empty->slot[0].bucket = STEER_BUCKET_LOCK | 3;
    tables.vms[3].sessions[0] = 7;
    tables.vms[3].handshakes[1] = 2;
    file.reset();
    file = open();
    EXPECT_EQ(file->repaired(), (dpdk::Repaired{2, 1, 1}));
    const vm_record& vm = file->tables().vms[3];
    EXPECT_EQ(vm.sessions[0], 1u);
    EXPECT_EQ(vm.sessions[1], 1u);
    EXPECT_EQ(vm.handshakes[1], 0u);
    EXPECT_TRUE(knows(file->tables(), first) && knows(file->tables(), second));
    pin(file->tables(), 4002, 0);
    EXPECT_EQ(vm.sessions[0], 2u);
}

TEST_F(SessionFile, SpilledSessionsAreStillFoundAfterARepair) {
    auto file = open();
    std::vector<steer_key> keys;
    for (std::uint16_t port = 1; port <= 1400; ++port) keys.push_back(pin(file->tables(), port, 0));
    const auto spilled = [&] {
        std::uint32_t sum = 0;
        const std::uint32_t homes = file->tables().config.table[STEER_SESSIONS4].home_mask + 1;
        for (std::uint32_t i = 0; i < homes; ++i)
            sum += file->tables().lines[STEER_SESSIONS4][i].slot[0].bucket & STEER_BUCKET_SPILLED;
        return sum;
    };
    const std::uint32_t before = spilled();
    ASSERT_GT(before, 0u) << "the story needs a fuller table";
    file.reset();
    file = open();
    EXPECT_EQ(spilled(), before);
    for (const steer_key& key : keys) EXPECT_TRUE(knows(file->tables(), key));
}

TEST_F(SessionFile, TheSweepComesRoundAndForgetsWhoIsIdle) {
    auto file = open();
    file->tables().vms[3].timeouts = {100, 100, 100, 100, 100, 1, 100, 100};
    const steer_key key = pin(file->tables(), 4000, 0);
    steer_plane plane{.tables = &file->tables(), .tick = 50};
    dpdk::Sweeper sweeper;
    const auto all = static_cast<std::uint32_t>(file->tables().lines[STEER_SESSIONS4].size());
    EXPECT_EQ(sweeper.sweep(plane, all).live, 1u);
    plane.tick = 200;
    std::uint32_t removed = 0;
    for (std::uint32_t done = 0; done < all; done += 100)
        removed += sweeper.sweep(plane, 100).removed;
    EXPECT_EQ(removed, 1u);
    EXPECT_FALSE(knows(file->tables(), key));
}

TEST_F(SessionFile, TheEndOfABackendsSessionsIsCountedAndPeersAreRemembered) {
    auto file = open();
    dpdk::Tables& tables = file->tables();
    const steer_key gone = pin(tables, 4000, 0), kept = pin(tables, 4001, 1);
    steer_plane plane{.tables = &tables};
    const auto ended = dpdk::end_sessions(plane, 3, 0, dataplane::Plane::Tell::peers);
    EXPECT_EQ(ended.reset, 1u);
    EXPECT_EQ(ended.dropped, 0u);
    EXPECT_FALSE(knows(tables, gone));
    EXPECT_TRUE(knows(tables, kept));
    EXPECT_TRUE(tables.resets->contains(gone));
    EXPECT_FALSE(tables.resets->contains(kept));
    EXPECT_EQ(dpdk::end_sessions(plane, 3, 1, dataplane::Plane::Tell::nobody).dropped, 1u);
    EXPECT_FALSE(tables.resets->contains(kept));
}

TEST(ResetsTest, TheOldestMakesRoomAndARemovedOneIsForgotten) {
    auto resets = std::make_unique<dpdk::Resets>();
    EXPECT_TRUE(resets->is_unused());
    constexpr std::uint32_t kMany = 2 * dpdk::Resets::kSets * dpdk::Resets::kWays;
    const auto key = [](std::uint32_t number) { return steer_key{number, 4000, 80, 8, 6, 0, {}}; };
    for (std::uint32_t i = 0; i < kMany; ++i) resets->add(key(i));
    EXPECT_FALSE(resets->is_unused());
    EXPECT_TRUE(resets->contains(key(kMany - 1)));
    EXPECT_FALSE(resets->contains(key(0)));
    resets->remove(key(kMany - 1));
    EXPECT_FALSE(resets->contains(key(kMany - 1)));
}

}  // namespace
}  // namespace godwit::test
