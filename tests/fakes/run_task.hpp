// Runs one coroutine to its end on an io_context that the test owns.
#pragma once

#include "lib/task.hpp"

#include <exception>
#include <optional>
#include <stdexcept>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

namespace godwit::fakes {

// Throws what the coroutine threw, and runtime_error when nothing is left to run before it ended or
// the limit (a hang, not a timing) passed.
template <typename T>
T run_on(boost::asio::io_context& io, boost::asio::awaitable<T> work,
         std::chrono::seconds limit = std::chrono::seconds(30)) {
    std::optional<T> value;
    std::exception_ptr thrown;
    boost::asio::co_spawn(io, std::move(work), [&](std::exception_ptr error, T result) {
        thrown = error;
        if (!error) value = std::move(result);
        io.stop();
    });
    io.restart();
    io.run_for(limit);
    if (thrown) std::rethrow_exception(thrown);
    if (!value) throw std::runtime_error("the coroutine did not end");
    return std::move(*value);
}

}  // namespace godwit::fakes
