// Looking inside switches (protocol/flow_api.hpp), asked and passed on. Filters and bounds are the switch's; who may
// look at what is decided here: headers by any viewer, frames by an admin.
#include "lib/http/event_queue.hpp"
#include "lib/log.hpp"

#include "controller/http/api.hpp"
#include "protocol/flow_api.hpp"

#include <boost/asio/experimental/awaitable_operators.hpp>

namespace godwit::controller {

namespace {

constexpr std::size_t kRelayMax = 4096;
constexpr std::chrono::seconds kSilence{45};  // three heartbeats

std::unexpected<Error> passed_on(Error error) {
    return std::unexpected(std::move(error));
}

Result<SwitchClient*> known_switch(Api& api, const http::Request& request) {
    const std::string& id = request.params.at("switch");
    if (api.devices.has_switch(id)) return &api.devices.switch_of(id);
    return fail(Fault::Missing, "switch " + id, "it is not in the configuration", "unknown-switch");
}

std::string query_of(const std::map<std::string, std::string>& query) {
    std::string text;
    for (const auto& [name, value] : query)
        text += (text.empty() ? "?" : "&") + http::encoded(name) + "=" + http::encoded(value);
    return text;
}

http::Event gap_event(std::uint64_t lost) {
    return {{}, "gap", json::to_text(protocol::FlowGap{lost, "reader"})};
}

// Fills the queue until the switch ends its stream, or is gone. Then it waits to be cancelled by the end of the
// other side, which has still to write what is queued.
boost::asio::awaitable<void> fill(SwitchClient* from, std::string path,
                                  std::shared_ptr<http::EventQueue> queue) {
    std::function<bool(const http::Event&)> take = [queue](const http::Event& event) {
        queue->push(event);
        return true;
    };
    Result<void> ended = co_await from->stream(path, std::move(take), kSilence);
    if (!ended) log::error("flows", path + ": " + ended.error().text());
    queue->close();
    boost::asio::steady_timer never(co_await boost::asio::this_coro::executor,
                                    boost::asio::steady_timer::time_point::max());
    co_await never.async_wait(boost::asio::use_awaitable);
}

Task<void> relay(boost::asio::any_io_executor executor, SwitchClient* from, std::string path,
                 std::shared_ptr<http::EventSink> sink) {
    using namespace boost::asio::experimental::awaitable_operators;
    auto queue = std::make_shared<http::EventQueue>(executor, kRelayMax, gap_event);
    auto first = co_await (fill(from, std::move(path), queue) ||
                           http::EventQueue::serve(queue, std::move(sink)));
    if (first.index() == 1) co_return std::get<1>(std::move(first));
    co_return Result<void>{};
}

http::Response relayed(Api& api, SwitchClient* from, std::string path) {
    http::Response response;
    response.stream = [executor = api.executor, from,
                       path = std::move(path)](std::shared_ptr<http::EventSink> sink) {
        return relay(executor, from, path, std::move(sink));
    };
    return response;
}

}  // namespace

// A stream that has begun can no longer be refused: the switch is asked first whether it takes the filters.
Task<http::Response> list_flows(Api& api, http::Request request) {
    Result<SwitchClient*> from = known_switch(api, request);
    if (!from) co_return passed_on(std::move(from).error());
    const bool follow = request.query_or("follow", "false") == "true";
    std::map<std::string, std::string> query = request.query;
    if (follow) {
        query.erase("follow");
        query["last"] = "0";
    }
    Result<protocol::FlowList> list = co_await (*from)->flows(query_of(query));
    if (!list) co_return passed_on(std::move(list).error());
    if (follow) co_return relayed(api, *from, "/v1/flows" + query_of(request.query));
    co_return http::json_response(200, *list);
}

Task<http::Response> show_sampling(Api& api, http::Request request) {
    Result<SwitchClient*> from = known_switch(api, request);
    if (!from) co_return passed_on(std::move(from).error());
    Result<protocol::FlowSamplingStatus> status = co_await (*from)->sampling();
    if (!status) co_return passed_on(std::move(status).error());
    co_return http::json_response(200, *status);
}

Task<http::Response> set_sampling(Api& api, http::Request request) {
    Result<SwitchClient*> from = known_switch(api, request);
    if (!from) co_return passed_on(std::move(from).error());
    Result<protocol::FlowSampling> wanted = body_of<protocol::FlowSampling>(request);
    if (!wanted) co_return passed_on(std::move(wanted).error());
    Result<protocol::FlowSamplingStatus> status = co_await (*from)->sample(std::move(*wanted));
    if (!status) co_return passed_on(std::move(status).error());
    co_return http::json_response(200, *status);
}

Task<http::Response> begin_capture(Api& api, http::Request request) {
    Result<SwitchClient*> from = known_switch(api, request);
    if (!from) co_return passed_on(std::move(from).error());
    Result<protocol::CaptureRequest> wanted = body_of<protocol::CaptureRequest>(request);
    if (!wanted) co_return passed_on(std::move(wanted).error());
    Result<protocol::Capture> capture = co_await (*from)->begin_capture(*wanted);
    if (!capture) co_return passed_on(std::move(capture).error());
    // The trail says who and where; this says what.
    log::info("capture", capture->id + " on switch " + request.params.at("switch") + " by " +
                             request.principal + ": " + json::to_text(*wanted));
    co_return http::json_response(201, *capture);
}

Task<http::Response> stream_frames(Api& api, http::Request request) {
    Result<SwitchClient*> from = known_switch(api, request);
    if (!from) co_return passed_on(std::move(from).error());
    co_return relayed(api, *from,
                      "/v1/captures/" + http::encoded(request.params.at("capture")) + "/frames");
}

Task<http::Response> stop_capture(Api& api, http::Request request) {
    Result<SwitchClient*> from = known_switch(api, request);
    if (!from) co_return passed_on(std::move(from).error());
    Result<void> stopped = co_await (*from)->stop_capture(request.params.at("capture"));
    if (!stopped) co_return passed_on(std::move(stopped).error());
    co_return http::Response{.status = 204, .headers = {}, .body = {}, .stream = {}};
}

}  // namespace godwit::controller
