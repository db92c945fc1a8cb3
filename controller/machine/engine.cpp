#include "controller/machine/engine.hpp"

#include "lib/log.hpp"

#include <algorithm>
#include <random>
#include <set>

#include <boost/asio/co_spawn.hpp>

namespace godwit::controller {

namespace asio = boost::asio;

namespace {

constexpr std::uint32_t kConflictsMax = 5;
constexpr std::chrono::milliseconds kStorePause{1000};

std::unexpected<Error> passed_on(Error error) {
    return std::unexpected(std::move(error));
}

Result<void> only(Result<Flags> written, JobRun& run) {
    if (!written) return passed_on(std::move(written).error());
    run.flags = *written;
    return {};
}

// A refusal by the store, not by a device: the record in memory must be read anew.
bool is_of_the_store(const Error& error) {
    return error.slug == "store-unavailable" || error.slug == "job-moved" ||
           error.fault == Fault::Corrupt;
}

StepEntry entry(const Migration& job, std::string what, std::string detail = {}) {
    return {std::string(row_of(job.phase).name), std::move(what), job.attempt, std::move(detail)};
}

}  // namespace

Engine::Engine(asio::any_io_executor executor, Devices& devices, Journal& journal,
               TimingConfig timing)
    : executor_(std::move(executor)), devices_(devices), journal_(journal), timing_(timing) {}

asio::awaitable<void> Engine::recover() {
    Result<std::vector<Migration>> jobs = journal_.store().unfinished();
    if (!jobs) {
        log::error("engine", jobs.error().text());
        co_return;
    }
    std::set<std::string> hosts;
    std::set<std::string> switches;
    for (const Migration& job : *jobs) {
        for (const std::string& id : {job.source, job.destination}) {
            const HostConfig* host = devices_.host(id);
            if (!host) continue;
            hosts.insert(id);
            if (devices_.has_switch(host->switch_id)) switches.insert(host->switch_id);
        }
    }
    // The predecessor may still be alive somewhere: from here on devices refuse it. One that does
    // not answer learns the token from the first command that reaches it.
    for (const std::string& id : hosts) {
        Result<protocol::Fence> fenced = co_await devices_.agent(id).fence(journal_.token());
        if (!fenced) log::warning("engine", fenced.error().text());
        if (!fenced && fenced.error().slug == "stale-epoch")
            journal_.step_down(fenced.error().text());
    }
    for (const std::string& id : switches) {
        Result<protocol::Fence> fenced = co_await devices_.switch_of(id).fence(journal_.token());
        if (!fenced) log::warning("engine", fenced.error().text());
        if (!fenced && fenced.error().slug == "stale-epoch")
            journal_.step_down(fenced.error().text());
    }
    for (Migration& job : *jobs)
        if (job.state != State::needs_attention) start(std::move(job));
}

void Engine::start(Migration job) {
    if (journal_.is_down() || runs_.contains(job.id)) return;
    for (const std::string& host : {job.source, job.destination}) {
        if (devices_.host(host)) continue;
        log::error("engine", job.id + " waits: host " + host + " is not in the configuration");
        return;
    }
    const Result<Flags> asked = journal_.store().flags(job.id);
    auto run = std::make_shared<JobRun>(std::move(job), asked.value_or(Flags{}), devices_, journal_,
                                        timing_, executor_);
    runs_[run->job.id] = run;
    // What leaves drive() is a broken invariant: the process ends, and the next start goes on from
    // the store.
    asio::co_spawn(executor_, drive(std::move(run)), [](std::exception_ptr broken) {
        if (broken) std::rethrow_exception(broken);
    });
}

asio::awaitable<void> Engine::drive(RunPtr run) {
    while (!is_done(run->job) && run->job.state != State::needs_attention) {
        Result<void> moved;
        if (run->job.state == State::rolling_back)
            moved = co_await backward(*run);
        else
            moved = co_await forward(*run);
        if (journal_.is_down()) break;
        if (!moved) {
            log::warning("engine", moved.error().text());
            co_await reload(run);
        }
    }
    runs_.erase(run->job.id);
}

asio::awaitable<void> Engine::reload(RunPtr run) {
    co_await run->bell.wait(run->bell.rung(), journal_.clock(), kStorePause);
    Result<Migration> stored = journal_.store().job(run->job.id);
    if (stored) run->job = std::move(*stored);
}

// Leaves the current phase, or makes one try to.
Task<void> Engine::forward(JobRun& run) {
    if (skips(run.job)) co_return skip_phase(run);
    if (run.flags.cancel && may_cancel(run.job))
        co_return turn(run, State::cancelled, std::nullopt);
    const Phase phase = run.job.phase;
    Result<void> tried = co_await attempt(run);
    if (tried && run.job.phase != phase)
        co_return run.note("went-back", "from " + std::string(row_of(phase).name));
    if (tried) tried = finish_phase(run);
    if (tried) co_return tried;
    Result<void> handled = co_await fail_forward(run, std::move(tried).error());
    co_return handled;
}

Task<void> Engine::attempt(JobRun& run) {
    const Step& step = step_of(run.job.phase);
    const Phase phase = run.job.phase;
    if (run.job.began && step.observe) {
        Result<bool> seen = co_await step.observe(run);
        if (!seen) co_return passed_on(std::move(seen).error());
        if (*seen) co_return Result<void>{};
    }
    if (!run.job.began) {
        Result<void> begun = co_await begin(run);
        if (!begun || run.job.phase != phase) co_return begun;
    }
    Result<void> applied = co_await step.apply(run);
    co_return applied;
}

Task<void> Engine::begin(JobRun& run) {
    const Step& step = step_of(run.job.phase);
    const Phase phase = run.job.phase;
    if (step.precheck) {
        Result<void> checked = co_await step.precheck(run);
        if (!checked || run.job.phase != phase) co_return checked;
    }
    run.job.began = true;
    Result<Flags> written = journal_.write(run.job, entry(run.job, "intent"));
    if (!written) run.job.began = false;
    co_return only(std::move(written), run);
}

Result<void> Engine::finish_phase(JobRun& run) {
    Change change{run.job, entry(run.job, "outcome")};
    const Phase left = run.job.phase;
    change.crosses_commit = left == Phase::commit;
    if (left == Phase::handover) change.moves_vm_to = run.job.destination;
    if (left == Phase::commit) change.job.committed = true;
    leave_phase(change.job, journal_.clock().now());
    Result<Flags> written = journal_.write(change);
    if (written) run.job = std::move(change.job);
    return only(std::move(written), run);
}

Result<void> Engine::skip_phase(JobRun& run) {
    Change change{run.job, entry(run.job, "skipped", "method " + run.job.method)};
    leave_phase(change.job, journal_.clock().now());
    Result<Flags> written = journal_.write(change);
    if (written) run.job = std::move(change.job);
    return only(std::move(written), run);
}

Result<void> Engine::turn(JobRun& run, State ending, std::optional<Error> error) {
    const std::string why = error ? error->text() : "cancelled";
    Change change{run.job, entry(run.job, "rolling-back", why)};
    // What was committed is taken back: the VM is the source's again.
    if (change.job.committed) change.moves_vm_to = run.job.source;
    turn_back(change.job, ending, journal_.clock().now());
    change.job.detail = why;
    if (error) change.job.error = problem_of(*error, advice(run.job, *error));
    Result<Flags> written = journal_.write(change);
    if (written) run.job = std::move(change.job);
    return only(std::move(written), run);
}

Result<void> Engine::give_up(JobRun& run, const Error& error) {
    Change change{run.job, entry(run.job, "needs-attention", error.text())};
    ask_for_attention(change.job, error, journal_.clock().now());
    Result<Flags> written = journal_.write(change);
    if (written) run.job = std::move(change.job);
    return only(std::move(written), run);
}

// The VM has moved; what is left to clean up must not keep the job from saying so.
Result<void> Engine::succeed_with_leftovers(JobRun& run, const Error& error) {
    Change change{run.job, entry(run.job, "outcome", "left to the sweeper: " + error.text())};
    for (const std::string& part : retiring_parts(run.job))
        if (std::ranges::find(run.job.swept, part) == run.job.swept.end())
            change.sweeps.push_back(part);
    leave_phase(change.job, journal_.clock().now());
    Result<Flags> written = journal_.write(change);
    if (written) run.job = std::move(change.job);
    return only(std::move(written), run);
}

bool Engine::can_retry(JobRun& run, const Error& error) {
    if (run.is_late()) return false;
    switch (error.fault) {
        case Fault::Retry:
        case Fault::Lost:
            return true;
        // Someone moved first, or a restarted agent has not found its VMs again: look again, but
        // not for ever.
        case Fault::Conflict:
        case Fault::Missing:
            return error.slug != "no-memory" && run.job.phase != Phase::preflight &&
                   run.job.attempt < kConflictsMax;
        default:
            return false;
    }
}

std::chrono::milliseconds Engine::backoff(std::uint32_t attempt) {
    static thread_local std::minstd_rand random{std::random_device{}()};
    const std::uint32_t doublings = std::min(attempt - 1, 16U);
    const double full = std::min<double>(
        static_cast<double>(timing_.backoff_ms) * (1U << doublings), timing_.backoff_max_ms);
    std::uniform_real_distribution<double> jitter(0.8, 1.2);
    return std::chrono::milliseconds(static_cast<std::int64_t>(full * jitter(random)) + 1);
}

Task<void> Engine::back_off(JobRun& run, const Error& error) {
    const std::uint64_t rung = run.bell.rung();
    const std::chrono::milliseconds time = backoff(run.job.attempt);
    run.job.attempt += 1;
    Result<void> noted = run.note("retry", error.text());
    if (!noted) co_return noted;
    co_await run.bell.wait(rung, journal_.clock(), time);
    co_return Result<void>{};
}

Task<void> Engine::fail_forward(JobRun& run, Error error) {
    if (error.slug == "stale-epoch") {
        journal_.step_down(error.text());
        co_return passed_on(std::move(error));
    }
    if (error.slug == "cancel-requested") {
        run.flags.cancel = true;
        co_return turn(run, State::cancelled, std::nullopt);
    }
    if (is_of_the_store(error)) co_return passed_on(std::move(error));
    if (can_retry(run, error)) {
        Result<void> waited = co_await back_off(run, error);
        co_return waited;
    }
    const Error told = std::move(error).within(row_of(run.job.phase).name);
    // Nobody but the source can be the VM any more, and it knows all there is to know.
    if (told.slug == kNeverRan) co_return turn(run, State::failed, told);
    if (told.slug == kDestinationLost && run.job.committed) co_return give_up(run, told);
    switch (row_of(run.job.phase).on_failure) {
        case OnFailure::fail:
        case OnFailure::roll_back:
            co_return turn(run, State::failed, told);
        case OnFailure::ask:
            co_return give_up(run, told);
        case OnFailure::sweep:
            co_return succeed_with_leftovers(run, told);
    }
    std::abort();
}

// Undoes the phase the job is in and moves to the one before it. The step in progress is undone
// too, whether or not its outcome was written: it may have happened.
Task<void> Engine::backward(JobRun& run) {
    const Step& step = step_of(run.job.phase);
    const bool undo = step.compensate && run.job.began && !skips(run.job);
    if (undo) {
        Result<void> undone = co_await step.compensate(run);
        if (!undone) {
            Result<void> handled = co_await fail_backward(run, std::move(undone).error());
            co_return handled;
        }
    }
    Change change{run.job, entry(run.job, "undone")};
    // Phases that made nothing are passed in one write.
    do {
        step_back(change.job, journal_.clock().now());
    } while (!is_done(change.job) && (!step_of(change.job.phase).compensate || skips(change.job)));
    Result<Flags> written = journal_.write(change);
    if (written) run.job = std::move(change.job);
    co_return only(std::move(written), run);
}

Task<void> Engine::fail_backward(JobRun& run, Error error) {
    if (error.slug == "stale-epoch") {
        journal_.step_down(error.text());
        co_return passed_on(std::move(error));
    }
    if (is_of_the_store(error)) co_return passed_on(std::move(error));
    // Draining back has no deadline of its own beyond the policy's: a silent switch is waited for.
    const bool drains = run.job.phase == Phase::steering &&
                        (error.fault == Fault::Retry || error.fault == Fault::Lost);
    if (drains || can_retry(run, error)) {
        Result<void> waited = co_await back_off(run, error);
        co_return waited;
    }
    const Error told = std::move(error).within("undo " + std::string(row_of(run.job.phase).name));
    co_return give_up(run, told);
}

Result<Migration> Engine::cancel(const std::string& id) {
    Result<void> asked = journal_.store().request_cancel(id);
    if (!asked) return passed_on(std::move(asked).error());
    const auto run = runs_.find(id);
    if (run != runs_.end()) {
        run->second->flags.cancel = true;
        run->second->bell.ring();
    }
    return journal_.store().job(id);
}

Result<Migration> Engine::force(const std::string& id) {
    Result<void> asked = journal_.store().request_force(id);
    if (!asked) return passed_on(std::move(asked).error());
    const auto run = runs_.find(id);
    if (run == runs_.end()) return resume(id, /*observe=*/true, std::nullopt);
    run->second->flags.force = true;
    run->second->bell.ring();
    return journal_.store().job(id);
}

Result<Migration> Engine::resume(const std::string& id, bool observe,
                                 std::optional<protocol::OnConflict> on_conflict) {
    Result<Migration> job = journal_.store().job(id);
    if (!job) return job;
    if (is_done(*job))
        return fail(Fault::Conflict, "resume " + id, "it has ended: " + json::enum_name(job->state),
                    "job-finished");
    if (job->state != State::needs_attention || runs_.contains(id))
        return fail(Fault::Conflict, "resume " + id,
                    "it is " + json::enum_name(job->state) + " and waits for nobody",
                    "not-waiting");
    if (on_conflict) job->request.memory.on_conflict = *on_conflict;
    const bool began = job->began;
    const std::uint32_t attempt = job->attempt;
    job->state = job->ending ? State::rolling_back : State::running;
    if (!job->ending) job->error.reset();
    enter(*job, job->phase, journal_.clock().now());
    // What the source was told to go by is not forgotten by trying again.
    const bool keeps = job->ending || job->phase == Phase::retiring;
    job->began = began && (keeps || observe);
    job->attempt = attempt + 1;  // another step to the devices: they must not repeat their answer
    const std::string what = observe ? "resume" : "retry-step";
    Result<Flags> written = journal_.write(*job, entry(*job, what));
    if (!written) return passed_on(std::move(written).error());
    start(*job);
    return job;
}

Result<Migration> Engine::limit(const std::string& id, std::uint32_t bandwidth_mib_s) {
    const auto found = runs_.find(id);
    if (found == runs_.end()) {
        Result<Migration> job = journal_.store().job(id);
        if (!job) return job;
    }
    const bool copies = found != runs_.end() && found->second->job.state == State::running &&
                        found->second->job.phase <= Phase::copying &&
                        moves_memory(found->second->job);
    if (!copies)
        return fail(Fault::Conflict, "limit " + id, "its memory is not being copied any more",
                    "not-copying");
    JobRun& run = *found->second;
    run.job.request.memory.bandwidth_mib_s = bandwidth_mib_s;
    Result<void> noted =
        run.note("limit", bandwidth_mib_s == 0
                              ? "the copy may send as fast as it goes"
                              : "the copy may send " + std::to_string(bandwidth_mib_s) + " MiB/s");
    if (!noted) return passed_on(std::move(noted).error());
    run.bell.ring();
    return run.job;
}

Result<Migration> Engine::take_back(const std::string& id) {
    Result<Migration> job = journal_.store().job(id);
    if (!job) return job;
    if (is_done(*job))
        return fail(Fault::Conflict, "take back " + id,
                    "it has ended: " + json::enum_name(job->state), "job-finished");
    if (job->state != State::needs_attention || runs_.contains(id) || !may_take_back(*job))
        return fail(
            Fault::Conflict, "take back " + id,
            "it is " + json::enum_name(job->state) + " in " + std::string(row_of(job->phase).name) +
                ", legal would be: needs-attention after the commit, until the source is told "
                "to go; before the commit :cancel does it",
            "not-waiting");
    Change change{*job, entry(*job, "take-back", "asked for by a person")};
    change.moves_vm_to = job->source;
    turn_back(change.job, State::failed, journal_.clock().now());
    Result<Flags> written = journal_.write(change);
    if (!written) return passed_on(std::move(written).error());
    start(change.job);
    return change.job;
}

void Engine::wake(const std::string& vm) {
    for (const auto& [id, run] : runs_)
        if (run->job.vm == vm) run->bell.ring();
}

bool Engine::is_driving(const std::string& vm) const {
    return std::ranges::any_of(runs_, [&](const auto& item) { return item.second->job.vm == vm; });
}

}  // namespace godwit::controller
