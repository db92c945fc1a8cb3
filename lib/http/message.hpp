// HTTP as plain values: what a route gets and gives. No Beast here; it is instantiated in
// lib/http/session.cpp and nowhere else.
#pragma once

#include "lib/error.hpp"
#include "lib/json.hpp"
#include "lib/task.hpp"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace godwit::http {

// Header names are lower case.
using Headers = std::vector<std::pair<std::string, std::string>>;

struct Request {
    std::string method = "GET";
    std::string path;  // decoded, without the query: "/v1/vms/web-1:migrate"
    std::map<std::string, std::string> query;  // decoded
    Headers headers;
    std::string body;
    std::map<std::string, std::string> params;  // from the route's pattern: {"vm": "web-1"}
    std::string principal;  // who asks, set by the server's authenticator; empty if nobody
    std::string role;       // "viewer", "operator", "netadmin", "admin"; "" if nobody
    std::string peer;       // "10.0.0.9:51514", or "unix:1000" with the caller's uid (SO_PEERCRED)

    std::optional<std::string_view> header(std::string_view lower_case_name) const;
    std::string query_or(const std::string& name, std::string fallback) const;
};

// A server-sent event (WHATWG HTML, server-sent events). `id` may be empty.
struct Event {
    std::string id;
    std::string type;
    std::string data;  // one JSON document
};

// Where a streaming route writes its events. send() suspends while the peer is slow, and fails with
// Lost when the peer is gone; returning from the route's coroutine ends the stream.
// One send at a time. When the peer goes or the server stops, the route's coroutine is cancelled:
// what it awaits ends with operation_aborted, which it need not catch.
class EventSink {
public:
    virtual ~EventSink() = default;
    virtual Task<void> send(Event event) = 0;
    virtual Task<void> heartbeat() = 0;  // a comment line; keeps proxies and clients awake
};

struct Response {
    int status = 200;
    Headers headers;
    std::string body;
    // When set, the answer is text/event-stream and this coroutine produces it; body is ignored.
    std::function<Task<void>(std::shared_ptr<EventSink>)> stream;
};

// Percent-encodes everything but RFC 3986's unreserved characters: for one segment of a path, or one
// value of a query.
std::string encoded(std::string_view text);

Response json_response(int status, const json::bj::value& body);
template <typename T>
Response json_response(int status, const T& body) {
    return json_response(status, json::to_json(body));
}
// RFC 9457 problem details (application/problem+json). type is "urn:godwit:problem:SLUG", `errors`
// holds the fields, `next_actions` and `instance` are there when the error has them.
Response problem_response(const Error& error);
// By slug where a slug has its own status (malformed-json 400, invalid-document 422, ...; the table
// is in message.cpp), else by fault: Rejected 400, Denied 403, Missing 404, Conflict 409,
// Corrupt 500, Lost 502, Retry 503.
int status_of(const Error& error);
// The reverse, for clients: an answer that is not 2xx as an Error, its slug and fields kept.
// 409 -> Conflict, 404 -> Missing, 401/403 -> Denied, other 4xx -> Rejected, 5xx/429 -> Retry.
Error error_of(const Response& response, std::string doing);

}  // namespace godwit::http
