#include "tests/fakes/fake_world.hpp"

#include "lib/http/auth.hpp"

#include "tests/fakes/fake_answers.hpp"

#include <algorithm>
#include <stdexcept>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace godwit::fakes {

namespace asio = boost::asio;
using namespace protocol;

namespace {

constexpr const char* kVm = "web-1";

VmSpec web_1() {
    VmSpec spec;
    spec.id = kVm;
    spec.memory_mib = 256;
    spec.mac = "52:54:00:00:00:01";
    spec.addresses = {"10.1.0.10", "fd00:1::10"};
    spec.regions = {{"sessions", 16}};
    return spec;
}

// Token, job and step of a request, from its body or its query.
Command command_of(const http::Request& request) {
    Command command;
    if (request.method == "DELETE") {
        command.token = std::stoull(request.query_or("token", "0"));
        command.job = request.query_or("job", "");
        command.step = request.query_or("step", "");
        return command;
    }
    if (request.body.empty()) return command;
    const json::bj::value body = json::bj::parse(request.body);
    const json::bj::object& object = body.as_object();
    if (const json::bj::value* inner = object.if_contains("command"))
        return json::from_json<Command>(*inner, "command").value();
    if (object.contains("token"))
        command.token = json::from_json<Fence>(body, "fence").value().token;
    return command;
}

}  // namespace

FakeWorld::FakeWorld(asio::io_context& io, std::string secret)
    : io_(io), secret_(std::move(secret)) {
    hosts["host-a"];
    hosts["host-b"];
    AgentVm vm;
    vm.vm = kVm;
    vm.state = VmState::running;
    vm.spec = web_1();
    vm.role = "sole";
    hosts["host-a"].vms[kVm] = vm;
    for (const char* device : {"host-a", "host-b", "switch", "far-switch"}) listen(device);
}

FakeWorld::~FakeWorld() {
    for (auto& [name, server] : servers_)
        if (server) server->stop();
}

void FakeWorld::listen(const std::string& device) {
    std::vector<http::Route> routes = device == "switch"       ? switch_routes()
                                      : device == "far-switch" ? far_switch_routes()
                                                               : agent_routes(device);
    if (device == "switch")
        for (http::Route& looking : looking_routes()) routes.push_back(std::move(looking));
    auto server = std::make_unique<http::Server>(io_.get_executor(), std::move(routes),
                                                 http::peer_authenticator(secret_));
    const std::string where =
        addresses_.contains(device) ? addresses_[device] : std::string("127.0.0.1:0");
    Result<std::string> bound = server->listen(where);
    if (!bound) throw std::runtime_error(bound.error().text());
    addresses_[device] = *bound;
    servers_[device] = std::move(server);
}

void FakeWorld::die(const std::string& device) {
    servers_.at(device)->stop();
    servers_.at(device).reset();
}

void FakeWorld::revive(const std::string& device) {
    listen(device);
}

http::Route FakeWorld::route(std::string device, std::string method, std::string pattern,
                             Effect effect) {
    effects_.push_back(std::move(effect));
    const Effect* kept = &effects_.back();
    return {std::move(method), std::move(pattern), http::Access::peer,
            [this, device = std::move(device), kept](http::Request request) {
                return answer(device, kept, std::move(request));
            }};
}

std::optional<Mishap> FakeWorld::strike(const std::string& device, const http::Request& request) {
    const std::string said = request.method + " " + request.path;
    for (Trouble& trouble : troubles) {
        if (trouble.times == 0 || trouble.device != device || !said.contains(trouble.request))
            continue;
        --trouble.times;
        return trouble.mishap;
    }
    return std::nullopt;
}

bool FakeWorld::is_stale(std::uint64_t& highest, std::uint64_t token) {
    if (token < highest) return true;
    highest = token;
    return false;
}

asio::awaitable<http::Response> FakeWorld::answer(std::string device, const Effect* effect,
                                                  http::Request request) {
    const std::optional<Mishap> mishap = strike(device, request);
    asio::steady_timer never(io_, std::chrono::hours(1));
    if (mishap == Mishap::refuse) co_return problem(Fault::Retry, "out of order", "unavailable");
    if (mishap == Mishap::hang) co_await never.async_wait(asio::use_awaitable);
    const Command command = command_of(request);
    calls.push_back(device + " " + request.method + " " + request.path + " " + command.job + " " +
                    command.step + " " + std::to_string(command.token));
    if (request.method != "GET") {
        std::uint64_t& highest = device == "switch" ? switch_token : hosts[device].token;
        if (is_stale(highest, command.token))
            co_return problem(Fault::Conflict, "a higher token was seen", "stale-epoch");
    }
    http::Response response = (*effect)(request);
    if (mishap == Mishap::lost) co_await never.async_wait(asio::use_awaitable);
    co_return response;
}

// ---- the switch

// Between two looks some sessions of a previous owner end, as they would by themselves.
void FakeWorld::live(VmSteering& steering) {
    if (!steering.previous) {
        steering.drained = false;
        return;
    }
    BackendSteering* leaving = find(steering, *steering.previous);
    if (!leaving) return;
    if (steering.drained && opened_once_drained > 0) {
        leaving->sessions += opened_once_drained;
        opened_once_drained = 0;
    }
    leaving->sessions -= std::min(leaving->sessions, ending[host_of(leaving->name)]);
    steering.drained = leaving->sessions == 0;
}

// The address is answered by exactly one: by the switch for the owner, or by the owner itself.
void FakeWorld::check_answered(const VmSteering& steering) {
    const auto host = hosts.find(host_of(steering.owner));
    const bool there = host != hosts.end() && host->second.vms.contains(steering.vm) &&
                       host->second.vms.at(steering.vm).state == VmState::running;
    // A whole VM is let run when the switch has turned: its sessions wait for it in between.
    const bool lands = host != hosts.end() && host->second.loaded && steering.hosting;
    // Taken back they wait for the source, which stands still for this very copy.
    const bool waits = host != hosts.end() && host->second.copies.contains(steering.vm) &&
                       host->second.vms.contains(steering.vm) && steering.hosting &&
                       host->second.vms.at(steering.vm).state == VmState::paused;
    if (!there && !lands && !waits)
        violate("new sessions are sent to " + steering.owner + ", where nothing runs");
    if (!steering.hosting && steering.owner == "host-b" && !hosts["host-b"].addresses_seen)
        violate("the switch stopped hosting before the destination was seen to have the addresses");
}

// What the switch itself would say to mode nat.
std::optional<http::Response> FakeWorld::refused_by_switch(const Steering& wanted,
                                                           const VmSteering& now) {
    const auto is_nat = [](const Backend& one) { return one.mode == SteeringMode::nat; };
    for (const Backend& one : wanted.backends) {
        if (is_nat(one) && one.name == wanted.owner && !wanted.hosting)
            return problem(Fault::Rejected, "nobody would answer", "not-hosting");
        if (is_nat(one) != !one.temporary_addresses.empty())
            return problem(Fault::Rejected, "no temporary address", "temporary-address");
        for (const BackendSteering& before : now.backends)
            if (before.name == one.name && before.sessions > 0 &&
                (before.mode != one.mode || before.temporary_addresses != one.temporary_addresses))
                return problem(Fault::Conflict, "its sessions have another name", "mode-in-use");
    }
    const bool nat = std::ranges::any_of(wanted.backends, is_nat);
    if (nat && wanted.backends.size() == 2 && wanted.backends[0].mac == wanted.backends[1].mac)
        return problem(Fault::Rejected, "both have one MAC", "same-mac");
    return std::nullopt;
}

http::Response FakeWorld::put_steering(const http::Request& request) {
    const Steering wanted = read<Steering>(request);
    FakeVm& vm = managed[request.params.at("vm")];
    std::optional<http::Response> refusal = refused_by_switch(wanted, vm.steering);
    if (refusal) return std::move(*refusal);
    VmSteering next = vm.steering;
    const bool fresh = next.vm.empty();
    next.vm = request.params.at("vm");
    next.addresses = wanted.addresses;
    next.vlans = wanted.vlans;
    next.idle_limits = wanted.idle_limits;
    next.untracked = untracked;
    next.backends.clear();
    for (const Backend& backend : wanted.backends) {
        BackendSteering kept{backend.name, backend.port, backend.mac};
        if (BackendSteering* before = find(vm.steering, backend.name)) kept = *before;
        kept.mode = backend.mode;
        kept.temporary_addresses = backend.temporary_addresses;
        next.backends.push_back(kept);
    }
    for (const BackendSteering& before : vm.steering.backends)
        if (before.sessions > 0 && !find(next, before.name))
            violate(before.name + " was taken off the list with " +
                    std::to_string(before.sessions) + " sessions");
    const bool flips = !fresh && vm.steering.owner != wanted.owner;
    const bool taken = flips && wanted.takes_over == vm.steering.owner;
    if (taken)
        std::swap(find(next, wanted.owner)->sessions, find(next, *wanted.takes_over)->sessions);
    next.owner = wanted.owner;
    next.previous = wanted.previous;
    next.hosting = wanted.hosting;
    next.drained = false;
    if (fresh) find(next, wanted.owner)->sessions = sessions_on_hosting;
    if (flips) {
        next.epoch += 1;
        next.flip_ns = 700;
        find(next, wanted.owner)->sessions += opened_at_flip;
        if (!wanted.previous && !taken) violate("a flip without a previous owner");
    }
    vm.steering = next;
    check_answered(next);
    return http::json_response(200, vm.steering);
}

http::Response FakeWorld::get_steering(const http::Request& request) {
    const auto found = managed.find(request.params.at("vm"));
    if (found == managed.end()) return unknown_vm();
    live(found->second.steering);
    return http::json_response(200, found->second.steering);
}

http::Response FakeWorld::reset_sessions(const http::Request& request) {
    const ResetRequest wanted = read<ResetRequest>(request);
    FakeVm& vm = managed[request.params.at("vm")];
    BackendSteering* backend = find(vm.steering, wanted.backend);
    if (!backend) return problem(Fault::Rejected, "no such backend", "unknown-backend");
    const std::string name = wanted.command.job + "/" + wanted.command.step;
    // A repeated step is answered with what it did; the fake resets all of `sessions_on_hosting`.
    if (!vm.resets.insert(name).second)
        return http::json_response(200, ResetResult{sessions_on_hosting, 0});
    const ResetResult result{backend->sessions, 0};
    backend->sessions = 0;
    return http::json_response(200, result);
}

std::vector<SessionRow> FakeWorld::listed(const std::string& backend) const {
    std::vector<SessionRow> rows;
    for (const auto& [name, vm] : managed)
        for (const BackendSteering& one : vm.steering.backends)
            for (std::uint64_t i = 0; one.name == backend && i < one.sessions; ++i) {
                SessionRow row{name, backend, "tcp", "10.1.0.10", "10.0.0.9:", "established"};
                row.peer += std::to_string(4000 + i);
                row.port = 80;
                row.stamp = std::to_string(stamp_);
                rows.push_back(row);
            }
    return rows;
}

std::vector<TcpSocket> FakeWorld::sockets_of(const std::string& backend) const {
    std::vector<TcpSocket> sockets;
    for (const SessionRow& row : listed(backend))
        sockets.push_back({row.address, row.peer, row.port});
    return sockets;
}

http::Response FakeWorld::end_lost(const http::Request& request) {
    const EndLostRequest wanted = read<EndLostRequest>(request);
    BackendSteering* backend = find(managed[request.params.at("vm")].steering, wanted.backend);
    if (!backend) return problem(Fault::Rejected, "no such backend", "unknown-backend");
    EndLostResult result;
    for (const LostSession& lost : wanted.sessions) {
        for (const TcpSocket& held : hosts[wanted.backend].guest_tcp)
            if (held.peer == lost.peer) violate("the guest still has " + lost.peer);
        ++(lost.stamp == std::to_string(stamp_) ? result.ended : result.kept);
    }
    backend->sessions -= std::min(backend->sessions, result.ended);
    return http::json_response(200, result);
}

namespace {

Task<void> send_all(std::vector<http::Event> events, std::shared_ptr<http::EventSink> sink) {
    for (http::Event& event : events) {
        Result<void> sent = co_await sink->send(std::move(event));
        if (!sent) co_return sent;
    }
    co_return Result<void>{};
}

http::Response stream_of(std::vector<http::Event> events) {
    http::Response response;
    response.stream = [events = std::move(events)](std::shared_ptr<http::EventSink> sink) {
        return send_all(events, std::move(sink));
    };
    return response;
}

http::Response flows_of(const http::Request& request) {
    if (request.query_or("reason", "") == "boredom")
        return problem(Fault::Rejected, "\"boredom\" is no reason; known are fenced",
                       "invalid-document");
    if (request.query_or("follow", "") != "true")
        return http::json_response(200, protocol::FlowList{{{.reason = "fenced"}}, 3});
    return stream_of({{{}, "flow", R"({"reason":")" + request.query_or("ip", "") + R"("})"},
                      {{}, "gap", R"({"lost":5,"where":"switch"})"}});
}

}  // namespace

// None of it carries a token: looking inside is not steering.
std::vector<http::Route> FakeWorld::looking_routes() {
    const auto plain = [this](const char* method, const char* pattern, Effect effect) {
        return http::Route{
            method, pattern, http::Access::peer,
            [this, effect](http::Request request) -> asio::awaitable<http::Response> {
                calls.push_back("switch " + request.method + " " + request.path);
                co_return effect(request);
            }};
    };
    return {
        plain("GET", "/v1/flows", flows_of),
        plain("GET", "/v1/sampling",
              [](const http::Request&) {
                  return http::json_response(200, protocol::FlowSamplingStatus{});
              }),
        plain("PUT", "/v1/sampling",
              [](const http::Request& request) {
                  auto wanted = json::from_text<protocol::FlowSampling>(request.body, "").value();
                  return http::json_response(200, protocol::FlowSamplingStatus{wanted, wanted});
              }),
        plain("POST", "/v1/captures",
              [](const http::Request& request) {
                  auto wanted = json::from_text<protocol::CaptureRequest>(request.body, "").value();
                  return http::json_response(201, protocol::Capture{"c-1", wanted});
              }),
        plain("GET", "/v1/captures/{capture}/frames",
              [](const http::Request&) {
                  return stream_of({{{}, "frame", R"({"bytes":"c2VjcmV0"})"},
                                    {{}, "end", R"({"why":"count"})"}});
              }),
        plain("DELETE", "/v1/captures/{capture}", [](const http::Request&) {
            return http::Response{.status = 204, .headers = {}, .body = {}, .stream = {}};
        })};
}

std::vector<http::Route> FakeWorld::switch_routes() {
    const auto status = [this](const http::Request&) {
        SwitchStatus shown;
        shown.id = "sw-1";
        shown.plane = "ebpf";
        shown.token = switch_token;
        shown.stats = stats;
        for (const char* name : {"port-a", "port-b"}) {
            PortStatus port;
            port.name = name;
            port.up = true;
            if (port.name == "port-b" && tunnel) {
                port.vxlan = tunnel;
                port.up = tunnel_up;
            }
            shown.ports.push_back(port);
        }
        return http::json_response(200, shown);
    };
    const auto all = [this](const http::Request&) {
        std::vector<VmSteering> vms;
        for (auto& [name, vm] : managed) vms.push_back(vm.steering);
        return http::json_response(200, vms);
    };
    const auto forget = [this](const http::Request& request) {
        managed.erase(request.params.at("vm"));
        return ok();
    };
    const auto announce = [this](const http::Request&) {
        ++announcements;
        return ok();
    };
    const auto fence = [this](const http::Request&) {
        return http::json_response(200, Fence{switch_token});
    };
    const auto sessions = [this](const http::Request& request) {
        if (packets_pass) ++stamp_;
        SessionList list{listed(request.query_or("owner", "")), 0};
        list.total = list.sessions.size();
        return http::json_response(200, list);
    };
    return {
        route("switch", "PUT", "/v1/fence", fence),
        route("switch", "GET", "/v1/switch", status),
        route("switch", "GET", "/v1/vms", all),
        route("switch", "PUT", "/v1/vms/{vm}/steering",
              [this](const http::Request& r) { return put_steering(r); }),
        route("switch", "GET", "/v1/vms/{vm}/steering",
              [this](const http::Request& r) { return get_steering(r); }),
        route("switch", "DELETE", "/v1/vms/{vm}/steering", forget),
        route("switch", "POST", "/v1/vms/{vm}:reset",
              [this](const http::Request& r) { return reset_sessions(r); }),
        route("switch", "POST", "/v1/vms/{vm}:end-lost",
              [this](const http::Request& r) { return end_lost(r); }),
        route("switch", "POST", "/v1/vms/{vm}:announce", announce),
        route("switch", "GET", "/v1/sessions", sessions),
    };
}

// It relays, and nobody commands it.
std::vector<http::Route> FakeWorld::far_switch_routes() {
    const auto status = [this](const http::Request&) {
        SwitchStatus shown;
        shown.id = "sw-2";
        shown.plane = "ebpf";
        PortStatus port;
        port.name = "vx-a";
        port.role = "uplink";
        port.up = true;
        port.vxlan = far_end;
        shown.ports = {port};
        return http::json_response(200, shown);
    };
    const auto none = [](const http::Request&) {
        return http::json_response(200, std::vector<VmSteering>{});
    };
    return {route("far-switch", "GET", "/v1/switch", status),
            route("far-switch", "GET", "/v1/vms", none)};
}

// ---- what tests ask

std::uint64_t FakeWorld::sessions_of(const std::string& host) const {
    std::uint64_t sessions = 0;
    for (const auto& [name, vm] : managed)
        for (const BackendSteering& backend : vm.steering.backends)
            if (host_of(backend.name) == host) sessions += backend.sessions;
    return sessions;
}

int FakeWorld::count_calls(const std::string& part) const {
    return static_cast<int>(
        std::ranges::count_if(calls, [&](const std::string& call) { return call.contains(part); }));
}

std::vector<std::string> FakeWorld::leftovers() const {
    std::vector<std::string> left;
    for (const auto& [name, host] : hosts) {
        for (const auto& [job, lease] : host.reservations)
            left.push_back(name + " leases memory to " + job);
        for (const auto& [vm, copy] : host.copies)
            left.push_back(name + " keeps the copy of " + copy.job);
        for (const auto& [id, vm] : host.vms)
            if (vm.owner_job) left.push_back(name + " has " + id + " owned by " + *vm.owner_job);
    }
    for (const auto& [id, vm] : managed) {
        if (vm.steering.hosting && !vm.steering.owner.ends_with("@nat"))
            left.push_back("the switch still hosts " + id);
        if (vm.steering.previous) left.push_back(id + " still has a previous owner");
        if (vm.steering.backends.size() != 1) left.push_back(id + " still has two backends");
    }
    return left;
}

}  // namespace godwit::fakes
