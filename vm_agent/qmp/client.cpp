#include "vm_agent/qmp/client.hpp"

#include <cstring>
#include <map>
#include <optional>
#include <sys/socket.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace godwit::qmp {

namespace asio = boost::asio;
namespace bj = json::bj;
using asio::redirect_error;
using asio::use_awaitable;
using ErrorCode = boost::system::error_code;
using Socket = asio::local::stream_protocol::socket;

namespace {

constexpr std::size_t kMessageMax = 16 << 20;  // one line; QEMU's longest answers are schemas
constexpr std::string_view kGone = "QEMU closed the connection";

struct Pending {
    explicit Pending(const asio::any_io_executor& executor) : timer(executor) {}
    asio::steady_timer timer;
    std::optional<Result<bj::value>> answer;
};

std::string text_of(const bj::object& object, std::string_view key) {
    const bj::value* value = object.if_contains(key);
    return value && value->is_string() ? std::string(value->get_string()) : std::string();
}

std::unexpected<Error> qemu_refused(const bj::object& error) {
    return fail(Fault::Rejected, "QEMU refused",
                text_of(error, "class") + ": " + text_of(error, "desc"), "qemu-failed");
}

std::unexpected<Error> lost(std::string cause) {
    return fail(Fault::Lost, "talk to QEMU", std::move(cause), "qemu-failed");
}

}  // namespace

struct Client::State : std::enable_shared_from_this<State> {
    explicit State(const asio::any_io_executor& executor) : socket(executor) {}

    Socket socket;
    std::string buffer;
    std::uint64_t next_id = 1;
    std::map<std::uint64_t, std::shared_ptr<Pending>> pending;
    std::function<void(const std::string&, const bj::object&)> event_sink;
    std::function<void()> closed_sink;
    std::string version;
    bool open = true;

    Task<std::string> read_line();
    Task<void> greet(Milliseconds deadline);
    asio::awaitable<void> read_loop();
    void dispatch(const bj::object& message);
    void end(const Error& why);
    Result<void> send(const std::string& line, int fd);
    Task<bj::value> execute(std::string command, bj::object arguments, int fd,
                            Milliseconds deadline);
};

Task<std::string> Client::State::read_line() {
    ErrorCode error;
    const std::size_t length =
        co_await asio::async_read_until(socket, asio::dynamic_buffer(buffer, kMessageMax), '\n',
                                        redirect_error(use_awaitable, error));
    if (error == asio::error::eof) co_return lost(std::string(kGone));
    if (error) co_return lost(error.message());
    std::string line = buffer.substr(0, length);
    buffer.erase(0, length);
    co_return line;
}

Task<void> Client::State::greet(Milliseconds deadline) {
    // The deadline ends the read by closing the socket under it: nobody else uses it yet.
    asio::steady_timer timer(socket.get_executor(), deadline);
    // Shared with the timer's callback, which may run after this coroutine has gone on.
    std::shared_ptr<bool> expired = std::make_shared<bool>(false);
    std::shared_ptr<bool> greeted = std::make_shared<bool>(false);
    timer.async_wait([self = shared_from_this(), expired, greeted](ErrorCode error) {
        if (error || *greeted) return;
        *expired = true;
        ErrorCode ignored;
        self->socket.close(ignored);
    });
    Result<std::string> line = co_await read_line();
    *greeted = true;
    timer.cancel();
    if (*expired) co_return lost("no greeting before the deadline");
    if (!line) co_return std::unexpected(std::move(line).error());
    Result<bj::value> greeting = json::parse(*line, "read QEMU's greeting");
    const bj::object* object = greeting ? greeting->if_object() : nullptr;
    const bj::value* hello = object ? object->if_contains("QMP") : nullptr;
    if (!hello || !hello->is_object())
        co_return fail(Fault::Corrupt, "talk to QEMU", "what listens there does not speak QMP",
                       "qemu-failed");
    ErrorCode none;
    const bj::value* package = hello->find_pointer("/version/qemu", none);
    if (package && package->is_object()) {
        for (const char* part : {"major", "minor", "micro"}) {
            const bj::value* number = package->get_object().if_contains(part);
            if (!version.empty()) version += ".";
            version += number ? bj::serialize(*number) : "?";
        }
    }
    co_return Result<void>{};
}

void Client::State::dispatch(const bj::object& message) {
    if (message.contains("event")) {
        static const bj::object kNothing;
        const bj::value* content = message.if_contains("data");
        if (event_sink)
            event_sink(text_of(message, "event"),
                       content && content->is_object() ? content->get_object() : kNothing);
        return;
    }
    const bj::value* id = message.if_contains("id");
    // An answer without an id is QEMU's complaint about a line it could not parse: ours are whole,
    // so it belongs to nobody.
    if (!id || !id->is_int64()) return;
    auto found = pending.find(static_cast<std::uint64_t>(id->get_int64()));
    if (found == pending.end()) return;  // its caller has given up
    if (const bj::value* value = message.if_contains("return")) {
        found->second->answer = *value;
    } else {
        const bj::value* error = message.if_contains("error");
        static const bj::object kNoWords;
        found->second->answer =
            qemu_refused(error && error->is_object() ? error->get_object() : kNoWords);
    }
    found->second->timer.cancel();
}

void Client::State::end(const Error& why) {
    if (!open) return;
    open = false;
    ErrorCode ignored;
    socket.close(ignored);
    for (auto& [id, waiting] : pending) {
        if (!waiting->answer) waiting->answer = std::unexpected(why);
        waiting->timer.cancel();
    }
    std::function<void()> sink = std::move(closed_sink);
    closed_sink = {};
    event_sink = {};
    if (sink) sink();
}

asio::awaitable<void> Client::State::read_loop() {
    std::shared_ptr<State> self = shared_from_this();
    while (open) {
        Result<std::string> line = co_await read_line();
        if (!line) {
            end(line.error());
            break;
        }
        Result<bj::value> message = json::parse(*line, "read QEMU's answer");
        if (!message || !message->is_object()) {
            end({Fault::Corrupt, "talk to QEMU", "its answer is no JSON object", "qemu-failed"});
            break;
        }
        dispatch(message->get_object());
    }
}

// One sendmsg for the whole line: commands are far smaller than the socket's buffer, and a QEMU
// that does not even read is as good as lost.
Result<void> Client::State::send(const std::string& line, int fd) {
    iovec part{const_cast<char*>(line.data()), line.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    if (fd >= 0) {
        message.msg_control = control;
        message.msg_controllen = sizeof(control);
        cmsghdr* head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int));
        std::memcpy(CMSG_DATA(head), &fd, sizeof(fd));
    }
    const ssize_t sent = sendmsg(socket.native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent == static_cast<ssize_t>(line.size())) return {};
    Error why{Fault::Lost, "talk to QEMU", "it does not read its socket", "qemu-failed"};
    if (sent < 0 && errno != EAGAIN) why.cause = std::strerror(errno);
    end(why);  // half a line would spoil the next one
    return std::unexpected(why);
}

Task<bj::value> Client::State::execute(std::string command, bj::object arguments, int fd,
                                       Milliseconds deadline) {
    const std::string doing = "QMP " + command;
    if (!open) co_return lost(std::string(kGone));
    const std::uint64_t id = next_id++;
    bj::object message{{"execute", command}, {"id", id}};
    if (!arguments.empty()) message["arguments"] = std::move(arguments);
    std::shared_ptr<Pending> waiting = std::make_shared<Pending>(socket.get_executor());
    waiting->timer.expires_after(deadline);
    Result<void> sent = send(bj::serialize(message) + "\n", fd);
    if (!sent) co_return std::unexpected(std::move(sent).error().within(doing));
    pending[id] = waiting;
    std::shared_ptr<State> self = shared_from_this();
    ErrorCode ignored;
    co_await waiting->timer.async_wait(redirect_error(use_awaitable, ignored));
    pending.erase(id);
    if (!waiting->answer)
        co_return fail(Fault::Lost, doing,
                       "QEMU did not answer within " + std::to_string(deadline.count()) + " ms",
                       "qemu-failed");
    if (!*waiting->answer)
        co_return std::unexpected(std::move(*waiting->answer).error().within(doing));
    co_return std::move(*waiting->answer);
}

Client::Client(std::shared_ptr<State> state) : state_(std::move(state)) {}

Client::~Client() {
    close();
}

void Client::close() {
    state_->end({Fault::Lost, "talk to QEMU", "the agent closed the connection", "qemu-failed"});
}

Task<std::shared_ptr<Client>> Client::connect(std::string socket_path, Milliseconds deadline) {
    const std::string doing = "connect to QEMU at " + socket_path;
    asio::any_io_executor executor = co_await asio::this_coro::executor;
    std::shared_ptr<State> state = std::make_shared<State>(executor);
    // A unix connect succeeds or fails at once: QEMU's backlog is the only queue.
    ErrorCode error;
    const asio::local::stream_protocol::endpoint where(socket_path);
    state->socket.connect(where, error);
    if (error) co_return fail(Fault::Lost, doing, error.message(), "qemu-failed");
    Result<void> greeted = co_await state->greet(deadline);
    if (!greeted) co_return std::unexpected(std::move(greeted).error().within(doing));
    asio::co_spawn(executor, state->read_loop(), asio::detached);
    std::shared_ptr<Client> client(new Client(state));
    Result<bj::value> ready = co_await client->execute("qmp_capabilities", {}, deadline);
    if (!ready) co_return std::unexpected(std::move(ready).error().within(doing));
    co_return client;
}

Task<bj::value> Client::execute(std::string command, bj::object arguments, Milliseconds deadline) {
    std::shared_ptr<State> state = state_;
    Result<bj::value> answer =
        co_await state->execute(std::move(command), std::move(arguments), -1, deadline);
    co_return answer;
}

Task<void> Client::pass_fd(std::string name, int fd) {
    std::shared_ptr<State> state = state_;
    bj::object arguments{{"fdname", name}};
    Result<bj::value> answer =
        co_await state->execute("getfd", std::move(arguments), fd, kDefaultDeadline);
    if (!answer) co_return std::unexpected(std::move(answer).error());
    co_return Result<void>{};
}

void Client::on_event(std::function<void(const std::string&, const bj::object&)> sink) {
    state_->event_sink = std::move(sink);
}

void Client::on_closed(std::function<void()> sink) {
    state_->closed_sink = std::move(sink);
}

bool Client::is_open() const {
    return state_->open;
}

const std::string& Client::qemu_version() const {
    return state_->version;
}

}  // namespace godwit::qmp
