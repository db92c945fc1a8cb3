// What must survive kill -9: the fencing token, VM records, small files; and how a process is found
// again.
#include "lib/json.hpp"

#include "tests/fakes/temporary_directory.hpp"
#include "vm_agent/durable_file.hpp"
#include "vm_agent/fencing.hpp"
#include "vm_agent/vm/process.hpp"
#include "vm_agent/vm/record.hpp"

#include <fstream>
#include <unistd.h>

#include <gtest/gtest.h>

namespace {

using namespace godwit;
using fakes::TemporaryDirectory;
using namespace godwit::agent;

TEST(Fencing, LowerTokenIsRefusedAlsoByTheNextProcess) {
    TemporaryDirectory folder;
    const std::string file = folder.file("fence.json");
    {
        Result<Fencing> fencing = Fencing::open(file);
        ASSERT_TRUE(fencing);
        EXPECT_TRUE(fencing->admit({5, "j-1", "copying"}));
        EXPECT_TRUE(fencing->admit({5, "j-1", "copying"}));
    }
    Result<Fencing> again = Fencing::open(file);
    ASSERT_TRUE(again);
    EXPECT_EQ(again->token(), 5u);
    Result<void> old = again->admit({4, "j-1", "copying"});
    ASSERT_FALSE(old);
    EXPECT_EQ(old.error().fault, Fault::Conflict);
    EXPECT_EQ(old.error().slug, "stale-epoch");
    EXPECT_FALSE(again->admit({6, "", "copying"}));
    EXPECT_EQ(again->token(), 5u);
}

TEST(Fencing, DamagedFileIsNotForgotten) {
    TemporaryDirectory folder;
    const std::string file = folder.file("fence.json");
    ASSERT_TRUE(replace_file(file, "{\"token\": "));
    Result<Fencing> fencing = Fencing::open(file);
    ASSERT_FALSE(fencing);
    EXPECT_EQ(fencing.error().fault, Fault::Corrupt);
}

TEST(Fencing, TokenThatCannotBeKeptIsNotObeyed) {
    TemporaryDirectory folder;
    Result<Fencing> fencing = Fencing::open(folder.file("gone/fence.json"));
    ASSERT_TRUE(fencing);
    EXPECT_FALSE(fencing->admit(std::uint64_t{3}));
    EXPECT_EQ(fencing->token(), 0u);
}

TEST(Record, ComesBackAsItWas) {
    VmRecord record;
    record.spec.id = "web-1";
    record.spec.regions = {{"sessions", 16}};
    record.owner_job = "j-1";
    record.origin = Origin::incoming;
    record.epoch = 7;
    record.paused_for = PausedFor::merge_source;
    record.copy = protocol::CopyStatus{.job = "j-1", .stage = "diff"};
    record.spec.mac = "52:54:00:00:00:01";
    record.spec.addresses = {"10.1.0.10"};
    Result<VmRecord> back = json::from_text<VmRecord>(json::to_text(record), "read");
    ASSERT_TRUE(back) << back.error().text();
    EXPECT_EQ(json::to_text(*back), json::to_text(record));
    EXPECT_EQ(back->paused_for, PausedFor::merge_source);
}

TEST(DurableFile, IsReplacedWholeAndRemovedTwice) {
    TemporaryDirectory folder;
    const std::string file = folder.file("record");
    EXPECT_EQ(read_file(file).error().fault, Fault::Missing);
    ASSERT_TRUE(replace_file(file, "one"));
    ASSERT_TRUE(replace_file(file, "another"));
    EXPECT_EQ(*read_file(file), "another");
    EXPECT_EQ(access((file + ".new").c_str(), F_OK), -1);
    EXPECT_TRUE(remove_file(file));
    EXPECT_TRUE(remove_file(file));
}

TEST(Process, IsFoundByPidFileOnlyIfItIsTheOneMeant) {
    TemporaryDirectory folder;
    const std::string file = folder.file("pid");
    EXPECT_EQ(find_process(file, "unix:x"), 0);
    std::ofstream(file) << getpid() << "\n";
    EXPECT_EQ(find_process(file, "no word of this test's command line"), 0);
    std::ifstream self("/proc/self/cmdline");
    std::string word;
    std::getline(self, word, '\0');
    EXPECT_EQ(find_process(file, word), getpid());
    std::ofstream(file) << "rubbish";
    EXPECT_EQ(find_process(file, word), 0);
    std::ofstream(file) << "1";
    EXPECT_EQ(find_process(file, word), 0);
}

TEST(Process, ProgramThatFailsIsQuoted) {
    TemporaryDirectory folder;
    const std::string log = folder.file("log");
    const std::vector<std::string> words{"/bin/sh", "-c", "echo no such machine >&2; exit 1"};
    Result<void> started = start_detached(words, log, std::chrono::seconds(20));
    ASSERT_FALSE(started);
    EXPECT_EQ(started.error().slug, "qemu-failed");
    EXPECT_EQ(started.error().cause, "no such machine");
    EXPECT_FALSE(start_detached({"/nonexistent/qemu"}, log, std::chrono::seconds(20)));
    EXPECT_TRUE(start_detached({"/bin/true"}, log, std::chrono::seconds(20)));
}

TEST(Process, StartedProgramHasNoneOfOurDescriptors) {
    TemporaryDirectory folder;
    const std::string log = folder.file("log");
    const int leaked = dup(0);
    const std::vector<std::string> words{"/bin/sh", "-c", "ls /proc/self/fd >&2; exit 1"};
    Result<void> started = start_detached(words, log, std::chrono::seconds(20));
    ASSERT_FALSE(started);
    // 0, 1, 2 and the one ls reads the folder with.
    EXPECT_EQ(started.error().cause, "0\n1\n2\n3");
    close(leaked);
}

}  // namespace
