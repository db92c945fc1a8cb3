// Tables that a switch has left while it ran the other plane. Both planes lay their records out alike (GODWIT_LAYOUT),
// so what differs is where they lie and the clock: ages are carried over, ticks are not.
//
// Which of two is the newer one a number says that grows with each take-over. It is written with the new tables' layout,
// last: whoever is killed before that has changed nothing that counts, and the old tables are taken over again.
#pragma once

#include "lib/error.hpp"
#include "steering/slot.h"
#include "steering/tally.h"

#include "dataplane/plane.hpp"
#include "dataplane/port_numbers.hpp"

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace godwit::dataplane {

struct TableClock {
    std::uint32_t tick = 0;  // now
    std::uint32_t hz = 1;
};

struct TableImage {
    struct steer_config config{};
    std::array<std::span<const struct steer_line>, STEER_TABLES> lines;
    std::span<const vm_record> vms;
    TableClock clock;
    std::vector<steer_key> resets;  // the oldest first, as far as that is known
    PortNames port_names{};
    std::vector<steer_tally> tallies;  // by number
    struct Backend {
        std::uint32_t index;  // vm * STEER_SLOTS + slot
        Plane::BackendCounters counters;
    };
    std::vector<Backend> backends;
};

class LeftTables {
public:
    virtual ~LeftTables() = default;
    // From 1, more with each take-over.
    virtual std::uint64_t generation() const = 0;
    virtual const struct steer_config& config() const = 0;
    // Nobody forwards by them any more when it returns; they can still be adopted by who left them. The image lives as
    // long as this object.
    virtual Result<TableImage> stop() = 0;
    // Somebody else has them now: nobody forwards by them any more when it returns.
    virtual void remove() = 0;
};

inline std::uint32_t carried_over(std::uint32_t tick, TableClock from, TableClock to) {
    const auto age = static_cast<std::int32_t>(from.tick - tick);
    if (age <= 0) return to.tick;  // touched in this very tick
    return to.tick - static_cast<std::uint32_t>(static_cast<std::uint64_t>(age) * to.hz / from.hz);
}

// `to` has the same geometry and is nobody's yet.
inline void carry_over(const TableImage& image, enum steer_table table,
                       std::span<struct steer_line> to, TableClock clock) {
    const std::span<const struct steer_line> from = image.lines[table];
    const std::size_t slots = steer_is_v6_table(table) ? 1 : 2;
    for (std::size_t i = 0; i < from.size(); ++i) {
        to[i] = from[i];
        for (std::size_t k = 0; k < slots; ++k)
            if (steer_meta_life(to[i].slot[k].meta) != STEER_EMPTY)
                to[i].slot[k].last_tick =
                    carried_over(from[i].slot[k].last_tick, image.clock, clock);
    }
}

// Backends and limits are written anew when the plane is told of its VMs.
inline void carry_over(const TableImage& image, std::span<vm_record> to, TableClock clock) {
    for (std::size_t vm = 0; vm < image.vms.size(); ++vm) {
        to[vm] = image.vms[vm];
        to[vm].longest_gap = static_cast<std::uint32_t>(std::uint64_t{to[vm].longest_gap} *
                                                        clock.hz / image.clock.hz);
        for (std::uint32_t& since : to[vm].waiting_since) since = 0;
    }
}

}  // namespace godwit::dataplane
