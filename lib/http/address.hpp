// Where a server listens or a client connects: "10.0.0.1:8441", "[::1]:8441", "host-a:8441" or
// "unix:/run/godwit/api.sock"; a client may also write "http://" in front.
#pragma once

#include "lib/error.hpp"

#include <cstdint>
#include <string>

namespace godwit::http {

struct Address {
    std::string path;  // of a unix socket; empty for TCP
    std::string host;  // without brackets
    std::uint16_t port = 0;

    bool is_unix() const { return !path.empty(); }
    std::string text() const;
};

// Rejected with what to write instead. Unix paths must fit sockaddr_un (107 bytes).
Result<Address> parse_address(std::string text);

}  // namespace godwit::http
