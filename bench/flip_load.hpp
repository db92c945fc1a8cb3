// Flips while packets flow: what each packet's session is known to be decides where it had to go.
#pragma once

#include "bench/plane_bench.hpp"

#include <cstdint>
#include <vector>

namespace godwit::bench {

struct FlipsUnderLoad {
    std::vector<double> took_ns;
    std::uint64_t established = 0;  // packets of sessions that are slot 0's, all the time
    std::uint64_t newcomers = 0;    // SYNs that began and ended between two flips
    std::uint64_t misplaced = 0;    // of both, at the wrong backend
};

// `sessions` are known to `bench` and owned by slot 0. Two threads on a CPU each; throws where there is one CPU only.
FlipsUnderLoad flip_under_load(PlaneBench& bench, std::uint32_t sessions, int flips);

}  // namespace godwit::bench
