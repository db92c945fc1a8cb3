// godwit region show | diff | verify: what applications keep for a migration, from a region's file or from
// the agent of a VM's host.
#include "cli/commands.hpp"
#include "cli/exit_code.hpp"
#include "protocol/region_api.hpp"
#include "vm_agent/layout/region_report.hpp"

namespace godwit::cli {

namespace bj = json::bj;
using protocol::RegionChanges;
using protocol::RegionList;
using protocol::RegionReport;

namespace {

struct Options {
    std::vector<std::string> files;
    std::string vm, region;
};

Result<std::vector<RegionReport>> of_files(const Options& options) {
    std::vector<RegionReport> reports;
    for (const std::string& file : options.files) {
        Result<RegionReport> report = memory::describe_region(file, file);
        if (!report) return std::unexpected(std::move(report).error());
        reports.push_back(std::move(*report));
    }
    return reports;
}

Result<std::vector<RegionReport>> of_vm(Session& session, const Options& options) {
    const std::string path = "/v1/vms/" + http::encoded(options.vm) + "/regions";
    Result<bj::value> answer = session.api.get(path);
    if (!answer) return std::unexpected(std::move(answer).error());
    Result<RegionList> list =
        understood<RegionList>(*answer, "read the regions of VM " + options.vm);
    if (!list) return std::unexpected(std::move(list).error());
    if (options.region.empty()) return std::move(list->regions);
    for (RegionReport& one : list->regions)
        if (one.region == options.region) return std::vector<RegionReport>{std::move(one)};
    return fail(Fault::Missing, "look for region " + options.region,
                "VM " + options.vm + " has none of this name", "unknown-region");
}

Result<std::vector<RegionReport>> reports_of(Session& session, const Options& options) {
    return options.vm.empty() ? of_files(options) : of_vm(session, options);
}

bj::value as_list(const std::vector<RegionReport>& reports) {
    return bj::object{{"regions", json::to_json(reports)}};
}

std::string percent(std::uint64_t part, std::uint64_t whole) {
    return whole == 0 ? "-" : std::to_string(part * 100 / whole) + "%";
}

void print_report(const Console& console, const RegionReport& report) {
    Table head{{}, {{"region", report.region}, {"size", bytes_text(report.bytes)}}};
    head.rows.push_back({"layout", report.formatted ? "version " + std::to_string(report.version)
                                                    : "none: no application has opened it"});
    if (report.formatted) head.rows.push_back({"declared", bytes_text(report.data_bytes)});
    head.rows.push_back({"role", report.role});
    head.rows.push_back({"epoch", std::to_string(report.epoch)});
    console.table(head);
    if (report.classes.empty()) return;
    Table classes{{"CLASS", "RULE", "KIND", "SLOTS", "USED", "FULL", "UNFINISHED", "SLOT BYTES"},
                  {}};
    for (const protocol::RegionClass& one : report.classes)
        classes.rows.push_back({one.name, one.rule, one.kind, std::to_string(one.slots),
                                one.used ? std::to_string(*one.used) : "-",
                                one.used ? percent(*one.used, one.slots) : "-",
                                one.used ? std::to_string(one.unfinished) : "-",
                                std::to_string(one.slot_bytes)});
    console.table(classes);
}

// Each problem on a line of its own; whether there was any.
bool tell_problems(const Console& console, const std::vector<RegionReport>& reports) {
    bool broken = false;
    for (const RegionReport& report : reports)
        for (const std::string& problem : report.problems) {
            console.error(printable(report.region + ": " + problem), {});
            broken = true;
        }
    return broken;
}

int show(Session& session, const Options& options) {
    Result<std::vector<RegionReport>> reports = reports_of(session, options);
    if (!reports) return failed(session, reports.error());
    if (session.console.format() != Format::table) {
        session.console.value(as_list(*reports));
    } else {
        for (std::size_t i = 0; i < reports->size(); ++i) {
            if (i > 0) session.console.line("");
            print_report(session.console, (*reports)[i]);
        }
    }
    return tell_problems(session.console, *reports) ? kError : kOk;
}

int verify(Session& session, const Options& options) {
    Result<std::vector<RegionReport>> reports = reports_of(session, options);
    if (!reports) return failed(session, reports.error());
    if (session.console.format() != Format::table) session.console.value(as_list(*reports));
    const bool broken = tell_problems(session.console, *reports);
    if (session.console.format() == Format::table)
        for (const RegionReport& report : *reports)
            if (report.problems.empty())
                session.console.line(report.region + ": sound, " +
                                     (report.formatted
                                          ? std::to_string(report.classes.size()) + " slot classes"
                                          : "without a header: every line is under rule fail"));
    return broken ? kError : kOk;
}

void print_changes(const Console& console, const std::string& what, const RegionChanges& changes) {
    console.line(what + ": " + std::to_string(changes.lines) + " lines of 64 bytes differ, in " +
                 std::to_string(changes.slots) + " places");
    if (changes.changes.empty()) return;
    Table table{{"SLOT", "RULE", "OFFSET", "LINES"}, {}};
    for (const protocol::RegionChange& one : changes.changes)
        table.rows.push_back(
            {one.slot, one.rule, std::to_string(one.offset), std::to_string(one.lines)});
    console.table(table);
    if (changes.slots > changes.changes.size())
        console.note("and " + std::to_string(changes.slots - changes.changes.size()) +
                     " more places");
}

int diff_files(Session& session, const Options& options) {
    Result<RegionChanges> changes = memory::compare_regions(options.files[0], options.files[1]);
    if (!changes) return failed(session, changes.error());
    if (session.console.format() != Format::table)
        session.console.value(json::to_json(*changes));
    else
        print_changes(session.console, options.files[1], *changes);
    return kOk;
}

// What a merge would look at: against the copy of the fork, while the agent keeps it.
int diff_vm(Session& session, const Options& options) {
    Result<std::vector<RegionReport>> reports = of_vm(session, options);
    if (!reports) return failed(session, reports.error());
    if (session.console.format() != Format::table) {
        session.console.value(as_list(*reports));
        return kOk;
    }
    for (const RegionReport& report : *reports) {
        if (report.changed)
            print_changes(session.console, report.region, *report.changed);
        else
            session.console.line(report.region + ": no copy of a fork is kept, nothing to compare");
    }
    return kOk;
}

int diff(Session& session, const Options& options) {
    return options.vm.empty() ? diff_files(session, options) : diff_vm(session, options);
}

using Action = int (*)(Session&, const Options&);

// Files or a VM, never both, and one of them.
void add_one(CLI::App& group, Command& chosen, const std::string& name, const std::string& about,
             Action action, int files) {
    auto options = std::make_shared<Options>();
    CLI::App* sub = add_command(group, name, about, chosen, [options, action](Session& session) {
        return action(session, *options);
    });
    CLI::Option* file =
        sub->add_option("file", options->files, "files of regions, a guest's or a host's");
    if (files != 0) file->expected(files);
    CLI::Option* vm =
        sub->add_option("--vm", options->vm, "the regions of this VM, asked of its host's agent")
            ->type_name("VM")
            ->excludes(file);
    sub->add_option("--region", options->region, "with --vm: only the region of this name")
        ->type_name("NAME")
        ->needs(vm);
    sub->parse_complete_callback([options, name] {
        if (options->files.empty() && options->vm.empty())
            throw CLI::ValidationError("region " + name, "name a file, or a VM with --vm");
    });
}

}  // namespace

void add_region_commands(CLI::App& app, Command& chosen) {
    CLI::App* group = add_group(app, "region", "Regions: what applications keep for a migration");
    add_one(*group, chosen, "show", "Classes, how full they are, role and epoch", show, 0);
    add_one(*group, chosen, "diff",
            "Lines that differ: OLD NEW, or with --vm what changed since the fork", diff, 2);
    add_one(*group, chosen, "verify", "Check header, slots and logs; exit 1 if one is broken",
            verify, 0);
}

}  // namespace godwit::cli
