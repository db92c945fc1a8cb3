#include "cli/watch.hpp"

#include "lib/id.hpp"

#include "cli/exit_code.hpp"

#include <csignal>
#include <memory>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace godwit::cli {

namespace asio = boost::asio;
namespace bj = json::bj;
using std::chrono::steady_clock;

namespace {

constexpr auto kSilence = std::chrono::seconds(45);  // three heartbeats
constexpr auto kCallDeadline = std::chrono::seconds(10);
constexpr auto kPauseFirst = std::chrono::milliseconds(250);
constexpr auto kPauseMost = std::chrono::milliseconds(4000);

// What of the stream is already on the screen. Shared by the coroutine, its events and the timer.
struct Watch {
    Watch(Api& with, const Console& on, std::string id, WatchOptions how)
        : api(with), console(on), job_id(std::move(id)), options(how) {}

    Api& api;
    const Console& console;
    std::string job_id;
    WatchOptions options;
    std::string last_event_id = {};
    std::optional<protocol::Job> shown = {};
    std::string line_shown = {};
    bj::value raw = nullptr;
    bool confirmed = false;  // `shown` is the job as it is, not an event of its past
    std::optional<int> exit_code = {};
    steady_clock::time_point heard = steady_clock::now();

    bool looks_over() const { return shown && (shown->done || shown->state == "needs-attention"); }
    // A stream begins with the job's past, and what needed attention then may have been resumed.
    bool is_over() const { return confirmed && looks_over(); }
    void end(int code) {
        if (!exit_code) exit_code = code;
        api.io().stop();
    }
    std::string how_to_return() const { return "godwit job watch " + job_id; }
};

void show_progress(Watch& watch, const protocol::Job& job) {
    if (watch.console.is_terminal()) {
        watch.console.status_line(progress_bar(job, watch.console.width()));
        return;
    }
    // Elsewhere a line per phase, and per change of state.
    const std::string key = job.state + " " + job.phase;
    if (key == watch.line_shown) return;
    watch.line_shown = key;
    watch.console.note(job.id + "  " + progress_text(job));
}

// A stream that starts may repeat what is already shown. Progress never runs backwards.
bool is_older(const protocol::Job& job, const std::optional<protocol::Job>& shown) {
    if (!shown) return false;
    const auto [percent, step] = std::pair{job.progress.percent, job.progress.step};
    const bool same_state = job.state == shown->state;
    return percent < shown->progress.percent ||
           (percent == shown->progress.percent && same_state && step < shown->progress.step);
}

enum class From { job, event };

Result<void> take(Watch& watch, bj::value raw, From from) {
    watch.heard = steady_clock::now();
    Result<protocol::Job> job = understood<protocol::Job>(raw, "read job " + watch.job_id);
    if (!job) return std::unexpected(std::move(job).error());
    if (from == From::event && is_older(*job, watch.shown)) return {};
    watch.confirmed = from == From::job;
    show_progress(watch, *job);
    watch.shown = std::move(*job);
    watch.raw = std::move(raw);
    return {};
}

// Worth another try: the connection, or a server that is just starting.
bool may_pass(const Error& error) {
    return error.fault == Fault::Retry || error.fault == Fault::Lost;
}

Task<void> fetch(std::shared_ptr<Watch> watch) {
    const std::string path = "/v1/jobs/" + http::encoded(watch->job_id);
    Result<bj::value> raw =
        co_await watch->api.client().call("GET", path, nullptr, http::Headers(), kCallDeadline);
    if (!raw) co_return std::unexpected(std::move(raw).error());
    co_return take(*watch, std::move(*raw), From::job);
}

Task<void> follow(std::shared_ptr<Watch> watch) {
    const std::string path = "/v1/jobs/" + http::encoded(watch->job_id) + "/events";
    auto trouble = std::make_shared<Result<void>>();
    std::function<bool(const http::Event&)> on_event = [watch, trouble](const http::Event& event) {
        if (!event.id.empty()) watch->last_event_id = event.id;
        if (!event.type.empty() && event.type != "job") return true;
        Result<bj::value> raw = json::parse(event.data, "read an event of job " + watch->job_id);
        *trouble = raw ? take(*watch, std::move(*raw), From::event) : std::unexpected(raw.error());
        return trouble->has_value() && !watch->looks_over();
    };
    Result<void> ended =
        co_await watch->api.client().events(path, watch->last_event_id, on_event, kSilence);
    if (!trouble->has_value()) co_return *trouble;
    co_return ended;
}

// One look at the job, then its events.
Task<void> look_and_follow(std::shared_ptr<Watch> watch) {
    Result<void> looked = co_await fetch(watch);
    if (!looked || watch->is_over()) co_return looked;
    Result<void> followed = co_await follow(watch);
    co_return followed;
}

asio::awaitable<void> run(std::shared_ptr<Watch> watch) {
    std::chrono::milliseconds pause = kPauseFirst;
    bool told = false;
    asio::steady_timer timer(watch->api.io());
    while (!watch->is_over()) {
        const auto before = watch->heard;
        Result<void> round = co_await look_and_follow(watch);
        if (watch->is_over()) break;
        if (round && watch->looks_over()) continue;  // ask the job itself
        const bool hopeless =
            !round && (!may_pass(round.error()) ||
                       steady_clock::now() - watch->heard > watch->options.patience);
        if (hopeless) {
            watch->console.error(round.error());
            watch->end(exit_code_of(round.error()));
            co_return;
        }
        if (watch->heard != before) {
            pause = kPauseFirst;
            told = false;
        }
        if (!round && !told) watch->console.note("the controller does not answer; trying again");
        told = told || !round;
        timer.expires_after(pause);
        pause = std::min(pause * 2, kPauseMost);
        boost::system::error_code ignored;
        co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    watch->console.end_status_line();
    watch->end(show_end(watch->console, *watch->shown, watch->raw));
}

}  // namespace

int watch_job(Api& api, const Console& console, const std::string& job, WatchOptions options) {
    auto watch = std::make_shared<Watch>(api, console, job, options);
    asio::io_context& io = api.io();
    asio::signal_set signals(io, SIGINT, SIGTERM);
    signals.async_wait([watch](boost::system::error_code error, int) {
        if (error) return;
        watch->console.note("detached; the job goes on. To come back: " + watch->how_to_return());
        watch->end(kDetached);
    });
    asio::steady_timer limit(io);
    if (options.timeout) {
        limit.expires_after(*options.timeout);
        limit.async_wait([watch](boost::system::error_code error) {
            if (error) return;
            watch->console.error("the job has not ended in the time given; it goes on",
                                 {watch->how_to_return()});
            watch->end(kWaitTimeout);
        });
    }
    asio::co_spawn(io, run(watch), [](std::exception_ptr thrown) {
        if (thrown) std::rethrow_exception(thrown);
    });
    io.restart();
    io.run();
    return watch->exit_code.value_or(kError);
}

int show_end(const Console& console, const protocol::Job& job, const bj::value& raw) {
    if (console.format() != Format::table) console.value(raw);
    const int code = exit_code_of(job);
    if (code != kOk) {
        std::string detail = job.id + " " + job.state;
        if (job.error && !job.error->detail.empty())
            detail += ": " + job.error->detail;
        else if (!job.detail.empty())
            detail += ": " + job.detail;
        console.error(detail, job.error ? job.error->next_actions : std::vector<std::string>{});
        return code;
    }
    if (console.format() != Format::table) return code;
    console.line(job.target + " moved from " + job.source + " to " + job.destination);
    if (!job.result) return code;
    const protocol::MigrationResult& result = *job.result;
    console.table({{},
                   {{"sessions", std::to_string(result.sessions_at_start) + " at the start, " +
                                     std::to_string(result.sessions_kept) + " kept, " +
                                     std::to_string(result.sessions_moved) + " moved, " +
                                     std::to_string(result.sessions_reset) + " reset"},
                    {"memory", bytes_text(result.bytes_copied) + " copied, " +
                                   bytes_text(result.bytes_compared) + " compared, " +
                                   bytes_text(result.bytes_patched) + " patched"},
                    {"longest gap", std::to_string(result.longest_gap_ms) + " ms"}}});
    return code;
}

}  // namespace godwit::cli
