#include "lib/http/event_queue.hpp"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace godwit::http {
namespace {

constexpr auto kHeartbeatEvery = std::chrono::seconds(15);

}  // namespace

EventQueue::EventQueue(const boost::asio::any_io_executor& executor, std::size_t most,
                       std::function<Event(std::uint64_t)> gap)
    : most_(most), gap_(std::move(gap)), wake_(executor) {}

void EventQueue::push(Event event) {
    if (events_.size() >= most_) {
        ++lost_;
        ++untold_;
        return;
    }
    tell_gap();
    events_.push_back(std::move(event));
    wake_.cancel();
}

void EventQueue::close() {
    tell_gap();
    closed_ = true;
    wake_.cancel();
}

void EventQueue::close(Event last) {
    tell_gap();
    events_.push_back(std::move(last));
    close();
}

void EventQueue::tell_gap() {
    if (untold_ == 0) return;
    events_.push_back(gap_(untold_));
    untold_ = 0;
}

Task<void> EventQueue::serve(std::shared_ptr<EventQueue> queue, std::shared_ptr<EventSink> sink) {
    for (;;) {
        if (queue->events_.empty()) queue->tell_gap();
        if (!queue->events_.empty()) {
            Event event = std::move(queue->events_.front());
            queue->events_.pop_front();
            Result<void> sent = co_await sink->send(std::move(event));
            if (!sent) co_return sent;
            continue;
        }
        if (queue->closed_) co_return Result<void>{};
        boost::system::error_code woken;
        queue->wake_.expires_after(kHeartbeatEvery);
        co_await queue->wake_.async_wait(
            boost::asio::redirect_error(boost::asio::use_awaitable, woken));
        if (woken) continue;
        Result<void> alive = co_await sink->heartbeat();
        if (!alive) co_return alive;
    }
}

}  // namespace godwit::http
