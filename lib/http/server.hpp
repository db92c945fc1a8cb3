// An HTTP/1.1 server on TCP and unix sockets. Routes are declared with the role they need; a route
// without one cannot be declared, so the default is to deny.
#pragma once

#include "lib/http/message.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

namespace godwit::http {

using Handler = std::function<boost::asio::awaitable<Response>(Request)>;

// Role needed for a route. A caller's role includes the ones before it:
// open < viewer < operator_ < netadmin < admin < peer; `peer` is another Godwit program.
enum class Access { open, viewer, operator_, netadmin, admin, peer };

struct Route {
    std::string method;  // "GET"
    // "/v1/vms/{vm}:migrate": {name} matches one segment, up to '/' or to a literal ":verb"; a ':'
    // inside a value comes percent-encoded. A HEAD request is answered by the GET route.
    std::string pattern;
    Access access;
    Handler handler;
};

// Who is asking. Returns {principal, role}; an empty principal is refused with 401 on every route
// that is not open.
struct Identity {
    std::string principal;
    std::string role;  // "viewer", ..., "admin", "peer"
};
using Authenticator = std::function<Identity(const Request&)>;

struct ServerLimits {
    std::size_t body_bytes = 1 << 20;
    std::size_t header_bytes = 16 << 10;
    std::chrono::seconds idle{60};  // for a request to arrive, or a slow reader to take something
    std::size_t connections = 4096;
};

// One execution context thread (or a strand): handlers and the server's own work run on `executor`
// one at a time. An exception that leaves a handler is answered 500 `internal-error` and logged;
// everything else the server refuses by itself is a problem too: 400 malformed-request,
// 401 unauthenticated, 403 forbidden, 404 unknown-path, 405 method-not-allowed (with Allow),
// 413 body-too-large, 431 headers-too-large, 503 too-many-connections.
class Server {
public:
    Server(boost::asio::any_io_executor executor, std::vector<Route> routes,
           Authenticator authenticator, ServerLimits limits = {});
    ~Server();

    // "127.0.0.1:8440", "[::1]:8440", "0.0.0.0:0" (any port), "unix:/run/godwit/api.sock" (an old
    // socket file nobody listens on is replaced, mode 0660). Returns the bound address, with the
    // real port, in the same notation.
    Result<std::string> listen(const std::string& address);
    // Stops accepting, closes streams and idle connections, lets running requests finish; the
    // executor runs out of work when the last one has. Callable from any thread.
    void stop();

private:
    struct State;
    std::shared_ptr<State> state_;
};

}  // namespace godwit::http
