// godwit flows, switch sampling and capture: the real program against a fake controller, its file read by tcpdump.
#include "cli/commands.hpp"
#include "cli/pcapng.hpp"
#include "tests/fakes/fake_controller.hpp"
#include "tests/fakes/temporary_directory.hpp"
#include "tests/unit/cli/process.hpp"

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sys/stat.h>

#include <gtest/gtest.h>

namespace {

using namespace godwit;
using fakes::FakeController;
using tests::Process;

struct CliFlows : testing::Test {
    fakes::TemporaryDirectory directory;
    std::string token_file = [this] {
        const std::string file =
            directory.write("token", std::string(FakeController::kToken) + "\n");
        chmod(file.c_str(), 0600);
        return file;
    }();
    FakeController controller;

    std::unique_ptr<Process> begin(std::vector<std::string> words) {
        const char* path = std::getenv("GODWIT_BINARY");
        words.insert(words.begin(), path ? path : "cli/godwit");
        return std::make_unique<Process>(
            words, std::vector<std::string>{"GODWIT_SERVER=" + controller.address(),
                                            "GODWIT_TOKEN_FILE=" + token_file});
    }
    std::unique_ptr<Process> run(std::vector<std::string> words) {
        auto process = begin(std::move(words));
        code = process->wait();
        return process;
    }
    std::string tcpdump(const std::string& file, std::vector<std::string> more = {}) {
        std::vector<std::string> words = {
            "/usr/bin/tcpdump", "-n", "-r", file, "--time-stamp-precision=nano", "-tt", "-e"};
        words.insert(words.end(), more.begin(), more.end());
        Process process(words, {});
        EXPECT_EQ(process.wait(), 0) << process.err;
        return process.out;
    }
    int code = -1;
};

#define EXPECT_HAS(text, part) \
    EXPECT_NE((text).find(part), std::string::npos) << "\"" << (part) << "\" is not in:\n" << (text)

const std::string kForwarded =
    "2026-02-03T10:11:12.345678901Z  in   uplink -> host-a  tcp 10.0.0.9:4000 -> 10.1.0.10:80 SYN  "
    "forward web-1@host-a new-owner\n";
const std::string kFenced =
    "2026-02-03T10:11:12.345678902Z  out  host-b -> -  tcp [fd00::10]:80 -> [fd00::9]:4000 RST,ACK "
    " "
    "drop web-1@host-b fenced\n";

TEST_F(CliFlows, LastOnesAreALineEach) {
    auto ended = run({"flows", "--last", "5"});
    EXPECT_EQ(code, 0) << ended->err;
    EXPECT_EQ(ended->out, kForwarded + kFenced);
    EXPECT_HAS(ended->err, "7 packets could not be kept so far");
    EXPECT_EQ(controller.seen().queries.at(0), (std::map<std::string, std::string>{{"last", "5"}}));
    ended = run({"flows", "--last", "1", "-o", "json"});
    const json::bj::value said = json::bj::parse(ended->out);
    ASSERT_EQ(said.at("flows").as_array().size(), 1u) << "the newest of all switches";
    EXPECT_EQ(said.at("flows").at(0).at("reason"), "fenced");
    EXPECT_EQ(said.at("lost"), 7);
}

TEST_F(CliFlows, FiltersReachTheSwitch) {
    run({"flows",      "--vm",     "web-1",      "--verdict", "drop,refuse", "--not",  "--reason",
         "fenced",     "--not-ip", "10.0.0.0/8", "--port",    "80",          "--port", "443",
         "--protocol", "tcp",      "--owner",    "host-a",    "--switch",    "sw-1"});
    EXPECT_EQ(code, 0);
    EXPECT_EQ(controller.seen().queries.at(0),
              (std::map<std::string, std::string>{{"last", "20"},
                                                  {"vm", "web-1"},
                                                  {"owner", "host-a"},
                                                  {"verdict", "drop,refuse"},
                                                  {"not_reason", "fenced"},
                                                  {"not_ip", "10.0.0.0/8"},
                                                  {"port", "80,443"},
                                                  {"protocol", "tcp"}}));
}

TEST_F(CliFlows, UnknownReasonIsRefusedWithTheKnownOnes) {
    for (const char* follow : {"--last=1", "--follow"}) {
        auto ended = run({"flows", follow, "--reason", "boredom"});
        EXPECT_EQ(code, 1);
        EXPECT_HAS(ended->err, "\"boredom\" is no reason; known are session, fenced");
    }
    auto ended = run({"flows", "--colour", "red"});
    EXPECT_EQ(code, 2);
}

TEST_F(CliFlows, FollowingShowsWhatComesAndWhatIsMissing) {
    auto process = begin({"flows", "--follow", "--vm", "web-1"});
    ASSERT_TRUE(process->wait_for_out("drop web-1@host-b fenced\n")) << process->err;
    process->signal(SIGINT);
    EXPECT_EQ(process->wait(), 0);
    EXPECT_EQ(
        process->out,
        kForwarded +
            "... 12 packets are missing here: switch sw-1 may write no more, or had no room\n" +
            kFenced);
    EXPECT_EQ(controller.seen().queries.at(0).at("follow"), "true");
}

TEST_F(CliFlows, FollowedJsonIsADocumentALine) {
    auto process = begin({"flows", "-f", "-o", "json"});
    ASSERT_TRUE(process->wait_for_out("\"reason\":\"fenced\"}\n")) << process->err;
    process->signal(SIGTERM);
    EXPECT_EQ(process->wait(), 0);
    std::istringstream lines(process->out);
    std::vector<json::bj::value> all;
    for (std::string line; std::getline(lines, line);) all.push_back(json::bj::parse(line));
    ASSERT_EQ(all.size(), 3u);
    EXPECT_EQ(all[0].at("tcp_flags"), "SYN");
    EXPECT_EQ(all[1].at("gap").at("lost"), 12);
}

TEST_F(CliFlows, SamplingIsShownAndChangedOnlyWhereAsked) {
    auto shown = run({"switch", "sampling", "sw-1"});
    EXPECT_EQ(code, 0) << shown->err;
    EXPECT_HAS(shown->out, "set               none by chance; always fenced");
    EXPECT_HAS(shown->out, "lost              2");
    EXPECT_TRUE(controller.seen().bodies.empty());
    run({"switch", "sampling", "sw-1", "--every", "50"});
    EXPECT_EQ(controller.seen().bodies.at(0),
              R"({"every":50,"always":["fenced"],"per_second":500})");
    run({"switch", "sampling", "sw-1", "--always", "fenced,opened", "--per-second", "90"});
    EXPECT_EQ(controller.seen().bodies.at(1),
              R"({"every":0,"always":["fenced","opened"],"per_second":90})");
    run({"switch", "sampling", "sw-1", "--off"});
    EXPECT_EQ(controller.seen().bodies.at(2), R"({"every":0,"always":[],"per_second":500})");
}

TEST_F(CliFlows, CaptureWritesAFileThatTcpdumpReads) {
    const std::string file = directory.file("one.pcapng");
    auto ended =
        run({"capture", "--session", "tcp/10.1.0.10:80/10.0.0.9:4000", "-o", file, "--count", "3"});
    EXPECT_EQ(code, 0) << ended->err;
    EXPECT_HAS(ended->err, "3 frames written to " + file + ", 3 lost");
    const json::bj::value asked = json::bj::parse(controller.seen().bodies.at(0));
    EXPECT_EQ(asked.at("protocol"), "tcp");
    EXPECT_EQ(asked.at("ends"), (json::bj::array{"10.1.0.10:80", "10.0.0.9:4000"}));
    EXPECT_EQ(asked.at("count"), 3);
    struct stat status{};
    ASSERT_EQ(stat(file.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u) << "payload is for its owner";
    const std::string text = tcpdump(file);
    EXPECT_EQ(std::ranges::count(text, '\n'), 3) << text;
    EXPECT_HAS(text, "1770113472.345678901 02:00:00:00:00:09 > 52:54:00:00:00:0a");
    EXPECT_HAS(text, "1770113472.345678902 ");
    EXPECT_HAS(text, "length 54");
    std::ifstream raw(file, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(raw)), {});
    EXPECT_HAS(bytes, "forward to host-a: new-owner");
    EXPECT_HAS(bytes, "sw-1:host-b");
}

TEST_F(CliFlows, CaptureFindsTheSwitchOfTheVmAndEndsByInterrupt) {
    controller.capture_stays = true;
    auto process = begin({"capture", "--vm", "web-1", "--ip", "fd00::10", "--ip", "10.0.0.9",
                          "--port", "80", "-o", "-"});
    ASSERT_TRUE(process->wait_for_out("drop: fenced")) << process->err;
    process->signal(SIGINT);
    EXPECT_EQ(process->wait(), 0) << process->err;
    EXPECT_HAS(process->err, "3 frames written to -, 3 lost");
    const auto seen = controller.seen();
    EXPECT_EQ(json::bj::parse(seen.bodies.at(0)).at("ends"),
              (json::bj::array{"[fd00::10]:80", "10.0.0.9"}));
    EXPECT_TRUE(std::ranges::count(seen.paths, "/v1/switches/sw-1/captures/c-1") > 0)
        << "the switch was asked to stop";
    directory.write("two.pcapng", process->out);
    EXPECT_EQ(std::ranges::count(tcpdump(directory.file("two.pcapng")), '\n'), 3);
}

TEST_F(CliFlows, WrongCapturesAreRefusedBeforeAnythingIsAsked) {
    const std::string file = directory.file("none");
    for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
             {"capture", "-o", file},
             {"capture", "-o", file, "--session", "10.1.0.10:80"},
             {"capture", "-o", file, "--session", "tcp/10.1.0.10:80/10.0.0.9:1/x"},
             {"capture", "-o", file, "--session", "tcp/a:1/b:2", "--port", "80"},
             {"capture", "--vm", "web-1"}}) {
        auto ended = run(words);
        EXPECT_EQ(code, 2) << ended->err;
    }
    EXPECT_TRUE(controller.seen().bodies.empty());
    EXPECT_NE(access(file.c_str(), F_OK), 0);
    auto ended = run({"capture", "--vm", "web-1", "-o", directory.file("no/such/folder")});
    EXPECT_EQ(code, 1);
    EXPECT_HAS(ended->err, "No such file or directory");
    EXPECT_TRUE(controller.seen().bodies.empty())
        << "a capture that cannot be written is not begun";
}

TEST(CliText, NotGoesWithTheFilterBehindIt) {
    using Words = std::vector<std::string>;
    EXPECT_EQ(cli::join_not({"flows", "--not", "--vm", "a", "--port", "1"}),
              (Words{"flows", "--not-vm", "a", "--port", "1"}));
    EXPECT_EQ(cli::join_not({"--not", "x", "--not"}), (Words{"--not", "x", "--not"}));
}

TEST(CliText, Base64IsReadStrictly) {
    const auto text = [](const std::string& from) {
        const auto bytes = cli::from_base64(from);
        return bytes ? std::string(bytes->begin(), bytes->end()) : std::string("refused");
    };
    EXPECT_EQ(text(""), "");
    EXPECT_EQ(text("Zg=="), "f");
    EXPECT_EQ(text("Zm8="), "fo");
    EXPECT_EQ(text("Zm9v"), "foo");
    EXPECT_EQ(text("Zm9vYmFy"), "foobar");
    for (const char* bad : {"Zg=", "Z===", "Zg=a", "Z!==", "Zg==Zg==", "====", "Zm9vY"})
        EXPECT_EQ(text(bad), "refused") << bad;
}

}  // namespace
