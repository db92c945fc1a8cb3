#include "dataplane/dpdk/ending.hpp"

#include "steering/steer.h"
#include "steering/wire.h"

#include "dataplane/dpdk/resets.hpp"

namespace godwit::dpdk {
namespace {

using dataplane::Plane;

struct Ending {
    steer_plane& plane;
    std::uint16_t vm;
    std::uint32_t slot;
    Plane::Tell tell;
    Plane::ResetCount count = {};
};

steer_key key_of(const struct steer_line& line, const steer_slot& slot, bool wide) {
    steer_key key{
        slot.peer_be, slot.peer_port, slot.vm_port, slot.address_id, slot.protocol, 0, {}};
    if (wide) std::memcpy(key.peer_rest, line.wide.peer_rest, sizeof(key.peer_rest));
    return key;
}

void end_slot(Ending& ending, enum steer_table table, struct steer_line& line, steer_slot& slot) {
    const std::uint32_t meta = steer_load32(&slot.meta);
    if (steer_meta_life(meta) != STEER_LIVE || steer_key_vm(slot.address_id) != ending.vm ||
        steer_meta_owner(meta) != ending.slot)
        return;
    if (!steer_is_session_table(table)) {
        steer_handshake_free(&ending.plane, table, &slot, meta, STEER_EMPTY);
        return;
    }
    const bool open = !(meta & STEER_META_CLOSED);
    const bool tell =
        ending.tell == Plane::Tell::peers && slot.protocol == WIRE_PROTOCOL_TCP && open;
    // Told first: a segment that comes between the two must not look like an unknown session.
    if (tell && ending.plane.tables->resets)
        ending.plane.tables->resets->add(key_of(line, slot, steer_is_v6_table(table)));
    vm_record* vm = steer_vm(&ending.plane, ending.vm);
    if (!vm || !steer_session_remove(&ending.plane, vm, table, &slot, meta)) return;
    if (tell)
        ++ending.count.reset;
    else if (open)
        ++ending.count.dropped;
}

}  // namespace

steer_swept Sweeper::sweep(steer_plane& plane, std::uint32_t lines) {
    steer_swept total{0, 0, 0};
    for (unsigned t = 0; t < STEER_TABLES; ++t) {
        const auto table = static_cast<enum steer_table>(t);
        const auto all = static_cast<std::uint32_t>(plane.tables->lines[t].size());
        for (std::uint32_t i = 0; i < std::min(lines, all); ++i) {
            steer_sweep_line(&plane, table, cursors_[t], &total);
            cursors_[t] = cursors_[t] + 1 < all ? cursors_[t] + 1 : 0;
        }
    }
    return total;
}

Plane::ResetCount end_sessions(steer_plane& plane, std::uint16_t vm, std::uint32_t slot,
                               Plane::Tell tell) {
    Ending ending{plane, vm, slot, tell};
    for (unsigned t = 0; t < STEER_TABLES; ++t) {
        const auto table = static_cast<enum steer_table>(t);
        for (struct steer_line& line : plane.tables->lines[t]) {
            end_slot(ending, table, line, line.slot[0]);
            if (!steer_is_v6_table(table)) end_slot(ending, table, line, line.slot[1]);
        }
    }
    return ending.count;
}

}  // namespace godwit::dpdk
