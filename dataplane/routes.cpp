#include "dataplane/routes.hpp"

#include "lib/daemon.hpp"

#include "dataplane/announce.hpp"
#include "dataplane/config.hpp"
#include "dataplane/flow_row.hpp"
#include "dataplane/names.hpp"
#include "dataplane/packet_counts.hpp"
#include "dataplane/route_table.hpp"
#include "dataplane/sessions.hpp"

#include <charconv>

namespace godwit::dataplane {
namespace {

using http::Request;
using http::Response;

constexpr int kAnnouncements = 3;  // DESIGN: GARP and unsolicited NA three times
constexpr auto kAnnounceEvery = std::chrono::milliseconds(200);
constexpr std::uint64_t kSessionsMax = 100000;

// A query's number; `otherwise` when it is not there.
Result<std::uint64_t> number(const Request& request, const std::string& name,
                             std::uint64_t otherwise, std::uint64_t most) {
    const std::string text = request.query_or(name, "");
    if (text.empty()) return otherwise;
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value > most)
        return fail(Fault::Rejected, "read query " + name,
                    "expected a whole number up to " + std::to_string(most), "invalid-query");
    return value;
}

std::optional<protocol::TunnelStatus> tunnel_status(const std::optional<Tunnel>& tunnel) {
    if (!tunnel) return std::nullopt;
    return protocol::TunnelStatus{ipv4_text(tunnel->local_be), ipv4_text(tunnel->remote_be),
                                  tunnel->vni, tunnel->udp_port, tunnel->mtu};
}

std::vector<protocol::PortStatus> port_status(Plane& plane) {
    std::vector<protocol::PortStatus> ports;
    for (const PortState& port : plane.ports())
        ports.push_back({port.name, port.interface, json::enum_name(port.role), port.up,
                         port.program, port.packets, port.drops, tunnel_status(port.tunnel)});
    return ports;
}

Answer put_fence(Control* control, Request request) {
    Result<protocol::Fence> fence = json::from_text<protocol::Fence>(request.body, "PUT fence");
    if (!fence) co_return http::problem_response(fence.error());
    co_return answer(control->steerings.raise_fence(*fence));
}

Answer get_switch(Control* control, Request) {
    protocol::SwitchStatus status;
    status.id = control->id;
    status.plane = control->plane_name;
    status.version = std::string(daemon::version());
    status.token = control->steerings.token();
    status.adopted = control->plane.adopted();
    status.ports = port_status(control->plane);
    status.stats = read_stats(control->plane);
    co_return http::json_response(200, status);
}

Answer get_vms(Control* control, Request) {
    co_return http::json_response(200, control->steerings.all());
}

Answer put_steering(Control* control, Request request) {
    const std::string vm = request.params["vm"];
    Result<protocol::Steering> wanted =
        json::from_text<protocol::Steering>(request.body, "PUT steering of " + vm);
    if (!wanted) co_return http::problem_response(wanted.error());
    co_return answer(control->steerings.put(vm, *wanted));
}

Answer get_steering(Control* control, Request request) {
    co_return answer(control->steerings.status(request.params["vm"]));
}

Answer delete_steering(Control* control, Request request) {
    Result<std::uint64_t> token = number(request, "token", 0, UINT64_MAX);
    if (!token) co_return http::problem_response(token.error());
    Result<void> removed = control->steerings.remove(request.params["vm"], *token);
    if (!removed) co_return http::problem_response(removed.error());
    co_return Response{.status = 204, .headers = {}, .body = {}, .stream = {}};
}

Answer post_reset(Control* control, Request request) {
    const std::string vm = request.params["vm"];
    Result<protocol::ResetRequest> wanted =
        json::from_text<protocol::ResetRequest>(request.body, "reset sessions of " + vm);
    if (!wanted) co_return http::problem_response(wanted.error());
    co_return answer(control->steerings.reset(vm, *wanted));
}

Answer post_end_lost(Control* control, Request request) {
    const std::string vm = request.params["vm"];
    Result<protocol::EndLostRequest> wanted =
        json::from_text<protocol::EndLostRequest>(request.body, "end sessions of " + vm);
    if (!wanted) co_return http::problem_response(wanted.error());
    co_return answer(control->steerings.end_lost(vm, *wanted));
}

Answer post_announce(Control* control, Request request) {
    const std::string vm = request.params["vm"];
    Result<protocol::Fence> fence =
        json::from_text<protocol::Fence>(request.body, "announce " + vm);
    if (!fence) co_return http::problem_response(fence.error());
    Result<VmSetup> setup = control->steerings.announcement(vm, fence->token);
    if (!setup) co_return http::problem_response(setup.error());
    for (int round = 0; round < kAnnouncements; ++round) {
        if (round > 0) co_await control->clock.sleep_for(kAnnounceEvery);
        Result<void> told = announce(*setup, control->plane);
        if (!told) co_return http::problem_response(told.error());
    }
    co_return http::json_response(200, json::bj::value(json::bj::object{}));
}

Answer get_sessions(Control* control, Request request) {
    Result<std::uint64_t> limit = number(request, "limit", 1000, kSessionsMax);
    if (!limit) co_return http::problem_response(limit.error());
    const SessionFilter filter{request.query_or("vm", ""), request.query_or("owner", ""),
                               static_cast<std::size_t>(*limit)};
    co_return http::json_response(200,
                                  list_sessions(control->plane, control->steerings.vms(), filter));
}

Answer get_ports(Control* control, Request) {
    co_return http::json_response(200, port_status(control->plane));
}

Answer get_stats(Control* control, Request) {
    co_return http::json_response(200, read_stats(control->plane));
}

// A newcomer hears the present state of every VM first, so it misses nothing by coming late.
Answer get_events(Control* control, Request) {
    std::vector<http::Event> present;
    for (const protocol::VmSteering& status : control->steerings.all())
        present.push_back(event_of(status.drained ? "drained" : "steering", status));
    co_return control->events.subscribe(std::move(present));
}

}  // namespace

http::Event event_of(const std::string& type, const protocol::VmSteering& status) {
    return {.id = {}, .type = type, .data = json::to_text(status)};
}

protocol::SwitchStats read_stats(Plane& plane) {
    protocol::SwitchStats stats;
    const std::vector<Plane::PortPackets> all = plane.packets();
    for (std::uint32_t why = 0; why < STEER_WHYS; ++why) {
        std::uint64_t& sum = stats.reasons[steer_why_name(why)];
        for (const Plane::PortPackets& port : all) sum += steer_tally_of(&port.counted, why);
    }
    each_count(all, [&](const Plane::PortPackets& of, std::uint8_t action, std::uint32_t why,
                        std::uint64_t packets) {
        stats.packets.push_back({of.port, verdict_name(action), steer_why_name(why), packets});
    });
    stats.table_capacity = capacity(plane, STEER_SESSIONS4);
    stats.table_used = used_slots(plane, STEER_SESSIONS4);
    stats.table_capacity_v6 = capacity(plane, STEER_SESSIONS6);
    stats.table_used_v6 = used_slots(plane, STEER_SESSIONS6);
    return stats;
}

std::vector<http::Route> control_routes(Control& control) {
    static constexpr RouteRow<Control> kRows[] = {
        {"PUT", "/v1/fence", put_fence},
        {"GET", "/v1/switch", get_switch},
        {"GET", "/v1/vms", get_vms},
        {"PUT", "/v1/vms/{vm}/steering", put_steering},
        {"GET", "/v1/vms/{vm}/steering", get_steering},
        {"DELETE", "/v1/vms/{vm}/steering", delete_steering},
        {"POST", "/v1/vms/{vm}:reset", post_reset},
        {"POST", "/v1/vms/{vm}:end-lost", post_end_lost},
        {"POST", "/v1/vms/{vm}:announce", post_announce},
        {"GET", "/v1/sessions", get_sessions},
        {"GET", "/v1/ports", get_ports},
        {"GET", "/v1/stats", get_stats},
        {"GET", "/v1/events", get_events},
    };
    return peer_routes(kRows, control);
}

}  // namespace godwit::dataplane
