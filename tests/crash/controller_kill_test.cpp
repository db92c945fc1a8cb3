// The real program, killed with SIGKILL in the middle of a migration, again and again.
#include "lib/http/client.hpp"

#include "protocol/controller_api.hpp"
#include "tests/fakes/fake_world.hpp"
#include "tests/fakes/run_task.hpp"
#include "tests/fakes/temporary_directory.hpp"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>

namespace godwit::fakes {

namespace {

class Program {
public:
    explicit Program(const std::string& config) {
        pid_ = fork();
        if (pid_ == 0) {
            execl(GODWIT_CONTROLLER, "godwit-controller", "--config", config.c_str(), "--log-level",
                  "off", nullptr);
            _exit(127);
        }
    }
    ~Program() { kill_now(); }
    void kill_now() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
        pid_ = 0;
    }

private:
    pid_t pid_ = 0;
};

struct Kill9 : testing::Test {
    Kill9() {
        directory.write("peer.token", "secret-of-the-test\n");
        chmod(directory.file("peer.token").c_str(), 0600);
        config = directory.write("controller.yaml", R"(version: 1
state_dir: )" + directory.file("state") + R"(
listen: ["unix:)" + directory.file("api.sock") + R"("]
peer_token_file: )" + directory.file("peer.token") + R"(
switches: [{id: sw-1, address: ")" + world.address("switch") +
                                                        R"("}]
hosts:
  - {id: host-a, agent: ")" + world.address("host-a") + R"(", switch_id: sw-1, port: port-a}
  - {id: host-b, agent: ")" + world.address("host-b") + R"(", switch_id: sw-1, port: port-b}
vms: [{id: web-1, host: host-a}]
timing: {poll_ms: 5, sweep_ms: 50}
)");
    }
    // The devices answer while we wait for the program, on the same thread.
    Result<json::bj::value> call(const std::string& method, const std::string& path,
                                 const json::bj::value& body = nullptr,
                                 http::Headers headers = {}) {
        http::Client client(io.get_executor(), "unix:" + directory.file("api.sock"), "");
        return run_on(
            io, client.call(method, path, body, std::move(headers), std::chrono::seconds(10)));
    }
    Result<json::bj::value> until_answered(const std::string& method, const std::string& path,
                                           const json::bj::value& body,
                                           const http::Headers& headers) {
        Result<json::bj::value> answer = call(method, path, body, headers);
        const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
        while (!answer && std::chrono::steady_clock::now() < give_up) {
            io.restart();
            io.run_for(std::chrono::milliseconds(5));
            answer = call(method, path, body, headers);
        }
        return answer;
    }

    TemporaryDirectory directory;
    boost::asio::io_context io;
    FakeWorld world{io, "secret-of-the-test"};
    std::string config;
};

TEST_F(Kill9, AMigrationEndsRightHoweverOftenTheControllerIsKilled) {
    world.ending = {{"host-a", 1}, {"host-b", 1}};
    const json::bj::value wanted =
        json::parse(R"({"destination": {"host": "host-b"}})", "").value();
    const http::Headers key = {{"idempotency-key", "kill-9"}};
    int killed = 0;
    protocol::Job job;
    while (!job.done && killed < 200) {
        Program program(config);
        const Result<json::bj::value> asked =
            until_answered("POST", "/v1/vms/web-1:migrate", wanted, key);
        ASSERT_TRUE(asked) << asked.error().text();
        job = json::from_json<protocol::Job>(*asked, "job").value();
        // A little further in each life, until one of them reaches the end.
        io.restart();
        io.run_for(std::chrono::milliseconds(2 + killed));
        program.kill_now();
        ++killed;
    }
    EXPECT_EQ(job.state, "succeeded");
    EXPECT_GT(killed, 2);
    EXPECT_EQ(world.violations, std::vector<std::string>{});
    EXPECT_EQ(world.leftovers(), std::vector<std::string>{});
    EXPECT_TRUE(world.hosts["host-b"].vms.contains("web-1"));
    EXPECT_FALSE(world.hosts["host-a"].vms.contains("web-1"));
}

}  // namespace

}  // namespace godwit::fakes
