#include "controller/machine/migration.hpp"

#include "lib/http/message.hpp"
#include "lib/id.hpp"

#include <algorithm>

namespace godwit::controller {

namespace {

// Undoing one phase has this long before a person is asked; draining back follows the drain policy.
constexpr std::int64_t kUndoMs = 600'000;

std::int64_t deadline_of(const Migration& job, Phase phase, std::int64_t now) {
    const bool drains =
        phase == Phase::draining || (phase == Phase::steering && job.state == State::rolling_back);
    if (drains) return now + std::int64_t{job.request.drain.deadline_s} * 1000;
    if (job.state == State::rolling_back) return now + kUndoMs;
    if (phase == Phase::quiescing)
        return now + std::int64_t{job.request.memory.quiet.deadline_s} * 1000;
    return now + std::int64_t{row_of(phase).deadline_s} * 1000;
}

void note_duration(Migration& job, std::int64_t now) {
    job.result.phase_ms[std::string(row_of(job.phase).name)] +=
        static_cast<double>(now - job.entered_ms);
}

std::vector<std::string> ways_out(const Migration& job) {
    const std::string name = " " + job.id;
    std::vector<std::string> ways = {"godwit job resume" + name, "godwit job retry" + name};
    if (job.phase == Phase::quiescing || job.phase == Phase::steering)
        ways.push_back("godwit job force" + name);
    if (may_take_back(job)) ways.push_back("godwit job take-back" + name);
    if (job.phase == Phase::patching) {
        ways.push_back("godwit job resume" + name + " --on-conflict source-wins");
        ways.push_back("godwit job resume" + name + " --on-conflict destination-wins");
    }
    return ways;
}

}  // namespace

std::int64_t unix_ms(TimePoint time) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

bool moves_memory(const Migration& job) {
    return job.method != "steer";
}

bool moves_whole(const Migration& job) {
    return job.method == "whole";
}

bool boots_fresh(const Migration& job) {
    return job.method == "boot";
}

bool arrives_by_nat(const Migration& job) {
    return job.request.steering == "nat";
}

protocol::VmSpec destination_spec(const Migration& job) {
    protocol::VmSpec spec = job.facts.spec;
    spec.mac = job.facts.destination.mac;
    spec.temporary_addresses = job.facts.temporary_addresses;
    return spec;
}

bool skips(const Migration& job) {
    const PhaseRow& row = row_of(job.phase);
    return (row.memory && !moves_memory(job)) || (row.split && moves_whole(job));
}

bool may_cancel(const Migration& job) {
    return job.state == State::running && !job.committed && row_of(job.phase).may_cancel;
}

bool may_take_back(const Migration& job) {
    if (!job.committed || job.ending || !moves_memory(job)) return false;
    // A destination that was adopted is its user's, and not the job's to take away.
    const bool adopted = std::ranges::find(job.swept, kAdoptDestination) != job.swept.end();
    return !job.source_told && !adopted;
}

bool is_done(const Migration& job) {
    return is_terminal(job.state);
}

void enter(Migration& job, Phase phase, TimePoint now) {
    job.phase = phase;
    job.began = false;
    job.attempt = 1;
    job.entered_ms = unix_ms(now);
    job.deadline_ms = deadline_of(job, phase, job.entered_ms);
    job.warned = false;
    job.reset_step.clear();
    job.detail.clear();
    if (job.state == State::running) job.timestamps[std::string(row_of(phase).name)] = rfc3339(now);
}

void leave_phase(Migration& job, TimePoint now) {
    note_duration(job, unix_ms(now));
    advance_percent(job, 1.0);
    const std::optional<Phase> next = next_phase(job.phase);
    if (next)
        enter(job, *next, now);
    else
        end(job, State::succeeded, now);
}

void turn_back(Migration& job, State ending, TimePoint now) {
    const bool began = job.began;
    job.ending = ending;
    job.committed = false;
    job.state = State::rolling_back;
    job.timestamps["rolling-back"] = rfc3339(now);
    note_duration(job, unix_ms(now));
    enter(job, job.phase, now);
    job.began = began;
}

void step_back(Migration& job, TimePoint now) {
    const std::optional<Phase> before = previous_phase(job.phase);
    if (!before) return end(job, job.ending.value_or(State::failed), now);
    enter(job, *before, now);
    job.began = true;  // a phase that was left has happened
}

void ask_for_attention(Migration& job, const Error& error, TimePoint now) {
    job.state = State::needs_attention;
    job.timestamps["needs-attention"] = rfc3339(now);
    job.error = problem_of(error, ways_out(job));
    job.detail = error.text();
}

void end(Migration& job, State state, TimePoint now) {
    job.state = state;
    job.began = false;
    job.timestamps[json::enum_name(state)] = rfc3339(now);
    job.detail.clear();
    if (state == State::succeeded) {
        job.progress.percent = 100;
        job.error.reset();
    }
}

void advance_percent(Migration& job, double fraction) {
    if (job.state != State::running) return;
    job.progress.percent = std::max(job.progress.percent, percent_at(job.phase, fraction));
}

std::vector<std::string> advice(const Migration& job, const Error& error) {
    if (error.slug != "pause-budget") return {};
    const std::string again = "godwit vm migrate " + job.vm + " --to " + job.destination +
                              " --method whole --rounds " +
                              std::to_string(job.request.memory.rounds + 2);
    const std::uint32_t budget = job.request.memory.pause_budget_ms.value_or(0);
    return {again + " --pause-budget-ms " + std::to_string(budget),
            again + " --pause-budget-ms " + std::to_string(budget * 2), again};
}

protocol::Problem problem_of(const Error& error, std::vector<std::string> next_actions) {
    const std::string slug = error.slug.empty() ? "device-error" : error.slug;
    protocol::Problem problem{"urn:godwit:problem:" + slug, slug, error.text(),
                              http::status_of(error), std::move(next_actions)};
    std::ranges::replace(problem.title, '-', ' ');
    return problem;
}

protocol::Job view(const Migration& job, Flags flags) {
    protocol::Job seen;
    seen.id = job.id;
    seen.target = job.vm;
    seen.state = json::enum_name(job.state);
    seen.phase = row_of(job.phase).name;
    seen.done = is_done(job);
    seen.may_cancel = may_cancel(job) && !flags.cancel;
    seen.committed = job.committed;
    seen.progress = job.progress;
    seen.progress.step = static_cast<std::uint32_t>(job.phase);
    seen.progress.steps = kPhases - 1;
    seen.error = job.error;
    if (job.state == State::succeeded) seen.result = job.result;
    seen.epoch = job.epoch;
    seen.source = job.source;
    seen.destination = job.destination;
    seen.created_by = job.created_by;
    seen.labels = job.request.labels;
    seen.timestamps = job.timestamps;
    seen.detail = job.detail;
    if (flags.cancel && !is_done(job) && seen.detail.empty()) seen.detail = "cancel requested";
    return seen;
}

}  // namespace godwit::controller
