// The QEMU guest agent (QGA) over its virtio-serial socket. A guest is not trusted: answers are
// bounded, every wait has a deadline, and what comes is only data.
#pragma once

#include "lib/json.hpp"
#include "lib/task.hpp"

#include "protocol/agent_api.hpp"

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

namespace godwit::guest {

using Milliseconds = std::chrono::milliseconds;

// One conversation: open, a few calls, gone. QEMU takes one client at a time, so keep it short.
class Client {
public:
    // Synchronises with guest-sync-delimited, so that a reply meant for somebody before us is not
    // taken for ours. Lost when the guest does not answer: no agent in it, not booted yet, or hung.
    static Task<std::shared_ptr<Client>> open(std::string socket_path, Milliseconds deadline);
    ~Client();

    Task<json::bj::value> execute(std::string command, json::bj::object arguments,
                                  Milliseconds deadline);
    // For commands that answer nothing when they succeed (guest-shutdown).
    Result<void> tell(const std::string& command, json::bj::object arguments);
    // The whole file, at most 1 MiB.
    Task<std::string> read_file(std::string path, Milliseconds deadline);
    // Starts a program with `input` on its stdin; its exit code.
    Task<int> run(std::string path, std::vector<std::string> arguments, std::string input,
                  Milliseconds deadline);

private:
    struct State;
    explicit Client(std::shared_ptr<State> state);
    std::shared_ptr<State> state_;
};

// Every global address of every interface but loopback.
std::vector<std::string> addresses_of(const json::bj::value& interfaces);
// Connections on `addresses`, and who listens, in the text of /proc/net/tcp or tcp6 (proc(5)).
protocol::SocketTable socket_table_of(const std::string& proc_text,
                                      const std::vector<std::string>& addresses);
std::string base64(std::string_view bytes);
Result<std::string> from_base64(std::string_view text);

}  // namespace godwit::guest
