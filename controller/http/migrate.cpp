// POST /v1/vms/{vm}:migrate: from a request to a durable job. Everything that can be known without
// asking a device is refused here; the rest is preflight's.
#include "lib/id.hpp"
#include "lib/secret.hpp"

#include "controller/http/api.hpp"
#include "controller/steps/tunnel.hpp"

namespace godwit::controller {

namespace {

constexpr std::size_t kKeyMax = 255;
constexpr std::uint32_t kRoundsMax = 100;
constexpr std::uint32_t kQuietWindowMaxMs = 5000;
constexpr std::chrono::milliseconds kPuttingPause{10};

std::unexpected<Error> passed_on(Error error) {
    return std::unexpected(std::move(error));
}

// draft-ietf-httpapi-idempotency-key-header: a structured field string; a bare token is taken too.
Result<std::string> key_of(const http::Request& request) {
    const std::string doing = request.method + " " + request.path;
    std::string key(request.header("idempotency-key").value_or(""));
    if (key.size() >= 2 && key.front() == '"' && key.back() == '"')
        key = key.substr(1, key.size() - 2);
    if (key.empty())
        return fail(
            Fault::Rejected, doing,
            "the header Idempotency-Key is needed: any string of yours that is new for a new "
            "request and the same when you repeat one",
            "missing-idempotency-key");
    if (key.size() > kKeyMax)
        return fail(Fault::Rejected, doing, "Idempotency-Key is longer than 255 characters",
                    "invalid-document");
    return key;
}

Result<void> check_pause(const std::string& doing, const std::string& method,
                         const protocol::MemoryPolicy& memory) {
    if (memory.rounds > kRoundsMax)
        return unprocessable(doing, "/memory/rounds",
                             "is " + std::to_string(memory.rounds) + ", at most " +
                                 std::to_string(kRoundsMax) + " are made",
                             "invalid-document");
    if (memory.pause_budget_ms && *memory.pause_budget_ms == 0)
        return unprocessable(doing, "/memory/pause_budget_ms",
                             "is 0: no pause is that short; leave it out for no budget",
                             "invalid-document");
    if (memory.quiet.window_ms.value_or(0) > kQuietWindowMaxMs)
        return unprocessable(doing, "/memory/quiet/window_ms", "is at most 5000",
                             "invalid-document");
    if (method == "whole") return {};
    const char* asks = memory.rounds != 0       ? "/memory/rounds"
                       : memory.pause_budget_ms ? "/memory/pause_budget_ms"
                                                : nullptr;
    if (!asks) return {};
    return unprocessable(doing, asks, "is for strategy whole, this is " + method,
                         "invalid-document");
}

Result<void> check_request(const Api& api, const VmRow& vm,
                           const protocol::MigrateRequest& wanted) {
    const std::string doing = "migrate " + vm.id;
    const std::string& host = wanted.destination.host;
    if (!api.devices.host(host))
        return unprocessable(doing, "/destination/host", "\"" + host + "\" is not a known host",
                             "unknown-host");
    if (host == vm.host)
        return unprocessable(doing, "/destination/host", "is where the VM is: " + host,
                             "same-host");
    if (!api.devices.host(vm.host))
        return fail(Fault::Conflict, doing, "its host " + vm.host + " is not in the configuration");
    if (wanted.steering != "l2" && wanted.steering != "nat" && wanted.steering != "vxlan")
        return unprocessable(doing, "/steering",
                             "\"" + wanted.steering + "\" is not offered: l2, nat or vxlan",
                             "unsupported-steering");
    const std::string way = complaint_about_way(*api.devices.host(host), wanted.steering);
    if (!way.empty()) return unprocessable(doing, "/steering", way, "unsupported-steering");
    const std::string method = wanted.memory.strategy.value_or(vm.method);
    if (!is_method(method))
        return unprocessable(doing, "/memory/strategy",
                             "\"" + method + "\" is not offered: fork, boot, whole or steer",
                             "unsupported-strategy");
    if (wanted.steering == "nat" && method != "boot" && method != "steer")
        return unprocessable(doing, "/steering",
                             "nat is for the methods boot and steer, this is " + method +
                                 ": its destination has the addresses and the MAC of its source",
                             "unsupported-steering");
    return check_pause(doing, method, wanted.memory);
}

Migration new_job(const Api& api, const VmRow& vm, protocol::MigrateRequest wanted,
                  const std::string& principal) {
    const TimePoint now = api.clock.now();
    Migration job;
    job.id = new_id("j-", now);
    job.vm = vm.id;
    job.source = vm.host;
    job.destination = wanted.destination.host;
    job.method = wanted.memory.strategy.value_or(vm.method);
    job.created_by = principal;
    job.request = std::move(wanted);
    enter(job, Phase::accepted, now);
    return job;
}

http::Response accepted(const Api& api, const Admission& admission) {
    const Result<Flags> flags = api.store.flags(admission.job.id);
    http::Response response =
        http::json_response(202, view(admission.job, flags.value_or(Flags{})));
    response.headers.emplace_back("location", "/v1/jobs/" + admission.job.id);
    response.headers.emplace_back("retry-after", "1");
    if (admission.replayed) response.headers.emplace_back("idempotency-replayed", "true");
    return response;
}

// The questions of preflight, and nothing else: no job, no token, no write.
Task<http::Response> only_validate(Api& api, Migration job) {
    JobRun run(std::move(job), Flags{}, api.devices, api.journal, api.timing, api.executor);
    Result<void> checked = co_await check_preflight(run);
    if (!checked) co_return passed_on(std::move(checked).error());
    protocol::Job valid = view(run.job, Flags{});
    valid.id.clear();
    valid.state = "valid";
    valid.may_cancel = false;
    co_return http::json_response(200, valid);
}

Task<http::Response> submit(Api& api, std::string vm_id, protocol::MigrateRequest wanted,
                            RequestKey key) {
    // First the key: a repeated request must find its job even if the VM has moved since.
    Result<std::optional<Admission>> before = api.store.replay(key);
    if (!before) co_return passed_on(std::move(before).error());
    if (*before) co_return accepted(api, **before);
    Result<VmRow> vm = api.store.vm(vm_id);
    if (!vm) co_return passed_on(std::move(vm).error());
    Result<void> good = check_request(api, *vm, wanted);
    if (!good) co_return passed_on(std::move(good).error());
    Result<bool> sweeping = api.store.has_sweep(vm_id);
    if (!sweeping) co_return passed_on(std::move(sweeping).error());
    if (*sweeping)
        co_return fail(Fault::Conflict, "migrate " + vm_id,
                       "the last migration's source is still being cleaned up", "sweep-pending");
    Migration job = new_job(api, *vm, std::move(wanted), key.principal);
    if (job.request.validate_only) {
        Result<http::Response> valid = co_await only_validate(api, std::move(job));
        co_return valid;
    }
    Result<Admission> admission = api.store.admit(api.journal.token(), job, key);
    if (!admission) co_return passed_on(std::move(admission).error());
    if (admission->replayed) co_return accepted(api, *admission);
    api.written.ring();
    // A steady steering that is under way must not arrive after the job's own.
    while (api.caretaker.is_putting(vm_id)) co_await api.clock.sleep_for(kPuttingPause);
    api.engine.start(admission->job);
    co_return accepted(api, *admission);
}

}  // namespace

Task<http::Response> migrate_vm(Api& api, http::Request request) {
    Result<protocol::MigrateRequest> wanted = body_of<protocol::MigrateRequest>(request);
    if (!wanted) co_return passed_on(std::move(wanted).error());
    RequestKey key{request.principal, request.method + " " + request.path, "", ""};
    if (!wanted->validate_only) {
        Result<std::string> said = key_of(request);
        if (!said) co_return passed_on(std::move(said).error());
        key.key = std::move(*said);
    }
    // Of the document as understood: spaces and the order of members make no other request.
    key.fingerprint = sha256_hex(json::to_text(*wanted));
    std::string vm = request.params.at("vm");
    Result<http::Response> response =
        co_await submit(api, std::move(vm), std::move(*wanted), std::move(key));
    co_return response;
}

// Of a job that waits for a person: its step once more. Of one that ended without success: a new
// job with the same request.
Task<http::Response> retry_job(Api& api, http::Request request) {
    const std::string id = request.params.at("job");
    Result<protocol::ResumeRequest> wanted = body_of<protocol::ResumeRequest>(request, true);
    if (!wanted) co_return passed_on(std::move(wanted).error());
    Result<Migration> job = api.store.job(id);
    if (!job) co_return passed_on(std::move(job).error());
    if (job->state != State::failed && job->state != State::cancelled) {
        Result<Migration> again = api.engine.resume(id, /*observe=*/false, wanted->on_conflict);
        if (!again) co_return passed_on(std::move(again).error());
        co_return http::json_response(200, view(*again, Flags{}));
    }
    Result<std::string> said = key_of(request);
    if (!said) co_return passed_on(std::move(said).error());
    RequestKey key{request.principal, request.method + " " + request.path, std::move(*said),
                   sha256_hex(json::to_text(job->request))};
    Result<http::Response> response = co_await submit(api, job->vm, job->request, std::move(key));
    co_return response;
}

}  // namespace godwit::controller
