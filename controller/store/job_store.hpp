// What the engine keeps for ever. Each call is one transaction; an error of fault Retry leaves its
// outcome unknown: read again, then decide. An interface, because the crash tests stop the engine
// after each write.
#pragma once

#include "lib/error.hpp"

#include "controller/machine/migration.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace godwit::controller {

// A row of the append-only step log: "intent", "outcome", "skipped", "retry", "warning", ...
struct StepEntry {
    std::string phase;
    std::string what;
    std::uint32_t attempt = 1;
    std::string detail;
};

// Something owned by a job that could not be removed before the job ended. Retried for ever.
struct Sweep {
    std::int64_t id = 0;
    std::string job, vm;
    std::string part;    // "retire-source", "adopt-destination", ...: steps/step.hpp
    std::string record;  // the Migration as it ended, as JSON
    std::uint32_t attempts = 0;
    std::string last_error;
};

// One write of a job: record, step row and event row together.
struct Change {
    Migration job;  // as it shall be; job.version is one more than what is stored
    StepEntry entry;
    bool crosses_commit = false;      // refused with `cancel-requested` when a cancel came first
    std::string moves_vm_to;          // not empty: the VM's host becomes this one
    std::vector<std::string> sweeps;  // parts left over
};

// Who made the request, in which words, so that the same words again give the same job.
struct RequestKey {
    std::string principal, route, key;
    std::string fingerprint;  // SHA-256 of the canonical payload
};

struct Admission {
    Migration job;
    bool replayed = false;
};

struct StoredEvent {
    std::uint64_t sequence = 0;
    std::string job;
    std::string text;   // a protocol::Job
    bool last = false;  // the job is done with this one
};

class JobStore {
public:
    virtual ~JobStore() = default;

    // The fencing token of this start: larger than each before and than `at_least`. From now on
    // writes with an older token are refused (Conflict, stale-epoch).
    virtual Result<std::uint64_t> raise_token(std::uint64_t at_least) = 0;

    // Key, job, first step and first event. Errors: vm-busy (Conflict, instance = the running job),
    // idempotency-key-reused (Rejected).
    virtual Result<Admission> admit(std::uint64_t token, const Migration& job,
                                    const RequestKey& key) = 0;
    // Conflict: stale-epoch, cancel-requested, or the version is not the stored one plus one.
    virtual Result<Flags> write(std::uint64_t token, const Change& change) = 0;
    // Sets a flag for the engine to see. Errors: unknown-job, job-finished, past-commit-point.
    virtual Result<void> request_cancel(const std::string& job) = 0;
    virtual Result<void> request_force(const std::string& job) = 0;

    virtual Result<Migration> job(const std::string& id) = 0;
    virtual Result<Flags> flags(const std::string& id) = 0;
    virtual Result<std::vector<Migration>> unfinished() = 0;
    virtual Result<std::vector<StoredEvent>> events_after(const std::string& job,
                                                          std::uint64_t sequence, int limit) = 0;
    virtual Result<std::vector<protocol::StepRow>> steps(const std::string& job) = 0;

    // Temporary addresses. For each list the first that nobody has; what the job has leased already is
    // told again. Rejected no-temporary-address: all of a list are lent.
    virtual Result<std::vector<std::string>> lease(
        const std::string& job, const std::string& vm,
        const std::vector<std::vector<std::string>>& candidates) = 0;
    // What the job has leased, or whatever others have leased for the VM.
    virtual Result<void> end_lease(const std::string& job) = 0;
    virtual Result<void> end_other_leases(const std::string& vm, const std::string& job) = 0;

    virtual Result<std::vector<Sweep>> sweeps() = 0;
    virtual Result<void> sweep_done(std::int64_t id) = 0;
    virtual Result<void> sweep_failed(std::int64_t id, const std::string& error) = 0;
};

}  // namespace godwit::controller
