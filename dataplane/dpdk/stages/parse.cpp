// The headers of every frame. The next frames' first lines are fetched meanwhile: a device has written
// them, this core has not seen them yet.
#include "dataplane/dpdk/worker.hpp"

#include <rte_ether.h>
#include <rte_mbuf.h>
#include <rte_prefetch.h>

namespace godwit::dpdk {
namespace {

constexpr std::uint16_t kAhead = 4;

// Headers in several segments are brought together; where that fails the first one has to be enough.
void parse_one(rte_mbuf* frame, struct steer_packet& packet) {
    if (frame->nb_segs > 1) (void)rte_pktmbuf_linearize(frame);
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
