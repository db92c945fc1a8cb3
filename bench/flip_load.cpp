#include "bench/flip_load.hpp"

#include <atomic>
#include <sched.h>
#include <stdexcept>
#include <thread>

namespace godwit::bench {
namespace {

constexpr int kOldCpu = 0, kNewCpu = 1;
constexpr std::uint32_t kOldBatch = 4096, kNewBatch = 16;

// The plane counts per CPU, so packets of two kinds are told apart by where they run.
void stay_on(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set) != 0)
        throw std::runtime_error("the flip under load needs two CPUs");
}

// Old sessions never go to slot 1, whoever is the owner.
void send_established(PlaneBench& bench, std::uint32_t sessions, const std::atomic<bool>& stop,
                      FlipsUnderLoad& seen) {
    const auto before = bench.sent_by(kOldCpu);
    while (!stop) bench.receive(BENCH_PLANE, sessions, kOldBatch);
    const auto after = bench.sent_by(kOldCpu);
    seen.established = after[0] - before[0] + after[1] - before[1];
    seen.misplaced = after[1] - before[1];
}

// A batch with one steer word before and after it goes to that word's owner; one with a flip in it may be divided.
void send_newcomers(PlaneBench& bench, const std::atomic<bool>& stop,
                    std::atomic<std::uint64_t>& batches, FlipsUnderLoad& seen) {
    auto before = bench.sent_by(kNewCpu);
    while (!stop) {
        const std::uint64_t word = bench.word();
        bench.receive_strangers(kNewBatch);
        const bool whole = bench.word() == word;
        const auto after = bench.sent_by(kNewCpu);
        const std::uint32_t owner = steer_owner(word);
        if (whole) {
            seen.newcomers += kNewBatch;
            seen.misplaced += after[owner ^ 1u] - before[owner ^ 1u];
            seen.misplaced += kNewBatch - (after[owner] - before[owner]);
        }
        before = after;
        batches.fetch_add(1);
        batches.notify_one();
    }
}

}  // namespace

FlipsUnderLoad flip_under_load(PlaneBench& bench, std::uint32_t sessions, int flips) {
    if (std::thread::hardware_concurrency() < 2)
        throw std::runtime_error("the flip under load needs two CPUs");
    FlipsUnderLoad old, fresh;
    std::atomic<bool> stop = false;
    std::atomic<std::uint64_t> batches = 0;
    std::thread established([&] {
        stay_on(kOldCpu);
        send_established(bench, sessions, stop, old);
    });
    std::thread newcomers([&] {
        stay_on(kNewCpu);
        send_newcomers(bench, stop, batches, fresh);
    });
    for (int i = 0; i < flips; ++i) {
        const std::uint64_t sent = batches.load();
        while (batches.load() < sent + 4) batches.wait(batches.load());
        fresh.took_ns.push_back(bench.flip());
    }
    stop = true;
    established.join();
    newcomers.join();
    fresh.established = old.established;
    fresh.misplaced += old.misplaced;
    bench.settle();
    return fresh;
}

}  // namespace godwit::bench
