// Which route answers a request: patterns are matched on the still encoded path, so that an encoded
// '/' or ':' can never change which route is meant.
#pragma once

#include "lib/http/server.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace godwit::http {

class Router {
public:
    explicit Router(std::vector<Route> routes) : routes_(std::move(routes)) {}

    // Fills request.path, query and params from the raw target. Errors: malformed-request,
    // unknown-path, method-not-allowed (`allow` then holds the value of the Allow header).
    Result<const Route*> find(std::string_view target, Request& request, std::string& allow) const;

private:
    std::vector<Route> routes_;
};

// 401 unauthenticated or 403 forbidden when `request` may not use `route`.
Result<void> authorize(const Route& route, const Request& request);

}  // namespace godwit::http
