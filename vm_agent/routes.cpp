#include "vm_agent/routes.hpp"

#include "vm_agent/layout/region_report.hpp"

#include <charconv>

namespace godwit::agent {

using boost::asio::awaitable;
using http::Access;
using http::Request;
using http::Response;
using protocol::Command;

namespace {

constexpr std::string_view kReading = "read the request";

template <typename T>
Response answer(const Result<T>& result, int status = 200) {
    if (!result) return http::problem_response(result.error());
    return http::json_response(status, *result);
}

Response answer_nothing(const Result<void>& result) {
    if (!result) return http::problem_response(result.error());
    return http::json_response(200, json::bj::value(json::bj::object()));
}

std::string vm_of(const Request& request) {
    return request.params.at("vm");
}

// Reads the body, and admits its command before anything is done for it.
template <typename T>
Result<T> admitted(Agent& agent, const Request& request) {
    Result<T> body = json::from_text<T>(request.body, kReading);
    if (!body) return body;
    Result<void> allowed = agent.fencing().admit(body->command);
    if (!allowed) return std::unexpected(std::move(allowed).error());
    return body;
}

// DELETE carries its token in the query.
Result<std::uint64_t> admitted_token(Agent& agent, const Request& request) {
    const std::string text = request.query_or("token", "");
    std::uint64_t token = 0;
    const char* end = text.data() + text.size();
    if (text.empty() || std::from_chars(text.data(), end, token).ptr != end)
        return fail(Fault::Rejected, std::string(kReading), "the query needs token=NUMBER",
                    "invalid-query");
    Result<void> allowed = agent.fencing().admit(token);
    if (!allowed) return std::unexpected(std::move(allowed).error());
    return token;
}

// A command in the body is admitted; an empty body is a person's own doing.
Result<void> admitted_if_given(Agent& agent, const Request& request) {
    if (request.body.empty()) return {};
    Result<Command> command = json::from_text<Command>(request.body, kReading);
    if (!command) return std::unexpected(std::move(command).error());
    return agent.fencing().admit(*command);
}

awaitable<Response> put_fence(Agent& agent, Request request) {
    Result<protocol::Fence> fence = json::from_text<protocol::Fence>(request.body, kReading);
    if (!fence) co_return http::problem_response(fence.error());
    Result<void> raised = agent.fencing().admit(fence->token);
    if (!raised) co_return http::problem_response(raised.error());
    co_return http::json_response(200, protocol::Fence{agent.fencing().token()});
}

awaitable<Response> get_host(Agent& agent, Request) {
    Result<protocol::HostStatus> status = co_await agent.host_status();
    co_return answer(status);
}

awaitable<Response> get_vms(Agent& agent, Request) {
    std::vector<protocol::AgentVm> vms = co_await agent.views();
    co_return http::json_response(200, vms);
}

awaitable<Response> get_vm(Agent& agent, Request request) {
    Result<std::shared_ptr<Machine>> machine = agent.find(vm_of(request));
    if (!machine) co_return http::problem_response(machine.error());
    Result<protocol::AgentVm> view = co_await (*machine)->view();
    co_return answer(view);
}

awaitable<Response> put_vm(Agent& agent, Request request) {
    Result<protocol::VmSpec> spec = json::from_text<protocol::VmSpec>(request.body, kReading);
    if (!spec) co_return http::problem_response(spec.error());
    if (spec->id != vm_of(request))
        co_return http::problem_response({Fault::Rejected, std::string(kReading),
                                          "/id is not the VM of the path", "invalid-document"});
    Result<protocol::AgentVm> view = co_await agent.define(*spec);
    co_return answer(view);
}

awaitable<Response> start_vm(Agent& agent, Request request) {
    Result<void> allowed = admitted_if_given(agent, request);
    if (!allowed) co_return http::problem_response(allowed.error());
    Result<protocol::AgentVm> view = co_await agent.start(vm_of(request));
    co_return answer(view);
}

awaitable<Response> stop_vm(Agent& agent, Request request) {
    Result<void> allowed = admitted_if_given(agent, request);
    if (!allowed) co_return http::problem_response(allowed.error());
    Result<protocol::AgentVm> view = co_await agent.stop(vm_of(request));
    co_return answer(view);
}

awaitable<Response> delete_vm(Agent& agent, Request request) {
    Result<std::uint64_t> token = admitted_token(agent, request);
    if (!token) co_return http::problem_response(token.error());
    Result<void> gone = co_await agent.remove(vm_of(request), request.query_or("job", ""));
    co_return answer_nothing(gone);
}

awaitable<Response> put_reservation(Agent& agent, Request request) {
    Result<protocol::Reservation> body = admitted<protocol::Reservation>(agent, request);
    if (!body) co_return http::problem_response(body.error());
    if (body->command.job != request.params.at("job"))
        co_return http::problem_response({Fault::Rejected, std::string(kReading),
                                          "/command/job is not the job of the path",
                                          "invalid-document"});
    co_return answer(agent.reserve(*body));
}

awaitable<Response> delete_reservation(Agent& agent, Request request) {
    Result<std::uint64_t> token = admitted_token(agent, request);
    if (!token) co_return http::problem_response(token.error());
    co_return answer_nothing(agent.release(request.params.at("job")));
}

awaitable<Response> put_incoming(Agent& agent, Request request) {
    Result<protocol::IncomingRequest> body = admitted<protocol::IncomingRequest>(agent, request);
    if (!body) co_return http::problem_response(body.error());
    if (body->spec.id != vm_of(request))
        co_return http::problem_response({Fault::Rejected, std::string(kReading),
                                          "/spec/id is not the VM of the path",
                                          "invalid-document"});
    Result<protocol::AgentVm> view = co_await agent.prepare_incoming(*body);
    co_return answer(view);
}

template <typename Status>
Response answer_operation(const Result<Status>& status) {
    const bool running = status && status->state == protocol::OperationState::running;
    return answer(status, running ? 202 : 200);
}

awaitable<Response> put_copy(Agent& agent, Request request) {
    Result<protocol::CopyRequest> body = admitted<protocol::CopyRequest>(agent, request);
    if (!body) co_return http::problem_response(body.error());
    co_return answer_operation(agent.start_copy(vm_of(request), *body));
}

awaitable<Response> get_copy(Agent& agent, Request request) {
    co_return answer(agent.copy_status(vm_of(request), request.query_or("job", "")));
}

awaitable<Response> delete_copy(Agent& agent, Request request) {
    Result<std::uint64_t> token = admitted_token(agent, request);
    if (!token) co_return http::problem_response(token.error());
    Result<void> aborted = co_await agent.abort_copy(vm_of(request), request.query_or("job", ""));
    co_return answer_nothing(aborted);
}

awaitable<Response> put_bandwidth(Agent& agent, Request request) {
    Result<protocol::LimitRequest> body = admitted<protocol::LimitRequest>(agent, request);
    if (!body) co_return http::problem_response(body.error());
    co_return answer_operation(agent.limit_copy(vm_of(request), *body));
}

awaitable<Response> put_freeze(Agent& agent, Request request) {
    Result<protocol::FreezeRequest> body = admitted<protocol::FreezeRequest>(agent, request);
    if (!body) co_return http::problem_response(body.error());
    Result<protocol::CopyStatus> status = co_await agent.freeze(vm_of(request), *body);
    co_return answer_operation(status);
}

awaitable<Response> put_activation(Agent& agent, Request request) {
    Result<protocol::ActivationRequest> body =
        admitted<protocol::ActivationRequest>(agent, request);
    if (!body) co_return http::problem_response(body.error());
    Result<protocol::AgentVm> view = co_await agent.activate(vm_of(request), *body);
    co_return answer(view);
}

awaitable<Response> get_addresses(Agent& agent, Request request) {
    Result<protocol::AddressList> list = co_await agent.addresses(vm_of(request));
    co_return answer(list);
}

awaitable<Response> put_addresses(Agent& agent, Request request) {
    Result<protocol::AddressRequest> body = admitted<protocol::AddressRequest>(agent, request);
    if (!body) co_return http::problem_response(body.error());
    Result<protocol::AddressList> list = co_await agent.set_addresses(vm_of(request), *body);
    co_return answer(list);
}

awaitable<Response> get_sockets(Agent& agent, Request request) {
    Result<protocol::SocketTable> table = co_await agent.sockets(vm_of(request));
    co_return answer(table);
}

// With what has changed since the fork, while its copy is kept.
Result<protocol::RegionList> look_at_regions(const protocol::VmSpec& spec, const VmPaths& paths) {
    protocol::RegionList list;
    for (const protocol::RegionSpec& one : spec.regions) {
        Result<protocol::RegionReport> report =
            memory::describe_region(paths.region(one.name), one.name);
        if (!report)
            return std::unexpected(
                std::move(report).error().within("region " + one.name + " of VM " + spec.id));
        Result<protocol::RegionChanges> changed =
            memory::compare_regions(paths.region_base(one.name), paths.region(one.name));
        if (changed) report->changed = std::move(*changed);
        if (!changed && changed.error().fault != Fault::Missing)
            report->problems.push_back(changed.error().text());
        list.regions.push_back(std::move(*report));
    }
    return list;
}

awaitable<Response> get_regions(Agent& agent, Request request) {
    Result<std::shared_ptr<Machine>> machine = agent.find(vm_of(request));
    if (!machine) co_return http::problem_response(machine.error());
    std::function<Result<protocol::RegionList>()> work = [spec = (*machine)->record().spec,
                                                          paths = (*machine)->paths()]() {
        return look_at_regions(spec, paths);
    };
    Result<protocol::RegionList> list =
        co_await run_on<protocol::RegionList>(agent.host().pool, std::move(work));
    co_return answer(list);
}

awaitable<Response> put_quiescence(Agent& agent, Request request) {
    Result<protocol::QuiesceRequest> body = admitted<protocol::QuiesceRequest>(agent, request);
    if (!body) co_return http::problem_response(body.error());
    Result<protocol::QuiesceStatus> status = co_await agent.quiescence(vm_of(request), *body);
    co_return answer(status);
}

awaitable<Response> put_merge(Agent& agent, Request request) {
    Result<protocol::MergeRequest> body = admitted<protocol::MergeRequest>(agent, request);
    if (!body) co_return http::problem_response(body.error());
    co_return answer_operation(agent.start_merge(vm_of(request), *body));
}

awaitable<Response> get_merge(Agent& agent, Request request) {
    co_return answer(agent.merge_status(vm_of(request), request.query_or("job", "")));
}

awaitable<Response> put_retirement(Agent& agent, Request request) {
    Result<protocol::RetireRequest> body = admitted<protocol::RetireRequest>(agent, request);
    if (!body) co_return http::problem_response(body.error());
    Result<void> retired = co_await agent.retire(vm_of(request), *body);
    if (!retired) co_return http::problem_response(retired.error());
    Result<std::shared_ptr<Machine>> left = agent.find(vm_of(request));
    if (!left) co_return answer_nothing({});
    Result<protocol::AgentVm> view = co_await (*left)->view();
    co_return answer(view);
}

awaitable<Response> put_adoption(Agent& agent, Request request) {
    Result<protocol::AdoptRequest> body = admitted<protocol::AdoptRequest>(agent, request);
    if (!body) co_return http::problem_response(body.error());
    Result<protocol::AgentVm> view = co_await agent.adopt(vm_of(request), *body);
    co_return answer(view);
}

}  // namespace

std::vector<http::Route> agent_routes(Agent& agent) {
    using Serve = awaitable<Response> (*)(Agent&, Request);
    struct Row {
        const char *method, *pattern;
        Serve serve;
    };
    static constexpr Row kRows[] = {
        {"PUT", "/v1/fence", put_fence},
        {"GET", "/v1/host", get_host},
        {"GET", "/v1/vms", get_vms},
        {"GET", "/v1/vms/{vm}", get_vm},
        {"PUT", "/v1/vms/{vm}", put_vm},
        {"POST", "/v1/vms/{vm}:start", start_vm},
        {"POST", "/v1/vms/{vm}:stop", stop_vm},
        {"DELETE", "/v1/vms/{vm}", delete_vm},
        {"PUT", "/v1/reservations/{job}", put_reservation},
        {"DELETE", "/v1/reservations/{job}", delete_reservation},
        {"PUT", "/v1/vms/{vm}/incoming", put_incoming},
        {"PUT", "/v1/vms/{vm}/copy", put_copy},
        {"GET", "/v1/vms/{vm}/copy", get_copy},
        {"DELETE", "/v1/vms/{vm}/copy", delete_copy},
        {"PUT", "/v1/vms/{vm}/bandwidth", put_bandwidth},
        {"PUT", "/v1/vms/{vm}/freeze", put_freeze},
        {"PUT", "/v1/vms/{vm}/activation", put_activation},
        {"GET", "/v1/vms/{vm}/addresses", get_addresses},
        {"PUT", "/v1/vms/{vm}/addresses", put_addresses},
        {"GET", "/v1/vms/{vm}/sockets", get_sockets},
        {"GET", "/v1/vms/{vm}/regions", get_regions},
        {"PUT", "/v1/vms/{vm}/quiescence", put_quiescence},
        {"PUT", "/v1/vms/{vm}/merge", put_merge},
        {"GET", "/v1/vms/{vm}/merge", get_merge},
        {"PUT", "/v1/vms/{vm}/retirement", put_retirement},
        {"PUT", "/v1/vms/{vm}/adoption", put_adoption},
    };
    std::vector<http::Route> routes;
    for (const Row& row : kRows) {
        http::Handler handler = [&agent, serve = row.serve](Request request) {
            return serve(agent, std::move(request));
        };
        routes.push_back({row.method, row.pattern, Access::peer, std::move(handler)});
    }
    return routes;
}

}  // namespace godwit::agent
