#include "lib/http/address.hpp"

#include <charconv>
#include <sys/un.h>

namespace godwit::http {

namespace {

constexpr std::string_view kHint = "expected HOST:PORT, [IPV6]:PORT or unix:/path/of.sock";

Result<std::uint16_t> parse_port(std::string_view digits, const std::string& whole) {
    std::uint16_t port = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    if (error != std::errc{} || end != digits.data() + digits.size())
        return fail(Fault::Rejected, "address \"" + whole + "\"",
                    "the port must be a number from 0 to 65535; " + std::string(kHint));
    return port;
}

}  // namespace

std::string Address::text() const {
    if (is_unix()) return "unix:" + path;
    const bool v6 = host.find(':') != host.npos;
    return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

Result<Address> parse_address(std::string text) {
    const std::string whole = text;
    Address address;
    if (text.starts_with("unix:")) {
        address.path = text.substr(5);
        if (address.path.empty() || address.path.size() >= sizeof(sockaddr_un::sun_path))
            return fail(Fault::Rejected, "address \"" + whole + "\"",
                        "a socket's path has 1 to 107 bytes");
        return address;
    }
    if (text.starts_with("http://")) text.erase(0, 7);
    if (text.ends_with('/')) text.pop_back();
    const std::size_t colon = text.rfind(':');
    if (colon == text.npos || colon == 0)
        return fail(Fault::Rejected, "address \"" + whole + "\"", std::string(kHint));
    Result<std::uint16_t> port = parse_port(std::string_view(text).substr(colon + 1), whole);
    if (!port) return std::unexpected(std::move(port).error());
    address.port = *port;
    address.host = text.substr(0, colon);
    if (address.host.starts_with('[') && address.host.ends_with(']'))
        address.host = address.host.substr(1, address.host.size() - 2);
    else if (address.host.find(':') != address.host.npos)
        return fail(Fault::Rejected, "address \"" + whole + "\"", std::string(kHint));
    return address;
}

}  // namespace godwit::http
