#include "controller/store/schema.hpp"

namespace godwit::controller {

namespace {

constexpr std::int64_t kVersion = 2;

// `record` is the Migration as JSON; what is searched or guarded stands in columns of its own. The
// partial index is the rule "one active job per VM": no code path can forget it.
constexpr const char* kSchema = R"sql(
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE vms (
    id TEXT PRIMARY KEY, host TEXT NOT NULL, method TEXT NOT NULL, labels TEXT NOT NULL,
    spec TEXT, created_at TEXT NOT NULL) STRICT;
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, vm TEXT NOT NULL, state TEXT NOT NULL, phase TEXT NOT NULL,
    done INTEGER NOT NULL, committed INTEGER NOT NULL, version INTEGER NOT NULL,
    cancel_requested INTEGER NOT NULL DEFAULT 0, force_requested INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL, record TEXT NOT NULL) STRICT;
CREATE UNIQUE INDEX one_active_job_per_vm ON jobs (vm) WHERE done = 0;
CREATE INDEX jobs_by_vm ON jobs (vm, id);
CREATE TABLE job_steps (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL REFERENCES jobs (id),
    phase TEXT NOT NULL, what TEXT NOT NULL, attempt INTEGER NOT NULL, token INTEGER NOT NULL,
    at TEXT NOT NULL, detail TEXT NOT NULL) STRICT;
CREATE INDEX steps_of_job ON job_steps (job, sequence);
CREATE TABLE job_events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL REFERENCES jobs (id),
    last INTEGER NOT NULL, text TEXT NOT NULL) STRICT;
CREATE INDEX events_of_job ON job_events (job, sequence);
CREATE UNIQUE INDEX one_last_event_per_job ON job_events (job) WHERE last = 1;
CREATE TABLE idempotency (
    principal TEXT NOT NULL, route TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL,
    job TEXT NOT NULL REFERENCES jobs (id), created_at TEXT NOT NULL,
    PRIMARY KEY (principal, route, key)) STRICT;
CREATE TABLE sweeps (
    id INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL REFERENCES jobs (id),
    vm TEXT NOT NULL, part TEXT NOT NULL, record TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, last_error TEXT NOT NULL DEFAULT '',
    UNIQUE (job, part)) STRICT;
CREATE TABLE tokens (
    id TEXT PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE, principal TEXT NOT NULL, role TEXT NOT NULL,
    created_at TEXT NOT NULL) STRICT;
CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, principal TEXT NOT NULL,
    role TEXT NOT NULL, peer TEXT NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL,
    status INTEGER NOT NULL) STRICT;
)sql";

// Version 2. The key is the rule "an address has one tenant".
constexpr const char* kLeases = R"sql(
CREATE TABLE temporary_addresses (
    address TEXT PRIMARY KEY, vm TEXT NOT NULL, job TEXT NOT NULL, place INTEGER NOT NULL) STRICT;
)sql";

}  // namespace

Result<void> migrate_schema(sqlite::Database& database) {
    Result<std::int64_t> version = database.user_version();
    if (!version) return std::unexpected(std::move(version).error());
    if (*version == kVersion) return {};
    if (*version > kVersion)
        return fail(Fault::Corrupt, "open the store",
                    "it was written by a newer version (schema " + std::to_string(*version) +
                        ", this program knows " + std::to_string(kVersion) + ")");
    return database.transaction([&]() -> Result<void> {
        Result<void> made = *version == 0 ? database.script(kSchema) : Result<void>{};
        if (made) made = database.script(kLeases);
        if (!made) return made;
        return database.set_user_version(kVersion);
    });
}

}  // namespace godwit::controller
