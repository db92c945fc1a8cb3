// One worker of the DPDK plane over bursts of 32, beside rte_hash (bulk lookups, lock-free, the session's line
// written) and beside only swapping the five-tuple, which every forwarder must at least touch: same frames, same
// order, interleaved rounds, medians of this thread's own time. No device: what a NIC and its driver cost is the
// same for all of them, so against the bare swap the plane looks worse here than behind a port. No root.
//   dpdk_bench [OUT.json] [ROUNDS]
#include "bench/dpdk_bench.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <boost/json.hpp>

namespace {

using namespace godwit::bench;
namespace bj = boost::json;

constexpr std::uint32_t kSessionsMax = 10'000'000, kPackets = 1'000'000, kNew = 200'000;
constexpr double kGrowthGoal = 2.0;

double median(std::vector<double> values) {
    std::ranges::sort(values);
    return values[values.size() / 2];
}

struct Row {
    std::string name;
    double ours = 0, peer = 0;
    std::string peer_name;
    double goal = 0;  // of the ratio; 0: none
    int rounds = 0;
};

bj::object told(const Row& row) {
    const double ratio = row.ours / row.peer;
    const char* verdict = row.goal == 0 ? "" : ratio <= row.goal ? "  met" : "  MISSED";
    std::printf("%-34s %7.1f %7.1f  %5.2f%s  (%s)\n", row.name.c_str(), row.ours, row.peer, ratio,
                verdict, row.peer_name.c_str());
    bj::object one{{"case", row.name},           {"ours", row.ours},    {"peer", row.peer},
                   {"peer_name", row.peer_name}, {"unit", "ns/packet"}, {"ratio", ratio},
                   {"rounds", row.rounds}};
    if (row.goal != 0) {
        one["goal"] = row.goal;
        one["met"] = ratio <= row.goal;
    }
    return one;
}

struct Medians {
    double feed, plane, hash, swap;
};

Medians rounds_of(DpdkBench& bench, std::uint32_t sessions, int rounds) {
    std::array<std::vector<double>, kTargets> samples;
    for (int i = 0; i <= rounds; ++i)
        for (unsigned target = 0; target < kTargets; ++target) {
            const double ns = bench.receive(static_cast<Target>(target), sessions, kPackets);
            if (i > 0) samples[target].push_back(ns);  // the first round warms up
        }
    return {median(samples[kFeed]), median(samples[kPlane]), median(samples[kHash]),
            median(samples[kSwap])};
}

void established(bj::array& rows, unsigned family, int rounds) {
    DpdkBench bench(family, family == 4 ? kSessionsMax : 1'000'000);
    const std::string over = family == 4 ? "" : "IPv6 ";
    std::vector<std::uint32_t> counts{1'000'000};
    if (family == 4) counts = {1, 1'000, 65'536, 1'000'000, kSessionsMax};
    double at_1k = 0;
    for (const std::uint32_t count : counts) {
        bench.know(count);
        const Medians m = rounds_of(bench, count, rounds);
        const std::string name = over + "established, " + std::to_string(count) + " live";
        std::printf("%-34s feed alone %.1f, 5tswap %.1f\n", name.c_str(), m.feed, m.swap);
        rows.push_back(told({name, m.plane, m.hash, "rte_hash_lookup_bulk", 0, rounds}));
        rows.push_back(told({name, m.plane, m.swap, "5tswap alone", 0, rounds}));
        if (count == 1'000) at_1k = m.plane;
        if (at_1k != 0 && count > 1'000)
            rows.push_back(told({name, m.plane, at_1k, "itself at 1000 sessions",
                                 count == kSessionsMax ? kGrowthGoal : 0, rounds}));
    }
}

void new_sessions(bj::array& rows, int rounds) {
    DpdkBench bench(4, 1 << 22);
    std::vector<double> plane, hash;
    for (int i = 0; i < rounds; ++i) {
        plane.push_back(bench.open(kPlane, kNew));
        hash.push_back(bench.open(kHash, kNew));
    }
    rows.push_back(
        told({"new UDP session", median(plane), median(hash), "rte_hash_add_key_data", 0, rounds}));
}

}  // namespace

int main(int argc, char** argv) {
    const std::filesystem::path out = argc > 1 ? argv[1] : "bench/out/dpdk.json";
    const int rounds = argc > 2 ? std::max(std::atoi(argv[2]), 1) : 7;
    try {
        bj::array rows;
        std::printf("in pages of %s\n", large_pages() ? "2 MiB" : "4 KiB");
        std::printf("%-34s %7s %7s  %5s\n", "ns per packet, medians", "plane", "peer", "ratio");
        new_sessions(rows, rounds);
        established(rows, 4, rounds);
        established(rows, 6, rounds);
        if (out.has_parent_path()) std::filesystem::create_directories(out.parent_path());
        std::ofstream(out) << bj::serialize(rows) << "\n";
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "dpdk_bench: %s\n", error.what());
        return 2;
    }
}
