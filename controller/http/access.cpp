// Who may do what: tokens, kept as digests, and the audit trail.
#include "lib/http/auth.hpp"
#include "lib/log.hpp"
#include "lib/secret.hpp"

#include "controller/http/api.hpp"

#include <algorithm>
#include <array>
#include <charconv>

namespace godwit::controller {

namespace {

constexpr std::array<std::string_view, 4> kRoles = {"viewer", "operator", "netadmin", "admin"};
constexpr int kAuditMax = 1000;

std::unexpected<Error> passed_on(Error error) {
    return std::unexpected(std::move(error));
}

}  // namespace

http::Authenticator api_authenticator(SqliteStore& store) {
    http::Authenticator by_token = [&store](const http::Request& request) {
        const std::string token = http::bearer_token(request);
        if (token.empty()) return http::Identity{};
        Result<http::Identity> who = store.identify(sha256_hex(token));
        if (!who) log::error("access", who.error().text());
        return who.value_or(http::Identity{});
    };
    return http::local_authenticator("admin", std::move(by_token));
}

Task<http::Response> list_tokens(Api& api, http::Request) {
    Result<std::vector<protocol::Token>> tokens = api.store.tokens();
    if (!tokens) co_return passed_on(std::move(tokens).error());
    co_return http::json_response(200, protocol::TokenList{std::move(*tokens)});
}

Task<http::Response> make_token(Api& api, http::Request request) {
    Result<protocol::TokenRequest> wanted = body_of<protocol::TokenRequest>(request);
    if (!wanted) co_return passed_on(std::move(wanted).error());
    if (wanted->principal.empty() || wanted->principal.size() > 128)
        co_return unprocessable("make a token", "/principal", "has no or more than 128 characters",
                                "invalid-document");
    if (std::ranges::find(kRoles, wanted->role) == kRoles.end())
        co_return unprocessable("make a token", "/role",
                                "\"" + wanted->role +
                                    "\" is not a role: viewer, operator, netadmin "
                                    "or admin",
                                "invalid-document");
    const std::string secret = random_token();
    Result<protocol::Token> made =
        api.store.add_token(sha256_hex(secret), wanted->principal, wanted->role);
    if (!made) co_return passed_on(std::move(made).error());
    made->token = secret;
    http::Response response = http::json_response(201, *made);
    response.headers.emplace_back("location", "/v1/tokens/" + made->id);
    response.headers.emplace_back("cache-control", "no-store");
    co_return response;
}

Task<http::Response> remove_token(Api& api, http::Request request) {
    Result<void> removed = api.store.remove_token(request.params.at("token"));
    if (!removed) co_return passed_on(std::move(removed).error());
    co_return http::Response{.status = 204, .headers = {}, .body = {}, .stream = {}};
}

Task<http::Response> list_audit(Api& api, http::Request request) {
    int limit = 100;
    const std::string said = request.query_or("limit", "100");
    const auto [end, error] = std::from_chars(said.data(), said.data() + said.size(), limit);
    if (error != std::errc() || end != said.data() + said.size() || limit < 1)
        co_return unprocessable("list the audit trail", "/limit",
                                "is \"" + said + "\", expected 1 to 1000", "invalid-document");
    Result<std::vector<protocol::AuditEntry>> rows =
        api.store.audit_rows(std::min(limit, kAuditMax));
    if (!rows) co_return passed_on(std::move(rows).error());
    co_return http::json_response(200, protocol::AuditList{std::move(*rows)});
}

}  // namespace godwit::controller
