// What every plane makes its tables of: their geometry for the sizes that are wanted, a random seed, and
// timeouts in its own unit.
#pragma once

#include "steering/types.h"

#include "dataplane/plane.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <limits>
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

// The VM's limits before the plane's, in ticks. Each store is whole, so a sweep meets the old one or the new one.
inline void write_limits(vm_record& to, const IdleLimits& of_vm, const IdleLimits& of_plane,
                         std::uint32_t hz) {
    // An age is compared as a signed number.
    const auto ticks = [hz](std::uint32_t seconds) {
        constexpr std::uint64_t kMost = std::numeric_limits<std::int32_t>::max();
        return static_cast<std::uint32_t>(std::min(std::uint64_t{seconds} * hz, kMost));
    };
    const auto write = [&](std::uint32_t steer_timeouts::* limit) {
        const std::uint32_t own = of_vm.seconds.*limit;
        steer_store32(&(to.timeouts.*limit), ticks(own ? own : of_plane.seconds.*limit));
    };
    for (const auto limit :
         {&steer_timeouts::established, &steer_timeouts::transitory, &steer_timeouts::udp,
          &steer_timeouts::icmp, &steer_timeouts::handshake, &steer_timeouts::linger,
          &steer_timeouts::tombstone, &steer_timeouts::fragment})
        write(limit);
    std::array<std::uint64_t, STEER_PORT_LIMITS> ports{};
    std::size_t count = 0;
    for (const IdleLimits* limits : {&of_vm, &of_plane})
        for (const PortLimit& one : limits->ports)
            if (count < ports.size())
                ports[count++] =
                    steer_port_limit(one.protocol, one.port, one.of_peer, ticks(one.idle_s));
    for (std::size_t i = 0; i < ports.size(); ++i)
        __atomic_store_n(&to.port_limits[i], ports[i], __ATOMIC_RELAXED);
}

// A bucket that has been in use goes on; a burst of 0 is a second's worth.
inline void write_new_flows(vm_record& to, const NewFlows& limit, std::uint32_t hz) {
    const std::uint64_t per_tick = std::uint64_t{limit.per_second} * STEER_NEW_FLOW_TOKEN / hz;
    const std::uint32_t burst = limit.burst ? limit.burst : limit.per_second;
    steer_store32(&to.new_flows.burst, burst * STEER_NEW_FLOW_TOKEN);
    steer_store32(&to.new_flows.per_tick, static_cast<std::uint32_t>(per_tick));
}

}  // namespace godwit::dataplane
