// A worker of the DPDK plane from device to device, for bench/dpdk_testpmd.py: frames come from a net_pcap device that
// repeats a file, each of a session that exists, and leave by net_null. Says {"packets", "cpu_s"} of the worker's
// thread.
//   dpdk_feed PCAP SESSIONS SECONDS MEGABYTES
#include "dataplane/dpdk/worker.hpp"

#include "bench/world.hpp"

#include <cstdio>
#include <cstdlib>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <stdexcept>
#include <string>
#include <time.h>
#include <vector>

namespace {

using namespace godwit;
using namespace godwit::bench;

// The second is time that passes, whoever has the CPU.
double seconds(clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

void start_environment(const std::string& pcap, const std::string& megabytes) {
    std::vector<std::string> words{
        "dpdk_feed",        "--no-huge",
        "--no-pci",         "--no-telemetry",
        "--no-shconf",      "-m",
        megabytes,          "--lcores=0",
        "--vdev=net_null0", "--vdev=net_pcap0,infinite_rx=1,rx_pcap=" + pcap,
        "--log-level=error"};
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    if (rte_eal_init(static_cast<int>(arguments.size()), arguments.data()) < 0)
        throw std::runtime_error(std::string("start DPDK: ") + rte_strerror(rte_errno));
}

std::uint16_t start_device(const char* name, rte_mempool* frames) {
    std::uint16_t device = 0;
    const rte_eth_conf plain{};
    const auto any = static_cast<unsigned>(SOCKET_ID_ANY);
    if (rte_eth_dev_get_port_by_name(name, &device) != 0 ||
        rte_eth_dev_configure(device, 1, 1, &plain) != 0 ||
        rte_eth_rx_queue_setup(device, 0, 512, any, nullptr, frames) != 0 ||
        rte_eth_tx_queue_setup(device, 0, 512, any, nullptr) != 0 || rte_eth_dev_start(device) != 0)
        throw std::runtime_error(std::string("start ") + name);
    return device;
}

void forward(std::uint32_t sessions, double for_s) {
    World world(sessions);
    rte_mempool* frames = rte_pktmbuf_pool_create("frames", sessions + 8191, 256, 0,
                                                  RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    if (!frames) throw std::runtime_error("make the pool of frames");
    dpdk::Stations stations(1, 500);
    dpdk::Worker worker(world.tables(), stations, 2);
    worker.plane.directory = &world.directory();
    worker.uplink = kUplink;
    worker.device = {start_device("net_pcap0", frames), start_device("net_null0", frames)};
    dpdk::Burst burst;
    const double end = seconds(CLOCK_MONOTONIC) + for_s, start = seconds(CLOCK_THREAD_CPUTIME_ID);
    std::uint64_t packets = 0;
    for (std::uint32_t round = 0; round % 1024 != 0 || seconds(CLOCK_MONOTONIC) < end; ++round) {
        worker.plane.tick = 1 + round / 1024;
        if (!dpdk::rx_stage(worker, kUplink, burst)) continue;
        packets += burst.count;
        dpdk::run_stages(worker, burst);
        dpdk::tx_stage(worker);
    }
    const double took = seconds(CLOCK_THREAD_CPUTIME_ID) - start;
    require(worker.counters.reason(STEER_WHY_SESSION) == packets,
            "not every packet found its session");
    require(worker.counters.unsent == 0, "not every packet was sent");
    std::printf("{\"packets\": %llu, \"cpu_s\": %.6f}\n", static_cast<unsigned long long>(packets),
                took);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 5)
        return std::fprintf(stderr, "usage: dpdk_feed PCAP SESSIONS SECONDS MEGABYTES\n"), 2;
    try {
        start_environment(argv[1], argv[4]);
        forward(static_cast<std::uint32_t>(std::atoi(argv[2])), std::atof(argv[3]));
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "dpdk_feed: %s\n", error.what());
        return 2;
    }
}
