#include "dataplane/names.hpp"

#include "steering/wire.h"

#include <arpa/inet.h>
#include <charconv>
#include <cstdio>
#include <cstring>

namespace godwit::dataplane {

Result<HostedAddress> parse_any_address(const std::string& text) {
    HostedAddress address;
    if (inet_pton(AF_INET, text.c_str(), address.words_be.data()) == 1) return address;
    address.family = 6;
    if (inet_pton(AF_INET6, text.c_str(), address.words_be.data()) == 1) return address;
    return fail(
        Fault::Rejected, "address \"" + text + "\"",
        "is no IP address, write one like 10.1.0.10 or 2001:db8::1, without a prefix length");
}

Result<HostedAddress> parse_hosted(const std::string& text) {
    Result<HostedAddress> address = parse_any_address(text);
    if (!address) return address;
    const std::uint32_t first = ntohl(address->words_be[0]);
    const bool group =
        address->family == 4 ? first == 0 || first >> 28 >= 0xe : first >> 24 == 0xff;
    if (group)
        return fail(Fault::Rejected, "address \"" + text + "\"", "must be a unicast address");
    return address;
}

std::string to_text(const HostedAddress& address) {
    char text[INET6_ADDRSTRLEN] = {};
    inet_ntop(address.family == 4 ? AF_INET : AF_INET6, address.words_be.data(), text,
              sizeof(text));
    return text;
}

std::string ipv4_text(std::uint32_t address_be) {
    return to_text({4, {address_be}});
}

Result<Mac> parse_mac(const std::string& text) {
    Mac mac{};
    char rest = 0;
    const int fields = std::sscanf(text.c_str(), "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%c", &mac[0],
                                   &mac[1], &mac[2], &mac[3], &mac[4], &mac[5], &rest);
    if (fields != 6 || text.size() != 17)
        return fail(Fault::Rejected, "MAC \"" + text + "\"",
                    "write six hex bytes like 52:54:00:12:34:56");
    if ((mac[0] & 1) || mac == Mac{})
        return fail(Fault::Rejected, "MAC \"" + text + "\"",
                    "must be one station's, not a group's");
    return mac;
}

namespace {

struct NamedProtocol {
    std::uint8_t number;
    const char* name;
};
constexpr NamedProtocol kProtocols[] = {{WIRE_PROTOCOL_TCP, "tcp"},
                                        {WIRE_PROTOCOL_UDP, "udp"},
                                        {WIRE_PROTOCOL_ICMP, "icmp"},
                                        {WIRE_PROTOCOL_ICMPV6, "icmpv6"},
                                        {132, "sctp"}};

}  // namespace

std::string protocol_name(std::uint8_t protocol) {
    for (const NamedProtocol& known : kProtocols)
        if (known.number == protocol) return known.name;
    return std::to_string(protocol);
}

std::optional<std::uint8_t> protocol_number(const std::string& name) {
    for (const NamedProtocol& known : kProtocols)
        if (known.name == name) return known.number;
    std::uint8_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error != std::errc{} || end != name.data() + name.size()) return std::nullopt;
    return number;
}

}  // namespace godwit::dataplane
