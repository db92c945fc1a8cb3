// The worker's loop over its ports, and how the control thread reaches into it: configuration changes between
// two bursts, frames of the switch's own leave with the next one.
#pragma once

#include "dataplane/dpdk/worker.hpp"

#include "dataplane/dpdk/table_file.hpp"

#include <atomic>
#include <cstdint>
#include <memory>

struct rte_mbuf;
struct rte_rcu_qsbr;
struct rte_ring;

namespace godwit::dpdk {

inline constexpr unsigned kHandedOverMax = 256;  // frames of the switch's own

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
    // `worker` and `file` outlive the loop. `events_fd`: an eventfd, raised when a VM may be drained.
    static Result<std::unique_ptr<WorkerLoop>> make(Worker& worker, TableFile& file, int events_fd);
    ~WorkerLoop();
    WorkerLoop(const WorkerLoop&) = delete;
    WorkerLoop& operator=(const WorkerLoop&) = delete;

    // On the worker's lcore, until stop(). Both by the control thread.
    Result<void> start();
    void stop();

    // Every burst that began before this call has left when it returns. Any thread.
    void wait_for_quiet();

    // While it lives no burst is on its way, and frames wait in their devices. The control thread's, one at
    // a time, and for microseconds.
    class Pause {
    public:
        explicit Pause(WorkerLoop& loop);
        ~Pause();
        Pause(const Pause&) = delete;
        Pause& operator=(const Pause&) = delete;

    private:
        WorkerLoop& loop_;
    };

    // Takes the frame over, also when it fails. False: too many are waiting already.
    bool hand_over(rte_mbuf* frame, std::uint16_t port);

private:
    WorkerLoop(Worker& worker, TableFile& file, int events_fd);
    static int run(void* loop);
    void forward_until_stopped();
    bool look_at_ports();
    bool take_handed_over();
    void tell_drained();
    void stand_by_while_paused();

    Worker& worker_;
    TableFile& file_;
    int events_fd_;
    rte_rcu_qsbr* quiet_ = nullptr;
    rte_ring* handed_over_ = nullptr;
    Burst burst_;
    BackOff back_off_;
    std::uint32_t drained_told_ = 0;
    std::atomic<std::uint32_t> paused_{0};
    std::atomic<bool> stopped_{false};
    bool running_ = false;
};

}  // namespace godwit::dpdk
