// The HTTP server and client over real sockets.
#include "lib/http/auth.hpp"
#include "lib/http/client.hpp"
#include "lib/secret.hpp"

#include "tests/fakes/cutting_listener.hpp"
#include "tests/fakes/run_task.hpp"
#include "tests/fakes/server_thread.hpp"
#include "tests/fakes/temporary_directory.hpp"

#include <arpa/inet.h>
#include <atomic>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <gtest/gtest.h>

namespace {

using namespace godwit;
using namespace std::chrono_literals;
namespace asio = boost::asio;
using http::Access;
using Answer = asio::awaitable<http::Response>;

constexpr const char* kViewer = "viewer-token-of-the-test";
constexpr const char* kAdmin = "admin-token-of-the-test";

Answer echo(http::Request request) {
    json::bj::object said{{"method", request.method},
                          {"path", request.path},
                          {"body", request.body},
                          {"principal", request.principal},
                          {"peer", request.peer}};
    json::bj::object params;
    for (const auto& [name, value] : request.params) params[name] = value;
    json::bj::object query;
    for (const auto& [name, value] : request.query) query[name] = value;
    said["params"] = params;
    said["query"] = query;
    co_return http::json_response(200, json::bj::value(said));
}
Answer throws(http::Request) {
    throw std::runtime_error("a secret of the house");
    co_return http::Response{};
}
Answer strict(http::Request request) {
    Result<json::bj::value> body = json::parse(request.body, "read the body");
    if (!body) co_return http::problem_response(body.error());
    co_return http::json_response(201, *body);
}

struct Counters {
    std::atomic<int> sent = 0;
    std::atomic<int> ended = 0;
};

// Numbered events from the one after Last-Event-ID to `last`.
Task<void> count_up(std::shared_ptr<http::EventSink> sink, int from, int last, std::size_t size,
                    Counters* counters) {
    for (int i = from; i <= last; ++i) {
        http::Event event{std::to_string(i), "tick", std::string(size, 'x')};
        Result<void> sent = co_await sink->send(std::move(event));
        if (!sent) {
            ++counters->ended;
            co_return sent;
        }
        ++counters->sent;
    }
    co_return Result<void>();
}

struct EndGuard {
    Counters* counters;
    ~EndGuard() { ++counters->ended; }
};
// Says one thing and then waits for news that never come.
Task<void> wait_for_ever(std::shared_ptr<http::EventSink> sink, Counters* counters) {
    EndGuard guard{counters};
    http::Event hello{"1", "hello", "{}"};
    Result<void> sent = co_await sink->send(std::move(hello));
    if (!sent) co_return sent;
    asio::steady_timer never(co_await asio::this_coro::executor,
                             asio::steady_timer::time_point::max());
    co_await never.async_wait(asio::use_awaitable);
    co_return Result<void>();
}

struct Http : testing::Test {
    Counters counters;
    asio::io_context io;
    std::unique_ptr<fakes::ServerThread> server;

    Answer ticks(http::Request request) {
        const std::string after(request.header("last-event-id").value_or("0"));
        const int from = std::stoi(after) + 1;
        const std::size_t size = std::stoul(request.query_or("size", "1"));
        const int last = std::stoi(request.query_or("last", "5"));
        http::Response response;
        Counters* counted = &counters;
        response.stream = [=](std::shared_ptr<http::EventSink> sink) {
            return count_up(std::move(sink), from, last, size, counted);
        };
        co_return response;
    }
    Answer silence(http::Request) {
        http::Response response;
        Counters* counted = &counters;
        response.stream = [=](std::shared_ptr<http::EventSink> sink) {
            return wait_for_ever(std::move(sink), counted);
        };
        co_return response;
    }
    Answer stops_then_streams(http::Request request) {
        server->server().stop();
        http::Response response = co_await silence(std::move(request));
        co_return response;
    }

    void start(http::ServerLimits limits = {}, const std::string& address = "127.0.0.1:0") {
        std::vector<http::Route> routes = {
            {"GET", "/v1/vms/{vm}", Access::viewer, echo},
            {"PUT", "/v1/vms/{vm}", Access::admin, echo},
            {"POST", "/v1/vms/{vm}:migrate", Access::operator_, echo},
            {"POST", "/v1/documents", Access::open, strict},
            {"GET", "/v1/throws", Access::open, throws},
            {"GET", "/v1/ticks", Access::open,
             [this](http::Request r) { return ticks(std::move(r)); }},
            {"GET", "/v1/silence", Access::open,
             [this](http::Request r) { return silence(std::move(r)); }},
            {"GET", "/v1/stops", Access::open,
             [this](http::Request r) { return stops_then_streams(std::move(r)); }},
            {"PUT", "/v1/fence", Access::peer, echo},
        };
        auto tokens = http::token_authenticator(
            {{sha256_hex(kViewer), {"vera", "viewer"}}, {sha256_hex(kAdmin), {"ada", "admin"}}});
        server = std::make_unique<fakes::ServerThread>(std::move(routes), tokens, limits, address);
    }

    http::Response send(const std::string& method, const std::string& path,
                        const std::string& token = "", const std::string& body = "") {
        http::Client client(io.get_executor(), server->address(), token);
        http::Request request;
        request.method = method;
        request.path = path;
        request.body = body;
        Result<http::Response> response = fakes::run_on(io, client.send(std::move(request), 10s));
        EXPECT_TRUE(response) << response.error().text();
        return response.value_or(http::Response{});
    }

    // Bytes as they are, on a plain socket; what comes back until the server closes.
    std::string raw(const std::string& bytes, bool half_close = false) {
        const int fd = socket(AF_INET, SOCK_STREAM, 0);
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(server->port());
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
        (void)!::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (half_close) shutdown(fd, SHUT_WR);
        std::string got;
        char chunk[4096];
        for (ssize_t n = 0; (n = recv(fd, chunk, sizeof(chunk), 0)) > 0;)
            got.append(chunk, static_cast<std::size_t>(n));
        close(fd);
        return got;
    }
};

std::string slug(const http::Response& response) {
    return http::error_of(response, "t").slug;
}

TEST_F(Http, RoutesGetTheirParametersAndQueriesDecoded) {
    start();
    http::Response response = send("GET", "/v1/vms/web%2F1%3Ax?state=a%20b&empty=", kViewer);
    ASSERT_EQ(response.status, 200);
    json::bj::value said = json::bj::parse(response.body);
    EXPECT_EQ(said.at("params").at("vm").as_string(), "web/1:x");
    EXPECT_EQ(said.at("query").at("state").as_string(), "a b");
    EXPECT_EQ(said.at("principal").as_string(), "vera");
    EXPECT_TRUE(said.at("peer").as_string().starts_with("127.0.0.1:"));
    http::Response verb = send("POST", "/v1/vms/web-1:migrate", kAdmin, "{}");
    EXPECT_EQ(json::bj::parse(verb.body).at("params").at("vm").as_string(), "web-1");
}

TEST_F(Http, AnUnknownPathIs404AndAnUnknownMethod405WithAllow) {
    start();
    EXPECT_EQ(slug(send("GET", "/v1/nothing")), "unknown-path");
    EXPECT_EQ(slug(send("POST", "/v1/vms/web-1:frobnicate", kAdmin)), "unknown-path");
    http::Response response = send("DELETE", "/v1/vms/web-1", kAdmin);
    EXPECT_EQ(response.status, 405);
    bool found = false;
    for (const auto& [name, value] : response.headers)
        found = found || (name == "allow" && value == "GET, PUT");
    EXPECT_TRUE(found);
}

TEST_F(Http, NobodyIs401AndTheWrongRole403) {
    start();
    EXPECT_EQ(send("GET", "/v1/vms/a").status, 401);
    EXPECT_EQ(send("GET", "/v1/vms/a", "a-token-nobody-gave").status, 401);
    EXPECT_EQ(slug(send("PUT", "/v1/vms/a", kViewer)), "forbidden");
    EXPECT_EQ(send("PUT", "/v1/vms/a", kAdmin).status, 200);
    EXPECT_EQ(send("PUT", "/v1/fence", kAdmin).status, 403);
}

TEST_F(Http, HeadIsAnsweredWithoutABodyAndKeepsTheConnection) {
    start();
    const std::string got =
        raw("HEAD /v1/vms/a HTTP/1.1\r\nHost: x\r\n\r\n"
            "GET /v1/nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    EXPECT_EQ(got.find("HTTP/1.1 401"), 0u);
    EXPECT_NE(got.find("\r\n\r\nHTTP/1.1 404"), std::string::npos) << got;
}

TEST_F(Http, MalformedJsonIs400AndAThrowingHandlerTellsNothingOfTheHouse) {
    start();
    EXPECT_EQ(slug(send("POST", "/v1/documents", "", "{\"a\":")), "malformed-json");
    EXPECT_EQ(send("POST", "/v1/documents", "", "{\"a\":1}").status, 201);
    http::Response response = send("GET", "/v1/throws");
    EXPECT_EQ(response.status, 500);
    EXPECT_EQ(slug(response), "internal-error");
    EXPECT_EQ(response.body.find("secret"), std::string::npos);
}

TEST_F(Http, OversizeIs413ForBodiesAnd431ForHeaders) {
    http::ServerLimits limits;
    limits.body_bytes = 1000;
    limits.header_bytes = 2000;
    start(limits);
    EXPECT_EQ(slug(send("POST", "/v1/documents", "", std::string(4 << 20, ' '))), "body-too-large");
    EXPECT_EQ(send("POST", "/v1/documents", "", "[" + std::string(998, ' ') + "]").status, 201);
    const std::string huge =
        raw("GET / HTTP/1.1\r\nHost: x\r\nX: " + std::string(5000, 'x') + "\r\n\r\n");
    EXPECT_EQ(huge.find("HTTP/1.1 431"), 0u) << huge;
    const std::string chunked =
        raw("POST /v1/documents HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n" +
            std::string(0x800, ' ') + "\r\n0\r\n\r\n");
    EXPECT_EQ(chunked.find("HTTP/1.1 413"), 0u) << chunked;
}

TEST_F(Http, GarbageIs400AndATruncatedRequestIsDroppedInSilence) {
    start();
    EXPECT_EQ(raw("\x16\x03\x01 this is no HTTP\r\n\r\n").find("HTTP/1.1 400"), 0u);
    EXPECT_EQ(raw("GET http://elsewhere/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                  .find("HTTP/1.1 400"),
              0u);
    EXPECT_EQ(raw("POST /v1/documents HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", true),
              "");
    EXPECT_EQ(raw("GET /v1/vm", true), "");
    EXPECT_EQ(send("POST", "/v1/documents", "", "[]").status, 201);
}

TEST_F(Http, AHalfRequestThatStallsAndAnIdleConnectionAreClosed) {
    http::ServerLimits limits;
    limits.idle = 1s;
    start(limits);
    EXPECT_EQ(raw("GET /v1/vms/a HTTP/1.1\r\nHost:"), "");
    EXPECT_EQ(raw("POST /v1/documents HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nab"), "");
    EXPECT_EQ(raw(""), "");
}

TEST_F(Http, ExpectContinueIsAnsweredBeforeTheBody) {
    start();
    const std::string got = raw(
        "POST /v1/documents HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n"
        "Connection: close\r\n\r\n[]");
    EXPECT_EQ(got.find("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201"), 0u) << got;
}

TEST_F(Http, MoreConnectionsThanAllowedAreRefusedWith503) {
    http::ServerLimits limits;
    limits.connections = 1;
    start(limits);
    http::Client first(io.get_executor(), server->address(), kViewer);
    ASSERT_TRUE(fakes::run_on(io, first.call("GET", "/v1/vms/a", nullptr, {}, 10s)));
    Error refused = http::error_of(send("GET", "/v1/vms/a", kViewer), "t");
    EXPECT_EQ(refused.slug, "too-many-connections");
    EXPECT_EQ(refused.fault, Fault::Retry);
}

TEST_F(Http, CallGivesBodiesAndProblemsAsValues) {
    start();
    http::Client client(io.get_executor(), server->address(), kViewer);
    auto good = fakes::run_on(io, client.call("GET", "/v1/vms/a", nullptr, {}, 10s));
    ASSERT_TRUE(good);
    auto denied = fakes::run_on(io, client.call("PUT", "/v1/vms/a", json::bj::object{}, {}, 10s));
    EXPECT_EQ(denied.error().fault, Fault::Denied);
    auto missing = fakes::run_on(io, client.call("GET", "/v1/nothing", nullptr, {}, 10s));
    EXPECT_EQ(missing.error().fault, Fault::Missing);
    EXPECT_NE(missing.error().text().find("there is nothing at this path"), std::string::npos);
}

TEST_F(Http, AConnectionIsKeptAliveBetweenRequests) {
    start();
    http::Client client(io.get_executor(), server->address(), kViewer);
    std::set<std::string> peers;
    for (int i = 0; i < 5; ++i) {
        auto said = fakes::run_on(io, client.call("GET", "/v1/vms/a", nullptr, {}, 10s));
        peers.insert(std::string(said->at("peer").as_string()));
    }
    EXPECT_EQ(peers.size(), 1u);
}

TEST_F(Http, AKeptConnectionThatDiedIsOpenedAnew) {
    start();
    const std::string address = server->address();
    http::Client client(io.get_executor(), address, kViewer);
    ASSERT_TRUE(fakes::run_on(io, client.call("GET", "/v1/vms/a", nullptr, {}, 10s)));
    server.reset();
    start({}, address);
    auto again = fakes::run_on(io, client.call("GET", "/v1/vms/a", nullptr, {}, 10s));
    EXPECT_TRUE(again) << again.error().text();
}

TEST_F(Http, RefusedIsLostAndSilenceIsRetry) {
    asio::ip::tcp::acceptor mute(io,
                                 {asio::ip::address_v4::loopback(), 0});  // connects, never answers
    http::Client waiting(io.get_executor(),
                         "127.0.0.1:" + std::to_string(mute.local_endpoint().port()), "");
    auto silent = fakes::run_on(io, waiting.call("GET", "/", nullptr, {}, 200ms));
    EXPECT_EQ(silent.error().fault, Fault::Retry);
    start();
    const std::string address = server->address();
    server.reset();
    http::Client client(io.get_executor(), address, "");
    auto refused = fakes::run_on(io, client.call("GET", "/", nullptr, {}, 10s));
    EXPECT_EQ(refused.error().fault, Fault::Lost);
    EXPECT_NE(refused.error().text().find("Connection refused"), std::string::npos);
    http::Client nowhere(io.get_executor(), "unix:/nonexistent/x.sock", "");
    EXPECT_EQ(fakes::run_on(io, nowhere.call("GET", "/", nullptr, {}, 10s)).error().fault,
              Fault::Lost);
    http::Client nonsense(io.get_executor(), "nonsense", "");
    EXPECT_EQ(fakes::run_on(io, nonsense.call("GET", "/", nullptr, {}, 10s)).error().fault,
              Fault::Rejected);
}

TEST_F(Http, AnAnswerCutInTheMiddleIsRetry) {
    for (const char* words :
         {"", "HTTP/1.1 200 OK\r\nContent-", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"}) {
        fakes::CuttingListener cutter(words);
        http::Client client(io.get_executor(), cutter.address, "");
        auto cut = fakes::run_on(io, client.call("GET", "/", nullptr, {}, 10s));
        ASSERT_FALSE(cut);
        EXPECT_EQ(cut.error().fault, Fault::Retry) << cut.error().text();
    }
}

TEST_F(Http, AnEventStreamCutInTheMiddleIsRetryAndAnEndedOneIsGood) {
    fakes::CuttingListener cutter(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: "
        "chunked\r\n\r\n9\r\ndata: a\n\n\r\n");
    int came = 0;
    auto take = [&came](const http::Event&) { return ++came, true; };
    http::Client client(io.get_executor(), cutter.address, "");
    EXPECT_EQ(fakes::run_on(io, client.events("/", "", take, 10s)).error().fault, Fault::Retry);
    EXPECT_EQ(came, 1);
    start();
    http::Client good(io.get_executor(), server->address(), "");
    EXPECT_TRUE(fakes::run_on(io, good.events("/v1/ticks?last=5", "", take, 10s)));
    EXPECT_EQ(came, 6);
}

TEST_F(Http, AStreamResumesAfterTheLastEventSeenAndStopsWhenTheListenerSaysSo) {
    start();
    http::Client client(io.get_executor(), server->address(), "");
    std::vector<std::string> ids;
    auto two = [&ids](const http::Event& event) { return ids.push_back(event.id), ids.size() < 2; };
    ASSERT_TRUE(fakes::run_on(io, client.events("/v1/ticks", "", two, 10s)));
    auto all = [&ids](const http::Event& event) { return ids.push_back(event.id), true; };
    ASSERT_TRUE(fakes::run_on(io, client.events("/v1/ticks", ids.back(), all, 10s)));
    EXPECT_EQ(ids, (std::vector<std::string>{"1", "2", "3", "4", "5"}));
}

TEST_F(Http, AStreamThatIsRefusedGivesTheProblem) {
    start();
    http::Client client(io.get_executor(), server->address(), "");
    auto any = [](const http::Event&) { return true; };
    EXPECT_EQ(fakes::run_on(io, client.events("/v1/none", "", any, 10s)).error().fault,
              Fault::Missing);
    auto plain = fakes::run_on(io, client.events("/v1/throws", "", any, 10s));
    EXPECT_EQ(plain.error().slug, "internal-error");
    auto silent = fakes::run_on(io, client.events("/v1/silence", "", any, 300ms));
    EXPECT_EQ(silent.error().fault, Fault::Retry);
}

TEST_F(Http, ASlowListenerHoldsTheStreamBackAndALeavingOneEndsIt) {
    start();
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const int small = 4096;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(server->port());
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
    const std::string ask = "GET /v1/ticks?last=100000&size=10000 HTTP/1.1\r\nHost: x\r\n\r\n";
    ASSERT_EQ(::send(fd, ask.data(), ask.size(), 0), static_cast<ssize_t>(ask.size()));
    // A full pipe is a count that has stopped; nothing of what is to come (1 GB) waits in memory.
    int before = -1;
    while (counters.sent != before || before <= 0) {
        before = counters.sent;
        std::this_thread::sleep_for(200ms);
    }
    EXPECT_LT(before, 5000);
    close(fd);
    while (counters.ended == 0) std::this_thread::yield();
    EXPECT_EQ(counters.sent, before);
}

TEST_F(Http, AListenerThatLeavesCancelsAWaitingStream) {
    start();
    http::Client client(io.get_executor(), server->address(), "");
    auto once = [](const http::Event&) { return false; };
    ASSERT_TRUE(fakes::run_on(io, client.events("/v1/silence", "", once, 10s)));
    while (counters.ended == 0) std::this_thread::yield();
}

TEST_F(Http, StopEndsStreamsAndIdleConnections) {
    start();
    http::Client kept(io.get_executor(), server->address(), kViewer);
    ASSERT_TRUE(fakes::run_on(io, kept.call("GET", "/v1/vms/a", nullptr, {}, 10s)));
    http::Client client(io.get_executor(), server->address(), "");
    auto stopper = [this](const http::Event&) { return server->server().stop(), true; };
    EXPECT_EQ(fakes::run_on(io, client.events("/v1/silence", "", stopper, 10s)).error().fault,
              Fault::Retry);
    server.reset();  // joins: would hang if a connection were left
    EXPECT_EQ(counters.ended, 1);
}

TEST_F(Http, StopWhileARouteDecidesToStreamEndsThatStreamToo) {
    start();
    http::Client client(io.get_executor(), server->address(), "");
    auto any = [](const http::Event&) { return true; };
    auto ended = fakes::run_on(io, client.events("/v1/stops", "", any, 10s));
    EXPECT_EQ(ended.error().cause, "the connection was cut before the whole answer came");
    server.reset();
}

TEST_F(Http, UnixSocketsServeTellTheUidAndReplaceADeadFile) {
    fakes::TemporaryDirectory directory;
    const std::string path = directory.file("api.sock");
    const int dead = socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un at{};
    at.sun_family = AF_UNIX;
    std::strcpy(at.sun_path, path.c_str());
    ASSERT_EQ(bind(dead, reinterpret_cast<sockaddr*>(&at), sizeof(at)), 0);
    close(dead);
    start({}, "unix:" + path);
    struct stat now{};
    ASSERT_EQ(stat(path.c_str(), &now), 0);
    EXPECT_EQ(now.st_mode & 0777, 0660u);
    http::Response response = send("GET", "/v1/vms/a", kViewer);
    EXPECT_EQ(json::bj::parse(response.body).at("peer").as_string(),
              "unix:" + std::to_string(geteuid()));
    http::Server second(io.get_executor(), {}, {});
    EXPECT_NE(second.listen("unix:" + path).error().cause.find("another process"),
              std::string::npos);
    EXPECT_FALSE(second.listen("unix:" + directory.write("plain", "x")));
    server.reset();
    EXPECT_NE(stat(path.c_str(), &now), 0);
}

TEST_F(Http, NoSocketIsLeftToProgramsWeStart) {
    start();
    http::Client client(io.get_executor(), server->address(), kViewer);
    ASSERT_TRUE(fakes::run_on(io, client.call("GET", "/v1/vms/a", nullptr, {}, 10s)));
    int sockets = 0;
    for (int fd = 3; fd < 256; ++fd) {
        struct stat now{};
        if (fstat(fd, &now) != 0 || !S_ISSOCK(now.st_mode)) continue;
        EXPECT_TRUE(fcntl(fd, F_GETFD) & FD_CLOEXEC) << fd;
        ++sockets;
    }
    EXPECT_GE(sockets, 3);  // the listener, and both ends of the connection
}

TEST_F(Http, AnAddressInUseOrNonsenseIsSaid) {
    start();
    http::Server second(io.get_executor(), {}, {});
    EXPECT_NE(second.listen(server->address()).error().text().find("Address already in use"),
              std::string::npos);
    EXPECT_FALSE(second.listen("localhost:80"));
    EXPECT_FALSE(second.listen("1.2.3.4"));
}

}  // namespace
