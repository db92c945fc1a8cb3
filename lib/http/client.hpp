// An HTTP/1.1 client that keeps connections alive; every request has a deadline. A connection kept
// alive that turns out dead before any byte of the answer is opened anew once.
#pragma once

#include "lib/http/message.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include <boost/asio/any_io_executor.hpp>

namespace godwit::http {

class Client {
public:
    // `server` is "10.0.0.1:8441", "http://10.0.0.1:8441" or "unix:/run/godwit/api.sock";
    // `token` goes out as "Authorization: Bearer ..." when not empty.
    Client(boost::asio::any_io_executor executor, std::string server, std::string token);
    ~Client();

    // request.path is what goes on the wire: encoded, with its query. The answer comes back whatever
    // its status. Transport failures: connect refused or unreachable -> Lost,
    // deadline passed or connection cut -> Retry (the outcome is unknown).
    Task<Response> send(Request request, std::chrono::milliseconds deadline);

    // 2xx -> the parsed body (null if empty), anything else -> error_of().
    Task<json::bj::value> call(std::string method, std::string path_and_query, json::bj::value body,
                               Headers headers, std::chrono::milliseconds deadline);

    // Server-sent events until the server ends the stream (ok), `on_event` returns false (ok), or
    // nothing at all, not even a heartbeat, came for `silence` (Retry).
    Task<void> events(std::string path_and_query, std::string last_event_id,
                      std::function<bool(const Event&)> on_event,
                      std::chrono::milliseconds silence);

private:
    struct State;
    std::shared_ptr<State> state_;
};

}  // namespace godwit::http
