#include "tests/fakes/controller_rig.hpp"

#include "lib/log.hpp"
#include "lib/secret.hpp"

#include <boost/asio/co_spawn.hpp>

namespace godwit::fakes {

namespace {

constexpr int kIdleTurns = 3;
constexpr auto kPatience = std::chrono::seconds(60);
constexpr auto kRigHours = std::chrono::hours(8);

}  // namespace

ControllerRig::ControllerRig() {
    log::set_level(log::Level::off);
    config.switches = {{"sw-1", world.address("switch")}};
    config.hosts = {{"host-a", world.address("host-a"), "sw-1", "port-a"},
                    {"host-b", world.address("host-b"), "sw-1", "port-b"}};
    // Real time for real sockets; everything else is the rig's time.
    config.timing.request_ms = 200;
    config.timing.start_vm_ms = 200;
    request.destination.host = "host-b";
}

ControllerRig::~ControllerRig() {
    kill();
}

void ControllerRig::start(int crash_at, CrashAt side) {
    kill();
    life = std::make_unique<Life>(file("controller.db"), config, now_);
    Result<void> begun = life->journal.start(1);
    if (!begun) throw std::runtime_error(begun.error().text());
    life->crashing.crash_at = crash_at;
    life->crashing.side = side;
    if (!life->store->vm("web-1")) {
        Result<void> kept = life->store->put_vm({"web-1", "host-a", method, {}, std::nullopt});
        if (!kept) throw std::runtime_error(kept.error().text());
    }
    spawn(life->engine.recover());
}

void ControllerRig::kill() {
    if (life) now_ = life->clock.now();
    life.reset();
}

void ControllerRig::spawn(boost::asio::awaitable<void> work) {
    boost::asio::co_spawn(life->io, std::move(work), [](std::exception_ptr broken) {
        if (broken) std::rethrow_exception(broken);
    });
}

void ControllerRig::submit() {
    Migration job;
    job.id = job_id;
    job.vm = "web-1";
    job.source = life->store->vm("web-1")->host;
    job.destination = request.destination.host;
    job.method = method;
    job.created_by = "test";
    job.request = request;
    controller::enter(job, Phase::accepted, life->clock.now());
    const controller::RequestKey key{"test", "POST", "key-" + job_id,
                                     sha256_hex(json::to_text(request))};
    try {
        Result<controller::Admission> admitted =
            life->crashing.admit(life->journal.token(), job, key);
        if (!admitted) throw std::runtime_error(admitted.error().text());
        if (!admitted->replayed) life->engine.start(admitted->job);
    } catch (const Crash&) {
    }
}

std::size_t ControllerRig::turn() {
    try {
        return life->io.poll() + world_io.poll();
    } catch (const Crash&) {
        return 1;
    }
}

void ControllerRig::run_until(const std::function<bool()>& reached) {
    const auto give_up = std::chrono::steady_clock::now() + kPatience;
    const auto too_late = life->clock.now() + kRigHours;
    int idle = 0;
    while (!crashed() && !reached()) {
        if (meanwhile) {
            try {
                meanwhile(*this);
            } catch (const Crash&) {
                return;
            }
        }
        life->io.restart();
        world_io.restart();
        if (turn() > 0) {
            idle = 0;
            continue;
        }
        if (++idle < kIdleTurns) continue;
        // Somebody waits for time, or for a socket.
        if (life->clock.sleepers() > 0)
            life->clock.advance(std::max(life->clock.next_due(), std::chrono::milliseconds(1)));
        else
            world_io.run_one_for(std::chrono::milliseconds(1));
        if (std::chrono::steady_clock::now() > give_up || life->clock.now() > too_late)
            throw std::runtime_error("nothing more happens: " + json::to_text(seen()));
    }
}

void ControllerRig::run_to_rest() {
    run_until([this] {
        const auto& last = life->crashing.last;
        return last && life->engine.running() == 0 &&
               (controller::is_done(*last) || last->state == State::needs_attention);
    });
}

Migration ControllerRig::job() {
    Result<Migration> found = life->store->job(job_id);
    if (!found) throw std::runtime_error(found.error().text());
    return std::move(*found);
}

int ControllerRig::last_events() {
    const auto events = life->store->events_after(job_id, 0, 100'000).value();
    return static_cast<int>(std::ranges::count_if(events, [](const auto& e) { return e.last; }));
}

bool ControllerRig::has_step(const std::string& phase, const std::string& what) {
    const auto all = steps();
    return std::ranges::any_of(
        all, [&](const protocol::StepRow& row) { return row.phase == phase && row.what == what; });
}

}  // namespace godwit::fakes
