// The eBPF plane's figures beside a kernel LRU hash: same frames, same order, interleaved rounds, medians.
//   dataplane_bench [OUT.json] [ROUNDS]
// Absolute numbers wander with the machine; only the ratio inside one run means something, so goals are
// printed and not enforced. Exit 77 without root.
#include "bench/plane_bench.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <unistd.h>

#include <boost/json.hpp>

namespace {

using namespace godwit::bench;
namespace bj = boost::json;

constexpr std::uint32_t kSessionsMax = 1 << 20;
constexpr std::uint32_t kPackets = 400'000, kInserts = 100'000;
constexpr double kGoal = 0.40;

double median(std::vector<double> values) {
    std::ranges::sort(values);
    return values[values.size() / 2];
}

void require(bool holds, const std::string& what) {
    if (!holds) throw std::runtime_error("the bench itself is wrong: " + what);
}

struct Samples {
    std::vector<double> nothing, plane, lru;
};

bj::object row(const std::string& name, const Samples& s, double goal) {
    const double nothing = median(s.nothing), plane = median(s.plane), lru = median(s.lru);
    const double ratio = plane / lru;
    std::printf("%-24s %8.1f %8.1f %8.1f   %5.2f  %5.2f%s\n", name.c_str(), nothing, plane, lru,
                ratio, (plane - nothing) / (lru - nothing),
                goal == 0       ? ""
                : ratio <= goal ? "  met"
                                : "  MISSED");
    bj::object one{{"case", name},
                   {"ours", plane},
                   {"peer", lru},
                   {"peer_name", "BPF_MAP_TYPE_LRU_HASH"},
                   {"unit", "ns/packet"},
                   {"ratio", ratio},
                   {"generator", nothing},
                   {"ratio_without_generator", (plane - nothing) / (lru - nothing)},
                   {"rounds", s.plane.size()}};
    if (goal != 0) {
        one["goal"] = goal;
        one["met"] = ratio <= goal;
    }
    return one;
}

// On tables of their own, so that neither is crowded: rounds of fresh sessions.
bj::object new_sessions(int rounds) {
    PlaneBench bench(kSessionsMax);
    Samples samples;
    for (int i = 0; i < rounds; ++i) {
        const auto first = static_cast<std::uint32_t>(i) * kInserts;
        samples.nothing.push_back(bench.insert(BENCH_NOTHING, first, kInserts));
        samples.plane.push_back(bench.insert(BENCH_PLANE, first, kInserts));
        samples.lru.push_back(bench.insert(BENCH_LRU, first, kInserts));
    }
    require(bench.live_sessions() == kInserts * static_cast<std::uint32_t>(rounds),
            "sessions were not made");
    return row("new session", samples, 0);
}

bj::object established(PlaneBench& bench, std::uint32_t sessions, int rounds, double goal) {
    const std::uint32_t known = bench.live_sessions();
    bench.insert(BENCH_PLANE, known, sessions - known);
    bench.insert(BENCH_LRU, known, sessions - known);
    require(bench.live_sessions() == sessions, "sessions were not made");
    const std::uint64_t hits = bench.count_of(STEER_WHY_SESSION);
    Samples samples;
    for (int i = 0; i < rounds; ++i) {
        samples.nothing.push_back(bench.receive(BENCH_NOTHING, sessions, kPackets));
        samples.plane.push_back(bench.receive(BENCH_PLANE, sessions, kPackets));
        samples.lru.push_back(bench.receive(BENCH_LRU, sessions, kPackets));
    }
    require(bench.count_of(STEER_WHY_SESSION) - hits ==
                std::uint64_t{kPackets} * static_cast<unsigned>(rounds),
            "not every packet found its session");
    require(bench.misses() == 0, "the LRU hash has lost sessions");
    return row("established, " + std::to_string(sessions) + " live", samples, goal);
}

bj::object flips(PlaneBench& bench) {
    std::vector<double> took;
    for (int i = 0; i < 1001; ++i) took.push_back(bench.flip());
    for (int i = 0; i < 4; ++i) {
        const std::uint32_t before = bench.owner_of_newcomer();
        bench.flip();
        require(bench.owner_of_newcomer() != before, "the flip did not take effect");
    }
    bench.settle();
    const std::uint32_t sessions = bench.live_sessions();
    std::printf("flip with %u sessions: %.0f ns (median of 1001, clock included)\n", sessions,
                median(took));
    return {{"case", "flip, " + std::to_string(sessions) + " sessions"},
            {"ours", median(took)},
            {"unit", "ns"},
            {"rounds", took.size()}};
}

bj::array measure(int rounds) {
    bj::array rows;
    std::printf("%-24s %8s %8s %8s   %5s  %5s\n", "ns per packet, medians", "nothing", "plane",
                "LRU", "ratio", "net");
    rows.push_back(new_sessions(std::min(rounds, 9)));
    PlaneBench bench(kSessionsMax);
    bj::object flip_empty = flips(bench);
    for (const std::uint32_t sessions : {1u, 1u << 16, kSessionsMax})
        rows.push_back(established(bench, sessions, rounds, sessions == kSessionsMax ? kGoal : 0));
    rows.push_back(std::move(flip_empty));
    rows.push_back(flips(bench));
    return rows;
}

}  // namespace

int main(int argc, char** argv) {
    if (geteuid() != 0) {
        std::fprintf(stderr, "skipped: needs root\n");
        return 77;
    }
    const std::filesystem::path out = argc > 1 ? argv[1] : "bench/out/dataplane.json";
    const int rounds = argc > 2 ? std::max(std::atoi(argv[2]), 1) : 9;
    try {
        const bj::array rows = measure(rounds);
        if (out.has_parent_path()) std::filesystem::create_directories(out.parent_path());
        std::ofstream(out) << bj::serialize(rows) << "\n";
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "dataplane_bench: %s\n", error.what());
        return 2;
    }
}
