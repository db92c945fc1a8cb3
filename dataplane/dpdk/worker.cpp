#include "dataplane/dpdk/worker.hpp"

#include "dataplane/dpdk/tunnels.hpp"

#include <numeric>

namespace godwit::dpdk {

Counters::Counters(const Tables& memory, unsigned worker) {
    std::iota(number_of_port.begin(), number_of_port.end(), std::uint8_t{1});
    if (!memory.counters.empty()) {
        tallies = memory.counters[worker].tallies;
        backends = memory.counters[worker].backends;
        return;
    }
    own_tallies_.resize(STEER_TALLY_PORTS);
    own_backends_.resize(memory.vms.size() * STEER_SLOTS);
    tallies = own_tallies_;
    backends = own_backends_;
}

std::uint64_t Counters::reason(enum steer_why why) const {
    std::uint64_t sum = 0;
    for (const struct steer_tally& of_port : tallies) sum += steer_tally_of(&of_port, why);
    return sum;
}

Worker::Worker(Tables& memory, Stations& learnt, std::uint16_t port_count, unsigned this_number,
               unsigned all)
    : number(this_number),
      workers(all),
      plane{.tables = &memory},
      stations(learnt),
      ports(port_count),
      counters(memory, this_number) {
    queues.fill(1);
}

void run_burst(Worker& worker, Burst& burst) {
    if (worker.tunnels && worker.tunnels->is_underlay(burst.port))
        worker.tunnels->unwrap(worker, burst);
    else
        run_stages(worker, burst);
}

void run_stages(Worker& worker, Burst& burst) {
    parse_stage(burst);
    spread_stage(worker, burst);
    steer_stage(worker, burst);
    rewrite_stage(worker, burst);
}

void run_own_stages(Worker& worker, Burst& burst) {
    parse_stage(burst);
    steer_stage(worker, burst);
    rewrite_stage(worker, burst);
}

}  // namespace godwit::dpdk
