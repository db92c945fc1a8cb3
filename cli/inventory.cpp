// godwit host | switch | sessions | status
#include "cli/commands.hpp"
#include "cli/exit_code.hpp"

namespace godwit::cli {

namespace bj = json::bj;

namespace {

Result<Table> host_table(const bj::array& hosts) {
    Table table{{"HOST", "STATE", "SWITCH", "PORT", "FREE MEMORY", "QEMU", "ACCELERATOR"}, {}};
    for (const bj::value& value : hosts) {
        Result<protocol::Host> host = understood<protocol::Host>(value, "read the list of hosts");
        if (!host) return std::unexpected(std::move(host).error());
        table.rows.push_back({host->id, host->state, host->switch_id, host->port,
                              bytes_text(host->memory_available_bytes), host->qemu_version,
                              host->accelerator});
    }
    return table;
}

Result<Table> switch_table(const bj::array& switches) {
    Table table{{"SWITCH", "PLANE", "VERSION", "SESSIONS", "CAPACITY", "PORTS UP"}, {}};
    for (const bj::value& value : switches) {
        Result<protocol::SwitchStatus> s =
            understood<protocol::SwitchStatus>(value, "read the list of switches");
        if (!s) return std::unexpected(std::move(s).error());
        const auto up = std::ranges::count_if(s->ports, &protocol::PortStatus::up);
        table.rows.push_back({s->id, s->plane, s->version,
                              std::to_string(s->stats.table_used + s->stats.table_used_v6),
                              std::to_string(s->stats.table_capacity + s->stats.table_capacity_v6),
                              std::to_string(up) + "/" + std::to_string(s->ports.size())});
    }
    return table;
}

// One list: as it came, or as a table.
int list(Session& session, const std::string& path, const std::string& key,
         Result<Table> (*tabled)(const bj::array&)) {
    Result<bj::array> items = all_pages(session.api, path, key);
    if (!items) return failed(session, items.error());
    if (session.console.format() != Format::table) {
        session.console.value(bj::object{{key, *items}});
        return kOk;
    }
    Result<Table> table = tabled(*items);
    if (!table) return failed(session, table.error());
    session.console.table(*table);
    return kOk;
}

int show_host(Session& session, const std::string& id) {
    Result<bj::value> raw = session.api.get("/v1/hosts/" + http::encoded(id));
    if (!raw) return failed(session, raw.error());
    if (session.console.format() != Format::table) {
        session.console.value(*raw);
        return kOk;
    }
    Result<protocol::Host> host = understood<protocol::Host>(*raw, "read host " + id);
    if (!host) return failed(session, host.error());
    session.console.table({{},
                           {{"host", host->id},
                            {"state", host->state},
                            {"agent", host->agent},
                            {"switch", host->switch_id},
                            {"port", host->port},
                            {"behind", host->behind.empty() ? host->switch_id : host->behind},
                            {"free memory", bytes_text(host->memory_available_bytes)},
                            {"qemu", host->qemu_version},
                            {"accelerator", host->accelerator}}});
    return kOk;
}

int show_switch(Session& session, const std::string& id) {
    Result<bj::value> raw = session.api.get("/v1/switches/" + http::encoded(id));
    if (!raw) return failed(session, raw.error());
    if (session.console.format() != Format::table) {
        session.console.value(*raw);
        return kOk;
    }
    Result<protocol::SwitchStatus> s =
        understood<protocol::SwitchStatus>(*raw, "read switch " + id);
    if (!s) return failed(session, s.error());
    session.console.table({{},
                           {{"switch", s->id},
                            {"plane", s->plane},
                            {"version", s->version},
                            {"token", std::to_string(s->token)},
                            {"adopted", s->adopted ? "yes" : "no"},
                            {"IPv4 sessions", std::to_string(s->stats.table_used) + " of " +
                                                  std::to_string(s->stats.table_capacity)},
                            {"IPv6 sessions", std::to_string(s->stats.table_used_v6) + " of " +
                                                  std::to_string(s->stats.table_capacity_v6)}}});
    Table ports{{"PORT", "INTERFACE", "ROLE", "STATE", "PROGRAM", "PACKETS", "DROPS"}, {}};
    for (const protocol::PortStatus& port : s->ports)
        ports.rows.push_back({port.name, port.interface, port.role, port.up ? "up" : "down",
                              port.program, std::to_string(port.packets),
                              std::to_string(port.drops)});
    session.console.line("");
    session.console.table(ports);
    Table packets{{"PORT", "VERDICT", "REASON", "PACKETS"}, {}};
    for (const protocol::PacketCount& one : s->stats.packets)
        packets.rows.push_back({one.port.empty() ? "(gone)" : one.port, one.verdict, one.reason,
                                std::to_string(one.packets)});
    session.console.line("");
    session.console.table(packets);
    return kOk;
}

struct SessionFilter {
    std::string vm, owner, on;
    std::uint32_t limit = 1000;
};

Result<protocol::SessionList> sessions_of(Session& session, const std::string& id,
                                          const SessionFilter& filter) {
    std::string path =
        "/v1/switches/" + http::encoded(id) + "/sessions?limit=" + std::to_string(filter.limit);
    if (!filter.vm.empty()) path += "&vm=" + http::encoded(filter.vm);
    if (!filter.owner.empty()) path += "&owner=" + http::encoded(filter.owner);
    Result<bj::value> raw = session.api.get(path);
    if (!raw) return std::unexpected(std::move(raw).error());
    return understood<protocol::SessionList>(*raw, "read the sessions of switch " + id);
}

int sessions(Session& session, const SessionFilter& filter) {
    Result<std::vector<std::string>> ids = switch_ids(session, filter.on);
    if (!ids) return failed(session, ids.error());
    protocol::SessionList all;
    for (const std::string& id : *ids) {
        Result<protocol::SessionList> some = sessions_of(session, id, filter);
        if (!some) return failed(session, some.error());
        all.total += some->total;
        all.sessions.insert(all.sessions.end(), some->sessions.begin(), some->sessions.end());
    }
    if (session.console.format() != Format::table) {
        session.console.value(json::to_json(all));
        return kOk;
    }
    Table table{{"VM", "OWNER", "PROTOCOL", "ADDRESS", "PORT", "PEER", "STATE", "IDLE"}, {}};
    for (const protocol::SessionRow& row : all.sessions)
        table.rows.push_back({row.vm, row.owner, row.protocol, row.address,
                              std::to_string(row.port), row.peer, row.state,
                              duration_text(row.idle_s)});
    session.console.table(table);
    if (all.sessions.size() < all.total)
        session.console.note(std::to_string(all.sessions.size()) + " of " +
                             std::to_string(all.total) + " sessions shown; --limit shows more");
    return kOk;
}

int status(Session& session) {
    Result<bj::value> raw = session.api.get("/v1/status");
    if (!raw) return failed(session, raw.error());
    if (session.console.format() != Format::table) {
        session.console.value(*raw);
        return kOk;
    }
    auto read = understood<protocol::ControllerStatus>(*raw, "read the controller's status");
    if (!read) return failed(session, read.error());
    session.console.table(
        {{},
         {{"version", read->version},
          {"store", read->store},
          {"token", std::to_string(read->token)},
          {"jobs running", std::to_string(read->jobs_running)},
          {"jobs that need attention", std::to_string(read->jobs_need_attention)}}});
    const bj::object& object = raw->get_object();
    struct Part {
        const char* key;
        Result<Table> (*tabled)(const bj::array&);
    };
    for (const auto& [key, tabled] : {Part{"hosts", host_table}, Part{"switches", switch_table}}) {
        const bj::value* items = object.if_contains(key);
        if (!items || !items->is_array()) continue;
        Result<Table> table = tabled(items->get_array());
        if (!table) return failed(session, table.error());
        session.console.line("");
        session.console.table(*table);
    }
    return kOk;
}

}  // namespace

void add_inventory_commands(CLI::App& app, Command& chosen) {
    auto id = std::make_shared<std::string>();
    CLI::App* host = add_group(app, "host", "Hypervisors");
    add_command(*host, "list", "All hosts", chosen,
                [](Session& session) { return list(session, "/v1/hosts", "hosts", host_table); });
    add_command(*host, "show", "One host", chosen,
                [id](Session& session) { return show_host(session, *id); })
        ->add_option("host", *id, "the host's id")
        ->required();
    CLI::App* on = add_group(app, "switch", "Access switches");
    add_command(*on, "list", "All switches", chosen, [](Session& session) {
        return list(session, "/v1/switches", "switches", switch_table);
    });
    add_command(*on, "show", "One switch: tables, ports, reasons", chosen,
                [id](Session& session) { return show_switch(session, *id); })
        ->add_option("switch", *id, "the switch's id")
        ->required();
    auto filter = std::make_shared<SessionFilter>();
    CLI::App* live =
        add_command(app, "sessions", "Sessions the switches steer, and who owns them", chosen,
                    [filter](Session& session) { return sessions(session, *filter); });
    live->add_option("--vm", filter->vm, "only this VM's");
    live->add_option("--owner", filter->owner, "only those this host's VM owns")->type_name("HOST");
    live->add_option("--switch", filter->on, "only on this switch");
    live->add_option("--limit", filter->limit, "at most so many per switch")
        ->check(CLI::PositiveNumber);
    add_command(app, "status", "The controller, its hosts and switches", chosen, status);
}

}  // namespace godwit::cli
