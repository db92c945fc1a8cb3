// A clock that moves only when the test says so. Sleepers wake in the order of their times, on the
// executor they sleep on, after the advance() that reaches them.
#pragma once

#include "lib/clock.hpp"

#include <map>
#include <memory>

#include <boost/asio/redirect_error.hpp>

namespace godwit::fakes {

class ManualClock final : public Clock {
public:
    explicit ManualClock(std::chrono::system_clock::time_point start =
                             std::chrono::system_clock::time_point(std::chrono::hours(24 * 365 *
                                                                                      56)))
        : start_(start) {}

    std::chrono::system_clock::time_point now() override { return start_ + passed_; }
    std::chrono::steady_clock::time_point steady() override {
        return std::chrono::steady_clock::time_point(passed_);
    }

    boost::asio::awaitable<void> sleep_for(std::chrono::milliseconds time) override {
        namespace asio = boost::asio;
        auto executor = co_await asio::this_coro::executor;
        const auto due = passed_ + time;
        if (time.count() <= 0) co_return;
        auto timer =
            std::make_shared<asio::steady_timer>(executor, asio::steady_timer::time_point::max());
        const auto place = sleepers_.emplace(due, timer);
        boost::system::error_code woken;
        co_await timer->async_wait(asio::redirect_error(asio::use_awaitable, woken));
        if (passed_ >= due) co_return;  // advance() has taken the entry out
        sleepers_.erase(place);
        throw boost::system::system_error(asio::error::operation_aborted);
    }

    // Moves time and wakes whom it concerns; run the executor to let them go on.
    void advance(std::chrono::milliseconds time) {
        passed_ += time;
        while (!sleepers_.empty() && sleepers_.begin()->first <= passed_) {
            sleepers_.begin()->second->cancel();
            sleepers_.erase(sleepers_.begin());
        }
    }

    std::size_t sleepers() const { return sleepers_.size(); }
    // How long until the first sleeper is due; zero when nobody sleeps.
    std::chrono::milliseconds next_due() const {
        if (sleepers_.empty()) return std::chrono::milliseconds(0);
        return std::chrono::duration_cast<std::chrono::milliseconds>(sleepers_.begin()->first -
                                                                     passed_);
    }

private:
    std::chrono::system_clock::time_point start_;
    std::chrono::nanoseconds passed_{0};
    std::multimap<std::chrono::nanoseconds, std::shared_ptr<boost::asio::steady_timer>> sleepers_;
};

}  // namespace godwit::fakes
