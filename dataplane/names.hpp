// Addresses and MACs between text and the plane's words.
#pragma once

#include "lib/error.hpp"

#include "dataplane/plane.hpp"

#include <optional>
#include <string>

namespace godwit::dataplane {

// "10.1.0.10" or "2001:db8::1"; Rejected with what to write instead.
Result<HostedAddress> parse_hosted(const std::string& text);
// Any address, also of a group or none.
Result<HostedAddress> parse_any_address(const std::string& text);
std::string to_text(const HostedAddress& address);
std::string ipv4_text(std::uint32_t address_be);
// "52:54:00:12:34:56"; multicast and all-zero ones are Rejected.
Result<Mac> parse_mac(const std::string& text);
// "tcp", "udp", "icmp", "icmpv6", "sctp", else the number; and back, by name or number.
std::string protocol_name(std::uint8_t protocol);
std::optional<std::uint8_t> protocol_number(const std::string& name);

}  // namespace godwit::dataplane
