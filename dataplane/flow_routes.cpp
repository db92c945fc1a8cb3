// The part of godwit-switch's API that looks inside: protocol/flow_api.hpp.
#include "dataplane/route_table.hpp"
#include "dataplane/routes.hpp"

#include <algorithm>
#include <charconv>

namespace godwit::dataplane {
namespace {

using http::Request;
using http::Response;

constexpr std::size_t kLastMax = 4096;

bool is_known(const std::string& name) {
    if (name == "follow" || name == "last") return true;
    const std::string field = name.starts_with("not_") ? name.substr(4) : name;
    return std::ranges::find(protocol::kFlowFilters, field) != std::end(protocol::kFlowFilters);
}

struct Wanted {
    FlowFilter filter;
    std::size_t last = 0;
    bool follow = false;
};

Result<Wanted> read_query(const Request& request) {
    Error error{Fault::Rejected, "read the query of flows", "", "invalid-document"};
    for (const auto& [name, value] : request.query)
        if (!is_known(name))
            error.fields.push_back(
                {"/" + name,
                 "is no filter; known are vm, owner, verdict, reason, protocol, ip, port, "
                 "each with not_ in front of it too, and follow, last",
                 0, 0, true});
    Wanted wanted;
    const std::string last = request.query_or("last", "0"),
                      follow = request.query_or("follow", "false");
    const auto [end, bad] = std::from_chars(last.data(), last.data() + last.size(), wanted.last);
    if (bad != std::errc{} || end != last.data() + last.size() || wanted.last > kLastMax)
        error.fields.push_back({"/last", "expected 0 to " + std::to_string(kLastMax)});
    if (follow != "true" && follow != "false")
        error.fields.push_back({"/follow", "expected true or false"});
    wanted.follow = follow == "true";
    Result<FlowFilter> filter = FlowFilter::parse(request.query);
    if (!filter)
        error.fields.insert(error.fields.end(), filter.error().fields.begin(),
                            filter.error().fields.end());
    else
        wanted.filter = std::move(*filter);
    if (error.fields.empty()) return wanted;
    error.cause = error.fields.front().message;
    return std::unexpected(std::move(error));
}

Answer get_flows(Flows* flows, Request request) {
    Result<void> possible = flows->check_plane();
    if (!possible) co_return http::problem_response(possible.error());
    Result<Wanted> wanted = read_query(request);
    if (!wanted) co_return http::problem_response(wanted.error());
    if (wanted->follow) co_return flows->follow(std::move(wanted->filter), wanted->last);
    co_return http::json_response(200, flows->last(wanted->filter, wanted->last));
}

Answer get_sampling(Flows* flows, Request) {
    co_return http::json_response(200, flows->sampling());
}

Answer put_sampling(Flows* flows, Request request) {
    Result<protocol::FlowSampling> wanted =
        json::from_text<protocol::FlowSampling>(request.body, "PUT sampling");
    if (!wanted) co_return http::problem_response(wanted.error());
    co_return answer(flows->sample(*wanted));
}

Answer post_capture(Flows* flows, Request request) {
    Result<protocol::CaptureRequest> wanted =
        json::from_text<protocol::CaptureRequest>(request.body, "capture");
    if (!wanted) co_return http::problem_response(wanted.error());
    co_return answer(flows->begin_capture(*wanted), 201);
}

Answer get_frames(Flows* flows, Request request) {
    Result<Response> frames = flows->captures().frames(request.params["capture"]);
    if (!frames) co_return http::problem_response(frames.error());
    co_return std::move(*frames);
}

Answer delete_capture(Flows* flows, Request request) {
    Result<void> stopped = flows->captures().stop(request.params["capture"]);
    if (!stopped) co_return http::problem_response(stopped.error());
    co_return Response{.status = 204, .headers = {}, .body = {}, .stream = {}};
}

}  // namespace

std::vector<http::Route> flow_routes(Flows& flows) {
    static constexpr RouteRow<Flows> kRows[] = {
        {"GET", "/v1/flows", get_flows},
        {"GET", "/v1/sampling", get_sampling},
        {"PUT", "/v1/sampling", put_sampling},
        {"POST", "/v1/captures", post_capture},
        {"GET", "/v1/captures/{capture}/frames", get_frames},
        {"DELETE", "/v1/captures/{capture}", delete_capture},
    };
    return peer_routes(kRows, flows);
}

}  // namespace godwit::dataplane
