#include "tests/fakes/fake_controller.hpp"

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace godwit::fakes {

namespace asio = boost::asio;
namespace bj = json::bj;
using http::Access;

namespace {

bj::value vm_of(const std::string& id) {
    protocol::Vm vm;
    vm.id = id;
    vm.host = "host-a";
    vm.method = "fork";
    vm.state = "running";
    vm.addresses = {"10.1.0.10", "fd00::10"};
    vm.mac = "52:54:00:00:00:01";
    vm.memory_mib = 256;
    vm.sessions = 42;
    vm.labels = {{"tier", "web"}};
    return json::to_json(vm);
}

// One that a copy of the fork is kept of, and a broken one.
bj::value regions() {
    protocol::RegionList list;
    list.regions.resize(2);
    list.regions[0].region = "sessions";
    list.regions[0].changed =
        protocol::RegionChanges{3, 1, {{"sessions[1]", "source-wins", 2 << 20, 3}}};
    list.regions[1].region = "totals";
    list.regions[1].problems = {"the header's slot classes overlap"};
    return json::to_json(list);
}

bj::value hosts() {
    protocol::HostList list;
    for (const char* id : {"host-a", "host-b"}) {
        protocol::Host host;
        host.id = id;
        host.state = "up";
        host.switch_id = "sw-1";
        host.port = std::string("p-") + id;
        host.memory_available_bytes = 3ull << 30;
        host.qemu_version = "7.2.0";
        host.accelerator = "tcg";
        list.hosts.push_back(host);
    }
    return json::to_json(list);
}

protocol::SwitchStatus switch_of() {
    protocol::SwitchStatus status;
    status.id = "sw-1";
    status.plane = "ebpf";
    status.version = "0.1.0";
    status.ports = {{"uplink", "eth0", "uplink", true, "xdp", 10, 1}};
    status.stats.reasons = {{"session", 7}, {"fenced", 0}};
    status.stats.packets = {{"uplink", "forward", "session", 5}, {"", "pass", "session", 2}};
    status.stats.table_capacity = 1000;
    status.stats.table_used = 2;
    return status;
}

bj::value sessions() {
    protocol::SessionList list;
    list.total = 3;
    list.sessions = {
        {"web-1", "host-a", "tcp", "10.1.0.10", "10.0.0.9:4000", "established", 80, 61},
        {"web-1", "host-b", "udp", "10.1.0.10", "10.0.0.9:5000", "open", 53, 2}};
    return json::to_json(list);
}

protocol::FlowRow flow_row() {
    protocol::FlowRow row;
    row.time = "2026-02-03T10:11:12.345678901Z";
    row.switch_id = "sw-1";
    row.direction = "in";
    row.in_port = "uplink";
    row.out_port = "host-a";
    row.vm = "web-1";
    row.owner = "host-a";
    row.protocol = "tcp";
    row.source = "10.0.0.9";
    row.source_port = 4000;
    row.destination = "10.1.0.10";
    row.destination_port = 80;
    row.tcp_flags = "SYN";
    row.length = 74;
    row.verdict = "forward";
    row.reason = "new-owner";
    return row;
}
protocol::FlowRow fenced_row() {
    protocol::FlowRow row = flow_row();
    row.time = "2026-02-03T10:11:12.345678902Z";
    row.direction = "out";
    row.in_port = "host-b";
    row.out_port = "";
    row.owner = "host-b";
    row.source = "fd00::10";
    row.source_port = 80;
    row.destination = "fd00::9";
    row.destination_port = 4000;
    row.tcp_flags = "RST,ACK";
    row.verdict = "drop";
    row.reason = "fenced";
    return row;
}

// A SYN of 54 bytes, of which 20 were asked for and 18 are these.
constexpr const char* kFrame = "UlQAAAAKAgAAAAAJCABFAAAo";
std::vector<http::Event> captured() {
    const protocol::CapturedFrame in{1'770'113'472'345'678'901, 54, kFrame, flow_row()},
        out{1'770'113'472'345'678'902, 54, kFrame, fenced_row()};
    return {{{}, "frame", json::to_text(in)},
            {{}, "frame", json::to_text(out)},
            {{}, "gap", json::to_text(protocol::FlowGap{3, "reader"})},
            {{}, "frame", json::to_text(in)},
            {{}, "end", json::to_text(protocol::CaptureEnd{"count", 3, 3})}};
}

bj::value steps() {
    protocol::StepList list;
    list.steps = {{1, "steering", "intent", "2026-02-03T10:11:12.345Z", 1, 5, "flip to host-b"}};
    return json::to_json(list);
}

bj::value status() {
    protocol::ControllerStatus now;
    now.version = "0.9.9";
    now.store = "sqlite";
    now.token = 5;
    now.jobs_running = 1;
    now.hosts = json::from_json<protocol::HostList>(hosts(), "fake")->hosts;
    now.switches = {switch_of()};
    return json::to_json(now);
}

Task<void> play(std::shared_ptr<http::EventSink> sink, std::vector<http::Event> events, bool stay) {
    for (http::Event& event : events) {
        Result<void> sent = co_await sink->send(std::move(event));
        if (!sent) co_return sent;
    }
    if (stay) {
        asio::steady_timer never(co_await asio::this_coro::executor,
                                 asio::steady_timer::time_point::max());
        co_await never.async_wait(asio::use_awaitable);
    }
    co_return Result<void>();
}

}  // namespace

protocol::Job scripted_job(const std::string& state, const std::string& phase, std::uint32_t step,
                           std::uint32_t percent) {
    protocol::Job job;
    job.id = "j-1";
    job.target = "web-1";
    job.state = state;
    job.phase = phase;
    job.source = "host-a";
    job.destination = "host-b";
    job.done = state == "succeeded" || state == "failed" || state == "cancelled";
    job.progress.step = step;
    job.progress.steps = 12;
    job.progress.percent = percent;
    job.timestamps["accepted"] = "2026-02-03T10:11:12.345Z";
    return job;
}

FakeController::FakeController(std::vector<protocol::Job> script, std::size_t events_per_stream,
                               const std::string& address)
    : script_(std::move(script)), events_per_stream_(events_per_stream) {
    if (script_.empty()) script_ = {scripted_job("running", "accepted", 0, 0)};
    auto tokens = http::token_authenticator({{sha256_hex(kToken), {"test", "admin"}}});
    server_ = std::make_unique<ServerThread>(routes(), tokens, http::ServerLimits{}, address);
}

FakeController::Seen FakeController::seen() {
    const std::scoped_lock lock(mutex_);
    return seen_;
}

void FakeController::record(const http::Request& request) {
    const std::scoped_lock lock(mutex_);
    seen_.paths.push_back(request.path);
    if (request.method != "POST") return;
    seen_.keys.emplace_back(request.header("idempotency-key").value_or(""));
    seen_.bodies.push_back(request.body);
}

std::vector<http::Route> FakeController::routes() {
    using Request = http::Request;
    auto plain = [this](bj::value body) {
        return [this, body](Request r) { return fixed(std::move(r), body); };
    };
    const bj::array switches = {json::to_json(switch_of())};
    return {
        {"GET", "/v1/vms", Access::viewer,
         [this](Request r) {
             // Two pages, to see whether the second one is asked for.
             const bool second = r.query_or("page_token", "") == "more";
             bj::object page{{"vms", bj::array{vm_of(second ? "web-2" : "web-1")}}};
             if (!second) page["next_page_token"] = "more";
             return fixed(std::move(r), page);
         }},
        {"GET", "/v1/vms/{vm}", Access::viewer,
         [this](Request r) {
             const std::string id = r.params.at("vm");
             return fixed(std::move(r), id == "nobody" ? bj::value(nullptr) : vm_of(id));
         }},
        {"GET", "/v1/vms/{vm}/regions", Access::viewer,
         [this](Request r) {
             const bool known = r.params.at("vm") != "nobody";
             return fixed(std::move(r), known ? regions() : bj::value(nullptr));
         }},
        {"POST", "/v1/vms/{vm}:migrate", Access::operator_,
         [this](Request r) { return migrate(std::move(r)); }},
        {"GET", "/v1/jobs", Access::viewer,
         plain(bj::object{{"jobs", bj::array{json::to_json(script_.back())}}})},
        {"GET", "/v1/jobs/{job}", Access::viewer, [this](Request r) { return job(std::move(r)); }},
        {"POST", "/v1/jobs/{job}:cancel", Access::operator_,
         [this](Request r) { return act(std::move(r)); }},
        {"POST", "/v1/jobs/{job}:retry", Access::operator_,
         [this](Request r) { return act(std::move(r)); }},
        {"POST", "/v1/jobs/{job}:resume", Access::operator_,
         [this](Request r) { return act(std::move(r)); }},
        {"POST", "/v1/jobs/{job}:force", Access::operator_,
         [this](Request r) { return act(std::move(r)); }},
        {"POST", "/v1/jobs/{job}:take-back", Access::operator_,
         [this](Request r) { return act(std::move(r)); }},
        {"POST", "/v1/jobs/{job}:limit", Access::operator_,
         [this](Request r) { return act(std::move(r)); }},
        {"GET", "/v1/jobs/{job}/steps", Access::viewer, plain(steps())},
        {"GET", "/v1/jobs/{job}/events", Access::viewer,
         [this](Request r) { return events(std::move(r)); }},
        {"GET", "/v1/hosts", Access::viewer, plain(hosts())},
        {"GET", "/v1/hosts/{host}", Access::viewer, plain(hosts().at("hosts").at(0))},
        {"GET", "/v1/switches", Access::viewer, plain(switches)},
        {"GET", "/v1/switches/{switch}", Access::viewer, plain(switches[0])},
        {"GET", "/v1/switches/{switch}/flows", Access::viewer,
         [this](Request r) { return flows(std::move(r)); }},
        {"GET", "/v1/switches/{switch}/sampling", Access::viewer,
         plain(json::to_json(protocol::FlowSamplingStatus{{0, {"fenced"}, 500}, {}, 1, 20, 2}))},
        {"PUT", "/v1/switches/{switch}/sampling", Access::netadmin,
         [this](Request r) {
             auto wanted = json::from_text<protocol::FlowSampling>(r.body, "fake").value();
             const std::scoped_lock lock(mutex_);
             seen_.bodies.push_back(r.body);
             return fixed(std::move(r),
                          json::to_json(protocol::FlowSamplingStatus{wanted, wanted}));
         }},
        {"POST", "/v1/switches/{switch}/captures", Access::admin,
         plain(bj::object{{"id", "c-1"}, {"request", bj::object{}}})},
        {"GET", "/v1/switches/{switch}/captures/{capture}/frames", Access::admin,
         [this](Request r) { return frames(std::move(r)); }},
        {"DELETE", "/v1/switches/{switch}/captures/{capture}", Access::admin,
         [this](Request r) { return stop_capture(std::move(r)); }},
        {"GET", "/v1/switches/{switch}/sessions", Access::viewer, plain(sessions())},
        {"GET", "/v1/status", Access::viewer, plain(status())},
    };
}

FakeController::Answer FakeController::fixed(http::Request request, bj::value body) {
    record(request);
    if (body.is_null())
        co_return http::problem_response(
            {Fault::Missing, request.path, "the controller knows no such thing", "unknown-vm"});
    // Something a newer server may add: the command line passes over it.
    if (body.is_object()) body.get_object()["field_of_tomorrow"] = 1;
    co_return http::json_response(200, body);
}

FakeController::Answer FakeController::migrate(http::Request request) {
    record(request);
    const std::string vm = request.params.at("vm");
    const std::string key(request.header("idempotency-key").value_or(""));
    if (key.empty())
        co_return http::problem_response(
            {Fault::Rejected, "migrate", "Idempotency-Key is missing", "idempotency-key-missing"});
    if (vm == "nobody")
        co_return http::problem_response(
            {Fault::Missing, "migrate vm nobody", "no such VM", "unknown-vm"});
    if (vm == "busy") {
        Error busy{Fault::Conflict, "migrate vm busy", "job j-7 is running", "vm-busy"};
        busy.next_actions = {"godwit job watch j-7", "godwit job cancel j-7"};
        co_return http::problem_response(busy);
    }
    auto asked = json::from_text<protocol::MigrateRequest>(request.body, "migrate vm " + vm);
    if (!asked) co_return http::problem_response(asked.error());
    if (asked->validate_only) co_return http::json_response(200, bj::object{{"valid", true}});
    const std::scoped_lock lock(mutex_);
    const auto [known, fresh] = jobs_by_key_.emplace(key, request.body);
    if (!fresh && known->second != request.body)
        co_return http::problem_response({Fault::Rejected, "migrate",
                                          "this key was used with another body",
                                          "idempotency-key-reused"});
    protocol::Job job = script_.front();
    co_return http::json_response(202, job);
}

FakeController::Answer FakeController::job(http::Request request) {
    record(request);
    const std::string id = request.params.at("job");
    if (id != "j-1")
        co_return http::problem_response(
            {Fault::Missing, "job " + id, "no such job", "unknown-job"});
    const std::scoped_lock lock(mutex_);
    co_return http::json_response(200, script_.at(reached_[id]));
}

FakeController::Answer FakeController::act(http::Request request) {
    record(request);
    protocol::Job job = script_.front();
    if (job.committed)
        co_return http::problem_response({Fault::Conflict, "cancel job " + job.id,
                                          "it is committed; only forward is left",
                                          "past-commit-point"});
    job.state = "rolling-back";
    co_return http::json_response(200, job);
}

FakeController::Answer FakeController::events(http::Request request) {
    record(request);
    const std::string last(request.header("last-event-id").value_or("0"));
    const std::size_t from = std::stoul(last);
    std::vector<http::Event> part;
    const std::scoped_lock lock(mutex_);
    seen_.last_event_ids.push_back(last);
    std::size_t at = from;
    for (; at < script_.size() && (events_per_stream_ == 0 || part.size() < events_per_stream_);
         ++at)
        part.push_back({std::to_string(at + 1), "job", json::to_text(script_[at])});
    reached_[request.params.at("job")] = at == 0 ? 0 : at - 1;
    const bool stay = at == script_.size() && !script_.back().done;
    http::Response response;
    response.stream = [part, stay](std::shared_ptr<http::EventSink> sink) {
        return play(std::move(sink), part, stay);
    };
    co_return response;
}

FakeController::Answer FakeController::flows(http::Request request) {
    record(request);
    seen_queries(request);
    if (request.query_or("reason", "").contains("boredom")) {
        Error error{Fault::Rejected, "read the filter of flows", "\"boredom\" is no reason",
                    "invalid-document"};
        error.fields = {{"/reason", "\"boredom\" is no reason; known are session, fenced"}};
        co_return http::problem_response(error);
    }
    if (request.query_or("follow", "") != "true")
        co_return http::json_response(200, protocol::FlowList{{flow_row(), fenced_row()}, 7});
    std::vector<http::Event> events = {{{}, "flow", json::to_text(flow_row())},
                                       {{}, "gap", json::to_text(protocol::FlowGap{12, "switch"})},
                                       {{}, "flow", json::to_text(fenced_row())}};
    http::Response response;
    response.stream = [events](std::shared_ptr<http::EventSink> sink) {
        return play(std::move(sink), events, true);
    };
    co_return response;
}

FakeController::Answer FakeController::frames(http::Request request) {
    record(request);
    // Of c-1 everything; with `capture_stays` the end comes only when it is asked for.
    std::vector<http::Event> events = captured();
    http::Response response;
    if (!capture_stays) {
        response.stream = [events](std::shared_ptr<http::EventSink> sink) {
            return play(std::move(sink), events, false);
        };
        co_return response;
    }
    events.pop_back();
    frames_ = std::make_shared<http::EventQueue>(co_await asio::this_coro::executor, 100,
                                                 [](std::uint64_t) { return http::Event{}; });
    for (http::Event& event : events) frames_->push(std::move(event));
    response.stream = [queue = frames_](std::shared_ptr<http::EventSink> sink) {
        return http::EventQueue::serve(queue, std::move(sink));
    };
    co_return response;
}

FakeController::Answer FakeController::stop_capture(http::Request request) {
    record(request);
    if (frames_) frames_->close({{}, "end", json::to_text(protocol::CaptureEnd{"stopped", 3, 3})});
    co_return http::Response{.status = 204, .headers = {}, .body = {}, .stream = {}};
}

void FakeController::seen_queries(const http::Request& request) {
    const std::scoped_lock lock(mutex_);
    seen_.queries.push_back(request.query);
}

}  // namespace godwit::fakes
