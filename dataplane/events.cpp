#include "dataplane/events.hpp"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace godwit::dataplane {
namespace {

constexpr std::size_t kQueueMax = 1024;
constexpr auto kHeartbeatEvery = std::chrono::seconds(5);

}  // namespace

void EventStream::publish(http::Event event) {
    event.id = std::to_string(++sequence_);
    std::erase_if(subscribers_, [](const auto& weak) { return weak.expired(); });
    for (const auto& weak : subscribers_) {
        std::shared_ptr<Subscriber> subscriber = weak.lock();
        if (subscriber->queue.size() >= kQueueMax)
            subscriber->overrun = true;
        else
            subscriber->queue.push_back(event);
        subscriber->wake.cancel();
    }
}

http::Response EventStream::subscribe(std::vector<http::Event> present) {
    auto subscriber = std::make_shared<Subscriber>(executor_);
    for (http::Event& event : present) subscriber->queue.push_back(std::move(event));
    subscribers_.push_back(subscriber);
    http::Response response;
    response.stream = [subscriber](std::shared_ptr<http::EventSink> sink) {
        return serve(subscriber, sink);
    };
    return response;
}

void EventStream::close() {
    for (const auto& weak : subscribers_) {
        std::shared_ptr<Subscriber> subscriber = weak.lock();
        if (!subscriber) continue;
        subscriber->closed = true;
        subscriber->wake.cancel();
    }
}

Task<void> EventStream::serve(std::shared_ptr<Subscriber> subscriber,
                              std::shared_ptr<http::EventSink> sink) {
    while (!subscriber->overrun && !subscriber->closed) {
        if (subscriber->queue.empty()) {
            boost::system::error_code woken;
            subscriber->wake.expires_after(kHeartbeatEvery);
            co_await subscriber->wake.async_wait(
                boost::asio::redirect_error(boost::asio::use_awaitable, woken));
            if (woken) continue;
            Result<void> alive = co_await sink->heartbeat();
            if (!alive) co_return alive;
            continue;
        }
        http::Event event = std::move(subscriber->queue.front());
        subscriber->queue.pop_front();
        Result<void> sent = co_await sink->send(std::move(event));
        if (!sent) co_return sent;
    }
    co_return Result<void>{};
}

}  // namespace godwit::dataplane
