// Two workers of the DPDK plane beside one, each on a thread: packets of clients and of the VM, half and half, to the
// same sessions; the VM acknowledges something new with each of its own. Interleaved rounds, medians of the threads'
// own time, without what they wait for each other.
//   placed    a NIC has put every packet where it belongs
//   one queue worker 0 receives everything, and hands over what is worker 1's
//   shared    no shards: worker 0 has the clients' packets, worker 1 the VM's, of all sessions
// No device and no root.
//   dpdk_workers_bench [OUT.json] [ROUNDS]
#include "dataplane/dpdk/worker.hpp"

#include "bench/world.hpp"
#include "tests/packet/dpdk/eal.hpp"
#include "tests/packet/frame.hpp"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <stdexcept>
#include <string>
#include <thread>
#include <time.h>
#include <vector>

#include <boost/json.hpp>

namespace {

using namespace godwit;
using namespace godwit::bench;
namespace bj = boost::json;

constexpr std::uint16_t kPorts = 3;
constexpr std::uint32_t kScatter = 2654435761u;  // prime: visits all before it repeats
constexpr std::uint32_t kPackets = 12800 * 32;   // of each worker and round
constexpr unsigned kFrames = 1024, kBurstsPerTick = 32;

double now_s() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double median(std::vector<double> values) {
    std::ranges::sort(values);
    return values[values.size() / 2];
}

// One worker on its thread, with frames that it uses again and again.
class Lane {
public:
    Lane(World& world, dpdk::Stations& stations, unsigned number, unsigned workers);
    ~Lane();
    dpdk::Worker& worker() { return worker_; }
    // The sessions whose packets it receives in turn: in clients' frames, in the VM's.
    std::vector<std::uint32_t> sessions[2];
    std::uint32_t packets = kPackets;  // so many of them
    rte_ring* from = nullptr;          // what another one hands over; none: nobody does
    std::atomic<bool>* fed = nullptr;  // and whether that one is through

    void run();
    double busy_ns() const { return busy_s_ * 1e9; }
    std::uint64_t decided() const { return worker_.counters.reason(STEER_WHY_SESSION); }

private:
    void fill(std::uint32_t burst);
    void drop_departures();
    void take_over();
    void wait_for_room();

    dpdk::Worker worker_;
    dpdk::Burst burst_;
    std::vector<rte_mbuf*> frames_[2];
    std::size_t next_[2] = {};
    std::size_t at_[2] = {};
    std::uint32_t number_ = 0;
    double busy_s_ = 0, waited_s_ = 0;
};

Lane::Lane(World& world, dpdk::Stations& stations, unsigned number, unsigned workers)
    : worker_(world.tables(), stations, kPorts, number, workers) {
    worker_.plane.directory = &world.directory();
    worker_.uplink = kUplink;
    const test::Tcp tcp = test::tcp("20.0.0.9:4000", "10.1.0.1:80");
    const test::Bytes of[2] = {tcp.data(""), tcp.reply().data("")};
    for (unsigned way = 0; way < 2; ++way)
        for (unsigned i = 0; i < kFrames; ++i)
            frames_[way].push_back(test::Eal::instance().frame(of[way]));
}

Lane::~Lane() {
    for (const auto& frames : frames_)
        for (rte_mbuf* frame : frames) rte_pktmbuf_free(frame);
}

// The next 32 of clients or of the VM by turns where it has both.
void Lane::fill(std::uint32_t burst) {
    const unsigned way = sessions[0].empty() || (!sessions[1].empty() && burst & 1) ? 1 : 0;
    burst_.port = way == 0 ? kUplink : kVmPort;
    burst_.count = dpdk::kBurstMax;
    for (rte_mbuf*& frame : burst_.frames) {
        frame = frames_[way][next_[way]++ % kFrames];
        World::write(rte_pktmbuf_mtod(frame, std::uint8_t*),
                     sessions[way][at_[way]++ % sessions[way].size()], way == 1, ++number_);
    }
}

void Lane::drop_departures() {
    for (dpdk::Departures& leaving : worker_.departures) leaving.count = 0;
}

// The frames on the way, of both ports, are fewer than there are: none is written anew before it is read.
void Lane::wait_for_room() {
    for (rte_ring* ring : worker_.to) {
        if (!ring || rte_ring_free_count(ring) >= dpdk::kBurstMax) continue;
        const double start = now_s();
        while (rte_ring_free_count(ring) < dpdk::kBurstMax) sched_yield();
        waited_s_ += now_s() - start;
    }
}

void Lane::take_over() {
    for (;;) {
        const bool last = fed->load(std::memory_order_acquire);
        std::array<void*, dpdk::kBurstMax> frames;
        unsigned count = rte_ring_dequeue_burst(from, frames.data(), dpdk::kBurstMax, nullptr);
        if (count == 0 && last) return;
        if (count == 0) {
            const double start = now_s();
            while (rte_ring_empty(from) && !fed->load()) sched_yield();
            waited_s_ += now_s() - start;
            continue;
        }
        for (unsigned i = 0; i < count;) {
            burst_.port = static_cast<rte_mbuf*>(frames[i])->port;
            burst_.count = 0;
            for (; i < count && static_cast<rte_mbuf*>(frames[i])->port == burst_.port; ++i)
                burst_.frames[burst_.count++] = static_cast<rte_mbuf*>(frames[i]);
            dpdk::run_own_stages(worker_, burst_);
            drop_departures();
        }
    }
}

void Lane::run() {
    waited_s_ = 0;
    const double start = now_s();
    if (from) {
        take_over();
    } else {
        for (std::uint32_t burst = 0; burst < packets / dpdk::kBurstMax; ++burst) {
            if (burst % kBurstsPerTick == 0) ++worker_.plane.tick;
            wait_for_room();
            fill(burst);
            dpdk::run_stages(worker_, burst_);
            drop_departures();
        }
    }
    busy_s_ = now_s() - start - waited_s_;
}

struct Figures {
    double slowest = 0,
           sum = 0;  // ns a packet: of the busier worker for all packets, and of both together
};

enum Way { kOne, kPlaced, kOneQueue, kShared, kWays };

class Comparison {
public:
    explicit Comparison(std::uint32_t count) : count_(count), world_(count) {}
    Figures round(Way way);

private:
    unsigned worker_of(std::uint32_t session);
    void hand_out(std::vector<std::unique_ptr<Lane>>& lanes, Way way);
    std::uint32_t count_;
    World world_;
    dpdk::Stations stations_{1, 1000};
};

unsigned Comparison::worker_of(std::uint32_t session) {
    struct steer_packet packet;
    static test::Bytes frame = test::tcp("20.0.0.9:4000", "10.1.0.1:80").data("");
    World::write(frame.data(), session, false);
    steer_parse(&packet, frame.data(), frame.data() + frame.size(),
                static_cast<std::uint32_t>(frame.size()));
    steer_plane plane{.tables = &world_.tables(), .directory = &world_.directory()};
    return dpdk::worker_of(plane, packet, 2);
}

void Comparison::hand_out(std::vector<std::unique_ptr<Lane>>& lanes, Way way) {
    static std::map<std::uint32_t, std::vector<std::uint8_t>> known;
    std::vector<std::uint8_t>& owner = known[count_];
    for (auto i = static_cast<std::uint32_t>(owner.size()); i < count_; ++i)
        owner.push_back(static_cast<std::uint8_t>(worker_of(i)));
    for (std::uint64_t n = 0; n < count_; ++n)  // in scattered order
        for (unsigned from_vm = 0; from_vm < 2; ++from_vm) {
            const auto i = static_cast<std::uint32_t>(n * kScatter % count_);
            const unsigned to = way == kPlaced ? owner[i] : way == kShared ? from_vm : 0;
            lanes[to]->sessions[from_vm].push_back(i);
        }
}

Figures Comparison::round(Way way) {
    const bool two = way != kOne;
    std::vector<std::unique_ptr<Lane>> lanes;
    for (unsigned number = 0; number < (two ? 2u : 1u); ++number)
        lanes.push_back(
            std::make_unique<Lane>(world_, stations_, number, two && way != kShared ? 2 : 1));
    hand_out(lanes, way);
    std::atomic<bool> fed{false};
    rte_ring* ring = nullptr;
    if (way == kOneQueue) {
        lanes[0]->worker().to[1] = lanes[1]->from = ring = test::Eal::instance().ring(512);
        lanes[1]->fed = &fed;
        lanes[0]->packets = 2 * kPackets;
        lanes[1]->packets = 0;
    }
    std::vector<std::thread> threads;
    if (two) threads.emplace_back([&] { lanes[1]->run(); });
    lanes[0]->run();
    fed.store(true, std::memory_order_release);
    for (std::thread& thread : threads) thread.join();
    std::uint64_t decided = 0;
    Figures figures;
    for (const auto& lane : lanes) {
        decided += lane->decided();
        figures.sum += lane->busy_ns();
        figures.slowest = std::max(figures.slowest, lane->busy_ns());
    }
    std::uint32_t packets = 0;
    for (const auto& lane : lanes) packets += lane->packets;
    require(decided == packets, "not every packet found its session");
    lanes.clear();
    if (ring) rte_ring_free(ring);
    figures.sum /= packets;
    figures.slowest /= packets;
    return figures;
}

constexpr const char* kNames[kWays] = {"1 worker", "2 workers, placed", "2 workers, one queue",
                                       "2 workers, shared, no shards"};

void compare(bj::array& rows, std::uint32_t count, int rounds) {
    Comparison bench(count);
    std::vector<double> slowest[kWays], sum[kWays];
    for (int i = 0; i <= rounds; ++i)
        for (unsigned way = 0; way < kWays; ++way) {
            const Figures figures = bench.round(static_cast<Way>(way));
            if (i == 0) continue;  // warms up
            slowest[way].push_back(figures.slowest);
            sum[way].push_back(figures.sum);
        }
    const double one = median(slowest[kOne]);
    for (unsigned way = 0; way < kWays; ++way) {
        const double pace = median(slowest[way]);
        const std::string name = std::string(kNames[way]) + ", " + std::to_string(count) + " live";
        std::printf("%-48s %7.1f %7.1f %5.2f\n", name.c_str(), pace, median(sum[way]), one / pace);
        rows.push_back(bj::object{{"case", name},
                                  {"ours", pace},
                                  {"peer", one},
                                  {"peer_name", "1 worker"},
                                  {"unit", "ns/packet"},
                                  {"work", median(sum[way])},
                                  {"ratio", pace / one},
                                  {"rounds", rounds}});
    }
}

}  // namespace

int main(int argc, char** argv) {
    const std::filesystem::path out = argc > 1 ? argv[1] : "bench/out/dpdk_workers.json";
    const int rounds = argc > 2 ? std::max(std::atoi(argv[2]), 1) : 5;
    try {
        test::Eal::instance();
        bj::array rows;
        std::setvbuf(stdout, nullptr, _IOLBF, 0);
        std::printf("%-48s %7s %7s %5s\n", "ns a packet, medians", "pace", "work", "times");
        for (const std::uint32_t count : {1'000u, 65'536u, 1'000'000u, 10'000'000u})
            compare(rows, count, rounds);
        if (out.has_parent_path()) std::filesystem::create_directories(out.parent_path());
        std::ofstream(out) << bj::serialize(rows) << "\n";
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "dpdk_workers_bench: %s\n", error.what());
        return 2;
    }
}
