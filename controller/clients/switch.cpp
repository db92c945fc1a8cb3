#include "controller/clients/switch.hpp"

#include "controller/clients/call.hpp"

namespace godwit::controller {

SwitchClient::SwitchClient(boost::asio::any_io_executor executor, std::string id,
                           std::string address, std::string secret, std::chrono::milliseconds usual)
    : name_("switch " + std::move(id)),
      usual_(usual),
      client_(std::move(executor), std::move(address), std::move(secret)) {}

template <typename T>
Task<T> SwitchClient::call(std::string method, std::string path, json::bj::value body) {
    Result<T> answer =
        co_await call_for<T>(client_, std::move(method), std::move(path), std::move(body), usual_);
    if (!answer) co_return std::unexpected(std::move(answer).error().within(name_));
    co_return answer;
}

Task<void> SwitchClient::only(std::string method, std::string path, json::bj::value body) {
    Result<void> answer =
        co_await call_only(client_, std::move(method), std::move(path), std::move(body), usual_);
    if (!answer) co_return std::unexpected(std::move(answer).error().within(name_));
    co_return answer;
}

Task<protocol::Fence> SwitchClient::fence(std::uint64_t token) {
    return call<protocol::Fence>("PUT", "/v1/fence", json::to_json(protocol::Fence{token}));
}
Task<protocol::SwitchStatus> SwitchClient::status() {
    return call<protocol::SwitchStatus>("GET", "/v1/switch", nullptr);
}
Task<std::vector<protocol::VmSteering>> SwitchClient::vms() {
    return call<std::vector<protocol::VmSteering>>("GET", "/v1/vms", nullptr);
}
Task<protocol::VmSteering> SwitchClient::steering(std::string vm) {
    return call<protocol::VmSteering>("GET", "/v1/vms/" + vm + "/steering", nullptr);
}
Task<protocol::VmSteering> SwitchClient::steer(std::string vm, protocol::Steering steering) {
    return call<protocol::VmSteering>("PUT", "/v1/vms/" + vm + "/steering",
                                      json::to_json(steering));
}
Task<void> SwitchClient::forget(std::string vm, std::uint64_t token) {
    return only("DELETE", "/v1/vms/" + vm + "/steering?token=" + std::to_string(token), nullptr);
}
Task<protocol::ResetResult> SwitchClient::reset(std::string vm, protocol::ResetRequest request) {
    return call<protocol::ResetResult>("POST", "/v1/vms/" + vm + ":reset", json::to_json(request));
}
Task<protocol::EndLostResult> SwitchClient::end_lost(std::string vm,
                                                     protocol::EndLostRequest request) {
    return call<protocol::EndLostResult>("POST", "/v1/vms/" + vm + ":end-lost",
                                         json::to_json(request));
}
Task<void> SwitchClient::announce(std::string vm, std::uint64_t token) {
    return only("POST", "/v1/vms/" + vm + ":announce", json::to_json(protocol::Fence{token}));
}
Task<protocol::SessionList> SwitchClient::sessions(std::string query) {
    return call<protocol::SessionList>("GET", "/v1/sessions" + query, nullptr);
}

Task<void> SwitchClient::events(
    std::function<void(std::string type, protocol::VmSteering)> on_event,
    std::chrono::milliseconds silence) {
    std::function<bool(const http::Event&)> read = [&on_event](const http::Event& event) {
        Result<protocol::VmSteering> seen =
            json::from_text<protocol::VmSteering>(event.data, "read an event of the switch");
        if (seen) on_event(event.type, std::move(*seen));
        return true;
    };
    Result<void> ended = co_await client_.events("/v1/events", "", std::move(read), silence);
    if (!ended) co_return std::unexpected(std::move(ended).error().within(name_));
    co_return ended;
}

Task<protocol::FlowList> SwitchClient::flows(std::string query) {
    return call<protocol::FlowList>("GET", "/v1/flows" + query, nullptr);
}
Task<protocol::FlowSamplingStatus> SwitchClient::sampling() {
    return call<protocol::FlowSamplingStatus>("GET", "/v1/sampling", nullptr);
}
Task<protocol::FlowSamplingStatus> SwitchClient::sample(protocol::FlowSampling wanted) {
    return call<protocol::FlowSamplingStatus>("PUT", "/v1/sampling", json::to_json(wanted));
}
Task<protocol::Capture> SwitchClient::begin_capture(protocol::CaptureRequest wanted) {
    return call<protocol::Capture>("POST", "/v1/captures", json::to_json(wanted));
}
Task<void> SwitchClient::stop_capture(std::string id) {
    return only("DELETE", "/v1/captures/" + http::encoded(id), nullptr);
}

Task<void> SwitchClient::stream(std::string path, std::function<bool(const http::Event&)> on_event,
                                std::chrono::milliseconds silence) {
    Result<void> ended = co_await client_.events(std::move(path), "", std::move(on_event), silence);
    if (!ended) co_return std::unexpected(std::move(ended).error().within(name_));
    co_return ended;
}

}  // namespace godwit::controller
