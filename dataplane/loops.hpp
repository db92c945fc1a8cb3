// What godwit-switch does besides answering: ageing, hearing the plane's events, waiting out grace
// periods after a flip.
#pragma once

#include "lib/clock.hpp"

#include "dataplane/flows.hpp"
#include "dataplane/steering.hpp"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>

namespace godwit::dataplane {

// Wakes whoever waits; a raise while nobody waits is not forgotten.
class Signal {
public:
    explicit Signal(const boost::asio::any_io_executor& executor)
        : timer_(executor, boost::asio::steady_timer::time_point::max()) {}
    void raise() {
        raised_ = true;
        timer_.cancel();
    }
    boost::asio::awaitable<void> wait();

private:
    boost::asio::steady_timer timer_;
    bool raised_ = false;
};

// Each runs until the io_context stops; everything outlives them.
boost::asio::awaitable<void> sweep_forever(Plane& plane, Steerings& steerings, Clock& clock);
boost::asio::awaitable<void> hear_events(Plane& plane, Steerings& steerings);
// Reads what the plane wrote down of packets, a bounded part at a time: others get their turn in a flood.
boost::asio::awaitable<void> hear_flows(Flows& flows);
boost::asio::awaitable<void> refill_flows(Flows& flows, Clock& clock);
// Waits for `flipped`, then blocks in the pool for the grace period.
boost::asio::awaitable<void> wait_out_graces(Plane& plane, Steerings& steerings, Signal& flipped,
                                             Clock& clock, boost::asio::thread_pool& pool);

}  // namespace godwit::dataplane
