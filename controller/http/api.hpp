// What the handlers of the REST API may touch, and how a handler looks.
#pragma once

#include "lib/http/server.hpp"
#include "lib/metrics.hpp"

#include "controller/machine/caretaker.hpp"

#include <string>

namespace godwit::controller {

// Everything outlives the server.
struct Api {
    SqliteStore& store;
    Engine& engine;
    Caretaker& caretaker;
    Journal& journal;
    Devices& devices;
    Clock& clock;
    Metrics& metrics;
    Bell& written;  // rings after each write of a job
    TimingConfig timing;
    boost::asio::any_io_executor executor;
    std::string page_secret;
};

// An error becomes the RFC 9457 problem it stands for.
using Handler = Task<http::Response> (*)(Api&, http::Request);

// routes.cpp: the table with everything there is.
std::vector<http::Route> api_routes(Api& api);
// Bearer tokens of the store; who is on the unix socket as root or this user is admin.
http::Authenticator api_authenticator(SqliteStore& store);

// vms.cpp
Task<http::Response> list_vms(Api& api, http::Request request);
Task<http::Response> show_vm(Api& api, http::Request request);
Task<http::Response> show_regions(Api& api, http::Request request);
Task<http::Response> register_vm(Api& api, http::Request request);
Task<http::Response> unregister_vm(Api& api, http::Request request);
// migrate.cpp
Task<http::Response> migrate_vm(Api& api, http::Request request);
Task<http::Response> retry_job(Api& api, http::Request request);
// jobs.cpp
Task<http::Response> list_jobs(Api& api, http::Request request);
Task<http::Response> show_job(Api& api, http::Request request);
Task<http::Response> cancel_job(Api& api, http::Request request);
Task<http::Response> force_job(Api& api, http::Request request);
Task<http::Response> resume_job(Api& api, http::Request request);
Task<http::Response> limit_job(Api& api, http::Request request);
Task<http::Response> take_back_job(Api& api, http::Request request);
Task<http::Response> show_steps(Api& api, http::Request request);
Task<http::Response> show_result(Api& api, http::Request request);
Task<http::Response> stream_events(Api& api, http::Request request);
// devices.cpp
Task<http::Response> list_hosts(Api& api, http::Request request);
Task<http::Response> show_host(Api& api, http::Request request);
Task<http::Response> list_switches(Api& api, http::Request request);
Task<http::Response> show_switch(Api& api, http::Request request);
Task<http::Response> list_sessions(Api& api, http::Request request);
Task<http::Response> list_steering(Api& api, http::Request request);
Task<http::Response> show_status(Api& api, http::Request request);
// flows.cpp
Task<http::Response> list_flows(Api& api, http::Request request);
Task<http::Response> show_sampling(Api& api, http::Request request);
Task<http::Response> set_sampling(Api& api, http::Request request);
Task<http::Response> begin_capture(Api& api, http::Request request);
Task<http::Response> stream_frames(Api& api, http::Request request);
Task<http::Response> stop_capture(Api& api, http::Request request);
// access.cpp
Task<http::Response> list_tokens(Api& api, http::Request request);
Task<http::Response> make_token(Api& api, http::Request request);
Task<http::Response> remove_token(Api& api, http::Request request);
Task<http::Response> list_audit(Api& api, http::Request request);

// page.cpp: opaque page tokens, sealed so that nobody builds one.
std::string page_token(const Api& api, const std::string& last_id);
struct Page {
    int size = 50;
    std::string after;  // the last id of the page before; "" for the first
};
Result<Page> page_of(const Api& api, const http::Request& request);

// Reads the body strictly; an empty one is the default value when `may_be_empty`.
template <typename T>
Result<T> body_of(const http::Request& request, bool may_be_empty = false) {
    if (request.body.empty() && may_be_empty) return T{};
    return json::from_text<T>(request.body, request.method + " " + request.path);
}

std::unexpected<Error> unprocessable(const std::string& doing, std::string pointer,
                                     std::string message, std::string slug);

}  // namespace godwit::controller
