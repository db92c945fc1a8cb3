// Tunnels of a configuration on plane dpdk: which device carries each, and whether that has room for its headers.
#include "dataplane/dpdk/tunnel_ports.hpp"

#include <algorithm>
#include <rte_ethdev.h>

namespace godwit::dpdk {
namespace {

using Ports = std::vector<PlaneOptions::Port>;

Result<TunnelEnd> end_of(const Ports& ports, std::size_t number, const PortDevices& devices) {
    const PlaneOptions::Port& port = ports[number];
    const std::size_t under = carrier_of(ports, number);
    const std::string doing = "open tunnel " + port.name;
    if (under == ports.size())
        return fail(Fault::Rejected, doing,
                    "its underlay \"" + port.tunnel->underlay + "\" is no port");
    const dataplane::Device& device = ports[under].device;
    if (device.is_interface() && device.mtu < ports[under].mtu)
        return fail(Fault::Rejected, doing,
                    "the underlay " + device.where + " has MTU " + std::to_string(device.mtu) +
                        ", and is said to have " + std::to_string(ports[under].mtu) +
                        ": ip link set " + device.where + " mtu " +
                        std::to_string(ports[under].mtu),
                    "tunnel-mtu");
    TunnelEnd end{*port.tunnel,
                  static_cast<std::uint16_t>(number),
                  static_cast<std::uint16_t>(under),
                  ports[under].mtu,
                  {}};
    rte_ether_addr mac{};
    const int error = rte_eth_macaddr_get(devices.ethdev[under], &mac);
    if (error != 0) return fail(Fault::Rejected, doing, rte_strerror(-error));
    std::ranges::copy(mac.addr_bytes, end.mac.begin());
    return end;
}

}  // namespace

std::size_t carrier_of(const Ports& ports, std::size_t number) {
    if (!ports[number].tunnel) return number;
    const auto under =
        std::ranges::find(ports, ports[number].tunnel->underlay, &PlaneOptions::Port::name);
    return static_cast<std::size_t>(under - ports.begin());
}

PortDevices devices_of(const Ports& ports, const std::vector<std::uint16_t>& ethdevs,
                       const std::vector<std::uint16_t>& queues) {
    PortDevices devices;
    std::size_t next = 0;
    for (std::size_t number = 0; number < ports.size(); ++number) {
        if (ports[number].tunnel) continue;
        devices.ethdev[number] = ethdevs[next];
        devices.queues[number] = queues[next++];
    }
    for (std::size_t number = 0; number < ports.size(); ++number) {
        const std::size_t carrier = carrier_of(ports, number);
        if (carrier == ports.size()) continue;  // tunnel_ends() says so
        devices.ethdev[number] = devices.ethdev[carrier];
        devices.queues[number] = devices.queues[carrier];
    }
    return devices;
}

Result<std::vector<TunnelEnd>> tunnel_ends(const Ports& ports, const PortDevices& devices) {
    std::vector<TunnelEnd> ends;
    for (std::size_t number = 0; number < ports.size(); ++number) {
        if (!ports[number].tunnel) continue;
        Result<TunnelEnd> end = end_of(ports, number, devices);
        if (!end) return std::unexpected(std::move(end).error());
        ends.push_back(std::move(*end));
    }
    return ends;
}

}  // namespace godwit::dpdk
