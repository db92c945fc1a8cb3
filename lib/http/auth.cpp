#include "lib/http/auth.hpp"

#include "lib/secret.hpp"

#include <unistd.h>

namespace godwit::http {

std::string bearer_token(const Request& request) {
    const std::optional<std::string_view> header = request.header("authorization");
    constexpr std::string_view kScheme = "Bearer ";
    if (!header || header->size() <= kScheme.size()) return {};
    for (std::size_t i = 0; i < kScheme.size(); ++i) {
        // RFC 9110 §11.1: the scheme's name is case-insensitive.
        const char lower = static_cast<char>(kScheme[i] | 0x20);
        if (((*header)[i] | 0x20) != lower) return {};
    }
    return std::string(header->substr(kScheme.size()));
}

Authenticator token_authenticator(std::vector<TokenEntry> entries) {
    return [entries = std::move(entries)](const Request& request) {
        Identity found;
        const std::string token = bearer_token(request);
        if (token.empty()) return found;
        const std::string digest = sha256_hex(token);
        for (const TokenEntry& entry : entries)
            if (equal_secrets(entry.sha256, digest) && found.principal.empty())
                found = entry.identity;
        return found;
    };
}

Authenticator peer_authenticator(const std::string& secret) {
    return token_authenticator({{sha256_hex(secret), {"peer", "peer"}}});
}

Authenticator local_authenticator(std::string role, Authenticator next) {
    return [role = std::move(role), next = std::move(next)](const Request& request) {
        const bool anonymous = bearer_token(request).empty();
        const bool ours =
            request.peer == "unix:0" || request.peer == "unix:" + std::to_string(geteuid());
        if (anonymous && ours) return Identity{"uid:" + request.peer.substr(5), role};
        return next ? next(request) : Identity{};
    };
}

}  // namespace godwit::http
