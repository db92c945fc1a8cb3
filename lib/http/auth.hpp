// Who is asking, by bearer token (RFC 6750) or by the uid behind a unix socket.
#pragma once

#include "lib/http/server.hpp"

#include <string>
#include <vector>

namespace godwit::http {

// The token of "Authorization: Bearer TOKEN"; empty when there is none.
std::string bearer_token(const Request& request);

struct TokenEntry {
    std::string sha256;  // of the token, 64 hex digits: the token itself is not kept
    Identity identity;
};

// The first entry whose digest matches. Every entry is compared, so that time tells nothing.
Authenticator token_authenticator(std::vector<TokenEntry> entries);
// One shared secret; who has it is {"peer", "peer"}.
Authenticator peer_authenticator(const std::string& secret);
// For a caller on a unix socket without a token: this user and root are {"uid:N", role}. Others, and
// callers on TCP, are asked of `next`.
Authenticator local_authenticator(std::string role, Authenticator next);

}  // namespace godwit::http
