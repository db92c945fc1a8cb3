// Method whole, source side: one copy while the guest runs, then one stop in which what has changed
// is sent, proven and followed by the device state. It ends with the guest standing still: only the
// controller, who decides, may let one of the two go on.
#include "vm_agent/operations/copy_work.hpp"

#include <algorithm>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace godwit::agent {

namespace asio = boost::asio;
using std::chrono::milliseconds;

namespace {

// The destination waits as long for us (transfer.cpp) before it gives up.
constexpr milliseconds kReadyDeadline{40'000};
constexpr milliseconds kFrozenPatience{5000};

std::unexpected<Error> over_budget(const CopyJob& job, const std::string& how) {
    return fail(Fault::Rejected, "stop the guest",
                how + ", the budget is " + std::to_string(job.request.pause_budget_ms) + " ms",
                "pause-budget");
}

std::string ms_text(double ms) {
    return std::to_string(static_cast<std::uint64_t>(ms + 0.5)) + " ms";
}

// Compares with the guest running until the pause would be short enough, or the rounds are used up.
Task<void> make_rounds(std::shared_ptr<Machine> machine, std::shared_ptr<CopyJob> job,
                       std::shared_ptr<CopyWork> work) {
    const std::uint32_t budget = job->request.pause_budget_ms;
    if (budget == 0 && job->request.rounds == 0) co_return Result<void>{};
    auto compare = [work]() { return work->memory->capture(); };
    auto send = [work]() -> Result<void> {
        Result<void> sent = work->memory->send_round(*work->channel);
        return sent ? work->memory->get_ready() : sent;
    };
    job->stage = "round";
    while (true) {
        Result<void> done = co_await on_worker(machine, compare);
        if (!done) co_return done;
        job->expected_pause_ms = work->memory->expected_pause_ms(job->pace->limit());
        const bool fits = budget != 0 && job->expected_pause_ms <= budget;
        if (fits || job->rounds == job->request.rounds) break;
        done = co_await on_worker(machine, send);
        if (!done) co_return done;
        ++job->rounds;
    }
    work->memory->forget_capture();
    if (budget != 0 && job->expected_pause_ms > budget)
        co_return over_budget(*job, "after " + std::to_string(job->rounds) +
                                        " rounds the pause would be about " +
                                        ms_text(job->expected_pause_ms));
    co_return Result<void>{};
}

// The controller writes its intention down before the guest is stopped.
Task<void> await_go(std::shared_ptr<CopyJob> job) {
    job->stage = "ready";
    job->go.expires_after(kReadyDeadline);
    boost::system::error_code told;
    if (!job->may_freeze && !job->is_cancelled())
        co_await job->go.async_wait(asio::redirect_error(asio::use_awaitable, told));
    if (job->is_cancelled())
        co_return fail(Fault::Lost, "stop the guest", "the copy was cancelled");
    if (job->may_freeze) co_return Result<void>{};
    co_return fail(Fault::Lost, "stop the guest", "nobody said that it may be stopped");
}

// Still running: the destination is there, its QEMU lives, its link passes frames.
Result<void> stand_by(CopyWork& work) {
    Result<void> ready = work.memory->get_ready();
    if (!ready) return ready;
    Result<void> said = work.channel->send(memory::FrameType::standby, {});
    if (!said) return std::unexpected(work.channel->reason_of(std::move(said).error()));
    Result<memory::Frame> there = work.channel->expect(memory::FrameType::standing_by);
    if (!there) return std::unexpected(std::move(there).error());
    return {};
}

// From the stop until the destination has everything.
Task<void> stopped_steps(std::shared_ptr<Machine> machine, std::shared_ptr<CopyWork> work,
                         std::uint64_t epoch) {
    Result<void> done = co_await machine->pause(PausedFor::copy);
    auto capture = [work]() { return work->memory->capture(); };
    if (done) done = co_await on_worker(machine, capture);
    if (done) done = co_await machine->save_devices(work->devices.get());
    auto rest = [work, epoch]() -> Result<void> {
        Result<void> sent = send_rest(*work, epoch);
        return sent ? send_device_state(*work) : sent;
    };
    if (done) done = co_await on_worker(machine, rest);
    co_return done;
}

Task<void> freeze(std::shared_ptr<Machine> machine, std::shared_ptr<CopyJob> job,
                  std::shared_ptr<CopyWork> work, std::uint64_t epoch) {
    const std::uint32_t budget = job->request.pause_budget_ms;
    // A guest that stands still waits less long for a cut connection.
    work->channel->set_patience(budget == 0 ? kFrozenPatience
                                            : std::min(kFrozenPatience, milliseconds(budget)));
    asio::any_io_executor executor = co_await asio::this_coro::executor;
    asio::steady_timer watch(executor);
    auto too_long = std::make_shared<bool>(false);
    if (budget != 0) {
        watch.expires_after(milliseconds(budget));
        // Whoever waits for the network is woken; the way back lets the guest go on.
        watch.async_wait([too_long, channel = work->channel](boost::system::error_code stopped) {
            if (stopped) return;
            *too_long = true;
            channel->cancel();
        });
    }
    Result<void> done = co_await stopped_steps(machine, work, epoch);
    watch.cancel();
    const double pause_ms = machine->standstill_ms();
    if (budget != 0 && (*too_long || pause_ms > budget))
        co_return over_budget(*job, "the pause had come to " + ms_text(pause_ms));
    // A cancel that came too late for the network must not find the guest handed over.
    if (done && job->is_cancelled())
        co_return fail(Fault::Lost, "stop the guest", "the copy was cancelled");
    co_return done;
}

}  // namespace

Task<void> whole_steps(std::shared_ptr<Machine> machine, std::shared_ptr<CopyJob> job,
                       std::shared_ptr<CopyWork> work) {
    Result<void> done = co_await make_rounds(machine, job, work);
    if (done) done = co_await await_go(job);
    auto standby = [work]() { return stand_by(*work); };
    if (done) done = co_await on_worker(machine, standby);
    if (!done) co_return done;
    Result<std::uint64_t> epoch = machine->region_epoch();
    if (!epoch) co_return std::unexpected(std::move(epoch).error());
    job->stage = "freeze";
    done = co_await freeze(machine, job, work, *epoch);
    if (done) job->stage = "loaded";
    co_return done;
}

}  // namespace godwit::agent
