// What every plane makes its tables of: their geometry for the sizes that are wanted, a random seed, and
// timeouts in its own unit.
#pragma once

#include "steering/types.h"

#include "dataplane/plane.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <sys/random.h>

namespace godwit::dataplane {

// One overflow line for so many home lines: at half load two choices of two slots each spill every fiftieth
// entry, two choices of one slot (IPv6) every thirteenth.
enum class Overflow : std::uint32_t { two_slots = 8, one_slot = 4 };

inline steer_geometry geometry_of(std::uint32_t home_lines, Overflow overflow) {
    const std::uint32_t home = std::bit_ceil(std::max(home_lines, 1u));
    return {home - 1, std::max(home / static_cast<std::uint32_t>(overflow), 1u) - 1};
}

// Twice the slots that are wanted, so that nobody is refused who was asked for.
inline struct steer_config fresh_config(const TableSizes& sizes) {
    struct steer_config config{};
    config.table[STEER_SESSIONS4] = geometry_of(sizes.sessions_v4, Overflow::two_slots);
    config.table[STEER_SESSIONS6] = geometry_of(sizes.sessions_v6 * 2, Overflow::one_slot);
    for (const auto table : {STEER_HANDSHAKES4, STEER_HANDSHAKES6, STEER_CHANCES4, STEER_CHANCES6,
                             STEER_FRAGMENTS4, STEER_FRAGMENTS6}) {
        const std::uint32_t entries =
            table < STEER_CHANCES4 ? sizes.handshakes : sizes.handshakes / 4;
        config.table[table] =
            geometry_of(steer_is_v6_table(table) ? entries : entries / 2, Overflow::two_slots);
        config.table[table].overflow_mask = 0;
    }
    if (getrandom(config.seed, sizeof(config.seed), 0) != sizeof(config.seed)) std::abort();
    return config;
}

inline steer_timeouts in_ticks(const steer_timeouts& s, std::uint32_t hz) {
    return {s.established * hz, s.transitory * hz, s.udp * hz,       s.icmp * hz,
            s.handshake * hz,   s.linger * hz,     s.tombstone * hz, s.fragment * hz};
}

}  // namespace godwit::dataplane
