// One accepted connection, from the server's side. Only lib/http includes this.
#pragma once

#include "lib/http/router.hpp"
#include "lib/http/server.hpp"

#include <fcntl.h>
#include <memory>
#include <set>
#include <string>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/generic/stream_protocol.hpp>

namespace godwit::http {

// TCP and unix sockets become this one type, so that Beast is instantiated once.
using StreamSocket = boost::asio::generic::stream_protocol::socket;

// Asio opens sockets without it, and a program started by ours (QEMU) would keep them open.
inline void close_on_exec(int descriptor) {
    fcntl(descriptor, F_SETFD, FD_CLOEXEC);
}

// What stop() needs of a connection.
class Stoppable {
public:
    virtual void stop() = 0;

protected:
    ~Stoppable() = default;
};

// What all connections of a server share; it outlives each of them.
struct ServerCore {
    Router router;
    Authenticator authenticator;
    ServerLimits limits;
    std::set<Stoppable*> sessions = {};
    bool stopping = false;
};

// Serves requests until the peer closes, a limit or timeout ends it, or the server stops.
boost::asio::awaitable<void> serve(StreamSocket socket, std::string peer,
                                   std::shared_ptr<ServerCore> core);
// 503 too-many-connections, then closed.
boost::asio::awaitable<void> refuse(StreamSocket socket, std::shared_ptr<ServerCore> core);

}  // namespace godwit::http
