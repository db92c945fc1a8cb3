#include "dataplane/dpdk/workers.hpp"

#include "dataplane/dpdk/environment.hpp"
#include "dataplane/dpdk/tunnels.hpp"

#include <array>
#include <rte_errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <string>
#include <sys/eventfd.h>

namespace godwit::dpdk {
namespace {

int run(void* loop) {
    static_cast<WorkerLoop*>(loop)->run();
    return 0;
}

}  // namespace

Result<std::unique_ptr<Workers>> Workers::make(std::vector<Worker*> workers, TableFile& file,
                                               int events_fd) {
    std::unique_ptr<Workers> all(new Workers(std::move(workers), file, events_fd));
    Result<std::unique_ptr<Quiet>> quiet = Quiet::make(static_cast<unsigned>(all->workers_.size()));
    if (!quiet) return std::unexpected(std::move(quiet).error());
    all->quiet_ = std::move(*quiet);
    Result<void> rings = all->make_rings();
    if (!rings) return std::unexpected(std::move(rings).error());
    all->make_loops();
    return all;
}

// One writes and one reads each, so nobody waits for a thread that has lost its CPU in between.
Result<rte_ring*> Workers::make_ring(unsigned frames) {
    const std::string name = "between-" + std::to_string(rings_.size());
    rte_ring* ring =
        rte_ring_create(name.c_str(), frames, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
    if (!ring) return fail(Fault::Rejected, "make a ring of frames", rte_strerror(rte_errno));
    rings_.push_back(ring);
    return ring;
}

Result<void> Workers::make_rings() {
    Result<rte_ring*> ring = make_ring(kHandedOverMax);
    if (!ring) return std::unexpected(std::move(ring).error());
    handed_over_ = *ring;
    from_.resize(workers_.size());
    for (Worker* one : workers_)
        for (Worker* other : workers_) {
            if (one == other) continue;
            ring = make_ring(kBetweenWorkers);
            if (!ring) return std::unexpected(std::move(ring).error());
            one->to[other->number] = *ring;
            from_[other->number].push_back(*ring);
        }
    return {};
}

void Workers::make_loops() {
    for (Worker* worker : workers_) {
        const bool first = worker->number == 0;
        loops_.push_back(
            std::make_unique<WorkerLoop>(*worker, *quiet_, from_[worker->number], [this, first] {
                if (first) beat();
            }));
    }
}

Workers::~Workers() {
    stop();
    for (rte_ring* ring : rings_) {
        void* frame = nullptr;
        while (rte_ring_dequeue(ring, &frame) == 0) rte_pktmbuf_free(static_cast<rte_mbuf*>(frame));
        rte_ring_free(ring);
    }
    for (Worker* worker : workers_) worker->to = {};
}

Result<void> Workers::start() {
    for (const auto& loop : loops_) {
        const int error = rte_eal_remote_launch(run, loop.get(), kFirstWorkerLcore + running_);
        if (error != 0) {
            stop();
            return fail(Fault::Rejected, "start worker " + std::to_string(running_),
                        rte_strerror(-error));
        }
        ++running_;
    }
    return {};
}

void Workers::stop() {
    if (quiet_) quiet_->stop();
    for (; running_ > 0; --running_) rte_eal_wait_lcore(kFirstWorkerLcore + running_ - 1);
}

bool Workers::hand_over(rte_mbuf* frame, std::uint16_t port) {
    frame->port = port;
    if (rte_ring_enqueue(handed_over_, frame) == 0) return true;
    rte_pktmbuf_free(frame);
    return false;
}

// ---- the first worker's, in every round -----------------------------------------------------------

void Workers::beat() {
    file_.beat(workers_[0]->plane.tick);
    take_handed_over();
    ask_neighbours();
    tell_drained();
}

void Workers::take_handed_over() {
    std::array<void*, kBurstMax> frames;
    const unsigned count = rte_ring_dequeue_burst(handed_over_, frames.data(), kBurstMax, nullptr);
    loops_[0]->send({frames.data(), count});
}

void Workers::ask_neighbours() {
    Tunnels* tunnels = workers_[0]->tunnels;
    if (!tunnels) return;
    std::array<void*, kPortsMax> questions;
    const std::size_t count = tunnels->ask(workers_[0]->plane.tick, questions);
    loops_[0]->send({questions.data(), count});
}

// Once for a burst, however many sessions it has ended.
void Workers::tell_drained() {
    const std::uint32_t drained = file_.tables().drained.load(std::memory_order_acquire);
    if (drained == drained_told_) return;
    drained_told_ = drained;
    eventfd_write(events_fd_, 1);
}

}  // namespace godwit::dpdk
