#include "controller/clients/agent.hpp"

#include "controller/clients/call.hpp"

namespace godwit::controller {

Task<void> call_only(http::Client& client, std::string method, std::string path,
                     json::bj::value body, std::chrono::milliseconds deadline) {
    http::Headers headers;
    Result<json::bj::value> answer = co_await client.call(
        std::move(method), std::move(path), std::move(body), std::move(headers), deadline);
    if (!answer) co_return std::unexpected(std::move(answer).error());
    co_return Result<void>{};
}

namespace {

std::string vm_path(const std::string& vm, const char* rest = "") {
    return "/v1/vms/" + vm + rest;
}

std::string fenced(const protocol::Command& command) {
    return "?token=" + std::to_string(command.token) + "&job=" + command.job +
           "&step=" + command.step;
}

}  // namespace

AgentClient::AgentClient(boost::asio::any_io_executor executor, std::string host,
                         std::string address, std::string secret, CallTimes times)
    : name_("agent " + std::move(host)),
      times_(times),
      client_(std::move(executor), std::move(address), std::move(secret)) {}

template <typename T, typename Body>
Task<T> AgentClient::put(std::string path, Body body, std::chrono::milliseconds deadline) {
    json::bj::value document = json::to_json(body);
    Result<T> answer =
        co_await call_for<T>(client_, "PUT", std::move(path), std::move(document), deadline);
    if (!answer) co_return std::unexpected(std::move(answer).error().within(name_));
    co_return answer;
}

template <typename T>
Task<T> AgentClient::get(std::string path) {
    json::bj::value nothing;
    Result<T> answer =
        co_await call_for<T>(client_, "GET", std::move(path), std::move(nothing), times_.usual);
    if (!answer) co_return std::unexpected(std::move(answer).error().within(name_));
    co_return answer;
}

template <typename Body>
Task<void> AgentClient::put_only(std::string path, Body body, std::chrono::milliseconds deadline) {
    json::bj::value document = json::to_json(body);
    Result<void> answer =
        co_await call_only(client_, "PUT", std::move(path), std::move(document), deadline);
    if (!answer) co_return std::unexpected(std::move(answer).error().within(name_));
    co_return answer;
}

Task<void> AgentClient::erase(std::string path) {
    json::bj::value nothing;
    Result<void> answer = co_await call_only(client_, "DELETE", std::move(path), std::move(nothing),
                                             times_.starting_vm);
    if (!answer) co_return std::unexpected(std::move(answer).error().within(name_));
    co_return answer;
}

Task<protocol::Fence> AgentClient::fence(std::uint64_t token) {
    return put<protocol::Fence>("/v1/fence", protocol::Fence{token}, times_.usual);
}
Task<protocol::HostStatus> AgentClient::host() {
    return get<protocol::HostStatus>("/v1/host");
}
Task<protocol::AgentVm> AgentClient::vm(std::string vm) {
    return get<protocol::AgentVm>(vm_path(vm));
}
Task<void> AgentClient::remove(std::string vm, protocol::Command command) {
    return erase(vm_path(vm) + fenced(command));
}
Task<void> AgentClient::reserve(protocol::Reservation reservation) {
    std::string path = "/v1/reservations/" + reservation.command.job;
    return put_only(std::move(path), std::move(reservation), times_.usual);
}
Task<void> AgentClient::release(protocol::Command command) {
    return erase("/v1/reservations/" + command.job + "?token=" + std::to_string(command.token));
}
Task<protocol::AgentVm> AgentClient::incoming(std::string vm, protocol::IncomingRequest request) {
    return put<protocol::AgentVm>(vm_path(vm, "/incoming"), std::move(request), times_.starting_vm);
}
Task<protocol::CopyStatus> AgentClient::copy(std::string vm, protocol::CopyRequest request) {
    return put<protocol::CopyStatus>(vm_path(vm, "/copy"), std::move(request), times_.usual);
}
Task<protocol::CopyStatus> AgentClient::copy_status(std::string vm, std::string job) {
    return get<protocol::CopyStatus>(vm_path(vm, "/copy") + "?job=" + job);
}
Task<protocol::CopyStatus> AgentClient::limit(std::string vm, protocol::LimitRequest request) {
    return put<protocol::CopyStatus>(vm_path(vm, "/bandwidth"), std::move(request), times_.usual);
}
Task<protocol::CopyStatus> AgentClient::freeze(std::string vm, protocol::FreezeRequest request) {
    return put<protocol::CopyStatus>(vm_path(vm, "/freeze"), std::move(request),
                                     times_.starting_vm);
}
Task<void> AgentClient::abort_copy(std::string vm, protocol::Command command) {
    return erase(vm_path(vm, "/copy") + fenced(command));
}
Task<protocol::AgentVm> AgentClient::activate(std::string vm, protocol::ActivationRequest request) {
    return put<protocol::AgentVm>(vm_path(vm, "/activation"), std::move(request),
                                  times_.starting_vm);
}
Task<protocol::AddressList> AgentClient::addresses(std::string vm) {
    return get<protocol::AddressList>(vm_path(vm, "/addresses"));
}
Task<protocol::AddressList> AgentClient::set_addresses(std::string vm,
                                                       protocol::AddressRequest request) {
    return put<protocol::AddressList>(vm_path(vm, "/addresses"), std::move(request),
                                      times_.starting_vm);
}
Task<protocol::SocketTable> AgentClient::sockets(std::string vm) {
    return get<protocol::SocketTable>(vm_path(vm, "/sockets"));
}
Task<protocol::RegionList> AgentClient::regions(std::string vm) {
    return get<protocol::RegionList>(vm_path(vm, "/regions"));
}
Task<protocol::QuiesceStatus> AgentClient::quiesce(std::string vm,
                                                   protocol::QuiesceRequest request) {
    return put<protocol::QuiesceStatus>(vm_path(vm, "/quiescence"), std::move(request),
                                        times_.usual);
}
Task<protocol::MergeStatus> AgentClient::merge(std::string vm, protocol::MergeRequest request) {
    return put<protocol::MergeStatus>(vm_path(vm, "/merge"), std::move(request),
                                      times_.starting_vm);
}
Task<protocol::MergeStatus> AgentClient::merge_status(std::string vm, std::string job) {
    return get<protocol::MergeStatus>(vm_path(vm, "/merge") + "?job=" + job);
}
Task<void> AgentClient::retire(std::string vm, protocol::RetireRequest request) {
    return put_only(vm_path(vm, "/retirement"), std::move(request), times_.starting_vm);
}
Task<void> AgentClient::adopt(std::string vm, protocol::AdoptRequest request) {
    return put_only(vm_path(vm, "/adoption"), std::move(request), times_.usual);
}

}  // namespace godwit::controller
