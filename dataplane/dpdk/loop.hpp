// One worker's loop over its queues, on its lcore, and what has come for it from the others.
#pragma once

#include "dataplane/dpdk/worker.hpp"

#include "dataplane/dpdk/quiet.hpp"

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

struct rte_ring;

namespace godwit::dpdk {

// Polls while frames come; after a while without any it sleeps between two looks, longer and longer, so that an
// idle plane leaves its CPU to others. (Not every driver can wake a worker up: net_af_packet cannot.)
class BackOff {
public:
    static constexpr unsigned kSpins = 200;
    static constexpr unsigned kShortest_us = 10, kLongest_us = 200;

    // How long to sleep after this look, in microseconds; 0: not at all.
    unsigned next(bool busy);

private:
    unsigned looks_ = 0;  // in a row without a frame
};

class WorkerLoop {
public:
    // Everything outlives the loop. `from`: the rings of what other workers hand over to this one. `each_round` is
    // called after every look, by the loop's thread.
    WorkerLoop(Worker& worker, Quiet& quiet, std::vector<rte_ring*> from,
               std::function<void()> each_round);
    WorkerLoop(const WorkerLoop&) = delete;
    WorkerLoop& operator=(const WorkerLoop&) = delete;

    // Until Quiet::stop().
    void run();

    // Sends what the control thread wants sent, before what comes in next. Called by `each_round`.
    void send(std::span<void*> frames);

    // Which queues of which ports this worker polls: queue by queue, the next port's first queue with the next worker.
    using Queues = std::vector<std::pair<std::uint16_t, std::uint16_t>>;
    static Queues queues_of(const Worker& worker);

private:
    bool look_at_ports();
    bool look_at_rings();
    void decide_about(std::span<void*> frames);
    void rest(bool busy);

    Worker& worker_;
    Quiet& quiet_;
    std::vector<rte_ring*> from_;
    std::function<void()> each_round_;
    Queues queues_;
    Burst burst_;
    BackOff back_off_;
};

}  // namespace godwit::dpdk
