// The registry of VMs: who runs where. Specification and state are the agent's word, sessions the
// switch's; whoever is silent leaves "unknown" behind, never a guess.
#include "controller/http/api.hpp"

#include <algorithm>

namespace godwit::controller {

namespace {

std::unexpected<Error> passed_on(Error error) {
    return std::unexpected(std::move(error));
}

struct World {
    std::map<std::string, std::map<std::string, protocol::AgentVm>> by_host;
    std::map<std::string, protocol::VmSteering> steering;
};

// One question per device, however many VMs there are.
boost::asio::awaitable<World> look_around(Api& api) {
    World world;
    for (const HostConfig& host : api.devices.hosts()) {
        Result<protocol::HostStatus> status = co_await api.devices.agent(host.id).host();
        if (!status) continue;
        for (protocol::AgentVm& vm : status->vms) world.by_host[host.id][vm.vm] = std::move(vm);
    }
    for (const SwitchConfig& one : api.devices.switches()) {
        Result<std::vector<protocol::VmSteering>> vms =
            co_await api.devices.switch_of(one.id).vms();
        if (!vms) continue;
        for (protocol::VmSteering& vm : *vms) world.steering[vm.vm] = std::move(vm);
    }
    co_return world;
}

protocol::Vm described(const Api& api, const VmRow& row, const World& world) {
    protocol::Vm vm;
    vm.id = row.id;
    vm.host = row.host;
    vm.method = row.method;
    vm.labels = row.labels;
    vm.state = json::enum_name(protocol::VmState::unknown);
    std::optional<protocol::VmSpec> spec = row.spec;
    const auto host = world.by_host.find(row.host);
    if (host != world.by_host.end() && host->second.contains(row.id)) {
        const protocol::AgentVm& told = host->second.at(row.id);
        vm.state = json::enum_name(told.state);
        if (told.spec) spec = told.spec;
    }
    if (spec) {
        vm.addresses = spec->addresses;
        vm.mac = spec->mac;
        vm.memory_mib = spec->memory_mib;
    }
    const auto steering = world.steering.find(row.id);
    if (steering != world.steering.end())
        for (const protocol::BackendSteering& backend : steering->second.backends)
            vm.sessions += backend.sessions;
    vm.job = api.store.active_job(row.id).value_or(std::nullopt);
    return vm;
}

Task<http::Response> answer_with(Api& api, std::string id) {
    Result<VmRow> row = api.store.vm(id);
    if (!row) co_return passed_on(std::move(row).error());
    World world = co_await look_around(api);
    co_return http::json_response(200, described(api, *row, world));
}

Result<VmRow> checked(const Api& api, const std::string& id,
                      const protocol::VmRegistration& wanted) {
    const std::string doing = "register " + id;
    if (!is_good_id(id))
        return unprocessable(doing, "/id",
                             "\"" + id +
                                 "\" is not an id: lower case letters, digits, "
                                 "'.', '_' and '-', at most 63",
                             "invalid-document");
    if (!api.devices.host(wanted.host))
        return unprocessable(doing, "/host", "\"" + wanted.host + "\" is not a known host",
                             "unknown-host");
    if (!is_method(wanted.method))
        return unprocessable(doing, "/method",
                             "\"" + wanted.method + "\" is not offered: fork or steer",
                             "unsupported-strategy");
    return VmRow{id, wanted.host, wanted.method, wanted.labels, std::nullopt};
}

// The host of a VM that is being moved is the job's to say.
Result<void> check_not_moving(const Api& api, const VmRow& row) {
    Result<VmRow> known = api.store.vm(row.id);
    Result<std::optional<std::string>> busy = api.store.active_job(row.id);
    if (!busy) return passed_on(std::move(busy).error());
    if (!known || !*busy || known->host == row.host) return {};
    Error error{Fault::Conflict, "register " + row.id, "job " + **busy + " is moving it",
                "vm-busy"};
    error.instance = "/v1/jobs/" + **busy;
    return std::unexpected(std::move(error));
}

}  // namespace

Task<http::Response> list_vms(Api& api, http::Request request) {
    Result<Page> page = page_of(api, request);
    if (!page) co_return passed_on(std::move(page).error());
    Result<std::vector<VmRow>> rows = api.store.vms(page->after, page->size + 1);
    if (!rows) co_return passed_on(std::move(rows).error());
    World world = co_await look_around(api);
    protocol::VmList list;
    const bool more = static_cast<int>(rows->size()) > page->size;
    if (more) rows->pop_back();
    for (const VmRow& row : *rows) list.vms.push_back(described(api, row, world));
    if (more) list.next_page_token = page_token(api, rows->back().id);
    co_return http::json_response(200, list);
}

Task<http::Response> show_vm(Api& api, http::Request request) {
    std::string id = request.params.at("vm");
    Result<http::Response> response = co_await answer_with(api, std::move(id));
    co_return response;
}

// As the agent of its host sees them; during a migration that is the source's.
Task<http::Response> show_regions(Api& api, http::Request request) {
    const std::string id = request.params.at("vm");
    Result<VmRow> row = api.store.vm(id);
    if (!row) co_return passed_on(std::move(row).error());
    if (!api.devices.host(row->host))
        co_return fail(Fault::Missing, "regions of " + id,
                       "its host " + row->host + " is not in the configuration", "unknown-host");
    Result<protocol::RegionList> list = co_await api.devices.agent(row->host).regions(id);
    if (!list) co_return passed_on(std::move(list).error());
    co_return http::json_response(200, *list);
}

Task<http::Response> register_vm(Api& api, http::Request request) {
    std::string id = request.params.at("vm");
    Result<protocol::VmRegistration> wanted = body_of<protocol::VmRegistration>(request);
    if (!wanted) co_return passed_on(std::move(wanted).error());
    Result<VmRow> row = checked(api, id, *wanted);
    if (!row) co_return passed_on(std::move(row).error());
    Result<protocol::AgentVm> told = co_await api.devices.agent(row->host).vm(id);
    // A silent agent is no reason to refuse; one that answers "no" is.
    if (!told && told.error().fault == Fault::Missing)
        co_return unprocessable(
            "register " + id, "/host",
            "the agent of " + row->host + " knows no VM " + id + ": define it there first",
            "unknown-vm-at-host");
    if (told) row->spec = std::move(told->spec);
    Result<void> still = check_not_moving(api, *row);
    if (!still) co_return passed_on(std::move(still).error());
    Result<void> kept = api.store.put_vm(*row);
    if (!kept) co_return passed_on(std::move(kept).error());
    // The switch tracks its sessions from now on, not only from the first migration.
    co_await api.caretaker.keep_steady();
    Result<http::Response> response = co_await answer_with(api, std::move(id));
    co_return response;
}

Task<http::Response> unregister_vm(Api& api, http::Request request) {
    const std::string id = request.params.at("vm");
    Result<VmRow> row = api.store.vm(id);
    if (!row) co_return passed_on(std::move(row).error());
    Result<void> removed = api.store.remove_vm(id);
    if (!removed) co_return passed_on(std::move(removed).error());
    const HostConfig* host = api.devices.host(row->host);
    if (host) {
        Result<void> forgotten =
            co_await api.devices.switch_of(host->switch_id).forget(id, api.journal.token());
        if (!forgotten && forgotten.error().fault != Fault::Missing)
            co_return passed_on(std::move(forgotten).error());
    }
    Result<void> ended = api.store.end_other_leases(id, "");
    if (!ended) co_return passed_on(std::move(ended).error());
    co_return http::Response{.status = 204, .headers = {}, .body = {}, .stream = {}};
}

}  // namespace godwit::controller
