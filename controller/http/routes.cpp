// Every route of the controller, in one table: what it takes and gives, who may call it, who
// answers. OpenAPI, authorization, the audit trail and the metrics all come from here.
#include "lib/http/health.hpp"
#include "lib/log.hpp"

#include "controller/http/api.hpp"
#include "controller/http/openapi.hpp"
#include "protocol/flow_api.hpp"
#include "protocol/region_api.hpp"

namespace godwit::controller {

namespace {

using http::Access;
using openapi::schema_of;

struct Entry {
    openapi::Operation operation;
    Handler handler;
};

template <typename T>
constexpr openapi::SchemaFunction kOf = &schema_of<T>;

std::vector<std::string> flow_query() {
    std::vector<std::string> names = {"follow", "last"};
    for (const char* field : protocol::kFlowFilters) {
        names.push_back(field);
        names.push_back(std::string("not_") + field);
    }
    return names;
}

// What changes something, and who read what users say to each other.
bool is_audited(const openapi::Operation& operation) {
    return operation.method != "GET" || (operation.streams && operation.access == Access::admin);
}

const std::vector<Entry>& table() {
    using namespace protocol;
    const std::vector<std::string> pages = {"page_size", "page_token"};
    static const std::vector<Entry> kTable = {
        {{"GET", "/v1/vms", "Registered VMs", Access::viewer, 200, nullptr, kOf<VmList>, pages},
         list_vms},
        {{"GET", "/v1/vms/{vm}", "One VM", Access::viewer, 200, nullptr, kOf<Vm>}, show_vm},
        {{"GET", "/v1/vms/{vm}/regions", "What the VM's regions hold", Access::viewer, 200, nullptr,
          kOf<RegionList>},
         show_regions},
        {{"PUT", "/v1/vms/{vm}", "Register a VM", Access::admin, 200, kOf<VmRegistration>, kOf<Vm>},
         register_vm},
        {{"DELETE", "/v1/vms/{vm}", "Unregister a VM; it goes on running", Access::admin, 204},
         unregister_vm},
        {{"POST",
          "/v1/vms/{vm}:migrate",
          "Move a VM to another host",
          Access::operator_,
          202,
          kOf<MigrateRequest>,
          kOf<Job>,
          {},
          true},
         migrate_vm},
        {{"GET",
          "/v1/jobs",
          "Jobs, newest first",
          Access::viewer,
          200,
          nullptr,
          kOf<JobList>,
          {"state", "vm", "page_size", "page_token"}},
         list_jobs},
        {{"GET", "/v1/jobs/{job}", "One job", Access::viewer, 200, nullptr, kOf<Job>}, show_job},
        {{"POST", "/v1/jobs/{job}:cancel", "Turn back, before the commit", Access::operator_, 200,
          nullptr, kOf<Job>},
         cancel_job},
        {{"POST", "/v1/jobs/{job}:force", "Do not wait: reset what is left, or pause the source",
          Access::operator_, 200, nullptr, kOf<Job>},
         force_job},
        {{"POST", "/v1/jobs/{job}:resume", "Go on from needs-attention", Access::operator_, 200,
          kOf<ResumeRequest>, kOf<Job>},
         resume_job},
        {{"POST", "/v1/jobs/{job}:limit", "What the copy may send from now on", Access::operator_,
          200, kOf<BandwidthLimit>, kOf<Job>},
         limit_job},
        {{"POST", "/v1/jobs/{job}:take-back",
          "After the commit: the source is the VM again, what the destination learnt is lost",
          Access::operator_, 200, nullptr, kOf<Job>},
         take_back_job},
        {{"POST", "/v1/jobs/{job}:retry", "The step once more, or a failed job anew",
          Access::operator_, 200, kOf<ResumeRequest>, kOf<Job>},
         retry_job},
        {{"GET",
          "/v1/jobs/{job}/events",
          "The job's events",
          Access::viewer,
          200,
          nullptr,
          nullptr,
          {},
          false,
          true},
         stream_events},
        {{"GET", "/v1/jobs/{job}/steps", "The job's step log", Access::viewer, 200, nullptr,
          kOf<StepList>},
         show_steps},
        {{"GET", "/v1/jobs/{job}/result", "What was measured", Access::viewer, 200, nullptr,
          kOf<MigrationResult>},
         show_result},
        {{"GET",
          "/v1/events",
          "Events of all jobs",
          Access::viewer,
          200,
          nullptr,
          nullptr,
          {},
          false,
          true},
         stream_events},
        {{"GET", "/v1/hosts", "Hosts", Access::viewer, 200, nullptr, kOf<HostList>}, list_hosts},
        {{"GET", "/v1/hosts/{host}", "One host", Access::viewer, 200, nullptr, kOf<Host>},
         show_host},
        {{"GET", "/v1/switches", "Switches", Access::viewer, 200, nullptr, kOf<SwitchList>},
         list_switches},
        {{"GET", "/v1/switches/{switch}", "One switch", Access::viewer, 200, nullptr,
          kOf<SwitchStatus>},
         show_switch},
        {{"GET",
          "/v1/switches/{switch}/sessions",
          "Live sessions",
          Access::viewer,
          200,
          nullptr,
          kOf<SessionList>,
          {"vm", "owner", "limit"}},
         list_sessions},
        {{"GET", "/v1/switches/{switch}/vms", "How VMs are steered", Access::viewer, 200, nullptr,
          kOf<SteeringList>},
         list_steering},
        {{"GET", "/v1/switches/{switch}/flows",
          "Packets with their verdicts; with follow=true an event stream", Access::viewer, 200,
          nullptr, kOf<FlowList>, flow_query()},
         list_flows},
        {{"GET", "/v1/switches/{switch}/sampling", "Which packets are told", Access::viewer, 200,
          nullptr, kOf<FlowSamplingStatus>},
         show_sampling},
        {{"PUT", "/v1/switches/{switch}/sampling", "Choose which packets are told",
          Access::netadmin, 200, kOf<FlowSampling>, kOf<FlowSamplingStatus>},
         set_sampling},
        {{"POST", "/v1/switches/{switch}/captures", "Capture the frames of one session or VM",
          Access::admin, 201, kOf<CaptureRequest>, kOf<Capture>},
         begin_capture},
        {{"GET",
          "/v1/switches/{switch}/captures/{capture}/frames",
          "The captured frames",
          Access::admin,
          200,
          nullptr,
          nullptr,
          {},
          false,
          true},
         stream_frames},
        {{"DELETE", "/v1/switches/{switch}/captures/{capture}", "End a capture", Access::admin,
          204},
         stop_capture},
        {{"GET", "/v1/status", "The controller and all it reaches", Access::viewer, 200, nullptr,
          kOf<ControllerStatus>},
         show_status},
        {{"GET", "/v1/tokens", "Tokens, without their secrets", Access::admin, 200, nullptr,
          kOf<TokenList>},
         list_tokens},
        {{"POST", "/v1/tokens", "Make a token", Access::admin, 201, kOf<TokenRequest>, kOf<Token>},
         make_token},
        {{"DELETE", "/v1/tokens/{token}", "Take a token back", Access::admin, 204}, remove_token},
        {{"GET",
          "/v1/audit",
          "Who changed what, newest first",
          Access::admin,
          200,
          nullptr,
          kOf<AuditList>,
          {"limit"}},
         list_audit},
    };
    return kTable;
}

void count(Api& api, const openapi::Operation& operation, int status,
           std::chrono::steady_clock::time_point begun) {
    const Metrics::Labels route = {{"route", operation.pattern}, {"method", operation.method}};
    Metrics::Labels answer = route;
    answer["code"] = std::to_string(status);
    api.metrics.counter("godwit_http_requests_total", "requests answered", answer).Increment();
    const std::chrono::duration<double> spent = api.clock.steady() - begun;
    api.metrics
        .histogram("godwit_http_request_duration_seconds", "until the answer began",
                   {0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30}, route)
        .Observe(spent.count());
}

void audit(Api& api, const protocol::AuditEntry& entry) {
    Result<void> kept = api.store.audit(entry);
    if (!kept) log::error("audit", kept.error().text());
}

boost::asio::awaitable<http::Response> answer(Api* api, const Entry* entry, http::Request request) {
    const auto begun = api->clock.steady();
    protocol::AuditEntry trail{"",           request.principal, request.role,
                               request.peer, request.method,    request.path};
    Result<http::Response> made = co_await entry->handler(*api, std::move(request));
    http::Response response = made ? std::move(*made) : http::problem_response(made.error());
    trail.status = response.status;
    if (is_audited(entry->operation)) audit(*api, trail);
    count(*api, entry->operation, response.status, begun);
    co_return response;
}

boost::asio::awaitable<http::Response> show_openapi(http::Request) {
    std::vector<openapi::Operation> operations;
    for (const Entry& entry : table()) operations.push_back(entry.operation);
    co_return http::json_response(200, openapi::document(operations));
}

}  // namespace

std::vector<http::Route> api_routes(Api& api) {
    std::vector<http::Route> routes;
    for (const Entry& entry : table()) {
        http::Handler handler = [api = &api, entry = &entry](http::Request request) {
            return answer(api, entry, std::move(request));
        };
        const openapi::Operation& operation = entry.operation;
        routes.push_back(
            {operation.method, operation.pattern, operation.access, std::move(handler)});
    }
    routes.push_back({"GET", "/v1/openapi.json", Access::open, show_openapi});
    return routes;
}

}  // namespace godwit::controller
