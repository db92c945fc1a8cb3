#include "dataplane/dpdk/quiet.hpp"

#include <rte_errno.h>
#include <rte_malloc.h>
#include <rte_rcu_qsbr.h>
#include <time.h>

namespace godwit::dpdk {

Result<std::unique_ptr<Quiet>> Quiet::make(unsigned workers) {
    std::unique_ptr<Quiet> quiet(new Quiet);
    quiet->states_ = static_cast<rte_rcu_qsbr*>(
        rte_zmalloc("quiet", rte_rcu_qsbr_get_memsize(workers), RTE_CACHE_LINE_SIZE));
    if (!quiet->states_)
        return fail(Fault::Rejected, "make the workers' quiescent states", rte_strerror(ENOMEM));
    rte_rcu_qsbr_init(quiet->states_, workers);
    for (unsigned worker = 0; worker < workers; ++worker)
        rte_rcu_qsbr_thread_register(quiet->states_, worker);
    return quiet;
}

Quiet::~Quiet() {
    rte_free(states_);
}

void Quiet::wait() {
    rte_rcu_qsbr_synchronize(states_, RTE_QSBR_THRID_INVALID);
}

Quiet::Pause::Pause(Quiet& quiet) : quiet_(quiet) {
    quiet_.paused_.store(1);
    quiet_.wait();  // who reports looks at paused_ next
}
Quiet::Pause::~Pause() {
    quiet_.paused_.store(0);
    quiet_.paused_.notify_all();
}

void Quiet::begin(unsigned worker) {
    rte_rcu_qsbr_thread_online(states_, worker);
    stand_by_while_paused(worker);
}

void Quiet::end(unsigned worker) {
    rte_rcu_qsbr_thread_offline(states_, worker);
}

void Quiet::pass(unsigned worker) {
    rte_rcu_qsbr_quiescent(states_, worker);
    stand_by_while_paused(worker);
}

// Offline, so that a pause of the others does not last as long as this sleep: a busy worker would lose frames by it.
void Quiet::sleep(unsigned worker, unsigned microseconds) {
    const timespec time{0, static_cast<long>(microseconds) * 1000};
    rte_rcu_qsbr_thread_offline(states_, worker);
    nanosleep(&time, nullptr);
    rte_rcu_qsbr_thread_online(states_, worker);
    stand_by_while_paused(worker);
}

// Asked again when online, because the next pause may have begun in between.
void Quiet::stand_by_while_paused(unsigned worker) {
    while (paused_.load() != 0) {
        rte_rcu_qsbr_thread_offline(states_, worker);
        paused_.wait(1);
        rte_rcu_qsbr_thread_online(states_, worker);
    }
}

}  // namespace godwit::dpdk
