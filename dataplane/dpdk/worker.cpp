#include "dataplane/dpdk/worker.hpp"

namespace godwit::dpdk {

Worker::Worker(Tables& memory, Stations& learnt, std::uint16_t port_count)
    : plane{.tables = &memory}, stations(learnt), ports(port_count) {
    counters.backends.resize(memory.vms.size() * STEER_SLOTS);
}

void run_stages(Worker& worker, Burst& burst) {
    parse_stage(burst);
    steer_stage(worker, burst);
    rewrite_stage(worker, burst);
}

}  // namespace godwit::dpdk
