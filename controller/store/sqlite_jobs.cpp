// The job half of SqliteStore. Each public function is one transaction.
#include "lib/id.hpp"

#include "controller/store/schema.hpp"
#include "controller/store/sqlite_store.hpp"

namespace godwit::controller {

namespace {

std::unexpected<Error> passed_on(Error error) {
    return std::unexpected(std::move(error));
}

std::unexpected<Error> unknown_job(const std::string& id) {
    return fail(Fault::Missing, "job " + id, "there is no such job", "unknown-job");
}

Result<Migration> parse_job(const std::string& record) {
    Result<Migration> job = json::from_text<Migration>(record, "read a stored job");
    if (!job) job.error().fault = Fault::Corrupt;
    return job;
}

}  // namespace

Result<std::unique_ptr<SqliteStore>> SqliteStore::open(const std::string& file, Clock& clock) {
    Result<sqlite::Database> database = sqlite::Database::open(file);
    if (!database) return passed_on(std::move(database).error());
    Result<void> ready = migrate_schema(*database);
    if (!ready) return passed_on(std::move(ready).error());
    return std::unique_ptr<SqliteStore>(new SqliteStore(std::move(*database), clock));
}

std::string SqliteStore::now() const {
    return rfc3339(clock_.now());
}

Result<std::uint64_t> SqliteStore::raise_token(std::uint64_t at_least) {
    std::uint64_t token = 0;
    Result<void> raised = database_.transaction([&]() -> Result<void> {
        Result<sqlite::Rows> rows = database_.query("SELECT value FROM meta WHERE key = 'token'");
        if (!rows) return passed_on(std::move(rows).error());
        const std::uint64_t stored = rows->empty() ? 0 : std::stoull(rows->at(0).at(0).text());
        token = std::max(stored + 1, at_least);
        auto written = database_.run(
            "INSERT INTO meta (key, value) VALUES ('token', ?) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            {std::to_string(token)});
        if (!written) return passed_on(std::move(written).error());
        return {};
    });
    if (!raised) return passed_on(std::move(raised).error());
    return token;
}

// Another controller that started later owns the file from that moment on.
Result<void> SqliteStore::check_token(std::uint64_t token) {
    Result<sqlite::Rows> rows = database_.query("SELECT value FROM meta WHERE key = 'token'");
    if (!rows) return passed_on(std::move(rows).error());
    if (!rows->empty() && rows->at(0).at(0).text() == std::to_string(token)) return {};
    return fail(Fault::Conflict, "write a job",
                "token " + std::to_string(token) +
                    " is not the store's newest: another controller "
                    "has taken over",
                "stale-epoch");
}

// Step row, event row and sweeps of a record that has just been written.
Result<void> SqliteStore::append(std::uint64_t token, const Change& change, Flags flags) {
    const Migration& job = change.job;
    const StepEntry& entry = change.entry;
    auto step = database_.run(
        "INSERT INTO job_steps (job, phase, what, attempt, token, at, detail) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        {job.id, entry.phase, entry.what, entry.attempt, token, now(), entry.detail});
    if (!step) return passed_on(std::move(step).error());
    auto event = database_.run("INSERT INTO job_events (job, last, text) VALUES (?, ?, ?)",
                               {job.id, is_done(job), json::to_text(view(job, flags))});
    if (!event) return passed_on(std::move(event).error());
    for (const std::string& part : change.sweeps) {
        auto left = database_.run("INSERT INTO sweeps (job, vm, part, record) VALUES (?, ?, ?, ?)",
                                  {job.id, job.vm, part, json::to_text(job)});
        if (!left) return passed_on(std::move(left).error());
    }
    return {};
}

Result<std::optional<Admission>> SqliteStore::replay(const RequestKey& key) {
    Result<sqlite::Rows> rows = database_.query(
        "SELECT fingerprint, job FROM idempotency WHERE principal = ? AND route = ? AND key = ?",
        {key.principal, key.route, key.key});
    if (!rows) return passed_on(std::move(rows).error());
    if (rows->empty()) return std::nullopt;
    if (rows->at(0).at(0).text() != key.fingerprint)
        return fail(Fault::Rejected, "take the request",
                    "Idempotency-Key \"" + key.key +
                        "\" was used with another body; "
                        "use a new key for a new request",
                    "idempotency-key-reused");
    Result<Migration> job = one_job(rows->at(0).at(1).text());
    if (!job) return passed_on(std::move(job).error());
    return Admission{std::move(*job), true};
}

Result<Admission> SqliteStore::admit(std::uint64_t token, const Migration& job,
                                     const RequestKey& key) {
    Admission admission{job, false};
    Result<void> taken = database_.transaction([&]() -> Result<void> {
        Result<void> ours = check_token(token);
        if (!ours) return ours;
        Result<std::optional<Admission>> before = replay(key);
        if (!before) return passed_on(std::move(before).error());
        if (*before) {
            admission = std::move(**before);
            return {};
        }
        Result<std::optional<std::string>> busy = active_job(job.vm);
        if (!busy) return passed_on(std::move(busy).error());
        if (*busy) {
            Error error{Fault::Conflict, "migrate " + job.vm, "job " + **busy + " is moving it",
                        "vm-busy"};
            error.instance = "/v1/jobs/" + **busy;
            return std::unexpected(std::move(error));
        }
        auto row = database_.run(
            "INSERT INTO jobs (id, vm, state, phase, done, committed, version, created_at, record) "
            "VALUES (?, ?, ?, ?, 0, 0, ?, ?, ?)",
            {job.id, job.vm, json::enum_name(job.state), row_of(job.phase).name, job.version, now(),
             json::to_text(job)});
        if (!row) return passed_on(std::move(row).error());
        auto known = database_.run(
            "INSERT INTO idempotency (principal, route, key, fingerprint, job, created_at) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            {key.principal, key.route, key.key, key.fingerprint, job.id, now()});
        if (!known) return passed_on(std::move(known).error());
        return append(token, {job, {"accepted", "outcome", 1, "by " + job.created_by}}, {});
    });
    if (!taken) return passed_on(std::move(taken).error());
    return admission;
}

Result<Flags> SqliteStore::write(std::uint64_t token, const Change& change) {
    const Migration& job = change.job;
    Flags seen;
    Result<void> written = database_.transaction([&]() -> Result<void> {
        Result<void> ours = check_token(token);
        if (!ours) return ours;
        Result<Flags> asked = flags(job.id);
        if (!asked) return passed_on(std::move(asked).error());
        seen = *asked;
        if (change.crosses_commit && seen.cancel)
            return fail(Fault::Conflict, "commit " + job.id, "a cancel came first",
                        "cancel-requested");
        // :force is said about what the job does now; it does not outlive the phase.
        auto row = database_.run(
            "UPDATE jobs SET state = ?, done = ?, committed = ?, version = ?, record = ?, "
            "force_requested = CASE WHEN phase = ? THEN force_requested ELSE 0 END, phase = ? "
            "WHERE id = ? AND version = ?",
            {json::enum_name(job.state), is_done(job), job.committed, job.version,
             json::to_text(job), row_of(job.phase).name, row_of(job.phase).name, job.id,
             job.version - 1});
        if (!row) return passed_on(std::move(row).error());
        if (*row != 1)
            return fail(
                Fault::Conflict, "write job " + job.id,
                "version " + std::to_string(job.version) + " does not follow the stored one",
                "job-moved");
        if (!change.moves_vm_to.empty()) {
            // Its description there is for the agent there to tell.
            auto moved = database_.run("UPDATE vms SET host = ?, spec = NULL WHERE id = ?",
                                       {change.moves_vm_to, job.vm});
            if (!moved) return passed_on(std::move(moved).error());
        }
        return append(token, change, seen);
    });
    if (!written) return passed_on(std::move(written).error());
    return seen;
}

Result<void> SqliteStore::request_cancel(const std::string& id) {
    return database_.transaction([&]() -> Result<void> {
        Result<Migration> found = one_job(id);
        if (!found) return passed_on(std::move(found).error());
        if (is_done(*found))
            return fail(Fault::Conflict, "cancel " + id,
                        "it has ended: " + json::enum_name(found->state), "job-finished");
        if (found->committed)
            return fail(Fault::Conflict, "cancel " + id,
                        "it is past its commit point and only goes forward", "past-commit-point");
        auto row = database_.run("UPDATE jobs SET cancel_requested = 1 WHERE id = ?", {id});
        if (!row) return passed_on(std::move(row).error());
        return {};
    });
}

Result<void> SqliteStore::request_force(const std::string& id) {
    return database_.transaction([&]() -> Result<void> {
        Result<Migration> found = one_job(id);
        if (!found) return passed_on(std::move(found).error());
        if (is_done(*found))
            return fail(Fault::Conflict, "force " + id,
                        "it has ended: " + json::enum_name(found->state), "job-finished");
        auto row = database_.run("UPDATE jobs SET force_requested = 1 WHERE id = ?", {id});
        if (!row) return passed_on(std::move(row).error());
        return {};
    });
}

Result<Migration> SqliteStore::one_job(const std::string& id) {
    Result<sqlite::Rows> rows = database_.query("SELECT record FROM jobs WHERE id = ?", {id});
    if (!rows) return passed_on(std::move(rows).error());
    if (rows->empty()) return unknown_job(id);
    return parse_job(rows->at(0).at(0).text());
}

Result<Migration> SqliteStore::job(const std::string& id) {
    return one_job(id);
}

Result<Flags> SqliteStore::flags(const std::string& id) {
    Result<sqlite::Rows> rows =
        database_.query("SELECT cancel_requested, force_requested FROM jobs WHERE id = ?", {id});
    if (!rows) return passed_on(std::move(rows).error());
    if (rows->empty()) return unknown_job(id);
    return Flags{rows->at(0).at(0).integer() != 0, rows->at(0).at(1).integer() != 0};
}

Result<std::vector<Migration>> SqliteStore::read_jobs(std::string_view sql,
                                                      const std::vector<sqlite::Value>& values) {
    Result<sqlite::Rows> rows = database_.query(sql, values);
    if (!rows) return passed_on(std::move(rows).error());
    std::vector<Migration> jobs;
    for (const sqlite::Row& row : *rows) {
        Result<Migration> job = parse_job(row.at(0).text());
        if (!job) return passed_on(std::move(job).error());
        jobs.push_back(std::move(*job));
    }
    return jobs;
}

Result<std::vector<Migration>> SqliteStore::unfinished() {
    return read_jobs("SELECT record FROM jobs WHERE done = 0 ORDER BY id", {});
}

Result<std::vector<Migration>> SqliteStore::jobs(const JobFilter& filter) {
    return read_jobs(
        "SELECT record FROM jobs WHERE (? = '' OR state = ?) AND (? = '' OR vm = ?) "
        "AND (? = '' OR id < ?) ORDER BY id DESC LIMIT ?",
        {filter.state, filter.state, filter.vm, filter.vm, filter.before, filter.before,
         filter.limit});
}

Result<std::optional<std::string>> SqliteStore::active_job(const std::string& vm) {
    Result<sqlite::Rows> rows =
        database_.query("SELECT id FROM jobs WHERE vm = ? AND done = 0", {vm});
    if (!rows) return passed_on(std::move(rows).error());
    if (rows->empty()) return std::nullopt;
    return rows->at(0).at(0).text();
}

Result<std::map<std::string, std::int64_t>> SqliteStore::job_counts() {
    Result<sqlite::Rows> rows = database_.query("SELECT state, count(*) FROM jobs GROUP BY state");
    if (!rows) return passed_on(std::move(rows).error());
    std::map<std::string, std::int64_t> counts;
    for (const sqlite::Row& row : *rows) counts[row.at(0).text()] = row.at(1).integer();
    return counts;
}

Result<std::vector<StoredEvent>> SqliteStore::events_after(const std::string& job,
                                                           std::uint64_t sequence, int limit) {
    Result<sqlite::Rows> rows = database_.query(
        "SELECT sequence, job, text, last FROM job_events WHERE sequence > ? "
        "AND (? = '' OR job = ?) ORDER BY sequence LIMIT ?",
        {sequence, job, job, limit});
    if (!rows) return passed_on(std::move(rows).error());
    std::vector<StoredEvent> events;
    for (const sqlite::Row& row : *rows)
        events.push_back({static_cast<std::uint64_t>(row.at(0).integer()), row.at(1).text(),
                          row.at(2).text(), row.at(3).integer() != 0});
    return events;
}

Result<std::uint64_t> SqliteStore::last_event() {
    Result<sqlite::Rows> rows =
        database_.query("SELECT coalesce(max(sequence), 0) FROM job_events");
    if (!rows) return passed_on(std::move(rows).error());
    return static_cast<std::uint64_t>(rows->at(0).at(0).integer());
}

Result<std::vector<protocol::StepRow>> SqliteStore::steps(const std::string& job) {
    Result<sqlite::Rows> rows = database_.query(
        "SELECT sequence, phase, what, at, attempt, token, detail FROM job_steps "
        "WHERE job = ? ORDER BY sequence",
        {job});
    if (!rows) return passed_on(std::move(rows).error());
    std::vector<protocol::StepRow> steps;
    for (const sqlite::Row& row : *rows)
        steps.push_back({static_cast<std::uint64_t>(row.at(0).integer()), row.at(1).text(),
                         row.at(2).text(), row.at(3).text(),
                         static_cast<std::uint32_t>(row.at(4).integer()),
                         static_cast<std::uint64_t>(row.at(5).integer()), row.at(6).text()});
    return steps;
}

}  // namespace godwit::controller
