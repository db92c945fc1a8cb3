// Writes records, one transaction each, and settles writes whose outcome is unknown by reading
// again. Knows whether this controller is still the one that may write.
#pragma once

#include "lib/clock.hpp"
#include "lib/metrics.hpp"

#include "controller/store/job_store.hpp"

#include <functional>
#include <string>

namespace godwit::controller {

class Journal {
public:
    // All outlive the journal. `on_write` runs after each write: event streams look again.
    Journal(JobStore& store, Clock& clock, Metrics& metrics, std::function<void()> on_write);

    std::uint64_t token() const { return token_; }
    Result<void> start(std::uint64_t at_least);
    // A newer controller exists: no further write is made.
    void step_down(const std::string& why);
    bool is_down() const { return down_; }
    const std::string& down_reason() const { return down_reason_; }

    // Makes change.job durable, version and epoch set, and returns what people asked meanwhile.
    // Slugs: stale-epoch, cancel-requested, job-moved, store-unavailable.
    Result<Flags> write(Change& change);
    // The usual write: `job` as it is, with one step row.
    Result<Flags> write(Migration& job, StepEntry entry);

    JobStore& store() { return store_; }
    Clock& clock() { return clock_; }
    Metrics& metrics() { return metrics_; }

private:
    Result<Flags> settle(const Change& change, Error error);
    void count(const Change& change);

    JobStore& store_;
    Clock& clock_;
    Metrics& metrics_;
    std::function<void()> on_write_;
    std::uint64_t token_ = 0;
    bool down_ = false;
    std::string down_reason_;
};

}  // namespace godwit::controller
