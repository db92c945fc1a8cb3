#include "lib/http/router.hpp"

#include <algorithm>

#include <boost/url.hpp>

namespace godwit::http {

namespace {

using Params = std::map<std::string, std::string>;

std::string decoded(std::string_view encoded) {
    std::string text;
    boost::urls::pct_string_view view(encoded);  // the target as a whole was checked before
    view.decode({}, boost::urls::string_token::assign_to(text));
    return text;
}

// A parameter takes everything up to '/' or ':'; it is never empty.
bool match(std::string_view pattern, std::string_view path, Params& params) {
    while (!pattern.empty()) {
        if (pattern.front() != '{') {
            if (path.empty() || path.front() != pattern.front()) return false;
            pattern.remove_prefix(1);
            path.remove_prefix(1);
            continue;
        }
        const std::size_t close = pattern.find('}');
        const std::size_t length = std::min(path.find_first_of("/:"), path.size());
        if (close == pattern.npos || length == 0) return false;
        params[std::string(pattern.substr(1, close - 1))] = decoded(path.substr(0, length));
        pattern.remove_prefix(close + 1);
        path.remove_prefix(length);
    }
    return path.empty();
}

bool answers(const Route& route, std::string_view method) {
    return route.method == method || (method == "HEAD" && route.method == "GET");
}

std::unexpected<Error> malformed(std::string cause) {
    return fail(Fault::Rejected, "read the request", std::move(cause), "malformed-request");
}

// Access in the order of the enumerators; a role nobody knows has no rights at all.
int rank_of(std::string_view role) {
    constexpr std::string_view kRoles[] = {"", "viewer", "operator", "netadmin", "admin", "peer"};
    const auto* found = std::ranges::find(kRoles, role);
    return found == std::end(kRoles) ? 0 : static_cast<int>(found - std::begin(kRoles));
}

}  // namespace

Result<const Route*> Router::find(std::string_view target, Request& request,
                                  std::string& allow) const {
    const auto url = boost::urls::parse_origin_form(target);
    if (!url) return malformed("the target is not a path: " + url.error().message());
    const std::string_view path = url->encoded_path();
    request.path = url->path();
    for (const auto& param : url->params()) request.query.emplace(param.key, param.value);
    for (const Route& route : routes_) {
        Params params;
        if (!match(route.pattern, path, params)) continue;
        if (answers(route, request.method)) {
            request.params = std::move(params);
            return &route;
        }
        allow += (allow.empty() ? "" : ", ") + route.method;
    }
    if (allow.empty())
        return fail(Fault::Missing, request.method + " " + request.path,
                    "there is nothing at this path", "unknown-path");
    return fail(Fault::Rejected, request.method + " " + request.path, "this path takes " + allow,
                "method-not-allowed");
}

Result<void> authorize(const Route& route, const Request& request) {
    if (route.access == Access::open) return {};
    const std::string doing = request.method + " " + request.path;
    if (request.principal.empty())
        return fail(Fault::Denied, doing, "a valid bearer token is needed", "unauthenticated");
    if (rank_of(request.role) >= static_cast<int>(route.access)) return {};
    constexpr std::string_view kNeeded[] = {"open",     "viewer", "operator",
                                            "netadmin", "admin",  "peer"};
    return fail(Fault::Denied, doing,
                request.principal + " has role \"" + request.role + "\", this needs \"" +
                    std::string(kNeeded[static_cast<int>(route.access)]) + "\"",
                "forbidden");
}

}  // namespace godwit::http
