// godwit job list | show | steps | watch | wait | cancel | force | retry | resume | take-back |
//            limit
#include "lib/id.hpp"

#include "cli/commands.hpp"
#include "cli/exit_code.hpp"
#include "cli/watch.hpp"

namespace godwit::cli {

namespace bj = json::bj;

namespace {

struct Filter {
    std::string state, vm;
};

int list(Session& session, const Filter& filter) {
    std::string path = "/v1/jobs?page_size=100";
    if (!filter.state.empty()) path += "&state=" + http::encoded(filter.state);
    if (!filter.vm.empty()) path += "&vm=" + http::encoded(filter.vm);
    Result<bj::array> jobs = all_pages(session.api, path, "jobs");
    if (!jobs) return failed(session, jobs.error());
    if (session.console.format() != Format::table) {
        session.console.value(bj::object{{"jobs", *jobs}});
        return kOk;
    }
    Table table{{"JOB", "VM", "STATE", "PHASE", "DONE", "FROM", "TO", "CREATED"}, {}};
    for (const bj::value& value : *jobs) {
        Result<protocol::Job> job = understood<protocol::Job>(value, "read the list of jobs");
        if (!job) return failed(session, job.error());
        const auto created = job->timestamps.find("accepted");
        table.rows.push_back({job->id, job->target, job->state, job->phase,
                              std::to_string(job->progress.percent) + "%", job->source,
                              job->destination,
                              created == job->timestamps.end() ? "-" : created->second});
    }
    session.console.table(table);
    return kOk;
}

void add_result(Table& table, const protocol::MigrationResult& result) {
    auto add = [&table](const char* name, std::string text) {
        table.rows.push_back({name, std::move(text)});
    };
    add("sessions at start", std::to_string(result.sessions_at_start));
    add("sessions kept", std::to_string(result.sessions_kept));
    add("sessions moved", std::to_string(result.sessions_moved));
    add("sessions reset", std::to_string(result.sessions_reset));
    add("longest gap", std::to_string(result.longest_gap_ms) + " ms");
    add("flip", std::to_string(result.flip_us) + " us");
    add("copied", bytes_text(result.bytes_copied));
    add("compared", bytes_text(result.bytes_compared));
    add("patched", bytes_text(result.bytes_patched));
    add("conflicts", std::to_string(result.conflicts.size()));
    for (const auto& [phase, ms] : result.phase_ms)
        add("time", phase + " " + std::to_string(ms) + " ms");
}

Table details_of(const protocol::Job& job) {
    Table table{{},
                {{"job", job.id},
                 {"vm", job.target},
                 {"state", job.state},
                 {"phase", job.phase},
                 {"progress", progress_text(job)},
                 {"from", job.source},
                 {"to", job.destination},
                 {"committed", job.committed ? "yes" : "no"},
                 {"may cancel", job.may_cancel ? "yes" : "no"},
                 {"created by", job.created_by}}};
    if (job.error) {
        table.rows.push_back({"error", job.error->detail});
        for (const std::string& action : job.error->next_actions)
            table.rows.push_back({"next", action});
    }
    for (const auto& [name, value] : job.labels)
        table.rows.push_back({"label", name + "=" + value});
    std::vector<std::pair<std::string, std::string>> times;
    for (const auto& [phase, at] : job.timestamps) times.emplace_back(at, phase);
    std::ranges::sort(times);
    for (const auto& [at, phase] : times) table.rows.push_back({"at", at + " " + phase});
    if (job.result) add_result(table, *job.result);
    return table;
}

int show(Session& session, const std::string& id) {
    Result<bj::value> raw = session.api.get("/v1/jobs/" + http::encoded(id));
    if (!raw) return failed(session, raw.error());
    if (session.console.format() != Format::table) {
        session.console.value(*raw);
        return kOk;
    }
    Result<protocol::Job> job = understood<protocol::Job>(*raw, "read job " + id);
    if (!job) return failed(session, job.error());
    session.console.table(details_of(*job));
    return kOk;
}

int steps(Session& session, const std::string& id) {
    Result<bj::value> raw = session.api.get("/v1/jobs/" + http::encoded(id) + "/steps");
    if (!raw) return failed(session, raw.error());
    if (session.console.format() != Format::table) {
        session.console.value(*raw);
        return kOk;
    }
    auto read = understood<protocol::StepList>(*raw, "read the steps of job " + id);
    if (!read) return failed(session, read.error());
    Table table{{"AT", "PHASE", "WHAT", "ATTEMPT", "DETAIL"}, {}};
    for (const protocol::StepRow& row : read->steps)
        table.rows.push_back(
            {row.at, row.phase, row.what, std::to_string(row.attempt), row.detail});
    session.console.table(table);
    return kOk;
}

struct VerbOptions {
    std::string job, key, on_conflict;
    std::optional<std::uint32_t> bandwidth_mib_s;
};

int act(Session& session, const std::string& verb, const VerbOptions& options) {
    const std::string& id = options.job;
    const std::string key =
        options.key.empty() ? uuid_v7(std::chrono::system_clock::now()) : options.key;
    bj::object body;
    if (!options.on_conflict.empty()) body["on_conflict"] = options.on_conflict;
    if (options.bandwidth_mib_s) body["bandwidth_mib_s"] = *options.bandwidth_mib_s;
    Result<bj::value> raw =
        session.api.post("/v1/jobs/" + http::encoded(id) + ":" + verb, std::move(body), key);
    if (!raw) return failed(session, raw.error());
    if (session.console.format() != Format::table) {
        session.console.value(*raw);
        return kOk;
    }
    Result<protocol::Job> job = understood<protocol::Job>(*raw, verb + " job " + id);
    if (!job) return failed(session, job.error());
    session.console.line(job->id + "  " + job->state + "  " + job->phase);
    if (!job->done) session.console.note("to follow it: godwit job watch " + job->id);
    return kOk;
}

void add_watch(CLI::App& group, Command& chosen, const std::string& name,
               const std::string& about) {
    auto id = std::make_shared<std::string>();
    auto timeout = std::make_shared<std::string>();
    CLI::App* sub = add_command(group, name, about, chosen, [id, timeout](Session& session) {
        WatchOptions options;
        if (!timeout->empty()) options.timeout = std::chrono::seconds(*parse_duration(*timeout));
        return watch_job(session.api, session.console, *id, options);
    });
    sub->add_option("job", *id, "the job's id")->required();
    sub->add_option("--timeout", *timeout, "stop following after this time (exit 6)")
        ->check(duration_check());
}

CLI::App* add_verb(CLI::App& group, Command& chosen, const std::string& verb,
                   const std::string& about, std::shared_ptr<VerbOptions> options) {
    CLI::App* sub = add_command(group, verb, about, chosen, [options, verb](Session& session) {
        return act(session, verb, *options);
    });
    sub->add_option("job", options->job, "the job's id")->required();
    sub->add_option("--idempotency-key", options->key, "default: random")->type_name("KEY");
    return sub;
}

void add_verbs(CLI::App& group, Command& chosen) {
    auto options = std::make_shared<VerbOptions>();
    add_verb(group, chosen, "cancel",
             "Undo a job that is not committed: its destination is drained back", options);
    add_verb(group, chosen, "force",
             "Do not wait any longer: reset what is left, or pause the source", options);
    add_verb(group, chosen, "take-back",
             "Undo a committed job that needs attention: the source is the VM again, what the "
             "destination has learnt is lost",
             options);
    add_verb(group, chosen, "limit", "What the copy of a running job may send from now on", options)
        ->add_option("mib_s", options->bandwidth_mib_s, "MiB per second; 0: no limit")
        ->required();
    CLI::App* again[] = {
        add_verb(group, chosen, "retry", "Begin a failed job anew, or its step once more", options),
        add_verb(group, chosen, "resume", "Go on with a job that needs attention", options)};
    for (CLI::App* sub : again)
        sub->add_option("--on-conflict", options->on_conflict, "memory changed on both sides")
            ->check(CLI::IsMember({"fail", "source-wins", "destination-wins"}));
}

}  // namespace

void add_job_commands(CLI::App& app, Command& chosen) {
    CLI::App* group = add_group(app, "job", "Jobs: migrations under way and past");
    auto filter = std::make_shared<Filter>();
    CLI::App* listing = add_command(*group, "list", "Jobs, newest first", chosen,
                                    [filter](Session& session) { return list(session, *filter); });
    listing->add_option("--state", filter->state, "only jobs in this state");
    listing->add_option("--vm", filter->vm, "only jobs of this VM");
    auto id = std::make_shared<std::string>();
    add_command(*group, "show", "One job in full", chosen,
                [id](Session& session) { return show(session, *id); })
        ->add_option("job", *id, "the job's id")
        ->required();
    add_watch(*group, chosen, "watch", "Follow a job to its end; ^C leaves it running");
    add_watch(*group, chosen, "wait", "The same as watch, for scripts");
    add_verbs(*group, chosen);
    add_command(*group, "steps", "What a job did, step by step", chosen,
                [id](Session& session) { return steps(session, *id); })
        ->add_option("job", *id, "the job's id")
        ->required();
}

}  // namespace godwit::cli
