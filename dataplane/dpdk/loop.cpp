#include "dataplane/dpdk/loop.hpp"

#include "dataplane/dpdk/environment.hpp"

#include <algorithm>
#include <rte_errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_rcu_qsbr.h>
#include <rte_ring.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>

namespace godwit::dpdk {
namespace {

constexpr unsigned kThread = 0;  // the worker, for rte_rcu_qsbr

void sleep_us(unsigned microseconds) {
    const timespec time{0, static_cast<long>(microseconds) * 1000};
    nanosleep(&time, nullptr);
}

}  // namespace

unsigned BackOff::next(bool busy) {
    if (busy) looks_ = 0;
    if (looks_ < kSpins) {
        ++looks_;
        return 0;
    }
    const unsigned sleeps = std::min(looks_++ - kSpins, 64u * kLongest_us);
    return std::min(kShortest_us + sleeps / 64, kLongest_us);
}

WorkerLoop::WorkerLoop(Worker& worker, TableFile& file, int events_fd)
    : worker_(worker), file_(file), events_fd_(events_fd) {}

Result<std::unique_ptr<WorkerLoop>> WorkerLoop::make(Worker& worker, TableFile& file,
                                                     int events_fd) {
    std::unique_ptr<WorkerLoop> loop(new WorkerLoop(worker, file, events_fd));
    loop->quiet_ = static_cast<rte_rcu_qsbr*>(
        rte_zmalloc("quiet", rte_rcu_qsbr_get_memsize(1), RTE_CACHE_LINE_SIZE));
    loop->handed_over_ = rte_ring_create("handed-over", kHandedOverMax, SOCKET_ID_ANY,
                                         RING_F_SP_ENQ | RING_F_SC_DEQ);
    if (!loop->quiet_ || !loop->handed_over_)
        return fail(Fault::Rejected, "make the worker", rte_strerror(rte_errno));
    rte_rcu_qsbr_init(loop->quiet_, 1);
    return loop;
}

WorkerLoop::~WorkerLoop() {
    stop();
    void* frame = nullptr;
    while (handed_over_ && rte_ring_dequeue(handed_over_, &frame) == 0)
        rte_pktmbuf_free(static_cast<rte_mbuf*>(frame));
    rte_ring_free(handed_over_);
    rte_free(quiet_);
}

Result<void> WorkerLoop::start() {
    rte_rcu_qsbr_thread_register(quiet_, kThread);
    const int error = rte_eal_remote_launch(run, this, kWorkerLcore);
    if (error != 0) return fail(Fault::Rejected, "start the worker", rte_strerror(-error));
    running_ = true;
    return {};
}

void WorkerLoop::stop() {
    if (!running_) return;
    stopped_.store(true);
    rte_eal_wait_lcore(kWorkerLcore);
    rte_rcu_qsbr_thread_unregister(quiet_, kThread);
    running_ = false;
}

void WorkerLoop::wait_for_quiet() {
    rte_rcu_qsbr_synchronize(quiet_, RTE_QSBR_THRID_INVALID);
}

WorkerLoop::Pause::Pause(WorkerLoop& loop) : loop_(loop) {
    loop_.paused_.store(1);
    loop_.wait_for_quiet();  // who reports looks at paused_ next
}
WorkerLoop::Pause::~Pause() {
    loop_.paused_.store(0);
    loop_.paused_.notify_one();
}

bool WorkerLoop::hand_over(rte_mbuf* frame, std::uint16_t port) {
    frame->port = port;
    if (rte_ring_enqueue(handed_over_, frame) == 0) return true;
    rte_pktmbuf_free(frame);
    return false;
}

int WorkerLoop::run(void* loop) {
    static_cast<WorkerLoop*>(loop)->forward_until_stopped();
    return 0;
}

void WorkerLoop::forward_until_stopped() {
    // A sleep of 10 us is one: the kernel's default slack would make it 60.
    prctl(PR_SET_TIMERSLACK, 1000ul);
    rte_rcu_qsbr_thread_online(quiet_, kThread);
    while (!stopped_.load(std::memory_order_relaxed)) {
        stand_by_while_paused();
        worker_.plane.tick = tick_now();
        file_.beat(worker_.plane.tick);
        const bool handed = take_handed_over();
        const bool busy = look_at_ports() || handed;
        if (!busy) tx_stage(worker_);  // what waits
        tell_drained();
        if (worker_.tap) worker_.tap->tell();
        rte_rcu_qsbr_quiescent(quiet_, kThread);
        const unsigned rest_us = back_off_.next(busy);
        if (rest_us > 0)
            sleep_us(rest_us);
        else if (!busy)
            rte_pause();
    }
    rte_rcu_qsbr_thread_offline(quiet_, kThread);
}

// Offline, so that nobody waits for a thread that stands by; and asked again when online, because the next pause
// may have begun in between.
void WorkerLoop::stand_by_while_paused() {
    while (paused_.load() != 0) {
        rte_rcu_qsbr_thread_offline(quiet_, kThread);
        paused_.wait(1);
        rte_rcu_qsbr_thread_online(quiet_, kThread);
    }
}

bool WorkerLoop::look_at_ports() {
    bool busy = false;
    for (std::uint16_t port = 0; port < worker_.ports; ++port) {
        if (!rx_stage(worker_, port, burst_)) continue;
        run_stages(worker_, burst_);
        tx_stage(worker_);
        busy = true;
    }
    return busy;
}

bool WorkerLoop::take_handed_over() {
    std::array<void*, kBurstMax> frames;
    const unsigned count = rte_ring_dequeue_burst(handed_over_, frames.data(), kBurstMax, nullptr);
    for (unsigned i = 0; i < count; ++i) {
        auto* frame = static_cast<rte_mbuf*>(frames[i]);
        Departures& leaving = worker_.departures[frame->port];  // empty between bursts
        leaving.frames[leaving.count++] = frame;
    }
    if (count > 0) tx_stage(worker_);
    return count > 0;
}

// Once for a burst, however many sessions it has ended.
void WorkerLoop::tell_drained() {
    const std::uint32_t drained = file_.tables().drained.load(std::memory_order_acquire);
    if (drained == drained_told_) return;
    drained_told_ = drained;
    eventfd_write(events_fd_, 1);
}

}  // namespace godwit::dpdk
