// One godwit-switch, by the messages of protocol/switch_api.hpp.
#pragma once

#include "lib/http/client.hpp"

#include "protocol/flow_api.hpp"
#include "protocol/switch_api.hpp"

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

namespace godwit::controller {

class SwitchClient {
public:
    SwitchClient(boost::asio::any_io_executor executor, std::string id, std::string address,
                 std::string secret, std::chrono::milliseconds usual);

    Task<protocol::Fence> fence(std::uint64_t token);
    Task<protocol::SwitchStatus> status();
    Task<std::vector<protocol::VmSteering>> vms();
    Task<protocol::VmSteering> steering(std::string vm);
    Task<protocol::VmSteering> steer(std::string vm, protocol::Steering steering);
    Task<void> forget(std::string vm, std::uint64_t token);
    Task<protocol::ResetResult> reset(std::string vm, protocol::ResetRequest request);
    Task<protocol::EndLostResult> end_lost(std::string vm, protocol::EndLostRequest request);
    Task<void> announce(std::string vm, std::uint64_t token);
    // `query` is "?vm=...&limit=..." or empty, already encoded.
    Task<protocol::SessionList> sessions(std::string query);
    // Until the stream ends or nothing came for `silence`.
    Task<void> events(std::function<void(std::string type, protocol::VmSteering)> on_event,
                      std::chrono::milliseconds silence);

    // protocol/flow_api.hpp. `query` as above.
    Task<protocol::FlowList> flows(std::string query);
    Task<protocol::FlowSamplingStatus> sampling();
    Task<protocol::FlowSamplingStatus> sample(protocol::FlowSampling wanted);
    Task<protocol::Capture> begin_capture(protocol::CaptureRequest wanted);
    Task<void> stop_capture(std::string id);
    // Any event stream of the switch, as it comes.
    Task<void> stream(std::string path, std::function<bool(const http::Event&)> on_event,
                      std::chrono::milliseconds silence);

private:
    template <typename T>
    Task<T> call(std::string method, std::string path, json::bj::value body);
    Task<void> only(std::string method, std::string path, json::bj::value body);

    std::string name_;  // "switch sw-1"
    std::chrono::milliseconds usual_;
    http::Client client_;
};

}  // namespace godwit::controller
