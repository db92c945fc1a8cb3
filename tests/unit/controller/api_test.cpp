// The REST API over real sockets: keys, refusals, roles, pages, events, OpenAPI.
#include "lib/log.hpp"
#include "lib/secret.hpp"

#include "controller/application.hpp"
#include "protocol/region_api.hpp"
#include "tests/fakes/fake_world.hpp"
#include "tests/fakes/run_task.hpp"
#include "tests/fakes/temporary_directory.hpp"

#include <algorithm>
#include <future>
#include <thread>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <gtest/gtest.h>

namespace godwit::fakes {

namespace {

using controller::Application;

constexpr std::chrono::milliseconds kDeadline{10'000};
const char* const kMigrate = R"({"destination": {"host": "host-b"}})";

// Controller and fake devices on one thread, the test's client on another.
struct ControllerApi : testing::Test {
    ControllerApi() {
        log::set_level(log::Level::off);
        controller::Config config;
        config.state_dir = directory.file("state");
        config.listen = {"127.0.0.1:0"};
        config.switches = {{"sw-1", world.address("switch")}};
        config.hosts = {{"host-a", world.address("host-a"), "sw-1", "port-a"},
                        {"host-b", world.address("host-b"), "sw-1", "port-b"}};
        config.vms = {{"web-1", "host-a", "fork", {}}};
        config.timing.poll_ms = 5;
        config.timing.sweep_ms = 20;
        auto made = Application::make(io.get_executor(), config, "secret", clock);
        application = std::move(made.value());
        address = application->start().value().front();
        admin = read_secret_file(application->fresh_token_file()).value();
        thread = std::thread([this] { io.run(); });
    }
    ~ControllerApi() override {
        boost::asio::post(io, [this] {
            application->stop();
            io.stop();
        });
        thread.join();
    }
    void in_world(std::function<void()> change) {
        std::promise<void> done;
        boost::asio::post(io, [&] {
            change();
            done.set_value();
        });
        done.get_future().wait();
    }
    http::Response ask(const std::string& method, const std::string& path, std::string body = "",
                       http::Headers headers = {}, const char* token = nullptr) {
        http::Client client(mine.get_executor(), address, token ? token : admin);
        http::Request request;
        request.method = method;
        request.path = path;
        request.headers = std::move(headers);
        request.body = std::move(body);
        auto answer = run_on(mine, client.send(std::move(request), kDeadline));
        if (!answer) throw std::runtime_error(answer.error().text());
        return std::move(*answer);
    }
    http::Response migrate(const std::string& key, const std::string& body = kMigrate) {
        return ask("POST", "/v1/vms/web-1:migrate", body, {{"idempotency-key", key}});
    }
    std::vector<http::Event> events(const std::string& job, const std::string& after = "",
                                    std::size_t at_most = 1000) {
        http::Client client(mine.get_executor(), address, admin);
        std::vector<http::Event> seen;
        std::function<bool(const http::Event&)> take = [&](const http::Event& event) {
            seen.push_back(event);
            return seen.size() < at_most;
        };
        auto ended = run_on(mine, to_end(client, "/v1/jobs/" + job + "/events", after, take));
        EXPECT_TRUE(ended) << ended.error().text();
        return seen;
    }
    std::vector<http::Event> stream(const std::string& path) {
        http::Client client(mine.get_executor(), address, admin);
        std::vector<http::Event> seen;
        std::function<bool(const http::Event&)> take = [&](const http::Event& event) {
            seen.push_back(event);
            return true;
        };
        auto ended = run_on(mine, to_end(client, path, "", take));
        EXPECT_TRUE(ended) << ended.error().text();
        return seen;
    }
    std::string token_of(const std::string& role) {
        const http::Response made =
            ask("POST", "/v1/tokens", R"({"principal": "eve", "role": ")" + role + "\"}");
        return json::from_text<protocol::Token>(made.body, "token").value().token.value();
    }
    static boost::asio::awaitable<Result<int>> to_end(
        http::Client& client, std::string path, std::string after,
        std::function<bool(const http::Event&)> take) {
        Result<void> ended =
            co_await client.events(std::move(path), std::move(after), std::move(take), kDeadline);
        if (!ended) co_return std::unexpected(std::move(ended).error());
        co_return 0;
    }
    static std::string slug(const http::Response& response) {
        return http::error_of(response, "").slug;
    }
    static bool has_header(const http::Response& response, const std::string& name,
                           const std::string& value) {
        return std::ranges::find(response.headers, std::pair(name, value)) !=
               response.headers.end();
    }
    static protocol::Job job_in(const http::Response& response) {
        return json::from_text<protocol::Job>(response.body, "job").value();
    }

    TemporaryDirectory directory;
    SystemClock clock;
    boost::asio::io_context io;
    boost::asio::io_context mine;
    FakeWorld world{io};
    std::unique_ptr<Application> application;
    std::string address, admin;
    std::thread thread;
};

TEST_F(ControllerApi, AMigrationRunsFromTheRequestToItsResult) {
    const http::Response accepted = migrate("k-1");
    ASSERT_EQ(accepted.status, 202) << accepted.body;
    const std::string id = job_in(accepted).id;
    const std::vector<http::Event> seen = events(id);
    ASSERT_FALSE(seen.empty());
    const auto last = json::from_text<protocol::Job>(seen.back().data, "event").value();
    EXPECT_EQ(last.state, "succeeded") << seen.back().data;
    EXPECT_EQ(ask("GET", "/v1/jobs/" + id + "/result").status, 200);
    EXPECT_TRUE(ask("GET", "/v1/jobs/" + id + "/steps").body.contains("\"intent\""));
    const auto vm = json::from_text<protocol::Vm>(ask("GET", "/v1/vms/web-1").body, "vm").value();
    EXPECT_EQ(vm.host, "host-b");
    EXPECT_EQ(vm.state, "running");
}

TEST_F(ControllerApi, EventsAreResumedAfterTheLastOneSeen) {
    const std::string id = job_in(migrate("k-1")).id;
    const std::vector<http::Event> all = events(id);
    ASSERT_GT(all.size(), 6U);
    const std::vector<http::Event> rest = events(id, all[3].id);
    ASSERT_EQ(rest.size(), all.size() - 4);
    EXPECT_EQ(rest.front().id, all[4].id);
    EXPECT_EQ(ask("GET", "/v1/jobs/" + id + "/events", "", {{"last-event-id", "x"}}).status, 422);
}

TEST_F(ControllerApi, TheSameKeyWithTheSameBodyIsTheSameJob) {
    const http::Response first = migrate("\"k-1\"");
    // Other spaces are no other request; a key may come with or without quotes.
    const http::Response again = migrate("k-1", R"({ "destination":{"host":"host-b"} })");
    EXPECT_EQ(again.status, 202);
    EXPECT_TRUE(has_header(again, "idempotency-replayed", "true"));
    EXPECT_TRUE(has_header(first, "location", "/v1/jobs/" + job_in(first).id));
    EXPECT_EQ(job_in(again).id, job_in(first).id);
    events(job_in(first).id);
    EXPECT_EQ(job_in(migrate("k-1")).id, job_in(first).id);  // also when the VM has moved since
    const http::Response other = migrate("k-1", R"({"destination": {"host": "host-a"}})");
    EXPECT_EQ(other.status, 422);
    EXPECT_EQ(slug(other), "idempotency-key-reused");
}

TEST_F(ControllerApi, AMissingKeyIsRefused) {
    const http::Response refused = ask("POST", "/v1/vms/web-1:migrate", kMigrate);
    EXPECT_EQ(refused.status, 400);
    EXPECT_EQ(slug(refused), "missing-idempotency-key");
}

TEST_F(ControllerApi, ABusyVmIsRefusedWithTheJobThatMovesIt) {
    in_world([this] { world.ending["host-a"] = 0; });
    const std::string id = job_in(migrate("k-1")).id;
    const http::Response busy = migrate("k-2");
    EXPECT_EQ(busy.status, 409);
    EXPECT_EQ(slug(busy), "vm-busy");
    EXPECT_EQ(http::error_of(busy, "").instance, "/v1/jobs/" + id);
    EXPECT_EQ(ask("GET", "/v1/jobs/" + id + "/result").status, 409);
    EXPECT_EQ(ask("DELETE", "/v1/vms/web-1").status, 409);
    EXPECT_EQ(ask("POST", "/v1/jobs/" + id + ":cancel").status, 200);
    const auto last = json::from_text<protocol::Job>(events(id).back().data, "event").value();
    EXPECT_EQ(last.state, "cancelled");
    // A job that was rolled back can be asked for again, as a new one.
    in_world([this] { world.ending["host-a"] = 6; });
    const http::Response anew =
        ask("POST", "/v1/jobs/" + id + ":retry", "", {{"idempotency-key", "k-3"}});
    EXPECT_EQ(anew.status, 202) << anew.body;
    EXPECT_NE(job_in(anew).id, id);
}

TEST_F(ControllerApi, WrongRequestsNameTheFieldAndChangeNothing) {
    struct Wrong {
        const char* path;
        const char* body;
        int status;
        const char* slug;
    };
    for (const Wrong& wrong : {
             Wrong{"/v1/vms/nobody:migrate", kMigrate, 404, "unknown-vm"},
             Wrong{"/v1/vms/web-1:migrate", R"({"destination": {"host": "host-z"}})", 422,
                   "unknown-host"},
             Wrong{"/v1/vms/web-1:migrate", R"({"destination": {"host": "host-a"}})", 422,
                   "same-host"},
             Wrong{"/v1/vms/web-1:migrate",
                   R"({"destination": {"host": "host-b"}, "steering": "nat"})", 422,
                   "unsupported-steering"},
             Wrong{"/v1/vms/web-1:migrate",
                   R"({"destination": {"host": "host-b"}, "steering": "vxlan"})", 422,
                   "unsupported-steering"},
             Wrong{"/v1/vms/web-1:migrate",
                   R"({"destination": {"host": "host-b"}, "memory": {"strategy": "all"}})", 422,
                   "unsupported-strategy"},
             Wrong{"/v1/vms/web-1:migrate",
                   R"({"destination": {"host": "host-b"}, "memory": {"rounds": 1}})", 422,
                   "invalid-document"},
             Wrong{"/v1/vms/web-1:migrate",
                   R"({"destination": {"host": "host-b"}, "memory": {"pause_budget_ms": 9}})", 422,
                   "invalid-document"},
             Wrong{"/v1/vms/web-1:migrate",
                   R"({"destination": {"host": "host-b"},
                       "memory": {"strategy": "whole", "rounds": 101}})",
                   422, "invalid-document"},
             Wrong{"/v1/vms/web-1:migrate",
                   R"({"destination": {"host": "host-b"},
                       "memory": {"strategy": "whole", "pause_budget_ms": 0}})",
                   422, "invalid-document"},
             Wrong{"/v1/vms/web-1:migrate", R"({"destination": {"host": "host-b"}, "drian": {}})",
                   422, "invalid-document"},
             Wrong{"/v1/vms/web-1:migrate", "{", 400, "malformed-json"},
         }) {
        const http::Response refused =
            ask("POST", wrong.path, wrong.body, {{"idempotency-key", "k"}});
        EXPECT_EQ(refused.status, wrong.status) << wrong.body << refused.body;
        EXPECT_EQ(slug(refused), wrong.slug);
    }
    EXPECT_EQ(ask("GET", "/v1/jobs").body, R"({"jobs":[]})");
}

TEST_F(ControllerApi, ValidateOnlyAsksEveryQuestionAndMakesNoJob) {
    const char* body = R"({"destination": {"host": "host-b"}, "validate_only": true})";
    EXPECT_EQ(ask("POST", "/v1/vms/web-1:migrate", body).status, 200);
    in_world([this] { world.hosts["host-b"].memory_available = 0; });
    const http::Response refused = ask("POST", "/v1/vms/web-1:migrate", body);
    EXPECT_EQ(refused.status, 409);
    EXPECT_EQ(slug(refused), "no-memory");
    EXPECT_EQ(ask("GET", "/v1/jobs").body, R"({"jobs":[]})");
}

TEST_F(ControllerApi, RolesAreObeyedAndTokensAreKeptAsDigests) {
    EXPECT_EQ(ask("GET", "/v1/jobs", "", {}, "").status, 401);
    EXPECT_EQ(ask("GET", "/v1/jobs", "", {}, "godwit_wrong").status, 401);
    const http::Response made =
        ask("POST", "/v1/tokens", R"({"principal": "eve", "role": "viewer"})");
    ASSERT_EQ(made.status, 201);
    const auto token = json::from_text<protocol::Token>(made.body, "token").value();
    EXPECT_EQ(ask("GET", "/v1/jobs", "", {}, token.token->c_str()).status, 200);
    EXPECT_EQ(ask("POST", "/v1/vms/web-1:migrate", kMigrate, {{"idempotency-key", "k"}},
                  token.token->c_str())
                  .status,
              403);
    EXPECT_EQ(ask("GET", "/v1/audit", "", {}, token.token->c_str()).status, 403);
    EXPECT_FALSE(ask("GET", "/v1/tokens").body.contains(*token.token));
    EXPECT_TRUE(ask("GET", "/v1/audit").body.contains("\"path\":\"/v1/tokens\""));
    EXPECT_EQ(ask("DELETE", "/v1/tokens/" + token.id).status, 204);
    EXPECT_EQ(ask("GET", "/v1/jobs", "", {}, token.token->c_str()).status, 401);
    EXPECT_EQ(ask("POST", "/v1/tokens", R"({"principal": "eve", "role": "king"})").status, 422);
}

TEST_F(ControllerApi, FlowsOfASwitchArePassedOnWithTheirFilters) {
    const char* path = "/v1/switches/sw-1/flows";
    const http::Response list = ask("GET", std::string(path) + "?last=5");
    EXPECT_EQ(list.status, 200) << list.body;
    EXPECT_EQ(json::parse(list.body, "").value().at("lost"), 3);
    const auto heard = stream(std::string(path) + "?follow=true&ip=10.0.0.0%2F8");
    ASSERT_EQ(heard.size(), 2U) << "the switch ends its stream, and so does this one";
    EXPECT_TRUE(heard[0].data.contains("10.0.0.0/8")) << heard[0].data;
    EXPECT_EQ(heard[1].type, "gap");
    for (const char* follow : {"&follow=true", ""}) {
        const http::Response wrong = ask("GET", std::string(path) + "?reason=boredom" + follow);
        EXPECT_EQ(wrong.status, 422) << "refused before a stream begins";
        EXPECT_TRUE(wrong.body.contains("known are fenced")) << wrong.body;
    }
    EXPECT_EQ(ask("GET", "/v1/switches/sw-9/flows").status, 404);
    in_world([this] { world.die("switch"); });
    EXPECT_EQ(ask("GET", std::string(path) + "?follow=true").status, 502);
}

TEST_F(ControllerApi, PayloadIsForAdminsAndIsAudited) {
    const std::string viewer = token_of("viewer"), netadmin = token_of("netadmin");
    const std::string at = "/v1/switches/sw-1";
    const char* everyone = R"({"vm": "web-1"})";
    EXPECT_EQ(ask("GET", at + "/flows", "", {}, viewer.c_str()).status, 200);
    EXPECT_EQ(ask("GET", at + "/sampling", "", {}, viewer.c_str()).status, 200);
    EXPECT_EQ(ask("PUT", at + "/sampling", R"({"every": 5})", {}, viewer.c_str()).status, 403);
    EXPECT_EQ(ask("PUT", at + "/sampling", R"({"every": 5})", {}, netadmin.c_str()).status, 200);
    for (const std::string& lesser : {viewer, netadmin}) {
        EXPECT_EQ(ask("POST", at + "/captures", everyone, {}, lesser.c_str()).status, 403);
        EXPECT_EQ(ask("GET", at + "/captures/c-1/frames", "", {}, lesser.c_str()).status, 403);
        EXPECT_EQ(ask("DELETE", at + "/captures/c-1", "", {}, lesser.c_str()).status, 403);
    }
    in_world([this] { EXPECT_EQ(world.count_calls("/v1/captures"), 0); });
    EXPECT_EQ(ask("POST", at + "/captures", everyone).status, 201);
    const auto frames = stream(at + "/captures/c-1/frames");
    ASSERT_EQ(frames.size(), 2U);
    EXPECT_TRUE(frames[0].data.contains("c2VjcmV0"));
    EXPECT_EQ(ask("DELETE", at + "/captures/c-1").status, 204);
    const std::string trail = ask("GET", "/v1/audit").body;
    for (const char* line : {R"("method":"POST","path":"/v1/switches/sw-1/captures","status":201)",
                             R"("method":"GET","path":"/v1/switches/sw-1/captures/c-1/frames")",
                             R"("method":"DELETE","path":"/v1/switches/sw-1/captures/c-1")",
                             R"("method":"PUT","path":"/v1/switches/sw-1/sampling")"})
        EXPECT_TRUE(trail.contains(line)) << line << " is not in " << trail;
}

TEST_F(ControllerApi, ListsComeInPagesWithTokensThatCannotBeInvented) {
    for (const char* key : {"a", "b", "c"}) {
        const std::string to = std::string(key) == "b" ? "host-a" : "host-b";
        const http::Response made = migrate(key, R"({"destination": {"host": ")" + to + "\"}}");
        ASSERT_EQ(made.status, 202) << made.body;
        events(job_in(made).id);
    }
    const auto first =
        json::from_text<protocol::JobList>(ask("GET", "/v1/jobs?page_size=2").body, "page").value();
    ASSERT_EQ(first.jobs.size(), 2U);
    ASSERT_TRUE(first.next_page_token);
    const auto second =
        json::from_text<protocol::JobList>(
            ask("GET", "/v1/jobs?page_size=2&page_token=" + *first.next_page_token).body, "page")
            .value();
    EXPECT_EQ(second.jobs.size(), 1U);
    EXPECT_FALSE(second.next_page_token);
    EXPECT_EQ(ask("GET", "/v1/jobs?page_token=made-up-by-somebody-who-wants-to-see-more").status,
              422);
    EXPECT_EQ(ask("GET", "/v1/jobs?page_size=0").status, 422);
    EXPECT_EQ(ask("GET", "/v1/jobs?state=asleep").status, 422);
}

TEST_F(ControllerApi, ASilentHostIsUnknownNotGone) {
    in_world([this] { world.die("host-a"); });
    const auto vm = json::from_text<protocol::Vm>(ask("GET", "/v1/vms/web-1").body, "vm").value();
    EXPECT_EQ(vm.state, "unknown");
    const auto status =
        json::from_text<protocol::ControllerStatus>(ask("GET", "/v1/status").body, "status")
            .value();
    EXPECT_EQ(status.hosts.at(0).state, "unreachable");
    EXPECT_EQ(status.hosts.at(1).state, "up");
}

TEST_F(ControllerApi, RegionsAreAskedOfTheVmsHost) {
    in_world([this] {
        world.hosts["host-a"].vms.at("web-1").spec->regions = {{"sessions", 16}, {"totals", 4}};
    });
    const http::Response shown = ask("GET", "/v1/vms/web-1/regions");
    ASSERT_EQ(shown.status, 200) << shown.body;
    const auto list = json::from_text<protocol::RegionList>(shown.body, "regions").value();
    ASSERT_EQ(list.regions.size(), 2u);
    EXPECT_EQ(list.regions[1].region, "totals");
    EXPECT_EQ(list.regions[1].bytes, 4u << 20);
    EXPECT_EQ(ask("GET", "/v1/vms/nobody/regions").status, 404);
    in_world([this] { world.die("host-a"); });
    EXPECT_GE(ask("GET", "/v1/vms/web-1/regions").status, 500);
}

TEST_F(ControllerApi, OpenApiDescribesEveryRoute) {
    const http::Response shown = ask("GET", "/v1/openapi.json", "", {}, "");
    ASSERT_EQ(shown.status, 200);
    const auto document = json::parse(shown.body, "openapi").value();
    EXPECT_EQ(document.at("openapi").as_string(), "3.1.0");
    EXPECT_TRUE(document.at("paths").as_object().contains("/v1/vms/{vm}:migrate"));
    // Every reference leads somewhere.
    for (std::size_t at = shown.body.find("#/components/schemas/"); at != std::string::npos;
         at = shown.body.find("#/components/schemas/", at + 1)) {
        const std::size_t from = at + 21;
        const std::string name = shown.body.substr(from, shown.body.find('"', from) - from);
        EXPECT_TRUE(document.at("components").at("schemas").as_object().contains(name)) << name;
    }
    EXPECT_EQ(ask("GET", "/readyz", "", {}, "").status, 200);
    EXPECT_TRUE(ask("GET", "/metrics", "", {}, "").body.contains("godwit_jobs{"));
}

}  // namespace

}  // namespace godwit::fakes
