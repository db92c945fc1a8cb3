// What the route files of godwit-switch are written with: acts on an object, a row for each.
#pragma once

#include "lib/http/server.hpp"

#include <cstddef>
#include <utility>
#include <vector>

namespace godwit::dataplane {

using Answer = boost::asio::awaitable<http::Response>;

template <typename T>
http::Response answer(const Result<T>& result, int status = 200) {
    if (!result) return http::problem_response(result.error());
    return http::json_response(status, *result);
}

template <typename Object>
struct RouteRow {
    const char *method, *pattern;
    Answer (*act)(Object*, http::Request);
};

// Every row for peers only; `object` outlives the routes.
template <typename Object, std::size_t N>
std::vector<http::Route> peer_routes(const RouteRow<Object> (&rows)[N], Object& object) {
    std::vector<http::Route> routes;
    for (const RouteRow<Object>& row : rows)
        routes.push_back({row.method, row.pattern, http::Access::peer,
                          [act = row.act, to = &object](http::Request request) {
                              return act(to, std::move(request));
                          }});
    return routes;
}

}  // namespace godwit::dataplane
