// Drives jobs through the phase table, one coroutine per job: intent, effect, outcome. It may be
// destroyed at any moment and built anew on the same store; that is what a crash does.
#pragma once

#include "controller/steps/step.hpp"

#include <functional>
#include <map>
#include <memory>
#include <string>

#include <boost/asio/any_io_executor.hpp>

namespace godwit::controller {

class Engine {
public:
    // All outlive the engine; `executor` is the one thread of control.
    Engine(boost::asio::any_io_executor executor, Devices& devices, Journal& journal,
           TimingConfig timing);

    // Takes up every unfinished job: fences the devices of all, then goes on with each.
    boost::asio::awaitable<void> recover();
    // A job that was just admitted.
    void start(Migration job);

    // What people ask. Errors: unknown-job, job-finished, past-commit-point, not-waiting.
    Result<Migration> cancel(const std::string& id);
    Result<Migration> force(const std::string& id);
    // From needs-attention, with a fresh deadline. `observe` looks first whether the failed step
    // has happened after all; without it the step is made again.
    Result<Migration> resume(const std::string& id, bool observe,
                             std::optional<protocol::OnConflict> on_conflict);

    // What the copy may send, 0: no limit. Conflict/not-copying when its memory is not moving.
    Result<Migration> limit(const std::string& id, std::uint32_t bandwidth_mib_s);
    // From needs-attention after the commit: the source is the VM again, the destination is destroyed,
    // and what it has learnt since it ran is lost.
    Result<Migration> take_back(const std::string& id);

    // Something changed at the switch: jobs of this VM look at once.
    void wake(const std::string& vm);
    bool is_driving(const std::string& vm) const;
    std::size_t running() const { return runs_.size(); }

private:
    using RunPtr = std::shared_ptr<JobRun>;

    boost::asio::awaitable<void> drive(RunPtr run);
    boost::asio::awaitable<void> reload(RunPtr run);
    Task<void> forward(JobRun& run);
    Task<void> backward(JobRun& run);
    Task<void> attempt(JobRun& run);
    Task<void> begin(JobRun& run);
    Task<void> fail_forward(JobRun& run, Error error);
    Task<void> fail_backward(JobRun& run, Error error);
    Task<void> back_off(JobRun& run, const Error& error);
    Result<void> finish_phase(JobRun& run);
    Result<void> skip_phase(JobRun& run);
    Result<void> turn(JobRun& run, State ending, std::optional<Error> error);
    Result<void> give_up(JobRun& run, const Error& error);
    Result<void> succeed_with_leftovers(JobRun& run, const Error& error);
    bool can_retry(JobRun& run, const Error& error);
    std::chrono::milliseconds backoff(std::uint32_t attempt);

    boost::asio::any_io_executor executor_;
    Devices& devices_;
    Journal& journal_;
    TimingConfig timing_;
    std::map<std::string, RunPtr> runs_;  // by job
};

}  // namespace godwit::controller
