#include "dataplane/dpdk/environment.hpp"

#include "dataplane/dpdk/pool.hpp"

#include <algorithm>
#include <net/if.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_mbuf.h>
#include <sched.h>

namespace godwit::dpdk {
namespace {

using dataplane::Device;

constexpr unsigned kAnySocket = static_cast<unsigned>(SOCKET_ID_ANY);

std::unexpected<Error> refused(const std::string& doing, int error) {
    return fail(Fault::Rejected, doing, rte_strerror(error));
}

std::vector<std::uint32_t> allowed_cpus() {
    std::vector<std::uint32_t> cpus;
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) != 0) return {0};
    for (std::uint32_t cpu = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
    return cpus;
}

std::string cpu_list(const std::vector<std::uint32_t>& cpus) {
    std::string list;
    for (const std::uint32_t cpu : cpus) list += (list.empty() ? "(" : ",") + std::to_string(cpu);
    return list + ")";
}

std::string words_of(const std::vector<std::uint32_t>& cpus) {
    std::string list;
    for (const std::uint32_t cpu : cpus) list += (list.empty() ? "" : ", ") + std::to_string(cpu);
    return list;
}

// A NIC that tells flows apart by their addresses, so that fragments stay with the others, gets a queue for every
// worker. What it thinks differently from us about is handed over.
std::uint16_t queues_of(const rte_eth_dev_info& about, const Device& device, unsigned workers) {
    if (device.kind != Device::Kind::pci || !(about.flow_type_rss_offloads & RTE_ETH_RSS_IP))
        return 1;
    const unsigned most = std::min(about.max_rx_queues, about.max_tx_queues);
    return static_cast<std::uint16_t>(std::clamp(workers, 1u, std::max(most, 1u)));
}

// The device's own idea of how long its queues are, as near to ours as it goes.
Result<void> set_up(std::uint16_t ethdev, std::uint16_t queues, const Device& device,
                    const rte_eth_dev_info& about, rte_mempool* frames, const std::string& doing) {
    rte_eth_conf wanted{};
    if (queues > 1) {
        wanted.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
        wanted.rx_adv_conf.rss_conf.rss_hf = RTE_ETH_RSS_IP & about.flow_type_rss_offloads;
    }
    // What comes in several segments leaves so.
    wanted.txmode.offloads = about.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
    wanted.rxmode.offloads = about.rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER;
    // An interface has its own, and af_packet would not hear of another.
    if (!device.is_interface() && device.mtu > RTE_ETHER_MTU) wanted.rxmode.mtu = device.mtu;
    if (wanted.rxmode.mtu + RTE_ETHER_HDR_LEN > about.max_rx_pktlen)
        return fail(Fault::Rejected, doing,
                    "it takes frames of " + std::to_string(about.max_rx_pktlen) +
                        " bytes at most, mtu " + std::to_string(device.mtu) + " is too much",
                    "mtu");
    std::uint16_t in = kDescriptors, out = kDescriptors;
    int error = rte_eth_dev_configure(ethdev, queues, queues, &wanted);
    if (error == 0) error = rte_eth_dev_adjust_nb_rx_tx_desc(ethdev, &in, &out);
    for (std::uint16_t queue = 0; queue < queues && error == 0; ++queue) {
        error = rte_eth_rx_queue_setup(ethdev, queue, in, kAnySocket, nullptr, frames);
        if (error == 0) error = rte_eth_tx_queue_setup(ethdev, queue, out, kAnySocket, nullptr);
    }
    if (error == 0) error = rte_eth_dev_start(ethdev);
    // Frames for every station pass a switch; a device without the notion gives them anyway.
    if (error == 0) error = rte_eth_promiscuous_enable(ethdev);
    if (error != 0 && error != -ENOTSUP) return refused(doing, -error);
    return {};
}

}  // namespace

Result<void> check_lcores(const EnvironmentOptions& options,
                          const std::vector<std::uint32_t>& cpus) {
    const std::string usable = "this process may use " + words_of(cpus);
    if (options.workers > cpus.size())
        return fail(Fault::Rejected, "start the workers",
                    "dpdk.workers is " + std::to_string(options.workers) +
                        ", and every worker needs a CPU: " + usable);
    for (const std::uint32_t lcore : options.lcores)
        if (std::ranges::find(cpus, lcore) == cpus.end())
            return fail(Fault::Rejected, "start the workers",
                        "dpdk.lcores has CPU " + std::to_string(lcore) + ", and " + usable);
    return {};
}

std::vector<std::string> environment_arguments(const EnvironmentOptions& options,
                                               const std::vector<std::uint32_t>& cpus) {
    std::string lcores = "--lcores=0@" + cpu_list(cpus);
    for (unsigned worker = 0; worker < options.workers; ++worker)
        lcores += "," + std::to_string(kFirstWorkerLcore + worker) + "@" +
                  (options.lcores.empty() ? cpu_list(cpus) : cpu_list({options.lcores[worker]}));
    std::vector<std::string> words{"godwit-switch",
                                   "--no-telemetry",
                                   "--log-level=error",
                                   lcores,
                                   "-m",
                                   std::to_string(options.memory_mb),
                                   "--file-prefix=" + options.file_prefix};
    // Without hugepages nothing is shared with another DPDK process, so nothing is left in /run.
    if (!options.hugepages) words.insert(words.end(), {"--no-huge", "--no-shconf"});
    bool any_pci = false;
    for (unsigned number = 0; number < options.devices.size(); ++number) {
        words.push_back(options.devices[number].argument(number));
        any_pci = any_pci || options.devices[number].kind == Device::Kind::pci;
    }
    if (!any_pci) words.push_back("--no-pci");
    return words;
}

Result<std::unique_ptr<Environment>> Environment::start(const EnvironmentOptions& options) {
    for (const Device& device : options.devices)
        if (device.is_interface() && if_nametoindex(device.where.c_str()) == 0)
            return fail_errno(Fault::Rejected, "interface " + device.where);
    const std::vector<std::uint32_t> cpus = allowed_cpus();
    if (Result<void> good = check_lcores(options, cpus); !good)
        return std::unexpected(std::move(good).error());
    const std::uint32_t room = room_needed(options.devices);
    const std::uint32_t frames = frames_needed(options.devices, options.workers, options.ports);
    if (Result<void> good = check_memory(frames, options.memory_mb, room); !good)
        return std::unexpected(std::move(good).error());
    std::vector<std::string> words = environment_arguments(options, cpus);
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    if (rte_eal_init(static_cast<int>(arguments.size()), arguments.data()) < 0)
        return refused("start DPDK's environment", rte_errno);
    std::unique_ptr<Environment> environment(new Environment);
    environment->frames_ = rte_pktmbuf_pool_create(
        "frames", frames, kFramesCached, 0, static_cast<std::uint16_t>(room + RTE_PKTMBUF_HEADROOM),
        SOCKET_ID_ANY);
    if (!environment->frames_)
        return refused("make the pool of " + std::to_string(frames) + " frames", rte_errno);
    for (unsigned number = 0; number < options.devices.size(); ++number) {
        Result<void> opened =
            environment->open_device(options.devices[number], number, options.workers);
        if (!opened) return std::unexpected(std::move(opened).error());
    }
    return environment;
}

Result<void> Environment::open_device(const Device& device, unsigned number, unsigned workers) {
    const std::string name = device.name(number);
    std::uint16_t ethdev = 0;
    const int error = rte_eth_dev_get_port_by_name(name.c_str(), &ethdev);
    if (error != 0) return refused("find the device " + name + " of " + device.where, -error);
    ethdevs_.push_back(ethdev);
    const std::string doing = "start the device " + name + " of " + device.where;
    rte_eth_dev_info about{};
    if (const int unknown = rte_eth_dev_info_get(ethdev, &about); unknown != 0)
        return refused(doing, -unknown);
    queues_.push_back(queues_of(about, device, workers));
    return set_up(ethdev, queues_.back(), device, about, frames_, doing);
}

Environment::~Environment() {
    for (const std::uint16_t ethdev : ethdevs_) {
        rte_eth_dev_stop(ethdev);
        rte_eth_dev_close(ethdev);
    }
    rte_eal_cleanup();
}

}  // namespace godwit::dpdk
