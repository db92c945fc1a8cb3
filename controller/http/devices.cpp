// Hosts and switches as they are now, asked and passed on.
#include "lib/daemon.hpp"
#include "lib/log.hpp"

#include "controller/http/api.hpp"

namespace godwit::controller {

namespace {

std::unexpected<Error> passed_on(Error error) {
    return std::unexpected(std::move(error));
}

boost::asio::awaitable<protocol::Host> ask_host(Api& api, HostConfig host) {
    protocol::Host shown{host.id, host.agent, host.switch_id, host.port, "unreachable", 0,
                         "",      "",         host.behind};
    Result<protocol::HostStatus> status = co_await api.devices.agent(host.id).host();
    if (!status) co_return shown;
    shown.state = "up";
    shown.memory_available_bytes = status->memory_available_bytes;
    shown.qemu_version = status->qemu_version;
    shown.accelerator = status->accelerator;
    co_return shown;
}

boost::asio::awaitable<std::vector<protocol::Host>> ask_hosts(Api& api) {
    std::vector<protocol::Host> hosts;
    for (const HostConfig& host : api.devices.hosts()) {
        protocol::Host shown = co_await ask_host(api, host);
        hosts.push_back(std::move(shown));
    }
    co_return hosts;
}

boost::asio::awaitable<std::vector<protocol::SwitchStatus>> ask_switches(Api& api) {
    std::vector<protocol::SwitchStatus> switches;
    for (const SwitchConfig& one : api.devices.switches()) {
        Result<protocol::SwitchStatus> status = co_await api.devices.switch_of(one.id).status();
        if (status) {
            switches.push_back(std::move(*status));
            continue;
        }
        protocol::SwitchStatus silent;
        silent.id = one.id;
        silent.plane = "unreachable";
        switches.push_back(std::move(silent));
    }
    co_return switches;
}

Result<std::string> known_switch(const Api& api, const http::Request& request) {
    const std::string& id = request.params.at("switch");
    if (api.devices.has_switch(id)) return id;
    return fail(Fault::Missing, "switch " + id, "it is not in the configuration", "unknown-switch");
}

// Only the three filters there are, and only in letters that need no encoding.
Result<std::string> session_query(const http::Request& request) {
    std::string query;
    for (const char* name : {"vm", "owner", "limit"}) {
        const std::string value = request.query_or(name, "");
        if (value.empty()) continue;
        if (!is_good_id(value))
            return unprocessable("list sessions", std::string("/") + name,
                                 "\"" + value + "\" is not an id or a number", "invalid-document");
        query += (query.empty() ? "?" : "&") + std::string(name) + "=" + value;
    }
    return query;
}

}  // namespace

Task<http::Response> list_hosts(Api& api, http::Request) {
    std::vector<protocol::Host> hosts = co_await ask_hosts(api);
    co_return http::json_response(200, protocol::HostList{std::move(hosts)});
}

Task<http::Response> show_host(Api& api, http::Request request) {
    const std::string& id = request.params.at("host");
    const HostConfig* host = api.devices.host(id);
    if (!host)
        co_return fail(Fault::Missing, "host " + id, "it is not in the configuration",
                       "no-such-host");
    protocol::Host shown = co_await ask_host(api, *host);
    co_return http::json_response(200, shown);
}

Task<http::Response> list_switches(Api& api, http::Request) {
    std::vector<protocol::SwitchStatus> switches = co_await ask_switches(api);
    co_return http::json_response(200, protocol::SwitchList{std::move(switches)});
}

Task<http::Response> show_switch(Api& api, http::Request request) {
    Result<std::string> id = known_switch(api, request);
    if (!id) co_return passed_on(std::move(id).error());
    Result<protocol::SwitchStatus> status = co_await api.devices.switch_of(*id).status();
    if (!status) co_return passed_on(std::move(status).error());
    co_return http::json_response(200, *status);
}

Task<http::Response> list_sessions(Api& api, http::Request request) {
    Result<std::string> id = known_switch(api, request);
    if (!id) co_return passed_on(std::move(id).error());
    Result<std::string> query = session_query(request);
    if (!query) co_return passed_on(std::move(query).error());
    Result<protocol::SessionList> sessions =
        co_await api.devices.switch_of(*id).sessions(std::move(*query));
    if (!sessions) co_return passed_on(std::move(sessions).error());
    co_return http::json_response(200, *sessions);
}

Task<http::Response> list_steering(Api& api, http::Request request) {
    Result<std::string> id = known_switch(api, request);
    if (!id) co_return passed_on(std::move(id).error());
    Result<std::vector<protocol::VmSteering>> vms = co_await api.devices.switch_of(*id).vms();
    if (!vms) co_return passed_on(std::move(vms).error());
    co_return http::json_response(200, protocol::SteeringList{std::move(*vms)});
}

Task<http::Response> show_status(Api& api, http::Request) {
    protocol::ControllerStatus status;
    status.version = daemon::version();
    status.store = "sqlite";
    status.token = api.journal.token();
    Result<std::map<std::string, std::int64_t>> counts = api.store.job_counts();
    if (!counts) co_return passed_on(std::move(counts).error());
    for (const State state : {State::running, State::rolling_back})
        status.jobs_running += static_cast<std::uint64_t>((*counts)[json::enum_name(state)]);
    status.jobs_need_attention =
        static_cast<std::uint64_t>((*counts)[json::enum_name(State::needs_attention)]);
    status.hosts = co_await ask_hosts(api);
    status.switches = co_await ask_switches(api);
    co_return http::json_response(200, status);
}

}  // namespace godwit::controller
