#include "lib/http/health.hpp"

namespace godwit::http {

namespace {

using Answer = boost::asio::awaitable<Response>;

// The coroutines take everything by value: the lambda that starts one may be gone before it ends.
Answer alive(Request) {
    co_return json_response(200, json::bj::value{{"status", "ok"}});
}

Answer ready(std::string reason) {
    if (reason.empty()) co_return json_response(200, json::bj::value{{"status", "ready"}});
    co_return problem_response({Fault::Retry, "be ready", std::move(reason), "not-ready"});
}

Answer exposition(Metrics* metrics) {
    co_return Response{.status = 200,
                       .headers = {{"content-type", "text/plain; version=0.0.4; charset=utf-8"}},
                       .body = metrics->text(),
                       .stream = {}};
}

}  // namespace

std::vector<Route> health_routes(std::function<std::string()> not_ready, Metrics& metrics) {
    Metrics* shown = &metrics;
    return {
        {"GET", "/livez", Access::open, alive},
        {"GET", "/readyz", Access::open,
         [not_ready = std::move(not_ready)](Request) { return ready(not_ready()); }},
        {"GET", "/metrics", Access::open, [shown](Request) { return exposition(shown); }},
    };
}

}  // namespace godwit::http
