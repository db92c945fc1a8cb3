#include "cli/api.hpp"

#include <optional>

#include <boost/asio/co_spawn.hpp>

namespace godwit::cli {

namespace bj = json::bj;

namespace {

constexpr auto kDeadline = std::chrono::seconds(30);
constexpr int kPostsMax = 3;

}  // namespace

Api::Api(const std::string& server, std::string token)
    : server_(server), client_(io_.get_executor(), server, std::move(token)) {}

Result<bj::value> Api::call(const std::string& method, const std::string& path,
                            const bj::value& body, const http::Headers& headers) {
    std::optional<Result<bj::value>> answer;
    auto done = [&answer](std::exception_ptr thrown, Result<bj::value> result) {
        if (thrown) std::rethrow_exception(thrown);
        answer = std::move(result);
    };
    boost::asio::co_spawn(io_, client_.call(method, path, body, headers, kDeadline), done);
    io_.restart();
    io_.run();
    if (!answer->has_value() && answer->error().fault == Fault::Lost &&
        answer->error().slug.empty())
        answer->error().next_actions = {"is godwit-controller running at " + server_ +
                                        "? --server or GODWIT_SERVER names another place"};
    return std::move(*answer);
}

Result<bj::value> Api::get(const std::string& path) {
    return call("GET", path, nullptr, {});
}

Result<bj::value> Api::put(const std::string& path, const bj::value& body) {
    return call("PUT", path, body, {});
}

Result<bj::value> Api::post(const std::string& path, const bj::value& body,
                            const std::string& idempotency_key) {
    const http::Headers headers = {{"idempotency-key", idempotency_key}};
    Result<bj::value> answer = call("POST", path, body, headers);
    for (int attempt = 1; attempt < kPostsMax; ++attempt) {
        const bool unknown =
            !answer && answer.error().fault == Fault::Retry && answer.error().slug.empty();
        if (!unknown) break;
        answer = call("POST", path, body, headers);
    }
    return answer;
}

}  // namespace godwit::cli
