#include "dataplane/dpdk/tunnels.hpp"

#include "steering/rewrite.h"

#include <cstring>
#include <rte_mbuf.h>

namespace godwit::dpdk {
namespace {

constexpr dataplane::Mac kEverybody{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
constexpr std::size_t kArpTarget = WIRE_ETH_BYTES + 24;

}  // namespace

Tunnels::Place::Place(const TunnelEnd& its, std::uint32_t ticks_per_s)
    : end(its),
      match{its.tunnel.local_be, its.tunnel.remote_be, its.tunnel.vni, its.tunnel.udp_port,
            its.port},
      neighbour(ticks_per_s) {}

Tunnels::Tunnels(const std::vector<TunnelEnd>& ends, rte_mempool* frames, std::uint32_t ticks_per_s)
    : frames_(frames) {
    of_port_.fill(kNone);
    for (const TunnelEnd& end : ends) {
        of_port_[end.port] = static_cast<std::uint8_t>(places_.size());
        is_underlay_[end.underlay] = true;
        places_.emplace_back(end, ticks_per_s);
    }
}

Tunnels::Seen Tunnels::seen(std::uint16_t port) const {
    if (!is_tunnel(port)) return {};
    const Place& place = places_[of_port_[port]];
    return {place.neighbour.mac().has_value(), place.packets.load(), place.drops.load()};
}

// Once a tick at most, whatever the worker's rounds are.
std::size_t Tunnels::ask(std::uint32_t tick, std::span<void*> questions) {
    if (tick == asked_at_) return 0;
    asked_at_ = tick;
    std::size_t count = 0;
    for (Place& place : places_) {
        if (count == questions.size()) break;
        if (!place.neighbour.is_due(tick)) continue;
        rte_mbuf* question = rte_pktmbuf_alloc(frames_);
        if (!question) break;
        question->port = place.end.underlay;
        auto* data =
            reinterpret_cast<std::uint8_t*>(rte_pktmbuf_append(question, STEER_ARP_FRAME_BYTES));
        steer_write_arp_announcement(data, place.end.mac.data(), place.end.tunnel.local_be);
        std::memcpy(data, place.neighbour.mac().value_or(kEverybody).data(), 6);
        std::memcpy(data + kArpTarget, &place.end.tunnel.remote_be, 4);
        questions[count++] = question;
    }
    return count;
}

}  // namespace godwit::dpdk
