// The headers of every frame. The next frames' first lines are fetched meanwhile: a device has written
// them, this core has not seen them yet.
#include "dataplane/dpdk/worker.hpp"

#include "steering/translate.h"

#include <algorithm>
#include <cstring>
#include <rte_ether.h>
#include <rte_mbuf.h>
#include <rte_prefetch.h>

namespace godwit::dpdk {
namespace {

constexpr std::uint16_t kAhead = 4;

// Headers that lie in several segments are brought together in the first one, as far as anybody looks or rewrites; a
// jumbo frame's payload stays where it is. Without room the first one has to be enough.
void gather_headers(rte_mbuf* frame) {
    const std::uint32_t wanted = std::min<std::uint32_t>(frame->pkt_len, STEER_REACH_BYTES);
    while (frame->next && frame->data_len < wanted) {
        rte_mbuf* next = frame->next;
        const auto bytes = static_cast<std::uint16_t>(
            std::min<std::uint32_t>(wanted - frame->data_len, next->data_len));
        if (rte_pktmbuf_tailroom(frame) < bytes) return;
        std::memcpy(rte_pktmbuf_mtod_offset(frame, void*, frame->data_len),
                    rte_pktmbuf_mtod(next, const void*), bytes);
        frame->data_len = static_cast<std::uint16_t>(frame->data_len + bytes);
        if (rte_pktmbuf_adj(next, bytes) && next->data_len > 0) continue;
        frame->next = next->next;
        --frame->nb_segs;
        rte_pktmbuf_free_seg(next);
    }
}

void parse_one(rte_mbuf* frame, struct steer_packet& packet) {
    if (frame->nb_segs > 1) gather_headers(frame);
    // A device that has taken the outer tag out: it goes back, for it says where the addresses belong.
    if (frame->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) (void)rte_vlan_insert(&frame);
    const auto* data = rte_pktmbuf_mtod(frame, const std::uint8_t*);
    steer_parse(&packet, data, data + rte_pktmbuf_data_len(frame), rte_pktmbuf_pkt_len(frame));
}

}  // namespace

void parse_stage(Burst& burst) {
    const std::uint16_t ahead = std::min(kAhead, burst.count);
    for (std::uint16_t i = 0; i < ahead; ++i)
        rte_prefetch0(rte_pktmbuf_mtod(burst.frames[i], const void*));
    for (std::uint16_t i = 0; i < burst.count; ++i) {
        if (i + kAhead < burst.count)
            rte_prefetch0(rte_pktmbuf_mtod(burst.frames[i + kAhead], const void*));
        parse_one(burst.frames[i], burst.parsed[i]);
    }
}

}  // namespace godwit::dpdk
