// After a process that was killed in the middle of anything: locks nobody holds, places nobody fills, counters
// that miss the last step. Everything that is counted is counted again from the entries, which are the truth.
#pragma once

#include "dataplane/dpdk/hooks.hpp"

namespace godwit::dpdk {

struct Repaired {
    std::uint32_t sessions = 0;  // live ones that were found
    std::uint32_t places = 0;    // half-filled ones that are empty now
    std::uint32_t locks = 0;     // taken off lines
    bool operator==(const Repaired&) const = default;
};

// Nobody else uses `tables`.
Repaired repair(Tables& tables);

}  // namespace godwit::dpdk
