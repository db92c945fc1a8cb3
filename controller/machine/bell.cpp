#include "controller/machine/bell.hpp"

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace godwit::controller {

namespace asio = boost::asio;

asio::awaitable<void> Bell::rings(std::uint64_t seen) {
    if (rung_ != seen) co_return;
    boost::system::error_code woken;  // cancelled by ring(), or because the time is over
    co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, woken));
}

asio::awaitable<void> Bell::wait(std::uint64_t seen, Clock& clock, std::chrono::milliseconds time) {
    using namespace asio::experimental::awaitable_operators;
    asio::awaitable<void> ringing = rings(seen);
    asio::awaitable<void> sleeping = clock.sleep_for(time);
    co_await (std::move(ringing) || std::move(sleeping));
}

}  // namespace godwit::controller
