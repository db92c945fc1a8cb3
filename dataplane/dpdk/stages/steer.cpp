// Two rounds: the lines that the burst's keys may lie in are fetched, then every packet is decided with a
// lookup of its own. The first round is a hint and no lookup: an earlier packet of this very burst may
// have made the session that a later one belongs to.
#include "dataplane/dpdk/worker.hpp"

#include "steering/ending.h"

#include <rte_mbuf.h>
#include <rte_prefetch.h>

namespace godwit::dpdk {
namespace {

// The hosted side is the destination of a client's packet and the source of a VM's.
void fetch_lines(steer_plane& plane, struct steer_packet packet) {
    if (!steer_kind_has_session(packet.kind)) return;
    const steer_address* address = steer_hosted(&plane, &packet, packet.destination);
    packet.from_backend = address ? 0 : 1;
    if (!address) address = steer_hosted(&plane, &packet, packet.source);
    if (!address) return;
    steer_key key;
    steer_key_of(&key, &packet, address->address_id);
    const std::uint32_t wide = packet.family == 6 ? 1 : 0;
    const steer_table table = steer_table_of(STEER_SESSIONS4, wide);
    const struct steer_config* config = steer_config(&plane);
    const struct steer_places at = steer_places(config, table, steer_hash(config, &key, wide));
    rte_prefetch0(steer_line(&plane, table, at.first));
    rte_prefetch0(steer_line(&plane, table, at.second));
}

struct steer_outcome steer_one(steer_plane& plane, struct steer_case& work,
                               struct steer_packet& packet, rte_mbuf* frame) {
    if (steer_is_told(&plane, &packet))
        return steer_outcome(nullptr,
                             ::steer_verdict(STEER_REFUSE, 0, STEER_KEEP, STEER_WHY_RESET_TOLD));
    const auto* data = rte_pktmbuf_mtod(frame, const std::uint8_t*);
    return steer_packet(&plane, &work, &packet, {data, data + rte_pktmbuf_data_len(frame)});
}

}  // namespace

void steer_stage(Worker& worker, Burst& burst) {
    worker.plane.ifindex = burst.port + 1u;
    for (std::uint16_t i = 0; i < burst.count; ++i) fetch_lines(worker.plane, burst.parsed[i]);
    struct steer_case work;
    for (std::uint16_t i = 0; i < burst.count; ++i)
        burst.outcomes[i] = steer_one(worker.plane, work, burst.parsed[i], burst.frames[i]);
}

}  // namespace godwit::dpdk
