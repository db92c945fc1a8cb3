// `godwit region` on files that the library has written, sound and broken.
#include "lib/json.hpp"

#include "protocol/region_api.hpp"
#include "tests/fakes/fake_controller.hpp"
#include "tests/fakes/temporary_directory.hpp"
#include "tests/unit/cli/process.hpp"
#include "vm_agent/region/godwit_region.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sys/stat.h>

#include <gtest/gtest.h>

namespace {

using namespace godwit;
using protocol::RegionChanges;
using protocol::RegionList;
using tests::Process;

constexpr std::size_t kBytes = 1 << 20;
const godwit_class_spec kClasses[] = {
    {"sessions", GODWIT_SOURCE_WINS, GODWIT_ALLOCATED, 100, 8},
    {"totals", GODWIT_ADD_DELTA, GODWIT_FIXED, 64, 2},
    {"audit", GODWIT_APPEND, GODWIT_LOG, 40, 4},
};

struct Ended {
    int code;
    std::string out, err;
};

struct RegionCommand : testing::Test {
    fakes::TemporaryDirectory directory;
    godwit_region region{};
    std::string file = directory.file("one.region");

    RegionCommand() {
        std::ofstream(file).close();
        std::filesystem::resize_file(file, kBytes);
        if (godwit_region_open(&region, file.c_str(), kClasses, 3) != 0) std::abort();
    }
    ~RegionCommand() override { godwit_region_close(&region); }

    Ended run(std::vector<std::string> words, const std::string& server = "unix:/nonexistent") {
        const char* path = std::getenv("GODWIT_BINARY");
        words.insert(words.begin(), path ? path : "cli/godwit");
        std::vector<std::string> environment{"GODWIT_SERVER=" + server};
        if (!token_file.empty()) environment.push_back("GODWIT_TOKEN_FILE=" + token_file);
        Process process(words, environment);
        const int code = process.wait();
        return {code, process.out, process.err};
    }
    RegionList listed(std::vector<std::string> words) {
        words.insert(words.end(), {"-o", "json"});
        return json::from_text<RegionList>(run(words).out, "output").value();
    }
    std::string copy(const std::string& name, std::size_t front = 0) {
        const std::string to = directory.file(name);
        std::ofstream out(to, std::ios::binary);
        out << std::string(front, '\0');
        out.write(reinterpret_cast<const char*>(region.page), kBytes);
        return to;
    }
    godwit_slot_line* line_of(std::uint64_t slot) {
        return reinterpret_cast<godwit_slot_line*>(
            static_cast<char*>(godwit_slot_payload(&region, 0, slot)) - 64);
    }
    void use_it() {
        godwit_slot_allocate(&region, 0, 1);
        godwit_slot_allocate(&region, 0, 2);
        godwit_log_append(&region, 2, "hello", 5);
    }

    std::string token_file;
};

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != text.npos;
}
#define EXPECT_HAS(text, part) \
    EXPECT_TRUE(has(text, part)) << "\"" << part << "\" is not in:\n" << text

TEST_F(RegionCommand, ShowTellsTheClassesAndHowFullTheyAre) {
    use_it();
    region.page->role.word = godwit_role_word(3, GODWIT_SOURCE);
    const Ended shown = run({"region", "show", file});
    EXPECT_EQ(shown.code, 0) << shown.err;
    EXPECT_HAS(shown.out, "version 1");
    EXPECT_HAS(shown.out, "source-wins");
    EXPECT_HAS(shown.out, "25%");
    const RegionList list = listed({"region", "show", file});
    ASSERT_EQ(list.regions.size(), 1u);
    const protocol::RegionReport& report = list.regions[0];
    EXPECT_EQ(report.region, file);
    EXPECT_EQ(report.role, "source");
    EXPECT_EQ(report.epoch, 3u);
    ASSERT_EQ(report.classes.size(), 3u);
    EXPECT_EQ(report.classes[0].used, 2u);
    EXPECT_EQ(report.classes[1].used, std::nullopt);
    EXPECT_EQ(report.classes[2].used, 1u);
    EXPECT_EQ(report.classes[2].slots, 4u);
    EXPECT_EQ(report.classes[2].kind, "log");
}

TEST_F(RegionCommand, SeveralFilesAreShownAndAHostsFileLikeAGuests) {
    use_it();
    const std::string host = copy("host.region", GODWIT_LABEL_BYTES);
    const RegionList list = listed({"region", "show", file, host});
    ASSERT_EQ(list.regions.size(), 2u);
    EXPECT_EQ(json::to_text(list.regions[0].classes), json::to_text(list.regions[1].classes));
}

TEST_F(RegionCommand, DiffNamesTheSlotsAndTheirRules) {
    use_it();
    const std::string before = copy("before.region");
    std::memset(godwit_slot_payload(&region, 0, 1), 7, 100);
    *static_cast<std::uint64_t*>(godwit_slot_payload(&region, 1, 1)) += 5;
    godwit_log_append(&region, 2, "again", 5);
    region.page->role.word = godwit_role_word(1, GODWIT_CLONE);
    const Ended ended = run({"region", "diff", before, file, "-o", "json"});
    const auto changes = json::from_text<RegionChanges>(ended.out, "output").value();
    std::vector<std::string> seen;
    for (const protocol::RegionChange& one : changes.changes)
        seen.push_back(one.slot + " " + one.rule + " " + std::to_string(one.lines));
    EXPECT_EQ(seen, (std::vector<std::string>{"header none 1", "sessions[1] source-wins 2",
                                              "totals[1] add-delta 1", "audit[count] append 1",
                                              "audit[1] append 2"}));
    EXPECT_EQ(changes.lines, 7u);
    const Ended table = run({"region", "diff", before, file});
    EXPECT_EQ(table.code, 0);
    EXPECT_HAS(table.out, "7 lines of 64 bytes differ, in 5 places");
    EXPECT_EQ(listed({"region", "show", before}).regions.size(), 1u);
}

TEST_F(RegionCommand, DiffOfDifferentSizesIsRefused) {
    const std::string other = copy("other.region", 4096);
    const Ended ended = run({"region", "diff", file, other});
    EXPECT_NE(ended.code, 0);
    EXPECT_HAS(ended.err, "1048576 and 1052672 bytes");
}

TEST_F(RegionCommand, VerifySaysSoundOrWhatIsBroken) {
    use_it();
    Ended ended = run({"region", "verify", file});
    EXPECT_EQ(ended.code, 0) << ended.err;
    EXPECT_HAS(ended.out, "sound, 3 slot classes");

    line_of(1)->state = 9;
    line_of(0)->born = godwit_role_word(5, GODWIT_CLONE);
    auto* count = reinterpret_cast<godwit_log_line*>(reinterpret_cast<char*>(region.page) +
                                                     region.page->classes[2].offset);
    count->count = 100;
    ended = run({"region", "verify", file});
    EXPECT_EQ(ended.code, 1);
    EXPECT_HAS(ended.err, "sessions[1] is in state 9");
    EXPECT_HAS(ended.err, "sessions[0] was allocated in epoch 5");
    EXPECT_HAS(ended.err, "audit counts 100 records and has room for 4");
}

TEST_F(RegionCommand, BrokenHeaderIsNamed) {
    region.page->classes[1].offset = region.page->classes[0].offset;
    for (const char* command : {"show", "verify"}) {
        const Ended ended = run({"region", command, file});
        EXPECT_EQ(ended.code, 1);
        EXPECT_HAS(ended.err, file + ": the header's slot classes overlap");
    }
    const std::string same = copy("same.region");
    const Ended ended = run({"region", "diff", same, file});
    EXPECT_NE(ended.code, 0);
    EXPECT_HAS(ended.err, "the header's slot classes overlap");
}

TEST_F(RegionCommand, WhatIsNoRegionIsRefusedWithTheReason) {
    EXPECT_EQ(run({"region", "show", directory.file("none")}).code, 3);
    const Ended small = run({"region", "show", directory.write("small", "x")});
    EXPECT_HAS(small.err, "it has 1 bytes, less than a header");
    EXPECT_HAS(run({"region", "show", "/dev/null"}).err, "it is no plain file");
    const Ended empty = run({"region", "verify", directory.write("zero", std::string(8192, '\0'))});
    EXPECT_EQ(empty.code, 0);
    EXPECT_HAS(empty.out, "without a header");
}

TEST_F(RegionCommand, FilesOrAVmButNotBothAndNotNeither) {
    EXPECT_EQ(run({"region", "show"}).code, 2);
    EXPECT_EQ(run({"region", "show", file, "--vm", "web-1"}).code, 2);
    EXPECT_EQ(run({"region", "diff", file}).code, 2);
    EXPECT_EQ(run({"region", "verify", file, "--region", "r"}).code, 2);
}

TEST_F(RegionCommand, OfAVmTheAgentsViewIsShown) {
    fakes::FakeController controller(
        std::vector<protocol::Job>{fakes::scripted_job("succeeded", "retiring", 12, 100)});
    token_file = directory.write("token", std::string(fakes::FakeController::kToken) + "\n");
    chmod(token_file.c_str(), 0600);
    const std::string& at = controller.address();
    Ended ended = run({"region", "show", "--vm", "web-1"}, at);
    EXPECT_EQ(ended.code, 1);
    EXPECT_HAS(ended.out, "sessions");
    EXPECT_HAS(ended.err, "totals: the header's slot classes overlap");
    ended = run({"region", "diff", "--vm", "web-1"}, at);
    EXPECT_HAS(ended.out, "sessions: 3 lines of 64 bytes differ, in 1 places");
    EXPECT_HAS(ended.out, "totals: no copy of a fork is kept");
    ended = run({"region", "show", "--vm", "web-1", "--region", "none"}, at);
    EXPECT_EQ(ended.code, 3);
    EXPECT_HAS(ended.err, "VM web-1 has none of this name");
    EXPECT_EQ(run({"region", "verify", "--vm", "web-1"}, at).code, 1);
    EXPECT_EQ(run({"region", "show", "--vm", "nobody"}, at).code, 3);
}

}  // namespace
