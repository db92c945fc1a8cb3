#include "dataplane/dpdk/ending.hpp"

#include "steering/ending.h"

namespace godwit::dpdk {

using dataplane::Plane;

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
    struct steer_ending ending{vm, slot, tell == Plane::Tell::peers ? 1u : 0u, 0, 0};
    for (unsigned t = 0; t < STEER_TABLES; ++t) {
        const auto all = static_cast<std::uint32_t>(plane.tables->lines[t].size());
        for (std::uint32_t i = 0; i < all; ++i)
            steer_end_line(&plane, static_cast<enum steer_table>(t), i, &ending);
    }
    return {ending.reset, ending.dropped};
}

bool end_untouched(steer_plane& plane, enum steer_table table, const steer_key& key,
                   std::uint64_t stamp) {
    return steer_end_untouched(&plane, table, &key, stamp) != 0;
}

}  // namespace godwit::dpdk
