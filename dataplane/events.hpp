// The switch's event stream: every subscriber has a bounded queue; one that is too slow is cut off and
// comes back, and then hears the present state first.
#pragma once

#include "lib/http/message.hpp"

#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>

namespace godwit::dataplane {

class EventStream {
public:
    explicit EventStream(boost::asio::any_io_executor executor) : executor_(std::move(executor)) {}

    void publish(http::Event event);
    // A response whose stream first sends `present`, then what is published from now on.
    http::Response subscribe(std::vector<http::Event> present);
    void close();

private:
    struct Subscriber {
        Subscriber(const boost::asio::any_io_executor& executor) : wake(executor) {}
        std::deque<http::Event> queue;
        boost::asio::steady_timer wake;
        bool overrun = false;
        bool closed = false;
    };
    static Task<void> serve(std::shared_ptr<Subscriber> subscriber,
                            std::shared_ptr<http::EventSink> sink);

    boost::asio::any_io_executor executor_;
    std::vector<std::weak_ptr<Subscriber>> subscribers_;
    std::uint64_t sequence_ = 0;
};

}  // namespace godwit::dataplane
