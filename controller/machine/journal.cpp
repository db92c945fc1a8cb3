#include "controller/machine/journal.hpp"

#include "lib/log.hpp"

namespace godwit::controller {

namespace {

constexpr int kWritesMax = 3;

std::unexpected<Error> passed_on(Error error) {
    return std::unexpected(std::move(error));
}

}  // namespace

Journal::Journal(JobStore& store, Clock& clock, Metrics& metrics, std::function<void()> on_write)
    : store_(store), clock_(clock), metrics_(metrics), on_write_(std::move(on_write)) {}

Result<void> Journal::start(std::uint64_t at_least) {
    Result<std::uint64_t> token = store_.raise_token(at_least);
    if (!token) return passed_on(std::move(token).error());
    token_ = *token;
    return {};
}

void Journal::step_down(const std::string& why) {
    if (down_) return;
    down_ = true;
    down_reason_ = why;
    log::error("engine", "stepping down: " + why);
}

Result<Flags> Journal::write(Change& change) {
    if (down_)
        return fail(Fault::Conflict, "write job " + change.job.id, down_reason_, "stale-epoch");
    const std::uint64_t epoch_before = change.job.epoch;
    change.job.version += 1;
    change.job.epoch = token_;
    Result<Flags> written = store_.write(token_, change);
    for (int i = 1; !written && written.error().fault == Fault::Retry && i < kWritesMax; ++i)
        written = settle(change, std::move(written).error());
    if (written) {
        count(change);
        on_write_();
        return written;
    }
    change.job.version -= 1;
    change.job.epoch = epoch_before;
    if (written.error().slug == "stale-epoch") step_down(written.error().text());
    if (written.error().fault == Fault::Retry) written.error().slug = "store-unavailable";
    return written;
}

// The outcome is unknown: the stored version tells whether the transaction was carried out.
Result<Flags> Journal::settle(const Change& change, Error error) {
    log::warning("journal", error.text());
    Result<Migration> stored = store_.job(change.job.id);
    if (!stored) return passed_on(std::move(stored).error());
    const bool ours = stored->version == change.job.version && stored->epoch == token_;
    if (ours) return store_.flags(change.job.id);
    return store_.write(token_, change);
}

Result<Flags> Journal::write(Migration& job, StepEntry entry) {
    Change change{job, std::move(entry)};
    Result<Flags> written = write(change);
    if (written) job = std::move(change.job);
    return written;
}

void Journal::count(const Change& change) {
    const StepEntry& entry = change.entry;
    metrics_
        .counter("godwit_job_transitions_total", "writes of the step log by phase and kind",
                 {{"phase", entry.phase}, {"what", entry.what}})
        .Increment();
    if (entry.what != "outcome") return;
    const auto spent = change.job.result.phase_ms.find(entry.phase);
    if (spent == change.job.result.phase_ms.end()) return;
    metrics_
        .histogram("godwit_job_phase_duration_seconds", "time a job spent in a phase",
                   {0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300, 1800, 7200}, {{"phase", entry.phase}})
        .Observe(spent->second / 1000.0);
}

}  // namespace godwit::controller
