// The one coroutine type of Godwit. Parameters of a coroutine are values, or objects that outlive
// the program; name what you awaited, then look at it; no lambda or braced temporary inside a
// co_await expression.
#pragma once

#include "lib/error.hpp"

#include <boost/asio/awaitable.hpp>

namespace godwit {

template <typename T>
using Task = boost::asio::awaitable<Result<T>>;

}  // namespace godwit
