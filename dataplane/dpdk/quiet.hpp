// When no worker looks at what it looked at before: quiescent states (rte_rcu_qsbr), which every worker passes between
// two bursts, and a pause of all for what cannot be exchanged by a pointer. A worker that sleeps or stands by is
// offline, so that nobody waits for it.
#pragma once

#include "lib/error.hpp"

#include <atomic>
#include <cstdint>
#include <memory>

struct rte_rcu_qsbr;

namespace godwit::dpdk {

class Quiet {
public:
    static Result<std::unique_ptr<Quiet>> make(unsigned workers);
    ~Quiet();
    Quiet(const Quiet&) = delete;
    Quiet& operator=(const Quiet&) = delete;

    // Every burst that began before this call has left when it returns. Any thread but a worker's.
    void wait();

    // While it lives no burst is on its way, and frames wait in their devices. The control thread's, one at
    // a time, and for microseconds.
    class Pause {
    public:
        explicit Pause(Quiet& quiet);
        ~Pause();
        Pause(const Pause&) = delete;
        Pause& operator=(const Pause&) = delete;

    private:
        Quiet& quiet_;
    };

    // The workers' way out of their loops, for good.
    void stop() { stopped_.store(true); }
    bool is_stopped() const { return stopped_.load(std::memory_order_relaxed); }

    // ---- the worker's, by its number ----
    void begin(unsigned worker);
    void end(unsigned worker);
    // Between two bursts. Stands by while there is a pause.
    void pass(unsigned worker);
    void sleep(unsigned worker, unsigned microseconds);

private:
    Quiet() = default;
    void stand_by_while_paused(unsigned worker);

    rte_rcu_qsbr* states_ = nullptr;
    std::atomic<std::uint32_t> paused_{0};
    std::atomic<bool> stopped_{false};
};

}  // namespace godwit::dpdk
