// The client's side of one connection, on Beast.
#include "lib/http/connection.hpp"
#include "lib/http/sse.hpp"

#include <algorithm>
#include <optional>
#include <sys/socket.h>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
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

constexpr std::size_t kAnswerMax = 64 << 20;
constexpr std::size_t kHeaderMax = 64 << 10;
constexpr std::size_t kEventChunk = 16 << 10;

bhttp::request<bhttp::string_body> message_of(const Request& request, const Envelope& envelope) {
    bhttp::request<bhttp::string_body> out;
    out.method_string(request.method);
    out.target(request.path);  // already encoded, with the query
    out.version(11);
    out.set(bhttp::field::host, envelope.host);
    if (!envelope.token.empty()) out.set(bhttp::field::authorization, "Bearer " + envelope.token);
    for (const auto& [name, value] : request.headers) out.set(name, value);
    out.body() = request.body;
    out.prepare_payload();
    return out;
}

Headers headers_of(const bhttp::fields& fields) {
    Headers headers;
    for (const auto& field : fields) {
        std::string name(field.name_string());
        std::ranges::transform(name, name.begin(), [](char c) {
            return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
        });
        headers.emplace_back(std::move(name), std::string(field.value()));
    }
    return headers;
}

std::string doing_of(const Request& request, const Envelope& envelope) {
    return request.method + " " + envelope.where + request.path;
}

std::string said(ErrorCode error) {
    if (error == beast::error::timeout) return "no answer before the deadline";
    if (error == bhttp::error::end_of_stream || error == bhttp::error::partial_message ||
        error == asio::error::eof)
        return "the connection was cut before the whole answer came";
    return error.message();
}

class BeastConnection final : public ClientConnection {
public:
    explicit BeastConnection(StreamSocket socket) : stream_(std::move(socket)) {}

    bool is_quiet() const override {
        if (buffer_.size() > 0) return false;
        char byte = 0;
        const int socket = const_cast<BeastConnection*>(this)->stream_.socket().native_handle();
        const ssize_t got = recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
    }

    asio::awaitable<Exchange> exchange(Request request, Envelope envelope,
                                       Deadline deadline) override {
        const std::string doing = doing_of(request, envelope);
        auto out = message_of(request, envelope);
        stream_.expires_at(deadline);
        ErrorCode write_error;
        co_await bhttp::async_write(stream_, out, redirect_error(use_awaitable, write_error));
        // A server that refuses a large body answers before it has read it all, so the answer
        // counts even when writing failed.
        bhttp::response_parser<bhttp::string_body> parser;
        parser.header_limit(kHeaderMax);
        parser.body_limit(kAnswerMax);
        parser.skip(request.method == "HEAD");
        ErrorCode error = write_error == beast::error::timeout ? write_error : ErrorCode();
        if (!error)
            co_await bhttp::async_read(stream_, buffer_, parser,
                                       redirect_error(use_awaitable, error));
        if (error) {
            const ErrorCode first = write_error ? write_error : error;
            stream_.close();
            co_return Exchange{fail(Fault::Retry, doing, said(first)), parser.got_some(), false};
        }
        const bool reusable = !write_error && parser.get().keep_alive();
        auto message = parser.release();
        Response response{static_cast<int>(message.result_int()),
                          headers_of(message),
                          std::move(message.body()),
                          {}};
        co_return Exchange{std::move(response), true, reusable};
    }

    Task<void> events(Request request, Envelope envelope,
                      std::function<bool(const Event&)> on_event,
                      std::chrono::milliseconds silence) override {
        const std::string doing = doing_of(request, envelope);
        auto out = message_of(request, envelope);
        stream_.expires_after(silence);
        ErrorCode error;
        co_await bhttp::async_write(stream_, out, redirect_error(use_awaitable, error));
        bhttp::response_parser<bhttp::buffer_body> parser;
        parser.header_limit(kHeaderMax);
        parser.body_limit(boost::none);
        if (!error)
            co_await bhttp::async_read_header(stream_, buffer_, parser,
                                              redirect_error(use_awaitable, error));
        if (error) co_return fail(Fault::Retry, doing, said(error));
        const auto& head = parser.get();
        const bool streams = head.result_int() == 200 &&
                             head[bhttp::field::content_type].starts_with("text/event-stream");
        if (!streams) {
            Response refused{static_cast<int>(head.result_int()), headers_of(head), {}, {}};
            refused.body = co_await read_rest(parser);
            Error refusal = refused.status / 100 == 2
                                ? Error{Fault::Rejected, doing, "the answer is no event stream"}
                                : error_of(refused, doing);
            co_return std::unexpected(std::move(refusal));
        }
        Result<void> ended = co_await pump(parser, doing, std::move(on_event), silence);
        co_return ended;
    }

private:
    using BufferParser = bhttp::response_parser<bhttp::buffer_body>;

    // Some bytes of the body into `chunk`; returns how many, 0 at its end.
    asio::awaitable<std::size_t> read_chunk(BufferParser& parser, std::string& chunk,
                                            ErrorCode& error) {
        if (parser.is_done()) co_return 0;
        parser.get().body().data = chunk.data();
        parser.get().body().size = chunk.size();
        co_await bhttp::async_read_some(stream_, buffer_, parser,
                                        redirect_error(use_awaitable, error));
        if (error == bhttp::error::need_buffer) error = {};
        co_return chunk.size() - parser.get().body().size;
    }

    asio::awaitable<std::string> read_rest(BufferParser& parser) {
        std::string body;
        std::string chunk(kEventChunk, '\0');
        ErrorCode error;
        while (!error && !parser.is_done() && body.size() < kHeaderMax) {
            const std::size_t got = co_await read_chunk(parser, chunk, error);
            body.append(chunk, 0, got);
        }
        co_return body;
    }

    Task<void> pump(BufferParser& parser, std::string doing,
                    std::function<bool(const Event&)> on_event, std::chrono::milliseconds silence) {
        EventParser events;
        std::string chunk(kEventChunk, '\0');
        while (!parser.is_done()) {
            stream_.expires_after(silence);
            ErrorCode error;
            const std::size_t got = co_await read_chunk(parser, chunk, error);
            if (error) co_return fail(Fault::Retry, doing, said(error));
            Result<std::vector<Event>> came = events.feed(std::string_view(chunk).substr(0, got));
            if (!came) co_return std::unexpected(std::move(came).error().within(doing));
            for (const Event& event : *came)
                if (!on_event(event)) co_return Result<void>();
        }
        co_return Result<void>();
    }

    beast::basic_stream<asio::generic::stream_protocol> stream_;
    beast::flat_buffer buffer_;
};

}  // namespace

std::unique_ptr<ClientConnection> make_connection(StreamSocket socket) {
    return std::make_unique<BeastConnection>(std::move(socket));
}

}  // namespace godwit::http
