// Whose overlays are whose, through forks, aborted ones and moves; and which files are made for it.
#include "vm_agent/vm/disks.hpp"

#include "tests/fakes/temporary_directory.hpp"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

namespace {

using namespace godwit;
using namespace godwit::agent;
using Files = std::vector<std::string>;

class Disks : public testing::Test {
protected:
    Disks() {
        record.spec.id = "web-1";
        record.spec.disks = {{folder.write("base.raw", "x"), "raw"}};
    }
    // qemu-img, as far as files go; what it was asked is remembered.
    Result<void> make() {
        commands.clear();
        return make_overlays(record, [this](const Files& words) -> Result<void> {
            commands.push_back(words);
            if (words[0] == "create") std::ofstream(words.back()).put('q');
            return {};
        });
    }
    void start(VmRecord& which, const std::string& host) {
        ASSERT_TRUE(plan_overlays(which, folder.file(""), host));
    }
    std::string base() const { return record.spec.disks[0].base; }

    fakes::TemporaryDirectory folder;
    VmRecord record;
    std::vector<Files> commands;
};

TEST_F(Disks, FirstStartPutsAnOverlayOnTheBase) {
    start(record, "host-a");
    ASSERT_TRUE(make());
    const Files own = own_overlays(record);
    ASSERT_EQ(own.size(), 1u);
    EXPECT_EQ(top_of(record, 0), own[0]);
    EXPECT_EQ(
        commands,
        (std::vector<Files>{{"create", "-q", "-f", "qcow2", "-F", "raw", "-b", base(), own[0]}}));
    // Started again it goes on with what it has.
    start(record, "host-a");
    EXPECT_EQ(own_overlays(record), own);
    ASSERT_TRUE(make());
    EXPECT_TRUE(commands.empty());
}

TEST_F(Disks, ForkedSourceWritesANewOneAndOwnsNothingElse) {
    start(record, "host-a");
    ASSERT_TRUE(make());
    const std::string before = top_of(record, 0);
    share_overlays(record);
    start(record, "host-a");
    ASSERT_TRUE(make());
    const std::string now = top_of(record, 0);
    EXPECT_NE(now, before);
    EXPECT_EQ(own_overlays(record), Files{now});
    EXPECT_EQ(overlays_of(record, 0), (Files{before, now}));
    // Made on the base, then told about the one below it without opening it.
    ASSERT_EQ(commands.size(), 2u);
    EXPECT_EQ(commands[1],
              (Files{"rebase", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", before, now}));
}

TEST_F(Disks, CloneBuildsOnWhatTheSourceHadAndInheritsItInTheEnd) {
    start(record, "host-a");
    ASSERT_TRUE(make());
    VmRecord clone;
    clone.spec = with_overlays(record);
    start(clone, "host-b");
    EXPECT_EQ(overlays_of(clone, 0).front(), top_of(record, 0));
    EXPECT_EQ(own_overlays(clone).size(), 1u);
    reclaim_overlays(clone);
    EXPECT_EQ(own_overlays(clone).size(), 1u) << "its own was never made, the source's is there";
    EXPECT_EQ(own_overlays(clone)[0], top_of(record, 0));
}

TEST_F(Disks, AbortedForkLeavesTheWholeChainToTheSource) {
    start(record, "host-a");
    ASSERT_TRUE(make());
    share_overlays(record);
    start(record, "host-a");
    ASSERT_TRUE(make());
    const Files chain = overlays_of(record, 0);
    reclaim_overlays(record);
    EXPECT_EQ(own_overlays(record), chain);
    EXPECT_EQ(top_of(record, 0), chain.back());
}

TEST_F(Disks, StorageThatIsAwayForAWhileForgetsNothing) {
    start(record, "host-a");
    ASSERT_TRUE(make());
    share_overlays(record);
    start(record, "host-a");
    ASSERT_TRUE(make());
    const Files chain = overlays_of(record, 0);
    for (const std::string& file : chain) std::filesystem::remove(file);
    reclaim_overlays(record);
    EXPECT_EQ(own_overlays(record), chain);
    // Nor is an empty disk put in the place of one that is gone.
    EXPECT_EQ(make().error().slug, "disk-unseen");
    EXPECT_TRUE(commands.empty());
}

TEST_F(Disks, WhatCannotBeSeenIsRefusedWithTheFix) {
    record.spec.disks[0].overlays = {folder.file("elsewhere.qcow2")};
    start(record, "host-b");
    Result<void> made = make();
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().slug, "disk-unseen");
    EXPECT_NE(made.error().cause.find("elsewhere.qcow2"), std::string::npos);
    EXPECT_NE(made.error().cause.find("both hosts share"), std::string::npos);
    EXPECT_TRUE(commands.empty());

    record.disks.clear();
    record.spec.disks = {{"/nonexistent/base.raw"}};
    start(record, "host-b");
    EXPECT_EQ(make().error().slug, "disk-unseen");
}

TEST_F(Disks, WithoutAFolderForThemThereAreNone) {
    EXPECT_EQ(plan_overlays(record, "", "host-a").error().slug, "no-disk-dir");
    record.spec.disks.clear();
    EXPECT_TRUE(plan_overlays(record, "", "host-a"));
}

TEST_F(Disks, WritableImageIsUsedItselfAndCannotMove) {
    record.spec.disks[0].writable = true;
    ASSERT_TRUE(plan_overlays(record, "", "host-a"));
    EXPECT_EQ(top_of(record, 0), base());
    EXPECT_TRUE(own_overlays(record).empty());
    Result<void> moves = check_disks_can_move(record.spec);
    ASSERT_FALSE(moves);
    EXPECT_EQ(moves.error().slug, "shared-disk");
    EXPECT_NE(moves.error().cause.find("leave writable out"), std::string::npos);
}

}  // namespace
