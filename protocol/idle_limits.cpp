#include "protocol/idle_limits.hpp"

#include <algorithm>

namespace godwit::protocol {
namespace {

constexpr std::uint32_t kDay = 86400;

struct Range {
    std::optional<std::uint32_t> IdleLimits::* field;
    const char* name;
    std::uint32_t least, most;
};
constexpr Range kRanges[] = {
    {&IdleLimits::established_s, "established_s", 60, 30 * kDay},
    {&IdleLimits::transitory_s, "transitory_s", 5, kDay},
    {&IdleLimits::udp_s, "udp_s", 2, kDay},
    {&IdleLimits::icmp_s, "icmp_s", 2, kDay},
    {&IdleLimits::handshake_s, "handshake_s", 3, 240},
    {&IdleLimits::linger_s, "linger_s", 1, 240},
    {&IdleLimits::tombstone_s, "tombstone_s", 1, kDay},
    {&IdleLimits::fragment_s, "fragment_s", 1, 120},
};

void complain(std::vector<FieldError>& errors, std::string pointer, std::string message) {
    errors.push_back({std::move(pointer), std::move(message), 0, 0});
}

void check_range(std::uint32_t value, std::uint32_t least, std::uint32_t most,
                 std::vector<FieldError>& errors, std::string pointer) {
    if (value < least || value > most)
        complain(errors, std::move(pointer),
                 "expected " + std::to_string(least) + " to " + std::to_string(most));
}

bool same_port(const PortLimit& a, const PortLimit& b) {
    return a.protocol == b.protocol && a.port == b.port && a.side == b.side;
}

void check_ports(const std::vector<PortLimit>& ports, const std::string& at,
                 std::vector<FieldError>& errors) {
    if (ports.size() > kPortLimitsMax)
        complain(errors, at,
                 "expected at most " + std::to_string(kPortLimitsMax) +
                     " ports; set the limit of the whole protocol for the rest");
    for (std::size_t i = 0; i < ports.size(); ++i) {
        const std::string one = at + "/" + std::to_string(i);
        const std::uint32_t least = ports[i].protocol == PortProtocol::tcp ? 60 : 2;
        if (ports[i].port == 0) complain(errors, one + "/port", "expected 1 to 65535");
        check_range(ports[i].idle_s, least, 30 * kDay, errors, one + "/idle_s");
        const auto until = ports.begin() + static_cast<std::ptrdiff_t>(i);
        if (std::any_of(ports.begin(), until,
                        [&](const PortLimit& other) { return same_port(other, ports[i]); }))
            complain(errors, one, "this port has a limit already, leave one of them out");
    }
}

}  // namespace

void check_idle_limits(const IdleLimits& limits, const std::string& at,
                       std::vector<FieldError>& errors) {
    for (const Range& range : kRanges)
        if (const auto& value = limits.*range.field)
            check_range(*value, range.least, range.most, errors, at + "/" + range.name);
    if (limits.linger_s && limits.tombstone_s && *limits.tombstone_s < *limits.linger_s)
        complain(errors, at + "/tombstone_s", "expected no less than linger_s");
    check_ports(limits.ports, at + "/ports", errors);
}

}  // namespace godwit::protocol
