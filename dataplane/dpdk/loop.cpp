#include "dataplane/dpdk/loop.hpp"

#include "dataplane/dpdk/table_file.hpp"
#include "dataplane/dpdk/tunnels.hpp"

#include <algorithm>
#include <rte_mbuf.h>
#include <rte_pause.h>
#include <rte_ring.h>
#include <sys/prctl.h>

namespace godwit::dpdk {

unsigned BackOff::next(bool busy) {
    if (busy) looks_ = 0;
    if (looks_ < kSpins) {
        ++looks_;
        return 0;
    }
    const unsigned sleeps = std::min(looks_++ - kSpins, 64u * kLongest_us);
    return std::min(kShortest_us + sleeps / 64, kLongest_us);
}

WorkerLoop::WorkerLoop(Worker& worker, Quiet& quiet, std::vector<rte_ring*> from,
                       std::function<void()> each_round)
    : worker_(worker),
      quiet_(quiet),
      from_(std::move(from)),
      each_round_(std::move(each_round)),
      queues_(queues_of(worker)) {}

WorkerLoop::Queues WorkerLoop::queues_of(const Worker& worker) {
    Queues mine;
    for (std::uint16_t port = 0; port < worker.ports; ++port) {
        if (worker.tunnels && worker.tunnels->is_tunnel(port))
            continue;  // its underlay's are polled
        for (std::uint16_t queue = 0; queue < worker.queues[port]; ++queue)
            if ((port + queue) % worker.workers == worker.number) mine.emplace_back(port, queue);
    }
    return mine;
}

void WorkerLoop::run() {
    // A sleep of 10 us is one: the kernel's default slack would make it 60.
    prctl(PR_SET_TIMERSLACK, 1000ul);
    quiet_.begin(worker_.number);
    while (!quiet_.is_stopped()) {
        worker_.plane.tick = tick_now();
        if (worker_.published)
            worker_.plane.directory = worker_.published->load(std::memory_order_acquire);
        const bool handed = look_at_rings();
        const bool busy = look_at_ports() || handed;
        if (!busy) tx_stage(worker_);  // what waits
        if (worker_.tap) worker_.tap->tell(worker_.number);
        each_round_();
        quiet_.pass(worker_.number);
        rest(busy);
    }
    quiet_.end(worker_.number);
}

void WorkerLoop::rest(bool busy) {
    const unsigned rest_us = back_off_.next(busy);
    if (rest_us > 0)
        quiet_.sleep(worker_.number, rest_us);
    else if (!busy)
        rte_pause();
}

bool WorkerLoop::look_at_ports() {
    bool busy = false;
    for (const auto& [port, queue] : queues_) {
        if (!rx_stage(worker_, port, burst_, queue)) continue;
        run_burst(worker_, burst_);
        tx_stage(worker_);
        busy = true;
    }
    return busy;
}

bool WorkerLoop::look_at_rings() {
    bool busy = false;
    std::array<void*, kBurstMax> frames;
    for (rte_ring* ring : from_) {
        const unsigned count = rte_ring_dequeue_burst(ring, frames.data(), kBurstMax, nullptr);
        if (count == 0) continue;
        decide_about({frames.data(), count});
        busy = true;
    }
    return busy;
}

// A burst is of one port. What comes from one worker is so for long stretches, because it reads port by port.
void WorkerLoop::decide_about(std::span<void*> frames) {
    for (std::size_t i = 0; i < frames.size();) {
        burst_.port = static_cast<const rte_mbuf*>(frames[i])->port;
        burst_.count = 0;
        for (; i < frames.size() && static_cast<rte_mbuf*>(frames[i])->port == burst_.port; ++i)
            burst_.frames[burst_.count++] = static_cast<rte_mbuf*>(frames[i]);
        run_own_stages(worker_, burst_);
        tx_stage(worker_);
    }
}

void WorkerLoop::send(std::span<void*> frames) {
    for (void* one : frames) {
        auto* frame = static_cast<rte_mbuf*>(one);
        Departures& leaving = worker_.departures[frame->port];  // empty between bursts
        leaving.frames[leaving.count++] = frame;
    }
    if (!frames.empty()) tx_stage(worker_);
}

}  // namespace godwit::dpdk
