// A controller that keeps VMs and jobs in memory and moves a job only as its script says, served
// over real HTTP. It behaves (keys, conflicts, resumable events) and records what it was asked.
#pragma once

#include "lib/http/auth.hpp"
#include "lib/http/event_queue.hpp"
#include "lib/secret.hpp"

#include "protocol/controller_api.hpp"
#include "protocol/flow_api.hpp"
#include "protocol/region_api.hpp"
#include "tests/fakes/server_thread.hpp"

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <boost/asio/steady_timer.hpp>

namespace godwit::fakes {

class FakeController {
public:
    static constexpr const char* kToken = "the-token-of-the-fake-controller";

    // `script`: the states a job passes through, one event each, ids from 1. `events_per_stream`:
    // after so many the server ends the stream, as one that stops does; 0 never. A script whose
    // last job is not done leaves the stream open and silent.
    explicit FakeController(std::vector<protocol::Job> script = {},
                            std::size_t events_per_stream = 0,
                            const std::string& address = "127.0.0.1:0");

    const std::string& address() const { return server_->address(); }

    struct Seen {
        std::vector<std::string> keys;                            // of each POST
        std::vector<std::string> bodies;                          // of each POST
        std::vector<std::string> last_event_ids;                  // of each stream
        std::vector<std::string> paths;                           // of every request
        std::vector<std::map<std::string, std::string>> queries;  // of flows
    };
    Seen seen();
    bool capture_stays = false;  // set before the first request

private:
    using Answer = boost::asio::awaitable<http::Response>;
    std::vector<http::Route> routes();
    Answer migrate(http::Request request);
    Answer job(http::Request request);
    Answer act(http::Request request);
    Answer events(http::Request request);
    Answer flows(http::Request request);
    Answer frames(http::Request request);
    Answer stop_capture(http::Request request);
    void seen_queries(const http::Request& request);
    Answer fixed(http::Request request, json::bj::value body);
    void record(const http::Request& request);

    std::vector<protocol::Job> script_;
    std::size_t events_per_stream_;
    std::mutex mutex_;
    Seen seen_;
    std::map<std::string, std::string> jobs_by_key_;
    std::map<std::string, std::size_t> reached_;  // job -> index into the script
    std::shared_ptr<http::EventQueue> frames_;    // of a capture that stays; the server's thread
    std::unique_ptr<ServerThread> server_;
};

// A job like those a controller gives, for scripts.
protocol::Job scripted_job(const std::string& state, const std::string& phase, std::uint32_t step,
                           std::uint32_t percent);

}  // namespace godwit::fakes
