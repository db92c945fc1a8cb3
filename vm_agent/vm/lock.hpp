// Mutual exclusion between coroutines of one thread; waiters go in order.
#pragma once

#include <deque>
#include <memory>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace godwit::agent {

class Lock {
public:
    class Guard {
    public:
        explicit Guard(Lock* lock) : lock_(lock) {}
        Guard(Guard&& other) noexcept : lock_(std::exchange(other.lock_, nullptr)) {}
        Guard& operator=(Guard&&) = delete;
        ~Guard() {
            if (lock_) lock_->release();
        }

    private:
        Lock* lock_;
    };

    // The lock outlives every guard and waiter.
    boost::asio::awaitable<Guard> acquire() {
        if (held_) {
            auto executor = co_await boost::asio::this_coro::executor;
            auto turn = std::make_shared<boost::asio::steady_timer>(
                executor, boost::asio::steady_timer::time_point::max());
            waiting_.push_back(turn);
            boost::system::error_code woken;
            co_await turn->async_wait(
                boost::asio::redirect_error(boost::asio::use_awaitable, woken));
        }
        held_ = true;
        co_return Guard(this);
    }
    bool is_held() const { return held_; }

private:
    // The lock goes from hand to hand: held_ stays true for the next waiter.
    void release() {
        if (waiting_.empty()) {
            held_ = false;
            return;
        }
        auto next = waiting_.front();
        waiting_.pop_front();
        next->cancel();
    }
    bool held_ = false;
    std::deque<std::shared_ptr<boost::asio::steady_timer>> waiting_;
};

}  // namespace godwit::agent
