// Reads and checks godwit-switch's YAML.
#include "dataplane/config.hpp"

#include "lib/config.hpp"
#include "lib/http/address.hpp"

#include <net/if.h>
#include <set>

namespace godwit::dataplane {
namespace {

using Errors = std::vector<FieldError>;

void require(bool good, Errors& errors, std::string pointer, std::string message) {
    if (!good) errors.push_back({std::move(pointer), std::move(message), 0, 0});
}

void check_ports(const SwitchConfig& config, Errors& errors) {
    std::set<std::string> names, interfaces;
    bool uplink = false;
    for (std::size_t i = 0; i < config.ports.size(); ++i) {
        const PortConfig& port = config.ports[i];
        const std::string at = "/ports/" + std::to_string(i);
        require(!port.name.empty(), errors, at + "/name", "is empty, give the port a name");
        require(names.insert(port.name).second, errors, at + "/name",
                "\"" + port.name + "\" names another port already");
        require(!port.interface.empty() && port.interface.size() < IFNAMSIZ, errors,
                at + "/interface", "expected the name of a network interface, 1 to 15 characters");
        require(interfaces.insert(port.interface).second, errors, at + "/interface",
                "\"" + port.interface + "\" is another port's interface already");
        uplink = uplink || port.role == PortRole::uplink;
    }
    require(uplink, errors, "/ports",
            "has no port with role: uplink, clients could not be reached");
}

void check_range(std::uint32_t value, std::uint32_t least, std::uint32_t most, Errors& errors,
                 std::string pointer) {
    require(value >= least && value <= most, errors, std::move(pointer),
            "expected " + std::to_string(least) + " to " + std::to_string(most));
}

void check(const SwitchConfig& config, Errors& errors) {
    require(config.apiVersion == "godwit/v1", errors, "/apiVersion", "expected godwit/v1");
    require(config.kind == "SwitchConfig", errors, "/kind", "expected SwitchConfig");
    require(!config.id.empty(), errors, "/id", "is empty, give the switch a name");
    require(!config.listen.empty(), errors, "/listen", "is empty, nobody could command the switch");
    for (std::size_t i = 0; i < config.listen.size(); ++i) {
        Result<http::Address> address = http::parse_address(config.listen[i]);
        if (!address)
            errors.push_back({"/listen/" + std::to_string(i), address.error().cause, 0, 0});
    }
    constexpr std::uint32_t kDay = 86400;
    const TimeoutConfig& t = config.timeouts;
    check_range(t.established_s, 60, 30 * kDay, errors, "/timeouts/established_s");
    check_range(t.transitory_s, 5, kDay, errors, "/timeouts/transitory_s");
    check_range(t.udp_s, 2, kDay, errors, "/timeouts/udp_s");
    check_range(t.icmp_s, 2, kDay, errors, "/timeouts/icmp_s");
    check_range(t.handshake_s, 3, 240, errors, "/timeouts/handshake_s");
    check_range(t.linger_s, 1, 240, errors, "/timeouts/linger_s");
    check_range(t.tombstone_s, t.linger_s, kDay, errors, "/timeouts/tombstone_s");
    check_range(t.fragment_s, 1, 120, errors, "/timeouts/fragment_s");
    check_range(config.tables.sessions_v4, 1024, 1u << 26, errors, "/tables/sessions_v4");
    check_range(config.tables.sessions_v6, 1024, 1u << 25, errors, "/tables/sessions_v6");
    check_range(config.tables.handshakes, 256, 1u << 22, errors, "/tables/handshakes");
    check_ports(config, errors);
}

}  // namespace

Result<SwitchConfig> load_config(const std::string& file) {
    return config::load<SwitchConfig>(file, check);
}

}  // namespace godwit::dataplane
