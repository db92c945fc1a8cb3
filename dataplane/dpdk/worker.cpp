#include "dataplane/dpdk/worker.hpp"

namespace godwit::dpdk {

Counters::Counters(const Tables& memory) : reasons(memory.reasons), backends(memory.backends) {
    if (!reasons.empty()) return;
    own_reasons_.resize(STEER_WHYS);
    own_backends_.resize(memory.vms.size() * STEER_SLOTS);
    reasons = own_reasons_;
    backends = own_backends_;
}

Worker::Worker(Tables& memory, Stations& learnt, std::uint16_t port_count)
    : plane{.tables = &memory}, stations(learnt), ports(port_count), counters(memory) {}

void run_stages(Worker& worker, Burst& burst) {
    parse_stage(burst);
    steer_stage(worker, burst);
    rewrite_stage(worker, burst);
}

}  // namespace godwit::dpdk
