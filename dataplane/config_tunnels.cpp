// Tunnels in godwit-switch's YAML: addresses, numbers, what carries them, and room for their headers.
#include "dataplane/config.hpp"
#include "dataplane/mtu.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <map>
#include <net/if.h>
#include <utility>

namespace godwit::dataplane {
namespace {

using Errors = std::vector<FieldError>;

std::uint32_t told_mtu(const PortConfig& port) {
    return port.mtu == 0 ? kMtuUsual : port.mtu;
}

void complain(Errors& errors, std::string pointer, std::string message) {
    errors.push_back({std::move(pointer), std::move(message), 0, 0});
}

std::optional<std::uint32_t> ipv4(const std::string& text) {
    in_addr address{};
    if (inet_pton(AF_INET, text.c_str(), &address) != 1) return std::nullopt;
    return address.s_addr;
}

// An end of a tunnel is one machine (RFC 7348 section 4.2 has groups too: not here, an end is known).
void check_end(const std::string& text, const std::string& at, Errors& errors) {
    const std::optional<std::uint32_t> address = ipv4(text);
    const std::uint32_t number = address ? ntohl(*address) : 0;
    if (!address)
        complain(errors, at, "\"" + text + "\" is no IPv4 address, expected one like 10.98.0.1");
    else if (number >> 24 == 0 || number >> 24 == 127 || number >= 0xe0000000)
        complain(errors, at, text + " is no address of one machine");
}

const PortConfig* port_named(const SwitchConfig& config, const std::string& name) {
    const auto found = std::ranges::find(config.ports, name, &PortConfig::name);
    return found == config.ports.end() ? nullptr : &*found;
}

// The longest frame that the VMs of this switch may send, by the ports' `mtu`.
std::uint32_t longest_mtu(const SwitchConfig& config) {
    std::uint32_t longest = 0;
    for (const PortConfig& port : config.ports)
        if (port.role == PortRole::vm) longest = std::max(longest, told_mtu(port));
    return longest;
}

void check_underlay(const SwitchConfig& config, const PortConfig& port, const std::string& at,
                    Errors& errors) {
    const PortConfig* underlay = port_named(config, port.vxlan->underlay);
    if (!underlay || underlay->role != PortRole::underlay)
        return complain(
            errors, at + "/vxlan/underlay",
            "\"" + port.vxlan->underlay +
                "\" is no port with role: underlay, name the one that the tunnel runs over");
    const std::uint32_t inner = std::max(told_mtu(port), longest_mtu(config));
    if (told_mtu(*underlay) < inner + kVxlanOverhead)
        complain(
            errors, at + "/vxlan/underlay",
            "has mtu " + std::to_string(told_mtu(*underlay)) + ", and frames of mtu " +
                std::to_string(inner) + " need " + std::to_string(inner + kVxlanOverhead) +
                " in the tunnel: raise the underlay's, there and here, or lower the VM ports'");
    if (told_mtu(port) < inner)
        complain(errors, at + "/mtu",
                 "is " + std::to_string(told_mtu(port)) + ", less than the " +
                     std::to_string(inner) +
                     " of another VM port: what a VM sends there would not pass here");
}

void check_vxlan(const SwitchConfig& config, const PortConfig& port, const std::string& at,
                 Errors& errors) {
    const VxlanConfig& vxlan = *port.vxlan;
    const std::string in = at + "/vxlan";
    check_end(vxlan.local, in + "/local", errors);
    check_end(vxlan.remote, in + "/remote", errors);
    if (vxlan.local == vxlan.remote) complain(errors, in + "/remote", "is the local end too");
    if (vxlan.vni < 1 || vxlan.vni > kVniMax)
        complain(errors, in + "/vni", "expected 1 to " + std::to_string(kVniMax));
    if (vxlan.udp_port < 1 || vxlan.udp_port > 65535)
        complain(errors, in + "/udp_port", "expected 1 to 65535, 4789 is VXLAN's own");
    if (vxlan.bridge.size() >= IFNAMSIZ)
        complain(errors, in + "/bridge", "expected the name of a bridge, at most 15 characters");
    if (port.role == PortRole::underlay)
        complain(errors, at + "/role", "underlay cannot be a tunnel itself");
    if (!port.device.empty())
        complain(errors, at + "/device", "is a tunnel by its vxlan, leave one of them out");
    check_underlay(config, port, at, errors);
}

// A second way out would be a second way in: a broadcast of the clients' network would come by the tunnel and
// leave by the other uplink, round and round; and what a VM sends there would not be seen by the switch that
// steers it.
void check_one_way_out(const SwitchConfig& config, Errors& errors) {
    const auto is_uplink = [](const PortConfig& port) { return port.role == PortRole::uplink; };
    const auto count = std::ranges::count_if(config.ports, is_uplink);
    for (std::size_t i = 0; i < config.ports.size() && count > 1; ++i)
        if (is_uplink(config.ports[i]) && config.ports[i].vxlan)
            complain(
                errors, "/ports/" + std::to_string(i) + "/role",
                "a tunnel as uplink must be the only one, or broadcasts would go round: give the "
                "ports of the other uplink to a switch of their own");
}

}  // namespace

void check_tunnels(const SwitchConfig& config, Errors& errors) {
    std::map<std::pair<std::uint32_t, std::uint32_t>, std::string> numbers;
    for (std::size_t i = 0; i < config.ports.size(); ++i) {
        const PortConfig& port = config.ports[i];
        const std::string at = "/ports/" + std::to_string(i);
        if (!port.vxlan) continue;
        check_vxlan(config, port, at, errors);
        const VxlanConfig& vxlan = *port.vxlan;
        const auto [known, fresh] = numbers.try_emplace({vxlan.vni, vxlan.udp_port}, port.name);
        if (!fresh)
            complain(errors, at + "/vxlan/vni",
                     std::to_string(vxlan.vni) + " is port " + known->second +
                         "'s already: it alone says which tunnel a frame is of");
    }
    check_one_way_out(config, errors);
}

std::optional<Tunnel> tunnel_of(const PortConfig& port) {
    if (!port.vxlan) return std::nullopt;
    const VxlanConfig& vxlan = *port.vxlan;
    return Tunnel{ipv4(vxlan.local).value_or(0),
                  ipv4(vxlan.remote).value_or(0),
                  vxlan.vni,
                  static_cast<std::uint16_t>(vxlan.udp_port),
                  told_mtu(port),
                  vxlan.underlay,
                  vxlan.bridge};
}

}  // namespace godwit::dataplane
