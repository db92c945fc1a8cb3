#include "vm_agent/guest/client.hpp"

#include "vm_agent/guest/parse.hpp"

#include <cerrno>
#include <cstring>
#include <random>
#include <sys/socket.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace godwit::guest {

namespace asio = boost::asio;
namespace bj = json::bj;
using asio::redirect_error;
using asio::use_awaitable;
using ErrorCode = boost::system::error_code;

namespace {

constexpr std::size_t kAnswerMax = 4 << 20;
constexpr std::size_t kFileMax = 1 << 20;
constexpr std::size_t kReadChunk = 48 << 10;
constexpr int kPollsMax = 200;
constexpr Milliseconds kPollEvery{20};

std::unexpected<Error> lost(std::string doing, std::string cause) {
    return fail(Fault::Lost, std::move(doing), std::move(cause), "guest-silent");
}

}  // namespace

struct Client::State : std::enable_shared_from_this<State> {
    explicit State(const asio::any_io_executor& executor) : socket(executor) {}
    asio::local::stream_protocol::socket socket;
    std::string buffer;

    Result<void> send(const std::string& text);
    Task<std::string> read_until(char delimiter, Milliseconds deadline);
    Task<bj::value> answer(std::string doing, Milliseconds deadline);
};

Result<void> Client::State::send(const std::string& text) {
    const ssize_t sent =
        ::send(socket.native_handle(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent == static_cast<ssize_t>(text.size())) return {};
    return lost("talk to the guest's agent", sent < 0 ? std::strerror(errno) : "it does not read");
}

Task<std::string> Client::State::read_until(char delimiter, Milliseconds deadline) {
    asio::steady_timer timer(socket.get_executor(), deadline);
    // Shared with the timer's callback, which may run after this coroutine has gone.
    std::shared_ptr<bool> expired = std::make_shared<bool>(false);
    timer.async_wait([self = shared_from_this(), expired](ErrorCode error) {
        if (error) return;
        *expired = true;
        ErrorCode ignored;
        self->socket.cancel(ignored);
    });
    ErrorCode error;
    const std::size_t length =
        co_await asio::async_read_until(socket, asio::dynamic_buffer(buffer, kAnswerMax), delimiter,
                                        redirect_error(use_awaitable, error));
    timer.cancel();
    if (*expired)
        co_return lost("wait for the guest's agent",
                       "no answer within " + std::to_string(deadline.count()) + " ms");
    if (error) co_return lost("wait for the guest's agent", error.message());
    std::string line = buffer.substr(0, length);
    buffer.erase(0, length);
    co_return line;
}

Task<bj::value> Client::State::answer(std::string doing, Milliseconds deadline) {
    Result<std::string> line = co_await read_until('\n', deadline);
    if (!line) co_return std::unexpected(std::move(line).error().within(doing));
    Result<bj::value> message = json::parse(*line, doing);
    if (!message) co_return std::unexpected(std::move(message).error());
    const bj::object* object = message->if_object();
    const bj::value* value = object ? object->if_contains("return") : nullptr;
    if (value) co_return *value;
    const bj::value* error = object ? object->if_contains("error") : nullptr;
    co_return fail(Fault::Rejected, doing, error ? bj::serialize(*error) : "answered no object",
                   "guest-refused");
}

Client::Client(std::shared_ptr<State> state) : state_(std::move(state)) {}

Client::~Client() {
    ErrorCode ignored;
    state_->socket.close(ignored);
}

Task<std::shared_ptr<Client>> Client::open(std::string socket_path, Milliseconds deadline) {
    const std::string doing = "open the guest's agent at " + socket_path;
    asio::any_io_executor executor = co_await asio::this_coro::executor;
    std::shared_ptr<State> state = std::make_shared<State>(executor);
    ErrorCode error;
    const asio::local::stream_protocol::endpoint where(socket_path);
    state->socket.connect(where, error);
    if (error) co_return lost(doing, error.message());
    const std::uint32_t id = std::random_device()() >> 1;
    bj::object arguments{{"id", id}};
    bj::object message{{"execute", "guest-sync-delimited"}, {"arguments", std::move(arguments)}};
    // 0xFF resets the guest's parser; its own answer comes after a 0xFF, too.
    Result<void> sent = state->send("\xff" + bj::serialize(message) + "\n");
    if (!sent) co_return std::unexpected(std::move(sent).error().within(doing));
    Result<std::string> before = co_await state->read_until('\xff', deadline);
    if (!before) co_return std::unexpected(std::move(before).error().within(doing));
    Result<bj::value> echoed = co_await state->answer(doing, deadline);
    if (!echoed) co_return std::unexpected(std::move(echoed).error());
    ErrorCode not_a_number;
    if (echoed->to_number<std::uint64_t>(not_a_number) != id)
        co_return lost(doing, "the guest answered another question");
    co_return std::shared_ptr<Client>(new Client(state));
}

Task<bj::value> Client::execute(std::string command, bj::object arguments, Milliseconds deadline) {
    std::shared_ptr<State> state = state_;
    Result<void> sent = tell(command, std::move(arguments));
    if (!sent) co_return std::unexpected(std::move(sent).error());
    Result<bj::value> value = co_await state->answer("guest " + command, deadline);
    co_return value;
}

Result<void> Client::tell(const std::string& command, bj::object arguments) {
    bj::object message{{"execute", command}};
    if (!arguments.empty()) message["arguments"] = std::move(arguments);
    return state_->send(bj::serialize(message) + "\n");
}

Task<std::string> Client::read_file(std::string path, Milliseconds deadline) {
    bj::object open_arguments{{"path", path}, {"mode", "r"}};
    Result<bj::value> handle =
        co_await execute("guest-file-open", std::move(open_arguments), deadline);
    if (!handle) co_return std::unexpected(std::move(handle).error().within("read " + path));
    std::string content;
    Result<void> outcome;
    for (std::size_t chunks = 0; chunks <= kFileMax / 1024; ++chunks) {
        bj::object arguments{{"handle", *handle}, {"count", kReadChunk}};
        Result<bj::value> piece =
            co_await execute("guest-file-read", std::move(arguments), deadline);
        Result<std::string> bytes = piece_of(piece);
        if (!bytes) {
            outcome = std::unexpected(std::move(bytes).error().within("read " + path));
            break;
        }
        content += *bytes;
        if (bytes->empty()) break;
        if (content.size() > kFileMax) {
            outcome = fail(Fault::Conflict, "read " + path, "is larger than 1 MiB");
            break;
        }
    }
    bj::object close_arguments{{"handle", *handle}};
    Result<bj::value> closed =
        co_await execute("guest-file-close", std::move(close_arguments), deadline);
    if (!outcome) co_return std::unexpected(std::move(outcome).error());
    if (!closed) co_return std::unexpected(std::move(closed).error());
    co_return content;
}

Task<int> Client::run(std::string path, std::vector<std::string> arguments, std::string input,
                      Milliseconds deadline) {
    const std::string doing = "run " + path + " in the guest";
    bj::array words;
    for (const std::string& word : arguments) words.emplace_back(word);
    bj::object request{{"path", path}, {"arg", std::move(words)}};
    if (!input.empty()) request["input-data"] = base64(input);
    Result<bj::value> started = co_await execute("guest-exec", std::move(request), deadline);
    if (!started) co_return std::unexpected(std::move(started).error().within(doing));
    ErrorCode none;
    const bj::value* pid = started->find_pointer("/pid", none);
    if (!pid) co_return fail(Fault::Rejected, doing, "the guest named no process");
    for (int polls = 0; polls < kPollsMax; ++polls) {
        bj::object question{{"pid", *pid}};
        Result<bj::value> status =
            co_await execute("guest-exec-status", std::move(question), deadline);
        if (!status) co_return std::unexpected(std::move(status).error().within(doing));
        std::optional<int> code = exit_code_of(*status);
        if (code) co_return *code;
        asio::steady_timer pause(state_->socket.get_executor(), kPollEvery);
        co_await pause.async_wait(use_awaitable);
    }
    co_return lost(doing, "the program did not end in time");
}

}  // namespace godwit::guest
