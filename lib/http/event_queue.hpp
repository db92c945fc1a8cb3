// Events for one listener: bounded, and what does not fit is counted and told as a gap, never silently left out.
#pragma once

#include "lib/http/message.hpp"

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>

namespace godwit::http {

class EventQueue {
public:
    // `gap` says how many events are missing at this place.
    EventQueue(const boost::asio::any_io_executor& executor, std::size_t most,
               std::function<Event(std::uint64_t lost)> gap);

    void push(Event event);
    // What is queued is still sent, then `last`, for which there is always room; then the stream ends.
    void close();
    void close(Event last);
    std::uint64_t lost() const { return lost_; }  // in all

    // Writes until the listener goes or the queue is closed; heartbeats while there is nothing.
    static Task<void> serve(std::shared_ptr<EventQueue> queue, std::shared_ptr<EventSink> sink);

private:
    void tell_gap();

    std::size_t most_;
    std::function<Event(std::uint64_t)> gap_;
    std::deque<Event> events_;
    std::uint64_t lost_ = 0, untold_ = 0;
    bool closed_ = false;
    boost::asio::steady_timer wake_;
};

}  // namespace godwit::http
