// The eBPF plane's figures beside a kernel LRU hash: same frames, same order, interleaved rounds, medians.
//   dataplane_bench [OUT.json] [ROUNDS]
// Absolute numbers wander with the machine; only the ratio inside one run means something, so goals are
// printed and not enforced. Exit 77 without root.
#include "bench/flip_load.hpp"
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

bj::object flips_under_load(PlaneBench& bench) {
    constexpr int kFlips = 101;
    const std::uint32_t sessions = bench.live_sessions();
    const FlipsUnderLoad seen = flip_under_load(bench, sessions, kFlips);
    require(seen.newcomers > 0 && seen.established > 0, "nobody has sent anything");
    std::printf(
        "flip under load with %u sessions: %.0f ns (median of %d); %llu packets of old sessions, "
        "%llu "
        "newcomers, %llu misplaced\n",
        sessions, median(seen.took_ns), kFlips, static_cast<unsigned long long>(seen.established),
        static_cast<unsigned long long>(seen.newcomers),
        static_cast<unsigned long long>(seen.misplaced));
    return {{"case", "flip under load, " + std::to_string(sessions) + " sessions"},
            {"ours", median(seen.took_ns)},
            {"unit", "ns"},
            {"established_packets", seen.established},
            {"newcomers", seen.newcomers},
            {"misplaced", seen.misplaced},
            {"goal", 0},
            {"met", seen.misplaced == 0},
            {"rounds", kFlips}};
}

// Every session of a table that is as full as it was made for, once, on the other side of a flip.
bj::array ten_millions(int rounds) {
    constexpr std::uint32_t kMany = 1 << 24, kFew = 1024;
    PlaneBench bench(kMany, PlaneBench::Peer::none);
    bench.insert(BENCH_PLANE, 0, kFew);
    std::vector<double> few, many;
    for (int i = 0; i < rounds; ++i) few.push_back(bench.receive(BENCH_PLANE, kFew, kPackets));
    const double fill = bench.insert(BENCH_PLANE, kFew, kMany - kFew);
    require(bench.live_sessions() == kMany && bench.count_of(STEER_WHY_UNTRACKED) == 0,
            "the table did not hold what it was made for");
    for (int i = 0; i < rounds; ++i) many.push_back(bench.receive(BENCH_PLANE, kMany, kPackets));
    bench.flip();
    const std::uint64_t found = bench.count_of(STEER_WHY_SESSION);
    const std::uint64_t strayed = bench.sent_to(1);
    bench.receive(BENCH_PLANE, kMany, kMany);
    const std::uint64_t lost = kMany - (bench.count_of(STEER_WHY_SESSION) - found);
    const std::uint64_t misplaced = bench.sent_to(1) - strayed;
    const double bytes = static_cast<double>(bench.table_bytes()) / kMany;
    const double ratio = median(many) / median(few);
    std::printf(
        "%u sessions: %.1f bytes and %.0f ns each to make, %.1f ns a packet beside %.1f with %u "
        "(%.2f times); after a flip %llu lost, %llu misplaced\n",
        kMany, bytes, fill, median(many), median(few), kFew, ratio,
        static_cast<unsigned long long>(lost), static_cast<unsigned long long>(misplaced));
    return {{{"case", "growth, " + std::to_string(kMany) + " sessions"},
             {"ours", median(many)},
             {"peer", median(few)},
             {"peer_name", "the same table with " + std::to_string(kFew) + " sessions"},
             {"unit", "ns/packet"},
             {"ratio", ratio},
             {"goal", 4.0},
             {"met", ratio <= 4.0},
             {"fill_ns", fill},
             {"rounds", rounds}},
            {{"case", "sessions lost or misplaced over a flip, " + std::to_string(kMany)},
             {"ours", lost + misplaced},
             {"unit", "sessions"},
             {"bytes_per_session", bytes},
             {"goal", 0},
             {"met", lost + misplaced == 0},
             {"rounds", 1}}};
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
    rows.push_back(flips_under_load(bench));
    for (bj::value& row : ten_millions(std::min(rounds, 5))) rows.push_back(std::move(row));
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
