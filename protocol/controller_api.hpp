// godwit-controller's public REST API, the shapes (DESIGN of the routes: controller/http/routes.cpp).
//
//   GET    /v1/vms  /v1/vms/{vm}            -> VmList, Vm
//   PUT    /v1/vms/{vm}                     VmRegistration -> Vm (admin)
//   DELETE /v1/vms/{vm}
//   POST   /v1/vms/{vm}:migrate             MigrateRequest + Idempotency-Key -> 202 + Location + Job
//   GET    /v1/hosts  /v1/hosts/{id}        -> HostList, Host
//   GET    /v1/jobs?state=&vm=&page_size=&page_token=  -> JobList;  GET /v1/jobs/{job} -> Job
//   POST   /v1/jobs/{job}:cancel            200 + Job; 409 past-commit-point, job-finished
//   POST   /v1/jobs/{job}:force             drain: reset what is left; quiescing: go on at once
//   POST   /v1/jobs/{job}:limit             BandwidthLimit: until the copy is over (409 afterwards)
//   POST   /v1/jobs/{job}:resume            from needs-attention: looks first, then goes on; ResumeRequest
//   POST   /v1/jobs/{job}:retry             from needs-attention: makes the step again; ResumeRequest.
//                                         Of a failed or cancelled job + Idempotency-Key: a new job, 202
//   POST   /v1/jobs/{job}:take-back         from needs-attention after the commit, before the source retires: the
//                                         source is the VM again, the destination goes with what it learnt
//   GET    /v1/jobs/{job}/events            SSE `job` events, durable ids, Last-Event-ID
//   GET    /v1/jobs/{job}/steps             -> StepList
//   GET    /v1/jobs/{job}/result            -> MigrationResult (409 not-finished before)
//   GET    /v1/events                       SSE of all jobs
//   GET    /v1/switches  /v1/switches/{id}  -> SwitchList, SwitchStatus (proxied, viewer)
//   GET    /v1/switches/{id}/sessions?vm=&owner=&limit=   -> protocol::SessionList
//   GET    /v1/switches/{id}/vms            -> SteeringList
//   /v1/switches/{id}/flows  /sampling  /captures   protocol/flow_api.hpp
//   GET    /v1/status                       -> ControllerStatus
//   GET    /v1/tokens  POST /v1/tokens  DELETE /v1/tokens/{id}  -> TokenList, Token (admin)
//   GET    /v1/audit?limit=                 -> AuditList (admin)
//   GET    /v1/openapi.json /livez /readyz /metrics (open)
#pragma once

#include "lib/json.hpp"

#include "protocol/agent_api.hpp"
#include "protocol/switch_api.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/describe.hpp>

namespace godwit::protocol {

struct VmRegistration {
    std::string host;             // where it runs now
    std::string method = "fork";  // default migration method: fork, boot, whole or steer
    std::map<std::string, std::string> labels;
    static constexpr std::string_view kRequired[] = {"host"};
};
BOOST_DESCRIBE_STRUCT(VmRegistration, (), (host, method, labels))

struct Vm {
    std::string id, host, method,
        state;  // state "running", ..., "unknown" when the agent is silent
    std::vector<std::string> addresses;
    std::string mac;
    std::uint32_t memory_mib = 0;
    std::uint64_t sessions = 0;
    std::optional<std::string> job;  // the active one
    std::map<std::string, std::string> labels;
};
BOOST_DESCRIBE_STRUCT(Vm, (),
                      (id, host, method, state, addresses, mac, memory_mib, sessions, job, labels))
struct VmList {
    std::vector<Vm> vms;
    std::optional<std::string> next_page_token;
};
BOOST_DESCRIBE_STRUCT(VmList, (), (vms, next_page_token))

struct Host {
    std::string id, agent, switch_id, port, state;  // state "up", "unreachable"
    std::uint64_t memory_available_bytes = 0;
    std::string qemu_version, accelerator;
    std::string behind = {};  // another switch, to which `port` is a tunnel
};
BOOST_DESCRIBE_STRUCT(Host, (),
                      (id, agent, switch_id, port, state, memory_available_bytes, qemu_version,
                       accelerator, behind))
struct HostList {
    std::vector<Host> hosts;
};
BOOST_DESCRIBE_STRUCT(HostList, (), (hosts))

struct Destination {
    std::string host;  // a host id
    static constexpr std::string_view kRequired[] = {"host"};
};
BOOST_DESCRIBE_STRUCT(Destination, (), (host))
// When the source's regions count as unchanging, before they are merged. ask: a person decides at the
// deadline. pause: the source is paused and merged as it is.
enum class OnUnquiet { ask, pause };
BOOST_DESCRIBE_ENUM(OnUnquiet, ask, pause)
struct QuietPolicy {
    std::optional<std::uint32_t> window_ms;  // between two looks; absent: the controller's
    std::uint32_t deadline_s = 120;
    OnUnquiet on_deadline = OnUnquiet::ask;
};
BOOST_DESCRIBE_STRUCT(QuietPolicy, (), (window_ms, deadline_s, on_deadline))
struct MemoryPolicy {
    std::optional<std::string> strategy;  // "fork", "boot", "whole", "steer"; absent: the VM's
    OnConflict on_conflict = OnConflict::fail;
    // Method whole only. Extra compares sent while the guest runs: exactly so many, or with a
    // budget at most so many.
    std::uint32_t rounds = 0;
    // The longest the guest may stand still from its stop to the commit. What would take longer is
    // not begun, what has become longer is taken back; the job fails and says how it could be done.
    // After the commit the port is turned and the destination runs: a few requests that no budget
    // can take back.
    std::optional<std::uint32_t> pause_budget_ms;
    // What the copy may send; 0: no limit; absent: what the source's agent.yaml says. :limit changes it.
    std::optional<std::uint32_t> bandwidth_mib_s = {};
    Compression compression = Compression::automatic;
    QuietPolicy quiet = {};
};
BOOST_DESCRIBE_STRUCT(MemoryPolicy, (),
                      (strategy, on_conflict, rounds, pause_budget_ms, bandwidth_mib_s, compression,
                       quiet))
// When the drain's deadline comes. wait: it goes on. rollback: the default owner is the source again and
// the destination drains; what its sessions wrote into regions goes with it, for the source's memory
// was never copied back. reset: what is left on the source is told with RSTs, counted, and the job goes on.
enum class OnDeadline { wait, rollback, reset };
BOOST_DESCRIBE_ENUM(OnDeadline, wait, rollback, reset)
struct DrainPolicy {
    std::uint32_t deadline_s = 3600;
    OnDeadline on_deadline = OnDeadline::wait;
};
BOOST_DESCRIBE_STRUCT(DrainPolicy, (), (deadline_s, on_deadline))
struct MigrateRequest {
    Destination destination;
    // How the destination is reached. "l2": it has the hosted addresses. "nat": it is leased addresses of its own,
    // and the switch rewrites, also after the migration; methods boot and steer. "vxlan": as l2, to a host behind
    // another switch, through the tunnel that the host's entry in the controller's configuration names.
    std::string steering = "l2";
    MemoryPolicy memory;
    DrainPolicy drain;
    SourceAfter source_after = SourceAfter::delete_;
    std::map<std::string, std::string> labels;
    bool force = false;  // migrate in spite of untracked sessions
    bool validate_only = false;
    static constexpr std::string_view kRequired[] = {"destination"};
};
BOOST_DESCRIBE_STRUCT(MigrateRequest, (),
                      (destination, steering, memory, drain, source_after, labels, force,
                       validate_only))

struct SessionProgress {
    std::uint64_t source = 0, destination = 0;
};
BOOST_DESCRIBE_STRUCT(SessionProgress, (), (source, destination))
struct ByteProgress {
    std::uint64_t total = 0, copied = 0;
};
BOOST_DESCRIBE_STRUCT(ByteProgress, (), (total, copied))
struct Progress {
    std::uint32_t percent = 0;  // never runs backwards
    std::uint32_t step = 0, steps = 0;
    SessionProgress sessions;
    ByteProgress bytes;
    std::optional<std::uint32_t> eta_s;
};
BOOST_DESCRIBE_STRUCT(Progress, (), (percent, step, steps, sessions, bytes, eta_s))

struct Problem {  // RFC 9457
    std::string type, title, detail;
    int status = 0;
    std::vector<std::string> next_actions;  // "godwit job resume j-..." ; what a person can do now
};
BOOST_DESCRIBE_STRUCT(Problem, (), (type, title, detail, status, next_actions))

struct MigrationResult {
    std::uint64_t sessions_at_start = 0;  // owned by the source when steering began
    // Of those, ended on their own on the source; with method whole, gone on at the destination.
    std::uint64_t sessions_kept = 0;
    std::uint64_t sessions_reset = 0;
    std::uint64_t sessions_moved = 0;  // at the destination when the job ended
    std::uint32_t longest_gap_ms = 0;
    double flip_us = 0;
    std::uint64_t bytes_copied = 0, bytes_compared = 0, bytes_patched = 0, bytes_on_wire = 0;
    std::uint64_t bytes_zero = 0, bytes_compressed = 0;  // of bytes_copied
    std::vector<Conflict> conflicts;
    // Of the source at the fork; with method whole, from its stop until the destination ran.
    double source_pause_ms = 0;
    double destination_pause_ms = 0;
    std::uint64_t resumes = 0;       // cuts of the connection between the agents, taken up again
    std::uint64_t bytes_resent = 0;  // of bytes_on_wire, for that
    std::uint64_t rounds = 0;        // method whole: compares sent while the guest ran
    std::string root;                // of the memory both sides had when it was proven equal
    std::map<std::string, double> phase_ms;
};
BOOST_DESCRIBE_STRUCT(MigrationResult, (),
                      (sessions_at_start, sessions_kept, sessions_reset, sessions_moved,
                       longest_gap_ms, flip_us, bytes_copied, bytes_compared, bytes_patched,
                       bytes_on_wire, bytes_zero, bytes_compressed, conflicts, source_pause_ms,
                       destination_pause_ms, resumes, bytes_resent, rounds, root, phase_ms))

struct Job {
    std::string id, kind = "migration", target;  // target: the VM
    // "running", "succeeded", "failed", "cancelled", "rolling-back", "needs-attention"
    std::string state;
    std::string phase;  // "accepted", "preflight", ... "retiring"
    bool done = false, may_cancel = false, committed = false;
    Progress progress;
    std::optional<Problem> error;
    std::optional<MigrationResult> result;
    std::uint64_t epoch = 0;  // the fencing token that last moved it
    std::string source, destination, created_by;
    std::map<std::string, std::string> labels;
    std::map<std::string, std::string> timestamps;  // phase -> RFC 3339 UTC, with milliseconds
    std::string detail;  // one line for people: what it is doing or waiting for
};
BOOST_DESCRIBE_STRUCT(Job, (),
                      (id, kind, target, state, phase, done, may_cancel, committed, progress, error,
                       result, epoch, source, destination, created_by, labels, timestamps, detail))
struct JobList {
    std::vector<Job> jobs;
    std::optional<std::string> next_page_token;
};
BOOST_DESCRIBE_STRUCT(JobList, (), (jobs, next_page_token))

// Body of :resume and :retry; empty is fine. With conflicts in `patching`, a person's choice.
struct ResumeRequest {
    std::optional<OnConflict> on_conflict;
};
BOOST_DESCRIBE_STRUCT(ResumeRequest, (), (on_conflict))

// Body of :limit. What the copy may send from now on; 0: no limit.
struct BandwidthLimit {
    std::uint32_t bandwidth_mib_s = 0;
    static constexpr std::string_view kRequired[] = {"bandwidth_mib_s"};
};
BOOST_DESCRIBE_STRUCT(BandwidthLimit, (), (bandwidth_mib_s))

struct SwitchList {
    std::vector<SwitchStatus> switches;
};
BOOST_DESCRIBE_STRUCT(SwitchList, (), (switches))
struct SteeringList {
    std::vector<VmSteering> vms;
};
BOOST_DESCRIBE_STRUCT(SteeringList, (), (vms))

struct TokenRequest {
    std::string principal;  // who gets it, "alice"
    std::string role;       // "viewer", "operator", "netadmin", "admin"
    static constexpr std::string_view kRequired[] = {"principal", "role"};
};
BOOST_DESCRIBE_STRUCT(TokenRequest, (), (principal, role))
struct Token {
    std::string id, principal, role, created_at;
    std::optional<std::string> token;  // the secret, in the answer that makes it and never again
};
BOOST_DESCRIBE_STRUCT(Token, (), (id, principal, role, created_at, token))
struct TokenList {
    std::vector<Token> tokens;
};
BOOST_DESCRIBE_STRUCT(TokenList, (), (tokens))

struct AuditEntry {
    std::string at, principal, role, peer, method, path;
    int status = 0;
};
BOOST_DESCRIBE_STRUCT(AuditEntry, (), (at, principal, role, peer, method, path, status))
struct AuditList {
    std::vector<AuditEntry> entries;
};
BOOST_DESCRIBE_STRUCT(AuditList, (), (entries))

struct StepRow {
    std::uint64_t sequence = 0;
    std::string phase, what, at;  // what: "intent", "outcome", "retry", "compensate", ...
    std::uint32_t attempt = 0;
    std::uint64_t token = 0;
    std::string detail;
};
BOOST_DESCRIBE_STRUCT(StepRow, (), (sequence, phase, what, at, attempt, token, detail))
struct StepList {
    std::vector<StepRow> steps;
};
BOOST_DESCRIBE_STRUCT(StepList, (), (steps))

struct ControllerStatus {
    std::string version, store;
    std::uint64_t token = 0;
    std::uint64_t jobs_running = 0, jobs_need_attention = 0;
    std::vector<Host> hosts;
    std::vector<SwitchStatus> switches;  // plane "unreachable" when it does not answer
};
BOOST_DESCRIBE_STRUCT(ControllerStatus, (),
                      (version, store, token, jobs_running, jobs_need_attention, hosts, switches))

}  // namespace godwit::protocol
