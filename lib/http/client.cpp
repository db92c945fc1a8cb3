// Connections: opened on demand, kept for the next request, opened anew once when found dead.
#include "lib/http/client.hpp"

#include "lib/http/address.hpp"
#include "lib/http/connection.hpp"

#include <boost/asio/connect.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace godwit::http {

namespace asio = boost::asio;
using ErrorCode = boost::system::error_code;
using asio::ip::tcp;
using Unix = asio::local::stream_protocol;
using std::chrono::steady_clock;
using ConnectionPtr = std::unique_ptr<ClientConnection>;

namespace {

constexpr std::size_t kIdleMax = 8;

Fault fault_of(ErrorCode error) {
    if (error == asio::error::access_denied) return Fault::Denied;
    if (error == asio::error::no_descriptors) return Fault::Retry;
    return Fault::Lost;
}

Task<StreamSocket> connect_unix(asio::any_io_executor executor, Address address) {
    Unix::socket socket(executor);
    ErrorCode error;
    co_await socket.async_connect(Unix::endpoint(address.path),
                                  asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return fail(fault_of(error), "connect to " + address.text(), error.message());
    close_on_exec(socket.native_handle());
    co_return StreamSocket(std::move(socket));
}

Task<StreamSocket> connect_tcp(asio::any_io_executor executor, Address address) {
    const std::string doing = "connect to " + address.text();
    ErrorCode error;
    std::vector<tcp::endpoint> endpoints;
    const auto numeric = asio::ip::make_address(address.host, error);
    if (!error) {
        endpoints.emplace_back(numeric, address.port);
    } else {
        tcp::resolver resolver(executor);
        auto found =
            co_await resolver.async_resolve(address.host, std::to_string(address.port),
                                            asio::redirect_error(asio::use_awaitable, error));
        if (error) co_return fail(Fault::Lost, doing, error.message());
        for (const auto& entry : found) endpoints.push_back(entry.endpoint());
    }
    tcp::socket socket(executor);
    co_await asio::async_connect(socket, endpoints,
                                 asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return fail(fault_of(error), doing, error.message());
    close_on_exec(socket.native_handle());
    socket.set_option(tcp::no_delay(true), error);
    co_return StreamSocket(std::move(socket));
}

Task<StreamSocket> connect(asio::any_io_executor executor, Address address, Deadline deadline) {
    using namespace asio::experimental::awaitable_operators;
    asio::steady_timer timer(executor, deadline);
    const std::string doing = "connect to " + address.text();
    Task<StreamSocket> attempt =
        address.is_unix() ? connect_unix(executor, address) : connect_tcp(executor, address);
    auto first = co_await (std::move(attempt) || timer.async_wait(asio::use_awaitable));
    if (first.index() == 1) co_return fail(Fault::Retry, doing, "no answer before the deadline");
    co_return std::get<0>(std::move(first));
}

}  // namespace

struct Client::State {
    asio::any_io_executor executor;
    Result<Address> address;
    Envelope envelope;
    std::vector<ConnectionPtr> idle = {};

    ConnectionPtr take_idle() {
        while (!idle.empty()) {
            ConnectionPtr connection = std::move(idle.back());
            idle.pop_back();
            if (connection->is_quiet()) return connection;
        }
        return nullptr;
    }
    void keep(ConnectionPtr connection) {
        if (idle.size() < kIdleMax) idle.push_back(std::move(connection));
    }

    static Task<ConnectionPtr> open(std::shared_ptr<State> state, Deadline deadline) {
        if (!state->address) co_return std::unexpected(state->address.error());
        Result<StreamSocket> socket = co_await connect(state->executor, *state->address, deadline);
        if (!socket) co_return std::unexpected(std::move(socket).error());
        co_return make_connection(std::move(*socket));
    }

    static Task<Response> send(std::shared_ptr<State> state, Request request, Deadline deadline) {
        ConnectionPtr kept = state->take_idle();
        if (kept) {
            Exchange exchange = co_await kept->exchange(request, state->envelope, deadline);
            if (exchange.reusable) state->keep(std::move(kept));
            const bool dead =
                !exchange.response && !exchange.answered && steady_clock::now() < deadline;
            if (!dead) co_return std::move(exchange.response);
        }
        const std::string doing = request.method + " " + request.path;
        Result<ConnectionPtr> fresh = co_await open(state, deadline);
        if (!fresh) co_return std::unexpected(std::move(fresh).error().within(doing));
        Exchange exchange =
            co_await (*fresh)->exchange(std::move(request), state->envelope, deadline);
        if (exchange.reusable) state->keep(std::move(*fresh));
        co_return std::move(exchange.response);
    }

    static Task<json::bj::value> call(std::shared_ptr<State> state, Request request,
                                      Deadline deadline) {
        const std::string doing = request.method + " " + state->envelope.where + request.path;
        Result<Response> response = co_await send(state, std::move(request), deadline);
        if (!response) co_return std::unexpected(std::move(response).error());
        if (response->status / 100 != 2) co_return std::unexpected(error_of(*response, doing));
        if (response->body.empty()) co_return json::bj::value(nullptr);
        Result<json::bj::value> body = json::parse(response->body, doing);
        // The request was carried out; only its answer cannot be read.
        if (!body) body.error().fault = Fault::Retry;
        co_return body;
    }

    static Task<void> events(std::shared_ptr<State> state, Request request,
                             std::function<bool(const Event&)> on_event,
                             std::chrono::milliseconds silence) {
        const std::string doing = request.method + " " + request.path;
        Result<ConnectionPtr> fresh = co_await open(state, steady_clock::now() + silence);
        if (!fresh) co_return std::unexpected(std::move(fresh).error().within(doing));
        Result<void> ended = co_await (*fresh)->events(std::move(request), state->envelope,
                                                       std::move(on_event), silence);
        co_return ended;
    }
};

Client::Client(asio::any_io_executor executor, std::string server, std::string token) {
    Result<Address> address = parse_address(server);
    // RFC 9110 §7.2: a unix socket has no authority, so the Host is a fixed word.
    std::string host = address && !address->is_unix() ? address->text() : "localhost";
    std::string where = address ? address->text() : server;
    state_ = std::make_shared<State>(
        State{std::move(executor), std::move(address),
              Envelope{std::move(host), std::move(where), std::move(token)}});
}

Client::~Client() = default;

Task<Response> Client::send(Request request, std::chrono::milliseconds deadline) {
    return State::send(state_, std::move(request), steady_clock::now() + deadline);
}

Task<json::bj::value> Client::call(std::string method, std::string path_and_query,
                                   json::bj::value body, Headers headers,
                                   std::chrono::milliseconds deadline) {
    Request request;
    request.method = std::move(method);
    request.path = std::move(path_and_query);
    request.headers = std::move(headers);
    request.headers.emplace_back("accept", "application/json");
    if (!body.is_null()) {
        request.body = json::bj::serialize(body);
        request.headers.emplace_back("content-type", "application/json");
    }
    return State::call(state_, std::move(request), steady_clock::now() + deadline);
}

Task<void> Client::events(std::string path_and_query, std::string last_event_id,
                          std::function<bool(const Event&)> on_event,
                          std::chrono::milliseconds silence) {
    Request request;
    request.path = std::move(path_and_query);
    request.headers = {{"accept", "text/event-stream"}};
    if (!last_event_id.empty()) request.headers.emplace_back("last-event-id", last_event_id);
    return State::events(state_, std::move(request), std::move(on_event), silence);
}

}  // namespace godwit::http
