// The copy of a VM's memory to another agent, as the source does it: one copy while the guest runs,
// one compare while it is paused, device state, and on it goes. Whatever fails, the source goes on
// untouched.
#pragma once

#include "vm_agent/memory/copy.hpp"
#include "vm_agent/memory/handshake.hpp"
#include "vm_agent/vm/machine.hpp"

#include <memory>
#include <mutex>

#include <boost/asio/steady_timer.hpp>

namespace godwit::agent {

struct CopyJob {
    // `default_mib_s`: the limit of a request that names none.
    CopyJob(boost::asio::any_io_executor executor, protocol::CopyRequest what,
            std::uint32_t default_mib_s)
        : request(std::move(what)),
          ended(executor, boost::asio::steady_timer::time_point::max()),
          go(std::move(executor), boost::asio::steady_timer::time_point::max()) {
        limit_to(request.bandwidth_mib_s.value_or(default_mib_s));
    }

    protocol::CopyRequest request;
    boost::asio::steady_timer ended;  // cancelled when the job is over
    std::chrono::steady_clock::time_point begun = std::chrono::steady_clock::now();
    std::shared_ptr<memory::CopyProgress> progress = std::make_shared<memory::CopyProgress>();
    std::shared_ptr<memory::Pace> pace = std::make_shared<memory::Pace>();
    // The agent's thread only.
    std::string stage = "base";
    std::uint32_t rounds = 0;  // method whole
    double expected_pause_ms = 0;
    boost::asio::steady_timer go;  // cancelled when the guest may be stopped
    bool may_freeze = false;
    bool is_over = false;

    bool is_whole() const { return request.method == "whole"; }
    bool is_boot() const { return request.method == "boot"; }
    void let_freeze();
    void limit_to(std::uint32_t mib_s) { pace->set_limit(std::uint64_t{mib_s} << 20); }  // 0: none

    // The channel appears on a worker thread and may be cancelled from the agent's.
    void set_channel(std::shared_ptr<memory::FrameChannel> channel);
    std::shared_ptr<memory::FrameChannel> channel() const;
    void cancel();
    bool is_cancelled() const { return cancelled_; }

private:
    mutable std::mutex mutex_;
    std::shared_ptr<memory::FrameChannel> channel_;
    std::atomic<bool> cancelled_ = false;
};

// RAM, then each region; for Purpose::regions the regions alone.
std::vector<memory::BlockFile> blocks_of(const Machine& machine, protocol::wire::Purpose purpose);
protocol::wire::Hello hello_for(Machine& machine, protocol::wire::Purpose purpose,
                                const protocol::Command& command);
// What a poll sees while the job runs.
protocol::CopyStatus status_of(const CopyJob& job);

// Runs to its end; the outcome is in machine->record().copy, saved. Both objects are kept alive.
boost::asio::awaitable<void> run_copy(std::shared_ptr<Machine> machine,
                                      std::shared_ptr<CopyJob> job,
                                      memory::Credentials credentials);

}  // namespace godwit::agent
