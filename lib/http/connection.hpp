// One connection from the client's side. Only lib/http includes this.
#pragma once

#include "lib/http/message.hpp"
#include "lib/http/session.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <string>

namespace godwit::http {

using Deadline = std::chrono::steady_clock::time_point;

// What goes on the wire besides the request itself.
struct Envelope {
    std::string host;   // the Host header
    std::string where;  // the server as it was named to us, for error texts
    std::string token;  // "" sends no Authorization
};

struct Exchange {
    Result<Response> response;
    bool answered = false;  // at least one byte of the answer came
    bool reusable = false;  // the connection may carry another request
};

class ClientConnection {
public:
    virtual ~ClientConnection() = default;
    // False when the peer has closed a kept-alive connection, or sent something unasked.
    virtual bool is_quiet() const = 0;
    virtual boost::asio::awaitable<Exchange> exchange(Request request, Envelope envelope,
                                                      Deadline deadline) = 0;
    // GET of an event stream; see Client::events.
    virtual Task<void> events(Request request, Envelope envelope,
                              std::function<bool(const Event&)> on_event,
                              std::chrono::milliseconds silence) = 0;
};

std::unique_ptr<ClientConnection> make_connection(StreamSocket socket);

}  // namespace godwit::http
