// Where the frames of several workers leave by one port.
#pragma once

#include "dataplane/dpdk/waiting.hpp"

#include <memory>
#include <pthread.h>

namespace godwit::dpdk {

// Spins for a moment, then sleeps: whoever holds it may have lost its CPU.
class SendLock {
public:
    SendLock() = default;
    SendLock(const SendLock&) = delete;
    SendLock& operator=(const SendLock&) = delete;
    void lock() { pthread_mutex_lock(&mutex_); }
    void unlock() { pthread_mutex_unlock(&mutex_); }

private:
    pthread_mutex_t mutex_ = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;
};

struct Outlet {
    bool is_shared = false;            // more workers than queues: send under the lock
    SendLock lock;                     // of the queues and of what waits
    std::unique_ptr<Waiting> waiting;  // none: the far end is always there, or has a queue
};

}  // namespace godwit::dpdk
