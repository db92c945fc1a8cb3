// The controller's SQLite file: jobs for the engine, VMs, tokens and the audit trail for the API.
#pragma once

#include "lib/clock.hpp"
#include "lib/http/server.hpp"
#include "lib/store/sqlite.hpp"

#include "controller/store/job_store.hpp"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace godwit::controller {

struct VmRow {
    std::string id, host, method;
    std::map<std::string, std::string> labels;
    std::optional<protocol::VmSpec> spec;  // as the agent told last
};

struct JobFilter {
    std::string state, vm;
    std::string before;  // ids smaller than this; newest first
    int limit = 50;
};

class SqliteStore final : public JobStore {
public:
    // `clock` outlives the store.
    static Result<std::unique_ptr<SqliteStore>> open(const std::string& file, Clock& clock);

    Result<std::uint64_t> raise_token(std::uint64_t at_least) override;
    Result<Admission> admit(std::uint64_t token, const Migration& job,
                            const RequestKey& key) override;
    Result<Flags> write(std::uint64_t token, const Change& change) override;
    Result<void> request_cancel(const std::string& job) override;
    Result<void> request_force(const std::string& job) override;
    Result<Migration> job(const std::string& id) override;
    Result<Flags> flags(const std::string& id) override;
    Result<std::vector<Migration>> unfinished() override;
    Result<std::vector<StoredEvent>> events_after(const std::string& job, std::uint64_t sequence,
                                                  int limit) override;
    Result<std::vector<protocol::StepRow>> steps(const std::string& job) override;
    Result<std::vector<std::string>> lease(
        const std::string& job, const std::string& vm,
        const std::vector<std::vector<std::string>>& candidates) override;
    Result<void> end_lease(const std::string& job) override;
    Result<void> end_other_leases(const std::string& vm, const std::string& job) override;
    Result<std::vector<Sweep>> sweeps() override;
    Result<void> sweep_done(std::int64_t id) override;
    Result<void> sweep_failed(std::int64_t id, const std::string& error) override;

    // The job this key made before, if any. Rejected idempotency-key-reused for other words.
    Result<std::optional<Admission>> replay(const RequestKey& key);
    Result<std::vector<Migration>> jobs(const JobFilter& filter);
    Result<std::optional<std::string>> active_job(const std::string& vm);
    Result<std::map<std::string, std::int64_t>> job_counts();  // by state
    Result<std::uint64_t> last_event();                        // 0 when there is none
    Result<bool> has_sweep(const std::string& vm);

    Result<void> put_vm(const VmRow& vm);
    Result<void> remember_spec(const std::string& vm, const protocol::VmSpec& spec);
    Result<void> remove_vm(const std::string& id);  // vm-busy while a job is active
    Result<VmRow> vm(const std::string& id);        // unknown-vm
    Result<std::vector<VmRow>> vms(const std::string& after, int limit);

    // A random secret made once, for page tokens.
    Result<std::string> secret();
    Result<protocol::Token> add_token(const std::string& sha256, const std::string& principal,
                                      const std::string& role);
    Result<void> remove_token(const std::string& id);
    Result<std::vector<protocol::Token>> tokens();
    Result<http::Identity> identify(const std::string& sha256);  // empty when nobody
    Result<void> audit(const protocol::AuditEntry& entry);       // `at` is set here
    Result<std::vector<protocol::AuditEntry>> audit_rows(int limit);

private:
    SqliteStore(sqlite::Database database, Clock& clock)
        : database_(std::move(database)), clock_(clock) {}

    std::string now() const;
    Result<std::string> lease_one(const std::string& job, const std::string& vm, std::int64_t place,
                                  const std::vector<std::string>& candidates);
    Result<void> check_token(std::uint64_t token);
    Result<void> append(std::uint64_t token, const Change& change, Flags flags);
    Result<Migration> one_job(const std::string& id);
    Result<std::vector<Migration>> read_jobs(std::string_view sql,
                                             const std::vector<sqlite::Value>& values);

    sqlite::Database database_;
    Clock& clock_;
};

}  // namespace godwit::controller
