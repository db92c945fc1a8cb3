// What a plane has counted, cell by cell.
#pragma once

#include "dataplane/plane.hpp"

#include <cstdint>
#include <vector>

namespace godwit::dataplane {

// `visit(port, action, why, packets)` of everything that is not 0.
template <typename Visit>
void each_count(const std::vector<Plane::PortPackets>& all, Visit visit) {
    for (const Plane::PortPackets& port : all)
        for (std::uint32_t why = 0; why < STEER_WHYS; ++why)
            for (std::uint8_t action = 0; action <= STEER_REFUSE; ++action)
                if (const auto packets = port.counted.packets[steer_tally_cell(action, why)])
                    visit(port, action, why, packets);
}

}  // namespace godwit::dataplane
