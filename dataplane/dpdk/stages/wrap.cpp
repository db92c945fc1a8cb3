// Between rewrite and tx, for what leaves by a tunnel: outer Ethernet, IPv4, UDP and VXLAN into the headroom of the
// frame (RFC 7348 section 5). No UDP checksum, don't fragment, and a source port by the inner flow, so that the
// fabric spreads flows and keeps the packets of each in order (section 4.1).
#include "steering/rewrite.h"

#include "dataplane/dpdk/tunnels.hpp"

#include <cstring>
#include <rte_mbuf.h>

namespace godwit::dpdk {
namespace {

constexpr std::uint16_t kDontFragment = 0x4000;
constexpr std::uint8_t kHops = 64;

void write_header(std::uint8_t* to, const TunnelEnd& end, const dataplane::Mac& neighbour,
                  std::uint16_t source_port, std::uint32_t inner_bytes) {
    std::uint8_t *ip = to + WIRE_ETH_BYTES, *udp = ip + WIRE_IPV4_BYTES,
                 *vxlan = udp + WIRE_UDP_BYTES;
    const auto datagram =
        static_cast<std::uint16_t>(inner_bytes + WIRE_UDP_BYTES + STEER_VXLAN_BYTES);
    std::memset(to, 0, STEER_OUTER_BYTES);
    steer_write_eth(to, neighbour.data(), end.mac.data(), WIRE_ETHERTYPE_IPV4);
    ip[0] = 0x45;
    wire_store16(ip + 2, static_cast<std::uint16_t>(WIRE_IPV4_BYTES + datagram));
    wire_store16(ip + 6, kDontFragment);
    ip[8] = kHops;
    ip[9] = WIRE_PROTOCOL_UDP;
    std::memcpy(ip + 12, &end.tunnel.local_be, 4);
    std::memcpy(ip + 16, &end.tunnel.remote_be, 4);
    wire_store16(ip + 10, steer_checksum_fold(steer_checksum_add(0, ip, WIRE_IPV4_BYTES)));
    wire_store16(udp, source_port);
    wire_store16(udp + 2, end.tunnel.udp_port);
    wire_store16(udp + 4, datagram);
    vxlan[0] = STEER_VXLAN_HAS_VNI;
    wire_store32(vxlan + 4, end.tunnel.vni << 8);
}

}  // namespace

// STEER_WHYS: it has one; else why not.
enum steer_why Tunnels::put_header(const Place& place, rte_mbuf* frame) {
    const std::optional<dataplane::Mac> neighbour = place.neighbour.mac();
    const std::uint32_t inner = rte_pktmbuf_pkt_len(frame);
    if (!neighbour) return STEER_WHY_TUNNEL_DOWN;
    if (inner + STEER_OUTER_BYTES - WIRE_ETH_BYTES > place.end.underlay_mtu)
        return STEER_WHY_TUNNEL_LENGTH;
    const auto* data = rte_pktmbuf_mtod(frame, const std::uint8_t*);
    const std::uint16_t port = steer_outer_port(data, data + rte_pktmbuf_data_len(frame));
    auto* outer = reinterpret_cast<std::uint8_t*>(rte_pktmbuf_prepend(frame, STEER_OUTER_BYTES));
    if (!outer) return STEER_WHY_PLANE;
    write_header(outer, place.end, *neighbour, port, inner);
    return static_cast<enum steer_why>(STEER_WHYS);
}

void Tunnels::wrap(Worker& worker, std::uint16_t port, Departures& leaving) {
    Place& place = places_[of_port_[port]];
    std::uint16_t kept = 0;
    for (std::uint16_t i = 0; i < leaving.count; ++i) {
        const enum steer_why why = put_header(place, leaving.frames[i]);
        if (why == STEER_WHYS) {
            leaving.frames[kept++] = leaving.frames[i];
            continue;
        }
        ++worker.counters.tallies[worker.counters.number_of_port[port]]
              .packets[steer_tally_cell(STEER_DROP, why)];
        ++place.drops;
        rte_pktmbuf_free(leaving.frames[i]);
    }
    leaving.count = kept;
}

}  // namespace godwit::dpdk
