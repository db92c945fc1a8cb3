// The controller's API for a program that does one thing at a time.
#pragma once

#include "lib/http/client.hpp"

#include <chrono>
#include <string>

#include <boost/asio/io_context.hpp>

namespace godwit::cli {

class Api {
public:
    Api(const std::string& server, std::string token);

    Result<json::bj::value> get(const std::string& path);
    // Sent again with the same key when the outcome is unknown, so that it takes effect once.
    Result<json::bj::value> post(const std::string& path, const json::bj::value& body,
                                 const std::string& idempotency_key);

    Result<json::bj::value> put(const std::string& path, const json::bj::value& body);

    boost::asio::io_context& io() { return io_; }
    http::Client& client() { return client_; }

private:
    Result<json::bj::value> call(const std::string& method, const std::string& path,
                                 const json::bj::value& body, const http::Headers& headers);

    std::string server_;
    boost::asio::io_context io_;
    http::Client client_;
};

// A newer server may say more than this program knows: unknown fields are passed over.
template <typename T>
Result<T> understood(const json::bj::value& value, const std::string& what) {
    T to{};
    json::ReadContext context;
    json::read(value, to, context);
    std::erase_if(context.errors, [](const FieldError& error) { return error.at_key; });
    if (context.errors.empty()) return to;
    Error error{Fault::Rejected, what, "the server's answer is not understood", "invalid-document"};
    error.fields = std::move(context.errors);
    return std::unexpected(std::move(error));
}

}  // namespace godwit::cli
