// Jobs: reading them, following them, and what people may ask of one that runs.
#include "lib/log.hpp"

#include "controller/http/api.hpp"

#include <charconv>

namespace godwit::controller {

namespace {

constexpr std::chrono::seconds kHeartbeat{15};
constexpr int kEventsAtOnce = 100;

std::unexpected<Error> passed_on(Error error) {
    return std::unexpected(std::move(error));
}

protocol::Job seen(const Api& api, const Migration& job) {
    return view(job, api.store.flags(job.id).value_or(Flags{}));
}

Result<http::Response> shown(const Api& api, Result<Migration> job) {
    if (!job) return passed_on(std::move(job).error());
    return http::json_response(200, seen(api, *job));
}

// Follows one job, or all when `job` is empty. Events are read from the store, never from memory:
// who comes back with Last-Event-ID misses none.
Task<void> follow(Api* api, std::string job, std::uint64_t after,
                  std::shared_ptr<http::EventSink> sink) {
    while (true) {
        const std::uint64_t rung = api->written.rung();
        Result<std::vector<StoredEvent>> events =
            api->store.events_after(job, after, kEventsAtOnce);
        if (!events) co_return passed_on(std::move(events).error());
        for (StoredEvent& event : *events) {
            after = event.sequence;
            http::Event out{std::to_string(event.sequence), "job", std::move(event.text)};
            Result<void> sent = co_await sink->send(std::move(out));
            if (!sent || (event.last && !job.empty())) co_return sent;
        }
        if (static_cast<int>(events->size()) == kEventsAtOnce) continue;
        const TimePoint before = api->clock.now();
        co_await api->written.wait(rung, api->clock, kHeartbeat);
        if (api->clock.now() - before < kHeartbeat) continue;
        Result<void> alive = co_await sink->heartbeat();
        if (!alive) co_return alive;
    }
}

Result<std::uint64_t> last_event_id(const http::Request& request) {
    const std::string text(request.header("last-event-id").value_or(""));
    std::uint64_t id = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (!text.empty() && (error != std::errc() || end != text.data() + text.size()))
        return fail(Fault::Rejected, "follow events",
                    "Last-Event-ID \"" + text + "\" is not an id that was sent",
                    "invalid-document");
    return id;
}

}  // namespace

Task<http::Response> list_jobs(Api& api, http::Request request) {
    Result<Page> page = page_of(api, request);
    if (!page) co_return passed_on(std::move(page).error());
    JobFilter filter{request.query_or("state", ""), request.query_or("vm", ""), page->after,
                     page->size + 1};
    // The word of the API; what is stored is the same word.
    if (!filter.state.empty() && !json::enum_value<State>(filter.state))
        co_return unprocessable("list jobs", "/state", "\"" + filter.state + "\" is not a state",
                                "invalid-document");
    Result<std::vector<Migration>> jobs = api.store.jobs(filter);
    if (!jobs) co_return passed_on(std::move(jobs).error());
    protocol::JobList list;
    const bool more = static_cast<int>(jobs->size()) > page->size;
    if (more) jobs->pop_back();
    for (const Migration& job : *jobs) list.jobs.push_back(seen(api, job));
    if (more) list.next_page_token = page_token(api, jobs->back().id);
    co_return http::json_response(200, list);
}

Task<http::Response> show_job(Api& api, http::Request request) {
    co_return shown(api, api.store.job(request.params.at("job")));
}

Task<http::Response> cancel_job(Api& api, http::Request request) {
    co_return shown(api, api.engine.cancel(request.params.at("job")));
}

Task<http::Response> force_job(Api& api, http::Request request) {
    co_return shown(api, api.engine.force(request.params.at("job")));
}

Task<http::Response> resume_job(Api& api, http::Request request) {
    Result<protocol::ResumeRequest> wanted = body_of<protocol::ResumeRequest>(request, true);
    if (!wanted) co_return passed_on(std::move(wanted).error());
    // A choice about conflicts means the merge is to be made again, not only looked at.
    const bool observe = !wanted->on_conflict;
    co_return shown(api, api.engine.resume(request.params.at("job"), observe, wanted->on_conflict));
}

Task<http::Response> limit_job(Api& api, http::Request request) {
    Result<protocol::BandwidthLimit> wanted = body_of<protocol::BandwidthLimit>(request);
    if (!wanted) co_return passed_on(std::move(wanted).error());
    co_return shown(api, api.engine.limit(request.params.at("job"), wanted->bandwidth_mib_s));
}

Task<http::Response> take_back_job(Api& api, http::Request request) {
    co_return shown(api, api.engine.take_back(request.params.at("job")));
}

Task<http::Response> show_steps(Api& api, http::Request request) {
    const std::string id = request.params.at("job");
    Result<Migration> job = api.store.job(id);
    if (!job) co_return passed_on(std::move(job).error());
    Result<std::vector<protocol::StepRow>> steps = api.store.steps(id);
    if (!steps) co_return passed_on(std::move(steps).error());
    co_return http::json_response(200, protocol::StepList{std::move(*steps)});
}

Task<http::Response> show_result(Api& api, http::Request request) {
    const std::string id = request.params.at("job");
    Result<Migration> job = api.store.job(id);
    if (!job) co_return passed_on(std::move(job).error());
    if (!is_done(*job))
        co_return fail(Fault::Conflict, "result of " + id,
                       "the job is " + json::enum_name(job->state), "not-finished");
    if (job->state != State::succeeded)
        co_return fail(Fault::Conflict, "result of " + id,
                       "the job " + json::enum_name(job->state) + " and was rolled back",
                       "no-result");
    co_return http::json_response(200, job->result);
}

Task<http::Response> stream_events(Api& api, http::Request request) {
    const auto named = request.params.find("job");
    const std::string id = named == request.params.end() ? "" : named->second;
    if (!id.empty()) {
        Result<Migration> job = api.store.job(id);
        if (!job) co_return passed_on(std::move(job).error());
    }
    Result<std::uint64_t> after = last_event_id(request);
    if (!after) co_return passed_on(std::move(after).error());
    // Of all jobs only what comes from now on, unless an id says from where.
    if (id.empty() && !request.header("last-event-id")) after = api.store.last_event();
    if (!after) co_return passed_on(std::move(after).error());
    http::Response response;
    response.stream = [api = &api, id, from = *after](std::shared_ptr<http::EventSink> sink) {
        return follow(api, id, from, std::move(sink));
    };
    co_return response;
}

}  // namespace godwit::controller
