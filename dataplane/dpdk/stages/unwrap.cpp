// Between rx and parse, for what has come over an underlay: whose tunnel's frame it is, by the outer headers
// (steering/tunnel.h), and then without them. Nothing is copied.
#include "steering/rewrite.h"

#include "dataplane/dpdk/tunnels.hpp"

#include <cstring>
#include <rte_mbuf.h>

namespace godwit::dpdk {
namespace {

constexpr std::uint32_t kSender = 8, kSenderAddress = 14, kTargetAddress = 24;  // of ARP

bool is_arp(const std::uint8_t* data, const std::uint8_t* end) {
    if (data + STEER_ARP_FRAME_BYTES > end || wire_load16(data + 12) != WIRE_ETHERTYPE_ARP)
        return false;
    const std::uint8_t* arp = data + WIRE_ETH_BYTES;
    return wire_load16(arp) == 1 && wire_load16(arp + 2) == WIRE_ETHERTYPE_IPV4 && arp[4] == 6 &&
           arp[5] == 4;
}

dataplane::Mac mac_at(const std::uint8_t* bytes) {
    dataplane::Mac mac;
    std::memcpy(mac.data(), bytes, mac.size());
    return mac;
}

void count(Worker& worker, std::uint16_t port, std::uint32_t action, std::uint32_t why) {
    ++worker.counters.tallies[worker.counters.number_of_port[port]]
          .packets[steer_tally_cell(action, why)];
}

void drop(Worker& worker, std::uint16_t port, rte_mbuf* frame, std::uint32_t why) {
    count(worker, port, STEER_DROP, why);
    rte_pktmbuf_free(frame);
}

}  // namespace

// An answer counts only when it is for us alone: nobody has to overhear one. A question of an end that is not known
// yet is no lie; it is asked in its turn.
void Tunnels::hear_arp(Worker& worker, std::uint16_t underlay, rte_mbuf* frame) {
    auto* data = rte_pktmbuf_mtod(frame, std::uint8_t*);
    const std::uint8_t* arp = data + WIRE_ETH_BYTES;
    const bool asks = wire_load16(arp + 6) == WIRE_ARP_REQUEST;
    const dataplane::Mac sender = mac_at(arp + kSender);
    const Place* asked = nullptr;
    bool lies = false;
    for (Place& place : places_) {
        if (place.end.underlay != underlay ||
            place.end.tunnel.local_be != wire_load32_be(arp + kTargetAddress))
            continue;
        asked = &place;
        if (wire_load32_be(arp + kSenderAddress) != place.end.tunnel.remote_be) continue;
        const bool answers =
            wire_load16(arp + 6) == WIRE_ARP_REPLY && mac_at(data) == place.end.mac;
        const bool believed = place.neighbour.hear(sender, answers, worker.plane.tick);
        lies = lies || (!believed && (!asks || place.neighbour.mac()));
    }
    Departures& leaving = worker.departures[underlay];
    if (lies) return drop(worker, underlay, frame, STEER_WHY_TUNNEL_NEIGHBOUR);
    if (!asked || !asks || leaving.count == kDeparturesMax)
        return drop(worker, underlay, frame, STEER_WHY_NEIGHBOUR);
    steer_answer_arp(data, data + rte_pktmbuf_data_len(frame), asked->end.mac.data());
    count(worker, underlay, STEER_ANSWER, STEER_WHY_ARP_ANSWERED);
    leaving.frames[leaving.count++] = frame;
}

// The tunnel whose frame it is, now without its outer headers; kNone: it has been seen to.
std::uint8_t Tunnels::sort(Worker& worker, std::uint16_t underlay, rte_mbuf* frame) {
    if (frame->nb_segs > 1) (void)rte_pktmbuf_linearize(frame);
    const auto* data = rte_pktmbuf_mtod(frame, const std::uint8_t*);
    const std::uint8_t* end = data + rte_pktmbuf_data_len(frame);
    const bool tagged = (frame->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0;
    steer_arrival arrival;
    if (!tagged && is_arp(data, end)) {
        hear_arp(worker, underlay, frame);
        return kNone;
    }
    steer_outer outer = STEER_OUTER_OTHER;
    std::uint8_t mine = kNone;
    if (!tagged && steer_read_outer(data, end, rte_pktmbuf_pkt_len(frame), &arrival))
        for (std::uint8_t i = 0; i < places_.size(); ++i) {
            if (places_[i].end.underlay != underlay) continue;
            const steer_outer now = steer_match_outer(&places_[i].match, &arrival, outer);
            if (now == STEER_OUTER_MINE && outer != STEER_OUTER_MINE) mine = i;
            outer = now;
        }
    if (mine == kNone) {
        drop(worker, underlay, frame,
             outer == STEER_OUTER_OTHER ? STEER_WHY_NOT_MANAGED : steer_outer_why(outer));
        return kNone;
    }
    places_[mine].neighbour.confirm(mac_at(data + 6), worker.plane.tick);
    const std::uint32_t padding = rte_pktmbuf_pkt_len(frame) - arrival.used_bytes;
    (void)rte_pktmbuf_trim(frame, static_cast<std::uint16_t>(padding));
    (void)rte_pktmbuf_adj(frame, arrival.outer_bytes);
    // What the device said was of the outer headers; whose memory it is stays.
    frame->ol_flags &= RTE_MBUF_F_EXTERNAL | RTE_MBUF_F_INDIRECT;
    return mine;
}

// However many tunnels: together no more frames than came, so departures have room for what becomes of them.
void Tunnels::unwrap(Worker& worker, const Burst& outer) {
    std::array<std::uint8_t, kBurstMax> whose;
    for (std::uint16_t i = 0; i < outer.count; ++i)
        whose[i] = sort(worker, outer.port, outer.frames[i]);
    Burst inner;
    for (std::uint8_t number = 0; number < places_.size(); ++number) {
        Place& place = places_[number];
        inner.port = place.end.port;
        inner.count = 0;
        for (std::uint16_t i = 0; i < outer.count; ++i)
            if (whose[i] == number) inner.frames[inner.count++] = outer.frames[i];
        if (inner.count == 0) continue;
        place.packets += inner.count;
        run_stages(worker, inner);
    }
}

}  // namespace godwit::dpdk
