// A controller that can be killed and started again on the same store, a fake world that lives on,
// and time that moves when nobody has anything else to do.
#pragma once

#include "controller/machine/caretaker.hpp"
#include "controller/store/sqlite_store.hpp"
#include "tests/fakes/fake_world.hpp"
#include "tests/fakes/manual_clock.hpp"
#include "tests/fakes/temporary_directory.hpp"

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>

namespace godwit::fakes {

using controller::Change;
using controller::Migration;
using controller::Phase;
using controller::State;

// The controller is gone at this very point.
struct Crash {};

enum class CrashAt { before_write, after_write };

// Passes everything on, counts the writes, and crashes at one of them.
class CrashingStore final : public controller::JobStore {
public:
    explicit CrashingStore(controller::SqliteStore& store) : store_(store) {}

    int writes = 0;
    int crash_at = 0;  // the number of the write; 0: never
    CrashAt side = CrashAt::before_write;
    bool crashed = false;
    // The next writes are carried out or not, but their answer is lost.
    int answers_lost = 0;
    bool lost_writes_happen = true;
    std::optional<Migration> last;

    Result<std::uint64_t> raise_token(std::uint64_t at_least) override {
        return store_.raise_token(at_least);
    }
    Result<controller::Admission> admit(std::uint64_t token, const Migration& job,
                                        const controller::RequestKey& key) override {
        return guarded([&] { return store_.admit(token, job, key); });
    }
    Result<controller::Flags> write(std::uint64_t token, const Change& change) override {
        return guarded([&]() -> Result<controller::Flags> {
            const bool loses = answers_lost > 0;
            if (loses) --answers_lost;
            if (loses && !lost_writes_happen) return fail(Fault::Retry, "write", "disk busy");
            Result<controller::Flags> written = store_.write(token, change);
            if (written) last = change.job;
            if (loses) return fail(Fault::Retry, "write", "the answer was lost");
            return written;
        });
    }
    Result<void> request_cancel(const std::string& job) override {
        return guarded([&] { return store_.request_cancel(job); });
    }
    Result<void> request_force(const std::string& job) override {
        return guarded([&] { return store_.request_force(job); });
    }
    Result<Migration> job(const std::string& id) override { return store_.job(id); }
    Result<controller::Flags> flags(const std::string& id) override { return store_.flags(id); }
    Result<std::vector<Migration>> unfinished() override { return store_.unfinished(); }
    Result<std::vector<controller::StoredEvent>> events_after(const std::string& job,
                                                              std::uint64_t sequence,
                                                              int limit) override {
        return store_.events_after(job, sequence, limit);
    }
    Result<std::vector<protocol::StepRow>> steps(const std::string& job) override {
        return store_.steps(job);
    }
    Result<std::vector<std::string>> lease(
        const std::string& job, const std::string& vm,
        const std::vector<std::vector<std::string>>& candidates) override {
        return guarded([&] { return store_.lease(job, vm, candidates); });
    }
    Result<void> end_lease(const std::string& job) override {
        return guarded([&] { return store_.end_lease(job); });
    }
    Result<void> end_other_leases(const std::string& vm, const std::string& job) override {
        return guarded([&] { return store_.end_other_leases(vm, job); });
    }
    Result<std::vector<controller::Sweep>> sweeps() override { return store_.sweeps(); }
    Result<void> sweep_done(std::int64_t id) override { return store_.sweep_done(id); }
    Result<void> sweep_failed(std::int64_t id, const std::string& error) override {
        return store_.sweep_failed(id, error);
    }

private:
    template <typename F>
    std::invoke_result_t<F> guarded(F write) {
        const bool now = ++writes == crash_at;
        if (now && side == CrashAt::before_write) crash();
        std::invoke_result_t<F> result = write();
        if (now) crash();
        return result;
    }
    [[noreturn]] void crash() {
        crashed = true;
        throw Crash{};
    }

    controller::SqliteStore& store_;
};

// One life of a controller. Members in the order in which they may go.
struct Life {
    Life(const std::string& file, const controller::Config& config,
         std::chrono::system_clock::time_point start)
        : clock(start),
          store(open(file, clock)),
          crashing(*store),
          devices(io.get_executor(), config, "secret"),
          journal(crashing, clock, metrics, [this] { written.ring(); }),
          written(io.get_executor()),
          engine(io.get_executor(), devices, journal, config.timing),
          caretaker(io.get_executor(), devices, journal, *store, engine, config.timing) {}

    static std::unique_ptr<controller::SqliteStore> open(const std::string& file, Clock& clock) {
        auto store = controller::SqliteStore::open(file, clock);
        if (!store) throw std::runtime_error(store.error().text());
        return std::move(*store);
    }

    boost::asio::io_context io;
    ManualClock clock;
    std::unique_ptr<controller::SqliteStore> store;
    CrashingStore crashing;
    Metrics metrics;
    controller::Devices devices;
    controller::Journal journal;
    controller::Bell written;
    controller::Engine engine;
    controller::Caretaker caretaker;
};

class ControllerRig {
public:
    ControllerRig();
    ~ControllerRig();

    boost::asio::io_context world_io;
    FakeWorld world{world_io};
    std::unique_ptr<Life> life;
    controller::Config config;
    protocol::MigrateRequest request;
    std::string method = "fork";
    std::string job_id = "j-1";  // of the next one that is asked for
    // Runs between any two turns of the loop: what people do meanwhile.
    std::function<void(ControllerRig&)> meanwhile;

    // A controller starts on the store; `crash_at` counts its writes.
    void start(int crash_at = 0, CrashAt side = CrashAt::before_write);
    // As kill -9 does: nothing is said, nothing is finished.
    void kill();
    // Asks for the migration, with one key for the whole rig: asked again it is the same job.
    void submit();
    // Turns the loop until `reached`, or the controller crashed. Throws when nothing is reached in
    // an hour of the rig's time or a minute of ours.
    void run_until(const std::function<bool()>& reached);
    void run_to_rest();  // done or needs-attention
    void spawn(boost::asio::awaitable<void> work);

    bool crashed() const { return life->crashing.crashed; }
    Migration job();
    protocol::Job seen() { return controller::view(job(), {}); }
    int last_events();
    std::vector<protocol::StepRow> steps() { return life->store->steps(job_id).value(); }
    bool has_step(const std::string& phase, const std::string& what);
    std::string file(const std::string& name) const { return directory_.file(name); }

private:
    std::size_t turn();

    TemporaryDirectory directory_;
    std::chrono::system_clock::time_point now_{std::chrono::hours(24 * 365 * 56)};
};

}  // namespace godwit::fakes
