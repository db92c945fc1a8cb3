#include "controller/temporary.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <charconv>
#include <cstdio>
#include <optional>

namespace godwit::controller {

namespace {

__extension__ using Number = unsigned __int128;

constexpr Number kRangeMax = 65536;

struct Address {
    int family = 4;
    Number number = 0;
};

struct Range {
    Address first;
    Number last = 0;
    unsigned prefix = 0;
};

std::optional<Address> parse_address(const std::string& text) {
    std::array<unsigned char, 16> bytes{};
    Address address;
    if (inet_pton(AF_INET, text.c_str(), bytes.data()) == 1)
        address.family = 4;
    else if (inet_pton(AF_INET6, text.c_str(), bytes.data()) == 1)
        address.family = 6;
    else
        return std::nullopt;
    for (std::size_t i = 0; i < (address.family == 4 ? 4U : 16U); ++i)
        address.number = address.number << 8 | bytes[i];
    return address;
}

std::string text_of(int family, Number number) {
    std::array<unsigned char, 16> bytes{};
    const std::size_t length = family == 4 ? 4 : 16;
    for (std::size_t i = length; i-- > 0; number >>= 8)
        bytes[i] = static_cast<unsigned char>(number);
    std::array<char, INET6_ADDRSTRLEN> text{};
    inet_ntop(family == 4 ? AF_INET : AF_INET6, bytes.data(), text.data(), text.size());
    return text.data();
}

std::optional<Range> parse_range(const std::string& text) {
    const std::size_t dash = text.find('-'), slash = text.find('/');
    if (dash == std::string::npos || slash == std::string::npos || slash < dash)
        return std::nullopt;
    const std::optional<Address> first = parse_address(text.substr(0, dash));
    const std::optional<Address> last = parse_address(text.substr(dash + 1, slash - dash - 1));
    Range range;
    const char *begin = text.data() + slash + 1, *end = text.data() + text.size();
    const auto read = std::from_chars(begin, end, range.prefix);
    if (!first || !last || first->family != last->family || read.ec != std::errc() ||
        read.ptr != end)
        return std::nullopt;
    range.first = *first;
    range.last = last->number;
    return range;
}

unsigned bits_of(int family) {
    return family == 4 ? 32 : 128;
}

bool same_network(const Range& range, Number a, Number b) {
    const unsigned host_bits = bits_of(range.first.family) - range.prefix;
    return a >> host_bits == b >> host_bits;
}

std::unexpected<Error> refuse(std::string cause) {
    return fail(Fault::Rejected, "find temporary addresses", std::move(cause),
                "no-temporary-address");
}

}  // namespace

std::string complaint_about_range(const std::string& text) {
    const std::string quoted = "\"" + text + "\" ";
    const std::optional<Range> range = parse_range(text);
    if (!range) return quoted + "is no range: write FIRST-LAST/PREFIX, 10.9.1.30-10.9.1.39/24";
    if (range->prefix < 1 || range->prefix >= bits_of(range->first.family))
        return quoted + "has no prefix length of a network: 1 to " +
               std::to_string(bits_of(range->first.family) - 1);
    if (range->first.number > range->last) return quoted + "ends before it begins";
    if (!same_network(*range, range->first.number, range->last))
        return quoted + "is in two networks of /" + std::to_string(range->prefix);
    if (range->last - range->first.number >= kRangeMax)
        return quoted + "has more than 65536 addresses";
    return {};
}

Result<std::vector<std::vector<std::string>>> temporary_candidates(
    const std::vector<std::string>& ranges, const std::vector<std::string>& hosted) {
    std::vector<std::vector<std::string>> all;
    std::array<bool, 7> seen{};
    for (const std::string& one : hosted) {
        const std::optional<Address> address = parse_address(without_prefix(one));
        if (!address) return refuse("\"" + one + "\" is no address");
        if (std::exchange(seen[static_cast<std::size_t>(address->family)], true))
            return refuse("the VM has two IPv" + std::to_string(address->family) +
                          " addresses, and nothing would tell which of them a temporary one stands "
                          "for");
        std::vector<std::string> candidates;
        for (const std::string& text : ranges) {
            const std::optional<Range> range = parse_range(text);
            if (!range || range->first.family != address->family ||
                !same_network(*range, range->first.number, address->number))
                continue;
            for (Number n = range->first.number; n <= range->last; ++n)
                if (n != address->number)
                    candidates.push_back(text_of(address->family, n) + "/" +
                                         std::to_string(range->prefix));
        }
        if (candidates.empty())
            return refuse("no range under temporary_addresses of its switch is in the network of " +
                          one + ": add one, FIRST-LAST/PREFIX");
        all.push_back(std::move(candidates));
    }
    return all;
}

std::string without_prefix(const std::string& address) {
    return address.substr(0, address.find('/'));
}

// 02 or 06: both bits of the first byte that say "local, one station" are set, and the two families never meet.
std::string own_mac(const std::string& address) {
    const std::optional<Address> parsed = parse_address(without_prefix(address));
    const auto number = static_cast<std::uint32_t>(parsed ? parsed->number : 0);
    std::array<char, 18> text{};
    std::snprintf(text.data(), text.size(), "%s:67:%02x:%02x:%02x:%02x",
                  parsed && parsed->family == 6 ? "06" : "02", number >> 24, number >> 16 & 0xff,
                  number >> 8 & 0xff, number & 0xff);
    return text.data();
}

protocol::Backend backend_of(const HostConfig& host, const protocol::VmSpec& spec) {
    protocol::Backend backend{host.id, host.port, spec.mac};
    if (spec.temporary_addresses.empty()) return backend;
    backend.name += "@nat";
    backend.mode = protocol::SteeringMode::nat;
    for (const std::string& one : spec.temporary_addresses)
        backend.temporary_addresses.push_back(without_prefix(one));
    return backend;
}

bool is_nat(const protocol::Backend& backend) {
    return backend.mode == protocol::SteeringMode::nat;
}

}  // namespace godwit::controller
