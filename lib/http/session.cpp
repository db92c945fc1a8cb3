// The server's side of one connection: read a request, route it, write the answer, again. Beast is
// instantiated here and in session_client.cpp, nowhere else.
#include "lib/http/session.hpp"

#include "lib/http/sse.hpp"
#include "lib/log.hpp"

#include <algorithm>
#include <optional>
#include <sys/socket.h>

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

namespace godwit::http {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace bhttp = boost::beast::http;
using ErrorCode = boost::system::error_code;
using asio::redirect_error;
using asio::use_awaitable;

namespace {

using Stream = beast::basic_stream<asio::generic::stream_protocol>;
using Parser = bhttp::request_parser<bhttp::string_body>;

constexpr std::size_t kReadAhead = 64 << 10;
constexpr auto kLinger = std::chrono::seconds(2);
constexpr std::size_t kLingerReads = 64;  // of up to 64 KiB each

enum class Stage { reading, answering, streaming };

// The connection itself, kept alive by whoever still writes to it (a route may keep its sink).
struct Connection final : Stoppable {
    Connection(StreamSocket socket, std::string from, std::shared_ptr<ServerCore> shared)
        : stream(std::move(socket)),
          buffer(shared->limits.header_bytes + kReadAhead),
          peer(std::move(from)),
          core(std::move(shared)) {
        core->sessions.insert(this);
    }
    ~Connection() { core->sessions.erase(this); }
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    // A request being answered is finished first; the loop then sees core->stopping.
    void stop() override {
        if (stage != Stage::answering) close();
    }
    void close() { stream.close(); }

    Stream stream;
    beast::flat_buffer buffer;
    std::string peer;
    std::shared_ptr<ServerCore> core;
    Stage stage = Stage::reading;
};

using ConnectionPtr = std::shared_ptr<Connection>;

// Chunked for HTTP/1.1; an HTTP/1.0 peer gets the bare text and the end of the connection.
class StreamSink final : public EventSink {
public:
    StreamSink(ConnectionPtr connection, bool chunked)
        : connection_(std::move(connection)), chunked_(chunked) {}

    Task<void> send(Event event) override { return write(format_event(event)); }
    Task<void> heartbeat() override { return write(":\n\n"); }

    Task<void> write(std::string text) {
        if (ended_) co_return fail(Fault::Lost, "send an event", "the stream has ended");
        // A peer that takes nothing for the idle time is gone.
        connection_->stream.expires_after(connection_->core->limits.idle);
        ErrorCode error;
        if (chunked_) {
            auto chunk = bhttp::make_chunk(asio::buffer(text));
            co_await asio::async_write(connection_->stream, chunk,
                                       redirect_error(use_awaitable, error));
        } else {
            co_await asio::async_write(connection_->stream, asio::buffer(text),
                                       redirect_error(use_awaitable, error));
        }
        if (!error) co_return Result<void>();
        ended_ = true;
        co_return fail(Fault::Lost, "send an event to " + connection_->peer, error.message());
    }

    asio::awaitable<void> finish() {
        if (ended_) co_return;
        ended_ = true;
        if (!chunked_) co_return;
        ErrorCode error;
        auto last = bhttp::make_chunk_last();
        co_await asio::async_write(connection_->stream, last, redirect_error(use_awaitable, error));
        if (error) connection_->close();
    }
    void end() { ended_ = true; }

private:
    ConnectionPtr connection_;
    bool chunked_;
    bool ended_ = false;
};

Response refusal(ErrorCode error) {
    if (error == bhttp::error::body_limit)
        return problem_response({Fault::Rejected, "read the request",
                                 "the body is larger than this server takes", "body-too-large"});
    if (error == bhttp::error::header_limit || error == bhttp::error::buffer_overflow)
        return problem_response({Fault::Rejected, "read the request",
                                 "the headers are larger than this server takes",
                                 "headers-too-large"});
    return problem_response(
        {Fault::Rejected, "read the request", error.message(), "malformed-request"});
}

// Errors after which nothing can be answered; at a timeout Beast has closed the socket.
bool is_over(ErrorCode error) {
    return error == beast::error::timeout || error == bhttp::error::end_of_stream ||
           error == bhttp::error::partial_message || error == asio::error::eof ||
           error == asio::error::connection_reset || error == asio::error::operation_aborted ||
           error == asio::error::broken_pipe || error == asio::error::bad_descriptor;
}

Request request_of(const bhttp::request<bhttp::string_body>& message, const std::string& peer) {
    Request request;
    request.method = std::string(message.method_string());
    for (const auto& field : message) {
        std::string name(field.name_string());
        std::ranges::transform(name, name.begin(), [](char c) {
            return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
        });
        request.headers.emplace_back(std::move(name), std::string(field.value()));
    }
    request.body = message.body();
    request.peer = peer;
    return request;
}

template <typename Body>
void fill_head(bhttp::response<Body>& out, const Response& from, unsigned version,
               bool keep_alive) {
    out.result(static_cast<unsigned>(from.status));
    out.version(version);
    for (const auto& [name, value] : from.headers) out.insert(name, value);
    out.keep_alive(keep_alive);
}

asio::awaitable<ErrorCode> write_plain(ConnectionPtr connection, Response answer, unsigned version,
                                       bool keep_alive, bool head_only) {
    bhttp::response<bhttp::string_body> out;
    fill_head(out, answer, version, keep_alive);
    out.body() = std::move(answer.body);
    out.prepare_payload();
    if (head_only) out.body().clear();  // Content-Length stays: RFC 9110 §9.3.2
    connection->stream.expires_after(connection->core->limits.idle);
    ErrorCode error;
    bhttp::response_serializer<bhttp::string_body> serializer(out);
    co_await bhttp::async_write_header(connection->stream, serializer,
                                       redirect_error(use_awaitable, error));
    if (!error && !head_only)
        co_await bhttp::async_write(connection->stream, serializer,
                                    redirect_error(use_awaitable, error));
    co_return error;
}

// Returns when the peer has closed, or sent what nobody asked for, or the server stops.
asio::awaitable<void> peer_leaves(ConnectionPtr connection) {
    ErrorCode error;
    co_await connection->stream.socket().async_wait(asio::socket_base::wait_read,
                                                    redirect_error(use_awaitable, error));
}

// The route's coroutine behind a wall: what it throws ends the stream, nothing else.
asio::awaitable<void> produce(std::function<Task<void>(std::shared_ptr<EventSink>)> stream,
                              std::shared_ptr<StreamSink> sink, std::string what) {
    std::string trouble;
    try {
        Result<void> ended = co_await stream(sink);
        if (!ended && ended.error().fault != Fault::Lost) trouble = ended.error().text();
    } catch (const boost::system::system_error& thrown) {
        if (thrown.code() != asio::error::operation_aborted) trouble = thrown.what();
    } catch (const std::exception& thrown) {
        trouble = thrown.what();
    }
    if (!trouble.empty()) log::error("http", what + ": the stream failed: " + trouble);
}

asio::awaitable<bool> write_stream(ConnectionPtr connection, Response answer, unsigned version,
                                   std::string what) {
    using namespace asio::experimental::awaitable_operators;
    bhttp::response<bhttp::empty_body> out;
    const bool chunked = version >= 11;
    fill_head(out, answer, version, chunked);
    out.set(bhttp::field::content_type, "text/event-stream");
    out.set(bhttp::field::cache_control, "no-store");
    if (chunked) out.chunked(true);
    bhttp::response_serializer<bhttp::empty_body> serializer(out);
    connection->stream.expires_after(connection->core->limits.idle);
    ErrorCode error;
    co_await bhttp::async_write_header(connection->stream, serializer,
                                       redirect_error(use_awaitable, error));
    // A stop() that came while the route was deciding has passed this connection by.
    if (error || connection->core->stopping) co_return false;
    connection->stage = Stage::streaming;
    auto sink = std::make_shared<StreamSink>(connection, chunked);
    // Whichever ends first cancels the other, so a route that waits for news does not outlive its
    // listener.
    auto winner = co_await (produce(answer.stream, sink, what) || peer_leaves(connection));
    if (winner.index() == 1) {
        sink->end();
        connection->close();
        co_return false;
    }
    co_await sink->finish();
    co_return chunked && connection->stream.socket().is_open();
}

asio::awaitable<Response> answer_of(ConnectionPtr connection, Request request, std::string target) {
    std::string allow;
    Result<const Route*> route = connection->core->router.find(target, request, allow);
    if (!route) {
        Response refused = problem_response(route.error());
        if (!allow.empty()) refused.headers.emplace_back("allow", allow);
        co_return refused;
    }
    const std::string what = request.method + " " + request.path;
    std::string trouble;
    try {
        Identity identity =
            connection->core->authenticator ? connection->core->authenticator(request) : Identity{};
        request.principal = std::move(identity.principal);
        request.role = std::move(identity.role);
        Result<void> allowed = authorize(**route, request);
        if (!allowed) co_return problem_response(allowed.error());
        Response response = co_await (*route)->handler(std::move(request));
        co_return response;
    } catch (const std::exception& thrown) {
        trouble = thrown.what();
    }
    log::error("http", what + ": the handler threw: " + trouble);
    co_return problem_response({Fault::Retry, what,
                                "the request failed unexpectedly; the log of the server says why",
                                "internal-error"});
}

// Sends the rest of what we have to say and reads on for a moment: closing with unread bytes would
// reset the connection, and the peer would never see the answer.
asio::awaitable<void> close_politely(ConnectionPtr connection) {
    ErrorCode error;
    connection->stream.socket().shutdown(asio::socket_base::shutdown_send, error);
    connection->stream.expires_after(kLinger);
    for (std::size_t reads = 0; reads < kLingerReads && !error; ++reads) {
        connection->buffer.clear();
        auto space = connection->buffer.prepare(kReadAhead);
        co_await connection->stream.async_read_some(space, redirect_error(use_awaitable, error));
    }
    connection->close();
}

asio::awaitable<ErrorCode> read_request(ConnectionPtr connection, std::shared_ptr<Parser> parser) {
    ErrorCode error;
    co_await bhttp::async_read_header(connection->stream, connection->buffer, *parser,
                                      redirect_error(use_awaitable, error));
    if (error || parser->is_done()) co_return error;
    if (beast::iequals(parser->get()[bhttp::field::expect], "100-continue")) {
        const std::string go_on = "HTTP/1.1 100 Continue\r\n\r\n";
        co_await asio::async_write(connection->stream, asio::buffer(go_on),
                                   redirect_error(use_awaitable, error));
        if (error) co_return error;
    }
    co_await bhttp::async_read(connection->stream, connection->buffer, *parser,
                               redirect_error(use_awaitable, error));
    co_return error;
}

// One request and its answer; true when the connection may carry another.
asio::awaitable<bool> serve_one(ConnectionPtr connection) {
    const ServerLimits& limits = connection->core->limits;
    auto parser = std::make_shared<Parser>();
    parser->header_limit(static_cast<std::uint32_t>(limits.header_bytes));
    parser->body_limit(limits.body_bytes);
    connection->stage = Stage::reading;
    connection->stream.expires_after(limits.idle);
    ErrorCode error = co_await read_request(connection, parser);
    if (is_over(error)) co_return false;
    if (error) {
        Response refused = refusal(error);
        ErrorCode ignored = co_await write_plain(connection, refused, 11, false, false);
        if (!ignored) co_await close_politely(connection);
        co_return false;
    }
    connection->stage = Stage::answering;
    const auto& message = parser->get();
    const bool head_only = message.method() == bhttp::verb::head;
    const unsigned version = message.version();
    Request request = request_of(message, connection->peer);
    const std::string what = request.method + " " + std::string(message.target());
    std::string target(message.target());
    connection->stream.expires_never();
    Response response = co_await answer_of(connection, std::move(request), std::move(target));
    if (response.stream && !head_only) {
        bool goes_on = co_await write_stream(connection, std::move(response), version, what);
        co_return goes_on && !connection->core->stopping;
    }
    const bool keep_alive = message.keep_alive() && !connection->core->stopping;
    ErrorCode failed =
        co_await write_plain(connection, std::move(response), version, keep_alive, head_only);
    co_return !failed && keep_alive;
}

}  // namespace

asio::awaitable<void> serve(StreamSocket socket, std::string peer,
                            std::shared_ptr<ServerCore> core) {
    auto connection = std::make_shared<Connection>(std::move(socket), std::move(peer), core);
    bool goes_on = true;
    while (goes_on && !core->stopping) goes_on = co_await serve_one(connection);
    ErrorCode ignored;
    connection->stream.socket().shutdown(asio::socket_base::shutdown_send, ignored);
    connection->close();
}

asio::awaitable<void> refuse(StreamSocket socket, std::shared_ptr<ServerCore> core) {
    auto connection = std::make_shared<Connection>(std::move(socket), "", core);
    Response refused = problem_response({Fault::Retry, "connect",
                                         "this server has as many connections as it takes",
                                         "too-many-connections"});
    ErrorCode error = co_await write_plain(connection, std::move(refused), 11, false, false);
    if (!error) co_await close_politely(connection);
}

}  // namespace godwit::http
