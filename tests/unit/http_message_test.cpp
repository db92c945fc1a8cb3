// Problems across the wire, who is asking, and the routes every daemon has.
#include "lib/http/auth.hpp"
#include "lib/http/client.hpp"
#include "lib/http/health.hpp"

#include "tests/fakes/run_task.hpp"
#include "tests/fakes/server_thread.hpp"
#include "tests/fakes/temporary_directory.hpp"

#include <gtest/gtest.h>

namespace {

using namespace godwit;
using namespace std::chrono_literals;
namespace asio = boost::asio;
using http::Access;

asio::awaitable<http::Response> answer(http::Request) {
    co_return http::Response{};
}

TEST(Auth, TheUidBehindAUnixSocketCanStandForAToken) {
    asio::io_context io;
    fakes::TemporaryDirectory directory;
    auto local =
        http::local_authenticator("admin", http::peer_authenticator("the-secret-of-peers"));
    std::vector<http::Route> routes = {{"GET", "/v1/vms/{vm}", Access::admin, answer}};
    fakes::ServerThread by_file(routes, local, {}, "unix:" + directory.file("s"));
    fakes::ServerThread by_net(routes, local);
    auto status = [&io](const std::string& address, const std::string& token) {
        http::Client client(io.get_executor(), address, token);
        http::Request request;
        request.path = "/v1/vms/a";
        return fakes::run_on(io, client.send(request, 10s))->status;
    };
    EXPECT_EQ(status(by_file.address(), ""), 200);
    EXPECT_EQ(status(by_file.address(), "wrong-token-entirely"), 401);
    EXPECT_EQ(status(by_net.address(), ""), 401);
    EXPECT_EQ(status(by_net.address(), "the-secret-of-peers"), 200);
}

TEST(Problems, KeepSlugFieldsAndNextActionsAcrossTheWire) {
    Error error{Fault::Conflict, "migrate vm web-1", "job j-1 is running", "vm-busy"};
    error.fields = {{"/destination/host", "is unknown", 3, 4}};
    error.next_actions = {"godwit job watch j-1"};
    error.instance = "/v1/jobs/j-1";
    http::Response response = http::problem_response(error);
    EXPECT_EQ(response.status, 409);
    Error back = http::error_of(response, "call");
    EXPECT_EQ(back.slug, "vm-busy");
    EXPECT_EQ(back.fields[0].pointer, "/destination/host");
    EXPECT_EQ(back.fields[0].line, 3);
    EXPECT_EQ(back.next_actions, error.next_actions);
    EXPECT_EQ(back.instance, "/v1/jobs/j-1");
    EXPECT_EQ(back.cause, "migrate vm web-1: job j-1 is running");
}

TEST(Problems, EveryFaultHasAStatusAndEveryStatusAFault) {
    const std::map<Fault, int> expected = {
        {Fault::Retry, 503},  {Fault::Conflict, 409}, {Fault::Rejected, 400}, {Fault::Missing, 404},
        {Fault::Denied, 403}, {Fault::Lost, 502},     {Fault::Corrupt, 500}};
    for (const auto& [fault, status] : expected)
        EXPECT_EQ(http::status_of({fault, "", ""}), status);
    EXPECT_EQ(http::error_of({429, {}, "", {}}, "t").fault, Fault::Retry);
    EXPECT_EQ(http::error_of({422, {}, "not json", {}}, "t").fault, Fault::Rejected);
    EXPECT_EQ(http::error_of({502, {}, "[]", {}}, "t").cause, "status 502");
}

TEST(Health, LiveReadyAndMetrics) {
    Metrics metrics;
    metrics.counter("godwit_things_total", "Things.").Increment();
    std::string reason = "the journal is not open";
    fakes::ServerThread server(http::health_routes([&reason] { return reason; }, metrics), {});
    asio::io_context io;
    http::Client client(io.get_executor(), server.address(), "");
    EXPECT_TRUE(fakes::run_on(io, client.call("GET", "/livez", nullptr, {}, 10s)));
    auto not_ready = fakes::run_on(io, client.call("GET", "/readyz", nullptr, {}, 10s));
    EXPECT_EQ(not_ready.error().slug, "not-ready");
    reason.clear();
    EXPECT_TRUE(fakes::run_on(io, client.call("GET", "/readyz", nullptr, {}, 10s)));
    http::Request request;
    request.path = "/metrics";
    EXPECT_NE(fakes::run_on(io, client.send(request, 10s))->body.find("godwit_things_total 1"),
              std::string::npos);
}

}  // namespace
