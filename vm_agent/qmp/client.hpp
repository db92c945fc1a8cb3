// QEMU's machine protocol (QMP) over its unix socket: greeting, capabilities, commands with ids,
// events, and file descriptors passed with SCM_RIGHTS. Every wait has a deadline.
#pragma once

#include "lib/json.hpp"
#include "lib/task.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include <boost/asio/any_io_executor.hpp>

namespace godwit::qmp {

using Milliseconds = std::chrono::milliseconds;
constexpr Milliseconds kDefaultDeadline{5000};

// All calls come from the executor the client was made on (one thread).
class Client {
public:
    // Connects, waits for the greeting and leaves the negotiation mode. Lost when nothing listens
    // or nothing answers in time; Corrupt when something else than QEMU answers.
    static Task<std::shared_ptr<Client>> connect(std::string socket_path,
                                                 Milliseconds deadline = kDefaultDeadline);
    ~Client();

    // The "return" value. QEMU's own refusals are Rejected with slug qemu-failed, its class and its
    // words; no answer in time or a closed socket is Lost (the outcome is unknown).
    Task<json::bj::value> execute(std::string command, json::bj::object arguments = {},
                                  Milliseconds deadline = kDefaultDeadline);
    // getfd: `fd` is known to QEMU as `name` afterwards; the caller keeps its own copy.
    Task<void> pass_fd(std::string name, int fd);

    void on_event(std::function<void(const std::string& name, const json::bj::object& data)> sink);
    // Called once when the connection ends, whoever ended it.
    void on_closed(std::function<void()> sink);
    bool is_open() const;
    const std::string& qemu_version() const;
    void close();

private:
    struct State;
    explicit Client(std::shared_ptr<State> state);
    std::shared_ptr<State> state_;
};

}  // namespace godwit::qmp
