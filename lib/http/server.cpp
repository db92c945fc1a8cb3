// Listening sockets and the loop that accepts; each connection is a coroutine of session.cpp.
#include "lib/http/server.hpp"

#include "lib/http/address.hpp"
#include "lib/http/session.hpp"
#include "lib/log.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace godwit::http {

namespace asio = boost::asio;
using ErrorCode = boost::system::error_code;
using asio::ip::tcp;
using Unix = asio::local::stream_protocol;

namespace {

constexpr auto kAcceptPause = std::chrono::milliseconds(100);
constexpr mode_t kSocketMode = 0660;

std::string peer_text(tcp::socket& socket) {
    ErrorCode error;
    const tcp::endpoint from = socket.remote_endpoint(error);
    if (error) return "";
    return Address{.path = {}, .host = from.address().to_string(), .port = from.port()}.text();
}

std::string peer_text(Unix::socket& socket) {
    ucred who{};
    socklen_t size = sizeof(who);
    if (getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &who, &size) != 0)
        return "unix";
    return "unix:" + std::to_string(who.uid);
}

// A listening socket and, for unix, the file to remove when it closes.
template <typename Protocol>
struct Listener {
    explicit Listener(const asio::any_io_executor& executor) : acceptor(executor) {}
    typename Protocol::acceptor acceptor;
    std::string file = {};
    ino_t inode = 0;
};

bool somebody_listens(const asio::any_io_executor& executor, const std::string& path) {
    Unix::socket probe(executor);
    ErrorCode error;
    probe.connect(Unix::endpoint(path), error);
    return !error;
}

template <typename Protocol>
ErrorCode open_acceptor(Listener<Protocol>& listener, const typename Protocol::endpoint& where) {
    ErrorCode error;
    listener.acceptor.open(where.protocol(), error);
    if (!error) close_on_exec(listener.acceptor.native_handle());
    if constexpr (std::same_as<Protocol, tcp>)
        if (!error) listener.acceptor.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) listener.acceptor.bind(where, error);
    // Between bind and listen nobody can connect, so the mode is right from the first connection.
    if (!error && !listener.file.empty() && chmod(listener.file.c_str(), kSocketMode) != 0)
        error = ErrorCode(errno, boost::system::generic_category());
    if (!error) listener.acceptor.listen(asio::socket_base::max_listen_connections, error);
    return error;
}

}  // namespace

struct Server::State : std::enable_shared_from_this<Server::State> {
    State(asio::any_io_executor on, std::vector<Route> routes, Authenticator authenticator,
          ServerLimits limits)
        : executor(std::move(on)),
          core(std::make_shared<ServerCore>(Router(std::move(routes)), std::move(authenticator),
                                            limits)) {}

    template <typename Protocol>
    static asio::awaitable<void> accept_loop(std::shared_ptr<State> state,
                                             std::shared_ptr<Listener<Protocol>> listener) {
        while (!state->core->stopping) {
            typename Protocol::socket socket(state->executor);
            ErrorCode error;
            co_await listener->acceptor.async_accept(
                socket, asio::redirect_error(asio::use_awaitable, error));
            if (state->core->stopping || !listener->acceptor.is_open()) break;
            if (error) {
                // Out of descriptors, mostly: wait for a connection to end.
                log::warning("http", "accept: " + error.message());
                asio::steady_timer pause(state->executor, kAcceptPause);
                co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
                continue;
            }
            state->begin(std::move(socket));
        }
    }

    template <typename Socket>
    void begin(Socket socket) {
        close_on_exec(socket.native_handle());
        if constexpr (std::same_as<Socket, tcp::socket>) {
            ErrorCode ignored;
            socket.set_option(tcp::no_delay(true), ignored);
        }
        std::string peer = peer_text(socket);
        StreamSocket stream(std::move(socket));
        if (core->sessions.size() >= core->limits.connections)
            asio::co_spawn(executor, refuse(std::move(stream), core), asio::detached);
        else
            asio::co_spawn(executor, serve(std::move(stream), std::move(peer), core),
                           asio::detached);
    }

    template <typename Protocol>
    void start(std::shared_ptr<Listener<Protocol>> listener) {
        on_stop.push_back([listener] {
            ErrorCode ignored;
            listener->acceptor.close(ignored);
            struct stat now{};
            const bool ours = !listener->file.empty() && stat(listener->file.c_str(), &now) == 0 &&
                              now.st_ino == listener->inode;
            if (ours) unlink(listener->file.c_str());
        });
        asio::co_spawn(executor, accept_loop<Protocol>(shared_from_this(), listener),
                       asio::detached);
    }

    Result<std::string> listen_tcp(const Address& address) {
        const std::string doing = "listen on " + address.text();
        ErrorCode error;
        const auto ip = asio::ip::make_address(address.host, error);
        if (error)
            return fail(Fault::Rejected, doing, "\"" + address.host + "\" is not an IP address");
        auto listener = std::make_shared<Listener<tcp>>(executor);
        error = open_acceptor(*listener, tcp::endpoint(ip, address.port));
        if (error) return fail(Fault::Rejected, doing, error.message());
        Address bound = address;
        bound.port = listener->acceptor.local_endpoint().port();
        start(listener);
        return bound.text();
    }

    Result<std::string> listen_unix(const Address& address) {
        const std::string doing = "listen on " + address.text();
        struct stat old{};
        if (stat(address.path.c_str(), &old) == 0) {
            if (!S_ISSOCK(old.st_mode))
                return fail(Fault::Rejected, doing, "the file exists and is not a socket");
            if (somebody_listens(executor, address.path))
                return fail(Fault::Rejected, doing, "another process listens there");
            unlink(address.path.c_str());
        }
        auto listener = std::make_shared<Listener<Unix>>(executor);
        listener->file = address.path;
        ErrorCode error = open_acceptor(*listener, Unix::endpoint(address.path));
        if (error) return fail(Fault::Rejected, doing, error.message());
        if (stat(address.path.c_str(), &old) == 0) listener->inode = old.st_ino;
        start(listener);
        return address.text();
    }

    void stop() {
        if (core->stopping) return;
        core->stopping = true;
        for (const auto& close : on_stop) close();
        const std::set<Stoppable*> sessions = core->sessions;  // closing one may remove it
        for (Stoppable* session : sessions)
            if (core->sessions.contains(session)) session->stop();
    }

    asio::any_io_executor executor;
    std::shared_ptr<ServerCore> core;
    std::vector<std::function<void()>> on_stop;
};

Server::Server(asio::any_io_executor executor, std::vector<Route> routes,
               Authenticator authenticator, ServerLimits limits)
    : state_(std::make_shared<State>(std::move(executor), std::move(routes),
                                     std::move(authenticator), limits)) {}

Server::~Server() {
    stop();
}

Result<std::string> Server::listen(const std::string& address) {
    Result<Address> parsed = parse_address(address);
    if (!parsed) return std::unexpected(std::move(parsed).error().within("listen"));
    return parsed->is_unix() ? state_->listen_unix(*parsed) : state_->listen_tcp(*parsed);
}

void Server::stop() {
    asio::dispatch(state_->executor, [state = state_] { state->stop(); });
}

}  // namespace godwit::http
