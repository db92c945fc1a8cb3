#include "dataplane/loops.hpp"

#include "lib/log.hpp"

#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace godwit::dataplane {
namespace {

constexpr std::size_t kFlowsAtOnce = 256;
constexpr auto kSweepEvery = std::chrono::milliseconds(100);
constexpr std::uint32_t kSweepsPerRound = 10;  // the whole table once a second

boost::asio::awaitable<Result<void>> grace_in_pool(Plane* plane) {
    co_return plane->grace_period();
}

}  // namespace

boost::asio::awaitable<void> sweep_forever(Plane& plane, Steerings& steerings, Clock& clock) {
    std::size_t longest = 1;
    for (unsigned table = 0; table < STEER_TABLES; ++table)
        longest = std::max(longest, plane.lines(static_cast<steer_table>(table)).size());
    const auto lines = static_cast<std::uint32_t>(longest / kSweepsPerRound + 1);
    for (;;) {
        co_await clock.sleep_for(kSweepEvery);
        Result<steer_swept> swept = plane.sweep(lines);
        if (!swept) log::error("sweep", swept.error().text());
        steerings.look_at_drains();
    }
}

boost::asio::awaitable<void> hear_events(Plane& plane, Steerings& steerings) {
    auto executor = co_await boost::asio::this_coro::executor;
    // A duplicate: the descriptor closes what it holds, and the plane owns the original.
    boost::asio::posix::stream_descriptor readable(executor, dup(plane.events_fd()));
    for (;;) {
        co_await readable.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                                     boost::asio::use_awaitable);
        plane.poll_events([](const Plane::Drained&) {});
        // The event says when to look; the level says what is true.
        steerings.look_at_drains();
    }
}

boost::asio::awaitable<void> hear_flows(Flows& flows) {
    auto executor = co_await boost::asio::this_coro::executor;
    boost::asio::posix::stream_descriptor readable(executor, dup(flows.readable_fd()));
    for (;;) {
        co_await readable.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                                     boost::asio::use_awaitable);
        while (flows.hear(kFlowsAtOnce) == kFlowsAtOnce)
            co_await boost::asio::post(executor, boost::asio::use_awaitable);
    }
}

boost::asio::awaitable<void> refill_flows(Flows& flows, Clock& clock) {
    for (;;) {
        co_await clock.sleep_for(Flows::kRefillEvery);
        flows.refill();
    }
}

boost::asio::awaitable<void> Signal::wait() {
    while (!raised_) {
        boost::system::error_code woken;
        co_await timer_.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, woken));
    }
    raised_ = false;
}

boost::asio::awaitable<void> wait_out_graces(Plane& plane, Steerings& steerings, Signal& flipped,
                                             Clock& clock, boost::asio::thread_pool& pool) {
    for (;;) {
        const auto waiting = steerings.waiting_for_grace();
        if (waiting.empty()) {
            co_await flipped.wait();
            continue;
        }
        Result<void> over =
            co_await boost::asio::co_spawn(pool, grace_in_pool(&plane), boost::asio::use_awaitable);
        if (!over) {
            log::error("steering", over.error().text());
            co_await clock.sleep_for(kSweepEvery);
            continue;
        }
        for (const auto& [vm, epoch] : waiting) steerings.grace_over(vm, epoch);
        steerings.look_at_drains();
    }
}

}  // namespace godwit::dataplane
