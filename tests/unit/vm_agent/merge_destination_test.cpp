// The destination's half of a merge on real files, without QEMU: applied once however often it is
// asked for, and after a crash in the middle either whole or not at all.
#include "tests/fakes/run_task.hpp"
#include "tests/fakes/temporary_directory.hpp"
#include "vm_agent/durable_file.hpp"
#include "vm_agent/memory/undo.hpp"
#include "vm_agent/operations/merge.hpp"

#include <cstring>
#include <filesystem>

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

namespace {

using namespace godwit;
using namespace godwit::agent;
using namespace godwit::memory;
using protocol::wire::MergeOutcome;

constexpr std::uint64_t kRegion = 4 << 20;
constexpr std::uint64_t kCounters = GODWIT_LABEL_BYTES + GODWIT_HEADER_BYTES;  // add-delta
constexpr std::uint64_t kOther = kCounters + 64;                               // fail

class MergeDestination : public testing::Test {
protected:
    MergeDestination() {
        config.id = "host-b";
        config.state_dir = config.run_dir = config.shm_dir = folder.file("");
        std::filesystem::create_directory(folder.file("vms"));
        VmRecord record;
        record.spec.id = "web-1";
        record.spec.regions = {{"r", kRegion >> 20}};
        machine = std::make_shared<Machine>(host, record);
        base = must(MappedFile::create(machine->paths().region_base("r"), kRegion));
        now = must(MappedFile::create(machine->paths().region("r"), kRegion));
        godwit_header_page page{};
        page.head = {GODWIT_REGION_MAGIC,
                     GODWIT_REGION_VERSION,
                     GODWIT_HEADER_BYTES,
                     1 << 20,
                     1,
                     GODWIT_LINE_BYTES,
                     {}};
        page.classes[0] = {"counters", GODWIT_ADD_DELTA, GODWIT_FIXED, 64, 1, 4096, {}};
        for (MappedFile* file : {&base, &now})
            std::memcpy(file->data() + GODWIT_LABEL_BYTES, &page, sizeof(page));
        set(base, kCounters, 100);
        set(now, kCounters, 110);
    }
    ~MergeDestination() override { pool.join(); }

    template <typename T>
    static T must(Result<T> result) {
        if (!result) throw std::runtime_error(result.error().text());
        return std::move(*result);
    }
    static void set(MappedFile& file, std::uint64_t offset, std::uint64_t word) {
        std::memcpy(file.data() + offset, &word, 8);
    }
    std::uint64_t at(std::uint64_t offset) const {
        std::uint64_t word = 0;
        std::memcpy(&word, now.data() + offset, 8);
        return word;
    }
    // The source counted to 105; another word of it is `other`.
    std::shared_ptr<IncomingMerge> from_source(std::uint64_t other = 0) {
        std::vector<std::byte> page(protocol::wire::kPageBytes);
        std::memcpy(page.data(), base.data() + kCounters, page.size());
        const std::uint64_t counted = 105;
        std::memcpy(page.data(), &counted, 8);
        std::memcpy(page.data() + 64, &other, 8);
        Lines lines;
        lines.add(kCounters, other == 0 ? 1 : 3, page.data());
        auto incoming = std::make_shared<IncomingMerge>();
        incoming->records.emplace_back(lines.bytes().begin(), lines.bytes().end());
        incoming->end.base_root = to_hex(must(root_of({&base})));
        return incoming;
    }
    Result<MergeOutcome> merge(const std::string& job, std::shared_ptr<IncomingMerge> incoming) {
        return fakes::run_on(context, merge_into(machine, job, std::move(incoming)));
    }

    fakes::TemporaryDirectory folder;
    Config config;
    boost::asio::io_context context{1};
    WorkerPool pool{2};
    HostContext host{config, context.get_executor(), pool, "tcg", "7.2.22"};
    std::shared_ptr<Machine> machine;
    MappedFile base, now;
};

TEST_F(MergeDestination, AskedTwiceItIsDoneOnce) {
    const MergeOutcome first = must(merge("j-1", from_source()));
    EXPECT_TRUE(first.applied);
    EXPECT_EQ(first.bytes_patched, 64u);
    EXPECT_EQ(at(kCounters), 115u);
    const MergeOutcome again = must(merge("j-1", from_source()));
    EXPECT_EQ(json::to_text(again), json::to_text(first));
    EXPECT_EQ(at(kCounters), 115u);
}

TEST_F(MergeDestination, ConflictLeavesEverythingAsItWas) {
    set(now, kOther, 2);
    const MergeOutcome outcome = must(merge("j-1", from_source(/*other=*/1)));
    EXPECT_FALSE(outcome.applied);
    EXPECT_EQ(outcome.conflict_count, 1u);
    EXPECT_EQ(at(kCounters), 110u);
    EXPECT_EQ(at(kOther), 2u);
    EXPECT_EQ(read_file(machine->paths().undo()).error().fault, Fault::Missing);
}

TEST_F(MergeDestination, AnotherBaseThanTheSourcesIsRefused) {
    std::shared_ptr<IncomingMerge> incoming = from_source();
    set(base, kOther, 1);
    Result<MergeOutcome> outcome = merge("j-1", incoming);
    ASSERT_FALSE(outcome);
    EXPECT_EQ(outcome.error().slug, "memory-differs");
    EXPECT_EQ(at(kCounters), 110u);
}

TEST_F(MergeDestination, HostileLinesPatchNothing) {
    std::shared_ptr<IncomingMerge> incoming = from_source();
    incoming->records[0].resize(incoming->records[0].size() - 1);
    Result<MergeOutcome> outcome = merge("j-1", incoming);
    ASSERT_FALSE(outcome);
    EXPECT_EQ(outcome.error().fault, Fault::Corrupt);
    EXPECT_EQ(at(kCounters), 110u);
}

TEST_F(MergeDestination, PatchWhoseOutcomeCannotBeKeptIsTakenBack) {
    // A folder where the outcome should go: the last write of the patch fails.
    std::filesystem::create_directory(machine->paths().merged());
    EXPECT_FALSE(merge("j-1", from_source()));
    EXPECT_EQ(at(kCounters), 110u);
}

TEST_F(MergeDestination, CrashBeforeTheOutcomePutsTheOldLinesBack) {
    UndoLine line{0, kCounters, {}};
    std::memcpy(line.bytes.data(), now.data() + kCounters, line.bytes.size());
    ASSERT_TRUE(write_undo(machine->paths().undo(), {line}));
    set(now, kCounters, 4711);  // half a patch
    ASSERT_TRUE(recover_merge(*machine));
    EXPECT_EQ(at(kCounters), 110u);
    EXPECT_TRUE(recover_merge(*machine));
}

TEST_F(MergeDestination, CrashAfterTheOutcomeKeepsThePatch) {
    ASSERT_TRUE(merge("j-1", from_source()));
    UndoLine line{0, kCounters, {}};
    ASSERT_TRUE(write_undo(machine->paths().undo(), {line}));
    ASSERT_TRUE(recover_merge(*machine));
    EXPECT_EQ(at(kCounters), 115u);
    EXPECT_EQ(read_file(machine->paths().undo()).error().fault, Fault::Missing);
}

TEST_F(MergeDestination, UndoFileThatNamesNoPlaceIsCorrupt) {
    ASSERT_TRUE(write_undo(machine->paths().undo(), {{0, kRegion, {}}}));
    EXPECT_EQ(recover_merge(*machine).error().fault, Fault::Corrupt);
}

}  // namespace
