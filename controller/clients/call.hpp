// One described document out, one back. For the clients of agents and switches.
#pragma once

#include "lib/http/client.hpp"
#include "lib/json.hpp"

#include <chrono>
#include <string>

namespace godwit::controller {

template <typename T>
Task<T> call_for(http::Client& client, std::string method, std::string path, json::bj::value body,
                 std::chrono::milliseconds deadline) {
    const std::string doing = method + " " + path;
    http::Headers headers;
    Result<json::bj::value> answer = co_await client.call(
        std::move(method), std::move(path), std::move(body), std::move(headers), deadline);
    if (!answer) co_return std::unexpected(std::move(answer).error());
    Result<T> parsed = json::from_json<T>(*answer, doing);
    // The request was carried out; an answer that cannot be read leaves its outcome unknown.
    if (!parsed) parsed.error().fault = Fault::Retry;
    co_return parsed;
}

// The answer's body does not matter.
Task<void> call_only(http::Client& client, std::string method, std::string path,
                     json::bj::value body, std::chrono::milliseconds deadline);

}  // namespace godwit::controller
