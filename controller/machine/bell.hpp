// Wakes coroutines that wait for something to change. One thread.
#pragma once

#include "lib/clock.hpp"

#include <chrono>
#include <cstdint>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>

namespace godwit::controller {

class Bell {
public:
    explicit Bell(boost::asio::any_io_executor executor)
        : timer_(std::move(executor), boost::asio::steady_timer::time_point::max()) {}

    void ring() {
        ++rung_;
        timer_.cancel();
    }
    // How often it rang: take it before looking at the world, so that no ring is missed between
    // the look and the wait.
    std::uint64_t rung() const { return rung_; }
    // Returns when it has rung since `seen`, or after `time`.
    boost::asio::awaitable<void> wait(std::uint64_t seen, Clock& clock,
                                      std::chrono::milliseconds time);

private:
    boost::asio::awaitable<void> rings(std::uint64_t seen);

    boost::asio::steady_timer timer_;
    std::uint64_t rung_ = 0;
};

}  // namespace godwit::controller
