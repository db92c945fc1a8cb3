// The controller put together: store, engine, caretaker, API. main.cpp and the tests build it
// alike.
#pragma once

#include "controller/http/api.hpp"

#include <memory>
#include <string>

namespace godwit::controller {

class Application {
public:
    // Opens the store in config.state_dir and raises the token. `secret` is the peer token.
    static Result<std::unique_ptr<Application>> make(boost::asio::any_io_executor executor,
                                                     Config config, std::string secret,
                                                     Clock& clock);

    // Begins to work: fences, recovers, tends, listens. Returns the bound addresses.
    Result<std::vector<std::string>> start();
    void stop();

    SqliteStore& store() { return *store_; }
    Engine& engine() { return engine_; }
    Caretaker& caretaker() { return caretaker_; }
    Journal& journal() { return journal_; }
    // Where the admin token of the first start is; empty when it was made before.
    const std::string& fresh_token_file() const { return fresh_token_file_; }

private:
    Application(boost::asio::any_io_executor executor, Config config, std::string secret,
                Clock& clock, std::unique_ptr<SqliteStore> store);

    Result<void> make_first_token();
    Result<void> register_configured_vms();
    void show_figures();
    boost::asio::awaitable<void> work();

    boost::asio::any_io_executor executor_;
    Config config_;
    Clock& clock_;
    std::unique_ptr<SqliteStore> store_;
    Metrics metrics_;
    Bell written_;
    Devices devices_;
    Journal journal_;
    Engine engine_;
    Caretaker caretaker_;
    std::unique_ptr<Api> api_;
    std::unique_ptr<http::Server> server_;
    std::string fresh_token_file_;
};

}  // namespace godwit::controller
