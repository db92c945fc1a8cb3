// What the control thread does to the tables while packets flow: ageing, and the end of everything a backend
// owns. Every change is one compare-and-swap of steering/, so nobody waits.
#pragma once

#include "dataplane/dpdk/hooks.hpp"

#include "dataplane/plane.hpp"

#include <array>
#include <cstdint>

namespace godwit::dpdk {

// Ages `lines` lines of every table from where the last call ended.
class Sweeper {
public:
    steer_swept sweep(steer_plane& plane, std::uint32_t lines);

private:
    std::array<std::uint32_t, STEER_TABLES> cursors_{};
};

// dataplane::Plane::end_sessions.
dataplane::Plane::ResetCount end_sessions(steer_plane& plane, std::uint16_t vm, std::uint32_t slot,
                                          dataplane::Plane::Tell tell);
// dataplane::Plane::end_untouched.
bool end_untouched(steer_plane& plane, enum steer_table table, const steer_key& key,
                   std::uint64_t stamp);

}  // namespace godwit::dpdk
