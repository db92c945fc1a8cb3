// Under which number a port is counted (steering/tally.h). The numbers lie beside the counters and outlive the process:
// a port goes on counting under its own, wherever it stands in the configuration of the next one.
#pragma once

#include "steering/tally.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace godwit::dataplane {

using PortNames = std::array<std::uint64_t, STEER_TALLY_PORTS>;  // hashes; 0: the number is free

inline std::uint64_t name_hash(const std::string& name) {
    std::uint64_t hash = 0xcbf29ce484222325ull;  // FNV-1a
    for (const char c : name) hash = (hash ^ static_cast<std::uint8_t>(c)) * 0x100000001b3ull;
    return std::max<std::uint64_t>(hash, 1);
}

// The number of each of `ports`, fewer than STEER_TALLY_PORTS. `give_up` is called with every number whose port is
// gone, before somebody else gets it.
template <typename GiveUp>
std::vector<std::uint32_t> number_ports(std::span<std::uint64_t, STEER_TALLY_PORTS> names,
                                        const std::vector<std::string>& ports, GiveUp give_up) {
    std::vector<std::uint64_t> wanted;
    for (const std::string& port : ports) wanted.push_back(name_hash(port));
    for (std::uint32_t number = 1; number < STEER_TALLY_PORTS; ++number)
        if (names[number] != 0 && std::ranges::find(wanted, names[number]) == wanted.end()) {
            give_up(number);
            names[number] = 0;
        }
    std::vector<std::uint32_t> numbers;
    for (const std::uint64_t name : wanted) {
        auto seat = std::find(names.begin() + 1, names.end(), name);
        if (seat == names.end()) seat = std::find(names.begin() + 1, names.end(), 0u);
        *seat = name;
        numbers.push_back(static_cast<std::uint32_t>(seat - names.begin()));
    }
    return numbers;
}

}  // namespace godwit::dataplane
