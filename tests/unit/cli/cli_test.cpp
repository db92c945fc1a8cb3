// The real `godwit` against a fake controller behind real HTTP.
#include "lib/config.hpp"

#include "cli/console.hpp"
#include "cli/watch.hpp"
#include "tests/fakes/fake_controller.hpp"
#include "tests/fakes/temporary_directory.hpp"
#include "tests/unit/cli/process.hpp"

#include <arpa/inet.h>
#include <cstdlib>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>

namespace {

using namespace godwit;
using fakes::FakeController;
using fakes::scripted_job;
using tests::Process;

std::string binary() {
    const char* path = std::getenv("GODWIT_BINARY");
    return path ? path : "cli/godwit";
}

struct Ended {
    int code;
    std::string out, err;
};

struct Cli : testing::Test {
    fakes::TemporaryDirectory directory;
    std::string token_file = [this] {
        const std::string file =
            directory.write("token", std::string(FakeController::kToken) + "\n");
        chmod(file.c_str(), 0600);
        return file;
    }();
    std::unique_ptr<FakeController> controller;

    void start(std::vector<protocol::Job> script = {}, std::size_t events_per_stream = 0) {
        controller = std::make_unique<FakeController>(std::move(script), events_per_stream);
    }
    std::unique_ptr<Process> begin(std::vector<std::string> words, const std::string& server = "",
                                   Process::Output output = Process::Output::pipes) {
        words.insert(words.begin(), binary());
        return std::make_unique<Process>(
            words,
            std::vector<std::string>{
                "GODWIT_SERVER=" + (server.empty() ? controller->address() : server),
                "GODWIT_TOKEN_FILE=" + token_file},
            output);
    }
    Ended run(std::vector<std::string> words, const std::string& server = "") {
        auto process = begin(std::move(words), server);
        const int code = process->wait();
        return {code, process->out, process->err};
    }
};

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != text.npos;
}

#define EXPECT_HAS(text, part) \
    EXPECT_TRUE(has(text, part)) << "\"" << part << "\" is not in:\n" << text

std::vector<protocol::Job> good_migration() {
    std::vector<protocol::Job> script = {
        scripted_job("running", "accepted", 0, 0), scripted_job("running", "copying", 5, 20),
        scripted_job("running", "draining", 7, 60), scripted_job("succeeded", "retiring", 12, 100)};
    script[1].progress.bytes = {256u << 20, 64u << 20};
    script[2].progress.sessions = {12, 300};
    script[2].progress.eta_s = 75;
    script[3].result = protocol::MigrationResult{};
    script[3].result->sessions_at_start = 320;
    script[3].result->sessions_kept = 320;
    return script;
}

TEST_F(Cli, ListsVmsOfAllPagesAsATable) {
    start();
    Ended ended = run({"vm", "list"});
    EXPECT_EQ(ended.code, 0);
    EXPECT_EQ(ended.err, "");
    EXPECT_EQ(ended.out,
              "VM     HOST    STATE    ADDRESSES           SESSIONS  JOB\n"
              "web-1  host-a  running  10.1.0.10,fd00::10  42        -\n"
              "web-2  host-a  running  10.1.0.10,fd00::10  42        -\n");
}

TEST_F(Cli, JsonAndYamlSayTheSame) {
    start();
    Ended as_json = run({"-o", "json", "vm", "show", "web-1"});
    Ended as_yaml = run({"vm", "show", "web-1", "-o", "yaml"});
    ASSERT_EQ(as_json.code, 0) << as_json.err;
    ASSERT_EQ(as_yaml.code, 0) << as_yaml.err;
    Result<config::Document> document = config::parse_yaml(as_yaml.out, "out.yaml");
    ASSERT_TRUE(document) << document.error().text() << as_yaml.out;
    EXPECT_EQ(document->value, json::bj::parse(as_json.out));
    EXPECT_EQ(document->value.at("mac"), "52:54:00:00:00:01");
}

TEST_F(Cli, ShowsHostsSwitchesSessionsStatusAndJobs) {
    start(good_migration());
    EXPECT_HAS(run({"host", "list"}).out, "host-b  up     sw-1    p-host-b  3.0 GiB");
    EXPECT_HAS(run({"host", "show", "host-a"}).out, "switch       sw-1");
    EXPECT_HAS(run({"switch", "list"}).out, "sw-1    ebpf   0.1.0    2         1000      1/1");
    Ended one = run({"switch", "show", "sw-1"});
    EXPECT_HAS(one.out, "uplink  eth0       uplink  up     xdp      10       1");
    EXPECT_HAS(one.out, "uplink  forward  session  5");
    EXPECT_HAS(one.out, "(gone)  pass     session  2");
    EXPECT_FALSE(has(one.out, "fenced"));
    Ended live = run({"sessions", "--vm", "web-1", "--owner", "host-a"});
    EXPECT_HAS(live.out,
               "web-1  host-a  tcp       10.1.0.10  80    10.0.0.9:4000  established  1m 1s");
    EXPECT_HAS(live.err, "2 of 3 sessions shown");
    EXPECT_HAS(run({"status"}).out, "jobs running              1");
    EXPECT_HAS(run({"job", "list"}).out, "j-1  web-1  succeeded  retiring  100%");
    EXPECT_HAS(run({"job", "show", "j-1"}).out, "at          2026-02-03T10:11:12.345Z accepted");
    EXPECT_HAS(run({"job", "steps", "j-1"}).out, "steering  intent  1        flip to host-b");
    EXPECT_HAS(run({"version"}).out, "godwit-controller 0.9.9");
}

TEST_F(Cli, MigrateStartsAJobAndSaysHowToFollowIt) {
    start();
    Ended ended =
        run({"vm", "migrate", "web-1", "--to", "host-b", "--deadline", "5m", "--on-deadline",
             "rollback", "--method", "steer", "--source-after", "keep", "--label", "why=drill"});
    EXPECT_EQ(ended.code, 0) << ended.err;
    EXPECT_EQ(ended.out, "j-1\n");
    EXPECT_HAS(ended.err, "godwit job watch j-1");
    auto sent = json::from_text<protocol::MigrateRequest>(controller->seen().bodies.at(0), "test");
    ASSERT_TRUE(sent) << sent.error().text();
    EXPECT_EQ(sent->destination.host, "host-b");
    EXPECT_EQ(sent->drain.deadline_s, 300u);
    EXPECT_EQ(sent->drain.on_deadline, protocol::OnDeadline::rollback);
    EXPECT_EQ(sent->memory.strategy, "steer");
    EXPECT_EQ(sent->source_after, protocol::SourceAfter::keep);
    EXPECT_EQ(sent->labels.at("why"), "drill");
    EXPECT_EQ(controller->seen().keys.at(0).size(), 36u);
}

TEST_F(Cli, ADryRunOnlyAsks) {
    start();
    Ended ended = run({"vm", "migrate", "web-1", "--to", "host-b", "--dry-run"});
    EXPECT_EQ(ended.out, "web-1 can move to host-b; nothing was changed\n");
    EXPECT_HAS(controller->seen().bodies.at(0), "\"validate_only\":true");
}

TEST_F(Cli, TheKeyGivenIsTheKeySentAndAnotherBodyUnderItIsRefused) {
    start();
    EXPECT_EQ(
        run({"vm", "migrate", "web-1", "--to", "host-b", "--idempotency-key", "drill-7"}).code, 0);
    EXPECT_EQ(
        run({"vm", "migrate", "web-1", "--to", "host-b", "--idempotency-key", "drill-7"}).code, 0);
    Ended other = run({"vm", "migrate", "web-1", "--to", "host-c", "--idempotency-key", "drill-7"});
    EXPECT_EQ(other.code, 1);
    EXPECT_EQ(other.err, "error: migrate: this key was used with another body\n");
    EXPECT_EQ(controller->seen().keys.at(1), "drill-7");
}

TEST_F(Cli, WaitTellsOneLinePerPhaseAndTheResult) {
    start(good_migration());
    Ended ended = run({"vm", "migrate", "web-1", "--to", "host-b", "--wait"});
    EXPECT_EQ(ended.code, 0) << ended.err;
    EXPECT_EQ(ended.out,
              "web-1 moved from host-a to host-b\n"
              "sessions     320 at the start, 320 kept, 0 moved, 0 reset\n"
              "memory       0 B copied, 0 B compared, 0 B patched\n"
              "longest gap  0 ms\n");
    EXPECT_EQ(ended.err,
              "job j-1 moves web-1 to host-b\n"
              "j-1  accepted  0%\n"
              "j-1  copying  20%  copied 64.0 MiB of 256.0 MiB\n"
              "j-1  draining  60%  sessions 12 on host-a, 300 on host-b  ETA 1m 15s\n"
              "j-1  succeeded (retiring)  100%\n");
}

TEST_F(Cli, QuietLeavesOnlyTheResult) {
    start(good_migration());
    Ended ended =
        run({"--quiet", "-o", "json", "vm", "migrate", "web-1", "--to", "host-b", "--wait"});
    EXPECT_EQ(ended.code, 0);
    EXPECT_EQ(ended.err, "");
    EXPECT_EQ(json::bj::parse(ended.out).at("state"), "succeeded");
}

TEST_F(Cli, ACutStreamIsTakenUpAfterTheLastEventSeen) {
    start(good_migration(), /*events_per_stream=*/1);
    Ended ended = run({"job", "watch", "j-1"});
    EXPECT_EQ(ended.code, 0) << ended.err;
    const std::vector<std::string> ids = controller->seen().last_event_ids;
    EXPECT_EQ(ids, (std::vector<std::string>{"0", "1", "2", "3"}));
    // No phase is told twice, and none is missing.
    EXPECT_EQ(ended.err,
              "j-1  accepted  0%\n"
              "j-1  copying  20%  copied 64.0 MiB of 256.0 MiB\n"
              "j-1  draining  60%  sessions 12 on host-a, 300 on host-b  ETA 1m 15s\n"
              "j-1  succeeded (retiring)  100%\n");
}

TEST_F(Cli, AttentionNeededInThePastAndResumedSinceIsNotTheEnd) {
    std::vector<protocol::Job> script = good_migration();
    script.insert(script.begin() + 3, {scripted_job("needs-attention", "patching", 11, 90),
                                       scripted_job("running", "patching", 11, 90)});
    start(script);
    Ended ended = run({"job", "wait", "j-1"});
    EXPECT_EQ(ended.code, 0) << ended.err;
}

TEST_F(Cli, ARestartOfTheControllerIsWaitedOut) {
    start({scripted_job("running", "draining", 7, 60)});
    const std::string address = controller->address();
    auto process = begin({"job", "wait", "j-1"});
    ASSERT_TRUE(process->wait_for("draining"));
    controller.reset();
    ASSERT_TRUE(process->wait_for("the controller does not answer; trying again"));
    controller = std::make_unique<FakeController>(good_migration(), 0, address);
    EXPECT_EQ(process->wait(), 0) << process->err;
    EXPECT_HAS(process->out, "web-1 moved from host-a to host-b");
}

TEST_F(Cli, OnATerminalThereIsABar) {
    start(good_migration());
    auto process = begin({"job", "watch", "j-1"}, "", Process::Output::terminal);
    EXPECT_EQ(process->wait(), 0);
    EXPECT_HAS(process->err,
               "\rweb-1 to host-b  [############--------] 60%  draining  sessions 12 on host-a");
    EXPECT_HAS(process->err, "\033[K");
    EXPECT_HAS(process->err, "web-1 moved from host-a to host-b");
}

TEST_F(Cli, InterruptDetachesAndSaysHowToComeBack) {
    start({scripted_job("running", "draining", 7, 60)});
    auto process = begin({"job", "watch", "j-1"});
    ASSERT_TRUE(process->wait_for("draining"));
    process->signal(SIGINT);
    EXPECT_EQ(process->wait(), 130);
    EXPECT_HAS(process->err, "detached; the job goes on. To come back: godwit job watch j-1");
    EXPECT_TRUE(controller->seen().bodies.empty());
}

TEST_F(Cli, TimeoutOfTheWaitIsExit6) {
    start({scripted_job("running", "draining", 7, 60)});
    Ended ended = run({"job", "wait", "j-1", "--timeout", "1"});
    EXPECT_EQ(ended.code, 6);
    EXPECT_HAS(
        ended.err,
        "error: the job has not ended in the time given; it goes on\n  godwit job watch j-1");
}

TEST_F(Cli, RolledBackIs7FailedIs1AndNeedsAttentionIs8WithWhatToDo) {
    protocol::Job rolled_back = scripted_job("failed", "draining", 7, 60);
    rolled_back.timestamps["rolling-back"] = "2026-02-03T10:12:00.000Z";
    rolled_back.error = protocol::Problem{
        "urn:godwit:problem:deadline", "deadline", "the drain took too long", 409, {}};
    start({rolled_back});
    Ended ended = run({"job", "wait", "j-1"});
    EXPECT_EQ(ended.code, 7);
    EXPECT_HAS(ended.err, "error: j-1 failed: the drain took too long");

    start({scripted_job("cancelled", "draining", 7, 60)});
    EXPECT_EQ(run({"job", "wait", "j-1"}).code, 7);
    start({scripted_job("failed", "preflight", 1, 5)});
    EXPECT_EQ(run({"job", "wait", "j-1"}).code, 1);

    protocol::Job stuck = scripted_job("needs-attention", "patching", 11, 90);
    stuck.error = protocol::Problem{"t", "t", "2 conflicts", 409, {"godwit job resume j-1"}};
    start({scripted_job("running", "patching", 11, 90), stuck});
    Ended attention = run({"job", "wait", "j-1"});
    EXPECT_EQ(attention.code, 8);
    EXPECT_HAS(attention.err, "error: j-1 needs-attention: 2 conflicts\n  godwit job resume j-1\n");
}

TEST_F(Cli, ProblemsComeWithNextActionsAndTheirExitCodes) {
    start();
    Ended busy = run({"vm", "migrate", "busy", "--to", "host-b"});
    EXPECT_EQ(busy.code, 4);
    EXPECT_HAS(busy.err, "job j-7 is running\n  godwit job watch j-7\n  godwit job cancel j-7\n");
    EXPECT_EQ(busy.out, "");
    EXPECT_EQ(run({"vm", "migrate", "nobody", "--to", "host-b"}).code, 3);
    EXPECT_EQ(run({"vm", "show", "nobody"}).code, 3);
    EXPECT_EQ(run({"job", "watch", "j-404"}).code, 3);
}

TEST_F(Cli, VerbsOfJobsAreSent) {
    start();
    Ended cancelled = run({"job", "cancel", "j-1"});
    EXPECT_EQ(cancelled.code, 0) << cancelled.err;
    EXPECT_EQ(cancelled.out, "j-1  rolling-back  accepted\n");
    EXPECT_EQ(run({"job", "retry", "j-1"}).code, 0);
    EXPECT_EQ(run({"job", "resume", "j-1", "--on-conflict", "source-wins"}).code, 0);
    EXPECT_EQ(run({"job", "force", "j-1"}).code, 0);
    EXPECT_EQ(run({"job", "take-back", "j-1"}).code, 0);
    EXPECT_EQ(run({"job", "limit", "j-1", "20"}).code, 0);
    EXPECT_EQ(run({"job", "limit", "j-1"}).code, 2);
    EXPECT_EQ(controller->seen().paths,
              (std::vector<std::string>{"/v1/jobs/j-1:cancel", "/v1/jobs/j-1:retry",
                                        "/v1/jobs/j-1:resume", "/v1/jobs/j-1:force",
                                        "/v1/jobs/j-1:take-back", "/v1/jobs/j-1:limit"}));
    EXPECT_EQ(controller->seen().bodies,
              (std::vector<std::string>{"{}", "{}", R"({"on_conflict":"source-wins"})", "{}", "{}",
                                        R"({"bandwidth_mib_s":20})"}));
    protocol::Job committed = scripted_job("running", "handover", 9, 80);
    committed.committed = true;
    start({committed});
    EXPECT_EQ(run({"job", "cancel", "j-1"}).code, 4);
}

TEST_F(Cli, WrongOrMissingTokensAre5AndABadTokenFileIs2) {
    start();
    token_file = "";
    EXPECT_EQ(run({"vm", "list"}).code, 5);
    token_file = directory.write("other", "another-token-entirely\n");
    EXPECT_HAS(run({"vm", "list"}).err, "chmod 600");
    EXPECT_EQ(run({"vm", "list"}).code, 2);
    chmod(token_file.c_str(), 0600);
    EXPECT_EQ(run({"vm", "list"}).code, 5);
    EXPECT_EQ(run({"job", "watch", "j-1"}).code, 5);
}

TEST_F(Cli, NobodyThereIs9AndSaysWhereItLooked) {
    Ended ended = run({"vm", "list"}, "unix:" + directory.file("none.sock"));
    EXPECT_EQ(ended.code, 9);
    EXPECT_HAS(ended.err, "is godwit-controller running at unix:");
    EXPECT_EQ(run({"vm", "list"}, "nonsense").code, 1);
}

TEST_F(Cli, WrongUsageIs2) {
    start();
    for (std::vector<std::string> words : std::vector<std::vector<std::string>>{
             {},
             {"vm"},
             {"frobnicate"},
             {"vm", "migrate", "web-1"},
             {"vm", "migrate", "web-1", "--to", "b", "--on-deadline", "panic"},
             {"vm", "migrate", "web-1", "--to", "b", "--deadline", "soon"},
             {"vm", "migrate", "web-1", "--to", "b", "--timeout", "5"},
             {"vm", "migrate", "web-1", "--to", "b", "--label", "novalue"},
             {"-o", "xml", "vm", "list"},
             {"sessions", "--limit", "0"}})
        EXPECT_EQ(run(words).code, 2) << testing::PrintToString(words);
    EXPECT_TRUE(controller->seen().paths.empty());
    EXPECT_EQ(run({"--version"}).code, 0);
    EXPECT_EQ(run({"vm", "migrate", "--help"}).code, 0);
}

TEST_F(Cli, CompletionKnowsEveryCommand) {
    start();
    const std::string script = run({"completion", "bash"}).out;
    for (const char* words :
         {"vm job host switch sessions status", "list show migrate", "--on-deadline"})
        EXPECT_HAS(script, words);
    const std::string file = directory.write("completion", script);
    Process bash({"/bin/bash", "-c",
                  "source " + file +
                      "; COMP_WORDS=(godwit vm mi); COMP_CWORD=2; _godwit; echo ${COMPREPLY[@]}"},
                 {});
    EXPECT_EQ(bash.wait(), 0);
    EXPECT_EQ(bash.out, "migrate\n") << bash.err;
}

// Passes connections on; from the first one the answer is taken but not given.
class CuttingFront {
public:
    explicit CuttingFront(std::uint16_t behind) : behind_(behind) {
        listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in at = loopback(0);
        socklen_t size = sizeof(at);
        if (bind(listener_, reinterpret_cast<sockaddr*>(&at), size) != 0 ||
            listen(listener_, 8) != 0)
            abort();
        getsockname(listener_, reinterpret_cast<sockaddr*>(&at), &size);
        address = "127.0.0.1:" + std::to_string(ntohs(at.sin_port));
        thread_ = std::thread([this] { serve(); });
    }
    ~CuttingFront() {
        shutdown(listener_, SHUT_RDWR);
        thread_.join();
        close(listener_);
    }
    std::string address;

private:
    static sockaddr_in loopback(std::uint16_t port) {
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_port = htons(port);
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return at;
    }
    void serve() {
        bool cut = true;
        for (int peer = 0; (peer = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;
             cut = false) {
            const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
            sockaddr_in to = loopback(behind_);
            if (connect(server, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0)
                relay(peer, server, cut);
            close(server);
            close(peer);
        }
    }
    static void relay(int peer, int server, bool cut) {
        char chunk[4096];
        while (true) {
            pollfd both[2] = {{peer, POLLIN, 0}, {server, POLLIN, 0}};
            if (poll(both, 2, -1) < 0) return;
            const int from = both[0].revents ? peer : server;
            if (from == server && cut) return;
            const ssize_t got = recv(from, chunk, sizeof(chunk), 0);
            if (got <= 0) return;
            (void)!send(from == peer ? server : peer, chunk, static_cast<std::size_t>(got),
                        MSG_NOSIGNAL);
        }
    }
    std::uint16_t behind_;
    int listener_ = -1;
    std::thread thread_;
};

TEST_F(Cli, AnAnswerCutOffIsAskedForAgainUnderTheSameKey) {
    start();
    const std::string& address = controller->address();
    CuttingFront front(
        static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
    Ended ended = run({"vm", "migrate", "web-1", "--to", "host-b"}, front.address);
    EXPECT_EQ(ended.code, 0) << ended.err;
    const std::vector<std::string> keys = controller->seen().keys;
    ASSERT_EQ(keys.size(), 2u);
    EXPECT_EQ(keys[0], keys[1]);
}

TEST(CliText, YamlQuotesWhatWouldReadAsSomethingElse) {
    json::bj::value value = json::bj::parse(
        R"({"a":"true","b":"12","c":"x: y","d":["no",{"e":1,"f":[]},[1,[2]]],"g":{},"h":"","12":null,"i":"l\nm","j":-1.5})");
    const std::string text = cli::yaml_text(value);
    Result<config::Document> back = config::parse_yaml(text, "t");
    ASSERT_TRUE(back) << back.error().text() << text;
    EXPECT_EQ(json::bj::serialize(back->value), json::bj::serialize(value)) << text;
}

TEST(CliText, ServersCannotWriteEscapesToTheTerminal) {
    EXPECT_EQ(cli::printable("a\033[31mb\x07\x7f"), "a[31mb?");
    protocol::Job job = scripted_job("running", "copying\033]0;x", 5, 250);
    EXPECT_EQ(cli::progress_bar(job, 200).find('\033'), std::string::npos);
    EXPECT_EQ(cli::progress_bar(job, 40).size(), 39u);
}

TEST(CliText, AmountsReadWell) {
    EXPECT_EQ(cli::bytes_text(1023), "1023 B");
    EXPECT_EQ(cli::bytes_text(1536), "1.5 KiB");
    EXPECT_EQ(cli::bytes_text(UINT64_MAX), "16777216.0 TiB");
    EXPECT_EQ(cli::duration_text(59), "59s");
    EXPECT_EQ(cli::duration_text(7322), "2h 2m");
}

}  // namespace
