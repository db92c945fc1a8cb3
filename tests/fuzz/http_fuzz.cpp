// Any bytes to a real HTTP server on a socket pair's worth of TCP: it answers or hangs up, and
// every byte of an answer parses as HTTP; then the same bytes as an answer to a client, and as
// events.
#include "lib/http/connection.hpp"
#include "lib/http/session.hpp"
#include "lib/http/sse.hpp"

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/connect_pair.hpp>
#include <boost/asio/local/stream_protocol.hpp>

namespace {

using namespace godwit;
namespace asio = boost::asio;
using Unix = asio::local::stream_protocol;

constexpr std::size_t kInputMax = 32 << 10;  // must fit a socket's buffer: nobody reads meanwhile

asio::awaitable<http::Response> echo(http::Request request) {
    co_return http::json_response(200, json::bj::value(request.path + request.body.substr(0, 100)));
}

std::shared_ptr<http::ServerCore> make_core() {
    std::vector<http::Route> routes = {
        {"GET", "/v1/vms/{vm}", http::Access::open, echo},
        {"POST", "/v1/vms/{vm}:migrate", http::Access::viewer, echo}};
    return std::make_shared<http::ServerCore>(http::Router(std::move(routes)), nullptr,
                                              http::ServerLimits{.body_bytes = 4096});
}

// Both ends of a connection; the far one has said everything and reads what comes.
struct Pair {
    explicit Pair(asio::io_context& io, std::string_view said) : near(io), far(io) {
        asio::local::connect_pair(near, far);
        if (send(far.native_handle(), said.data(), said.size(), MSG_NOSIGNAL) < 0) std::abort();
        shutdown(far.native_handle(), SHUT_WR);
    }
    std::string heard() {
        std::string all;
        char chunk[4096];
        for (ssize_t n = 0;
             (n = recv(far.native_handle(), chunk, sizeof(chunk), MSG_DONTWAIT)) > 0;)
            all.append(chunk, static_cast<std::size_t>(n));
        return all;
    }
    Unix::socket near, far;
};

void to_server(std::string_view bytes) {
    asio::io_context io;
    Pair pair(io, bytes);
    asio::co_spawn(io, http::serve(http::StreamSocket(std::move(pair.near)), "fuzz", make_core()),
                   asio::detached);
    io.run();
    const std::string answer = pair.heard();
    if (!answer.empty() && !answer.starts_with("HTTP/1.")) std::abort();
}

asio::awaitable<void> ask(std::unique_ptr<http::ClientConnection> connection) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    http::Request request;
    request.path = "/";
    http::Envelope envelope{"fuzz", "fuzz", ""};
    http::Exchange exchange = co_await connection->exchange(request, envelope, deadline);
    if (exchange.response && exchange.response->status / 100 != 2)
        (void)http::error_of(*exchange.response, "fuzz").text();
}

void to_client(std::string_view bytes) {
    asio::io_context io;
    Pair pair(io, bytes);
    auto connection = http::make_connection(http::StreamSocket(std::move(pair.near)));
    asio::co_spawn(io, ask(std::move(connection)), asio::detached);
    io.run();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    if (size > kInputMax) return 0;
    const std::string_view text(reinterpret_cast<const char*>(bytes), size);
    to_server(text);
    to_client(text);
    http::EventParser parser;
    (void)parser.feed(text);
    return 0;
}
