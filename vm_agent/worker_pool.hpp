// Blocking work (memory, files, processes) on threads of its own, awaited from the agent's one
// thread.
#pragma once

#include "lib/task.hpp"

#include <functional>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace godwit::agent {

using WorkerPool = boost::asio::thread_pool;

template <typename T>
Task<T> run_here(std::function<Result<T>()> work) {
    co_return work();
}

// Runs `work` on the pool; what it refers to must outlive it, so give it values and shared
// pointers.
template <typename T>
Task<T> run_on(WorkerPool& pool, std::function<Result<T>()> work) {
    Task<T> there = run_here<T>(std::move(work));
    Result<T> result =
        co_await boost::asio::co_spawn(pool, std::move(there), boost::asio::use_awaitable);
    co_return result;
}

}  // namespace godwit::agent
