// godwit vm list | show | migrate
#include "lib/id.hpp"

#include "cli/commands.hpp"
#include "cli/exit_code.hpp"
#include "cli/watch.hpp"

namespace godwit::cli {

namespace bj = json::bj;

namespace {

int list(Session& session) {
    Result<bj::array> vms = all_pages(session.api, "/v1/vms", "vms");
    if (!vms) return failed(session, vms.error());
    if (session.console.format() != Format::table) {
        session.console.value(bj::object{{"vms", *vms}});
        return kOk;
    }
    Table table{{"VM", "HOST", "STATE", "ADDRESSES", "SESSIONS", "JOB"}, {}};
    for (const bj::value& value : *vms) {
        Result<protocol::Vm> vm = understood<protocol::Vm>(value, "read the list of VMs");
        if (!vm) return failed(session, vm.error());
        std::string addresses;
        for (const std::string& address : vm->addresses)
            addresses += (addresses.empty() ? "" : ",") + address;
        table.rows.push_back({vm->id, vm->host, vm->state, addresses, std::to_string(vm->sessions),
                              vm->job.value_or("-")});
    }
    session.console.table(table);
    return kOk;
}

int show(Session& session, const std::string& id) {
    Result<bj::value> raw = session.api.get("/v1/vms/" + http::encoded(id));
    if (!raw) return failed(session, raw.error());
    if (session.console.format() != Format::table) {
        session.console.value(*raw);
        return kOk;
    }
    Result<protocol::Vm> vm = understood<protocol::Vm>(*raw, "read VM " + id);
    if (!vm) return failed(session, vm.error());
    Table table{{},
                {{"vm", vm->id},
                 {"host", vm->host},
                 {"state", vm->state},
                 {"method", vm->method},
                 {"mac", vm->mac},
                 {"memory", bytes_text(std::uint64_t{vm->memory_mib} << 20)},
                 {"sessions", std::to_string(vm->sessions)},
                 {"job", vm->job.value_or("-")}}};
    for (const std::string& address : vm->addresses) table.rows.push_back({"address", address});
    for (const auto& [name, value] : vm->labels)
        table.rows.push_back({"label", name + "=" + value});
    session.console.table(table);
    return kOk;
}

struct MigrateOptions {
    std::string vm, to, method, steering, key;
    std::string deadline, on_deadline, on_conflict, source_after, timeout;
    std::vector<std::string> labels;
    std::uint32_t rounds = 0, pause_budget_ms = 0;
    std::optional<std::uint32_t> bandwidth_mib_s;
    std::string compression, quiet_deadline, on_unquiet;
    std::optional<std::uint32_t> quiet_window_ms;
    bool wait = false, dry_run = false, force = false;
};

Result<protocol::MigrateRequest> request_of(const MigrateOptions& options) {
    protocol::MigrateRequest request;
    request.destination.host = options.to;
    if (!options.method.empty()) request.memory.strategy = options.method;
    request.memory.rounds = options.rounds;
    if (options.pause_budget_ms != 0) request.memory.pause_budget_ms = options.pause_budget_ms;
    request.memory.bandwidth_mib_s = options.bandwidth_mib_s;
    if (!options.compression.empty())
        request.memory.compression = *json::enum_value<protocol::Compression>(options.compression);
    request.memory.quiet.window_ms = options.quiet_window_ms;
    if (!options.quiet_deadline.empty())
        request.memory.quiet.deadline_s = *parse_duration(options.quiet_deadline);
    if (!options.on_unquiet.empty())
        request.memory.quiet.on_deadline =
            *json::enum_value<protocol::OnUnquiet>(options.on_unquiet);
    if (!options.steering.empty()) request.steering = options.steering;
    // The enumerations were checked by the command line's own validators.
    if (!options.on_conflict.empty())
        request.memory.on_conflict = *json::enum_value<protocol::OnConflict>(options.on_conflict);
    if (!options.deadline.empty()) request.drain.deadline_s = *parse_duration(options.deadline);
    if (!options.on_deadline.empty())
        request.drain.on_deadline = *json::enum_value<protocol::OnDeadline>(options.on_deadline);
    if (!options.source_after.empty())
        request.source_after = *json::enum_value<protocol::SourceAfter>(options.source_after);
    for (const std::string& label : options.labels) {
        const std::size_t equals = label.find('=');
        if (equals == label.npos || equals == 0)
            return fail(Fault::Rejected, "--label " + label, "a label is NAME=VALUE");
        request.labels[label.substr(0, equals)] = label.substr(equals + 1);
    }
    request.force = options.force;
    request.validate_only = options.dry_run;
    return request;
}

int dry_run_end(Session& session, const MigrateOptions& options, const bj::value& answer) {
    if (session.console.format() != Format::table)
        session.console.value(answer);
    else
        session.console.line(options.vm + " can move to " + options.to + "; nothing was changed");
    return kOk;
}

int migrate(Session& session, const MigrateOptions& options) {
    Result<protocol::MigrateRequest> request = request_of(options);
    if (!request) {
        session.console.error(request.error());
        return kUsage;
    }
    const std::string key =
        options.key.empty() ? uuid_v7(std::chrono::system_clock::now()) : options.key;
    Result<bj::value> answer = session.api.post("/v1/vms/" + http::encoded(options.vm) + ":migrate",
                                                json::to_json(*request), key);
    if (!answer) return failed(session, answer.error());
    if (options.dry_run) return dry_run_end(session, options, *answer);
    Result<protocol::Job> job = understood<protocol::Job>(*answer, "read the new job");
    if (!job) return failed(session, job.error());
    if (options.wait) {
        session.console.note("job " + job->id + " moves " + options.vm + " to " + options.to);
        WatchOptions watch;
        if (!options.timeout.empty())
            watch.timeout = std::chrono::seconds(*parse_duration(options.timeout));
        return watch_job(session.api, session.console, job->id, watch);
    }
    if (session.console.format() != Format::table)
        session.console.value(*answer);
    else
        session.console.line(job->id);
    session.console.note("accepted; to follow it: godwit job watch " + job->id);
    return kOk;
}

void add_migrate(CLI::App& group, Command& chosen) {
    auto options = std::make_shared<MigrateOptions>();
    CLI::App* sub =
        add_command(group, "migrate", "Move a VM to another host under live sessions", chosen,
                    [options](Session& session) { return migrate(session, *options); });
    sub->add_option("vm", options->vm, "the VM's id")->required();
    sub->add_option("--to", options->to, "the destination host's id")
        ->required()
        ->type_name("HOST");
    sub->add_flag("--wait", options->wait, "follow the job to its end");
    CLI::Option* wait = sub->get_option("--wait");
    sub->add_option("--timeout", options->timeout,
                    "with --wait: stop following after this time (exit 6)")
        ->check(duration_check())
        ->needs(wait);
    sub->add_option("--deadline", options->deadline, "how long old sessions may stay on the source")
        ->check(duration_check());
    sub->add_option("--on-deadline", options->on_deadline,
                    "what to do about sessions left at the deadline")
        ->check(CLI::IsMember({"wait", "rollback", "reset"}));
    sub->add_option("--method", options->method, "how memory moves; default: the VM's own")
        ->check(CLI::IsMember({"fork", "boot", "whole", "steer"}));
    sub->add_option(
           "--rounds", options->rounds,
           "method whole: compares sent while the guest runs; with a budget at most so many")
        ->check(CLI::Range(0, 100));
    sub->add_option(
           "--pause-budget-ms", options->pause_budget_ms,
           "method whole: the longest pause up to the commit; refused before or taken back")
        ->check(CLI::PositiveNumber);
    sub->add_option("--bandwidth-mib-s", options->bandwidth_mib_s,
                    "what the copy may send, 0 for no limit; default: what the source's agent says")
        ->type_name("MIB");
    sub->add_option("--quiet-window-ms", options->quiet_window_ms,
                    "between two looks at the source's regions before they are merged")
        ->check(CLI::Range(0, 5000));
    sub->add_option("--quiet-deadline", options->quiet_deadline,
                    "how long the source's regions may go on changing")
        ->check(duration_check());
    sub->add_option("--on-unquiet", options->on_unquiet, "what to do when they still do")
        ->check(CLI::IsMember({"ask", "pause"}));
    sub->add_option("--compression", options->compression,
                    "of the copy; automatic: where memory arrives sooner with it")
        ->check(CLI::IsMember({"automatic", "off", "lz4", "zstd"}));
    sub->add_option(
           "--steering", options->steering,
           "how the destination is reached: l2 (default), nat with addresses of its own, vxlan "
           "behind another switch")
        ->check(CLI::IsMember({"l2", "nat", "vxlan"}));
    sub->add_option("--on-conflict", options->on_conflict, "memory changed on both sides")
        ->check(CLI::IsMember({"fail", "source-wins", "destination-wins"}));
    sub->add_option("--source-after", options->source_after, "what becomes of the source")
        ->check(CLI::IsMember({"delete", "stop", "keep"}));
    sub->add_option("--label", options->labels, "NAME=VALUE, kept with the job; repeatable")
        ->type_name("NAME=VALUE")
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    sub->add_flag("--force", options->force,
                  "move in spite of sessions the switch could not record");
    sub->add_flag("--dry-run", options->dry_run, "only check whether it could be done")
        ->excludes(wait);
    sub->add_option("--idempotency-key", options->key,
                    "the same key never starts a second job; default: random")
        ->type_name("KEY");
}

}  // namespace

void add_vm_commands(CLI::App& app, Command& chosen) {
    CLI::App* group = add_group(app, "vm", "Virtual machines: look at them, move them");
    add_command(*group, "list", "All managed VMs", chosen, list);
    auto id = std::make_shared<std::string>();
    add_command(*group, "show", "One VM", chosen,
                [id](Session& session) { return show(session, *id); })
        ->add_option("vm", *id, "the VM's id")
        ->required();
    add_migrate(*group, chosen);
}

}  // namespace godwit::cli
