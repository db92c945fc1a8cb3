// DPDK's environment with one ethdev per port, started. One per process: rte_eal_init() can be called once.
#pragma once

#include "lib/error.hpp"

#include "dataplane/device.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

struct rte_mempool;

namespace godwit::dpdk {

struct EnvironmentOptions {
    std::vector<dataplane::Device> devices;  // by port
    std::uint32_t workers = 1;               // at most kWorkersMax
    std::vector<std::uint32_t> lcores;       // the workers' CPUs, one each; empty: any
    std::uint32_t memory_mb = 128;
    bool hugepages = false;
    std::string file_prefix;  // of hugepage files; tells processes of one machine apart
    std::size_t ports = 0;    // with those that have no device of their own
};

// lcore 0 is the control thread and has every CPU of `cpus`; behind it the workers.
inline constexpr unsigned kFirstWorkerLcore = 1;
// Rejected: more workers than CPUs, or a CPU that is not among `cpus`.
Result<void> check_lcores(const EnvironmentOptions& options,
                          const std::vector<std::uint32_t>& cpus);
// What rte_eal_init() is called with.
std::vector<std::string> environment_arguments(const EnvironmentOptions& options,
                                               const std::vector<std::uint32_t>& cpus);

class Environment {
public:
    // Rejected: names the device or what DPDK says; its own words are on stderr.
    static Result<std::unique_ptr<Environment>> start(const EnvironmentOptions& options);
    ~Environment();
    Environment(const Environment&) = delete;
    Environment& operator=(const Environment&) = delete;

    const std::vector<std::uint16_t>& ethdevs() const { return ethdevs_; }
    // How many queues of each kind the port's device was given.
    const std::vector<std::uint16_t>& queues() const { return queues_; }
    rte_mempool* frames() const { return frames_; }

private:
    Environment() = default;
    Result<void> open_device(const dataplane::Device& device, unsigned number, unsigned workers);
    std::vector<std::uint16_t> ethdevs_, queues_;
    rte_mempool* frames_ = nullptr;
};

}  // namespace godwit::dpdk
