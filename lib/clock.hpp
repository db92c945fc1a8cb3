// Where time comes from, so that a test can hold it still: tests/fakes/manual_clock.hpp.
#pragma once

#include <chrono>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace godwit {

class Clock {
public:
    virtual ~Clock() = default;
    // For people and for deadlines that are stored.
    virtual std::chrono::system_clock::time_point now() = 0;
    // For measuring.
    virtual std::chrono::steady_clock::time_point steady() = 0;
    // Throws system_error(operation_aborted) when the waiting coroutine is cancelled, as Asio does.
    virtual boost::asio::awaitable<void> sleep_for(std::chrono::milliseconds time) = 0;
};

class SystemClock final : public Clock {
public:
    std::chrono::system_clock::time_point now() override {
        return std::chrono::system_clock::now();
    }
    std::chrono::steady_clock::time_point steady() override {
        return std::chrono::steady_clock::now();
    }
    boost::asio::awaitable<void> sleep_for(std::chrono::milliseconds time) override {
        auto executor = co_await boost::asio::this_coro::executor;
        boost::asio::steady_timer timer(executor, time);
        co_await timer.async_wait(boost::asio::use_awaitable);
    }
};

}  // namespace godwit
