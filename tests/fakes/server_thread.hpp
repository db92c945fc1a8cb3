// A real HTTP server on its own thread, for tests that talk to it by blocking sockets, processes or
// a client on the test's own io_context.
#pragma once

#include "lib/http/server.hpp"

#include <stdexcept>
#include <string>
#include <thread>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

namespace godwit::fakes {

class ServerThread {
public:
    ServerThread(std::vector<http::Route> routes, http::Authenticator authenticator,
                 http::ServerLimits limits = {}, const std::string& address = "127.0.0.1:0")
        : server_(io_.get_executor(), std::move(routes), std::move(authenticator), limits) {
        Result<std::string> bound = server_.listen(address);
        if (!bound) throw std::runtime_error(bound.error().text());
        address_ = *bound;
        thread_ = std::thread([this] { io_.run(); });
    }
    ~ServerThread() {
        server_.stop();
        work_.reset();
        thread_.join();
    }

    const std::string& address() const { return address_; }
    std::uint16_t port() const {
        return static_cast<std::uint16_t>(std::stoi(address_.substr(address_.rfind(':') + 1)));
    }
    http::Server& server() { return server_; }
    boost::asio::io_context& io() { return io_; }

private:
    boost::asio::io_context io_;
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{
        io_.get_executor()};
    http::Server server_;
    std::string address_;
    std::thread thread_;
};

}  // namespace godwit::fakes
