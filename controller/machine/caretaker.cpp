#include "controller/machine/caretaker.hpp"

#include "lib/log.hpp"

#include "controller/temporary.hpp"

#include <algorithm>

namespace godwit::controller {

namespace asio = boost::asio;

namespace {

// A switch sends heartbeats; a stream silent for so long is opened anew.
constexpr std::chrono::seconds kSilence{45};
constexpr int kVmsMax = 100'000;

std::unexpected<Error> passed_on(Error error) {
    return std::unexpected(std::move(error));
}

// The switch says what is wanted: this host alone answers and sends, or in mode nat the switch for it.
bool is_steady(const protocol::VmSteering& seen, const protocol::Steering& wanted) {
    return seen.owner == wanted.owner && !seen.previous && seen.hosting == wanted.hosting &&
           seen.vlans == wanted.vlans && seen.idle_limits == wanted.idle_limits &&
           std::ranges::is_permutation(seen.addresses, wanted.addresses);
}

protocol::Steering steady_steering(const HostConfig& host, const protocol::VmSpec& spec) {
    protocol::Steering wanted;
    wanted.addresses = spec.addresses;
    wanted.vlans = spec.vlans;
    wanted.idle_limits = spec.idle_limits;
    wanted.backends = {backend_of(host, spec)};
    wanted.owner = wanted.backends.front().name;
    wanted.hosting = is_nat(wanted.backends.front());
    return wanted;
}

// A guest that has started anew has the addresses of its image again, which are the hosted ones. Whoever is silent
// is asked again in the next round.
Task<void> keep_addresses(Devices& devices, VmRow vm, std::uint64_t token) {
    if (vm.spec->temporary_addresses.empty() || !vm.spec->guest_agent) co_return Result<void>{};
    protocol::AddressRequest request{
        {token, "vm-" + vm.id, "addresses"}, vm.spec->temporary_addresses, vm.spec->addresses};
    Result<protocol::AddressList> set =
        co_await devices.agent(vm.host).set_addresses(vm.id, std::move(request));
    if (!set && set.error().slug == "stale-epoch") co_return passed_on(std::move(set).error());
    if (!set) log::debug("caretaker", set.error().text());
    co_return Result<void>{};
}

}  // namespace

Caretaker::Caretaker(asio::any_io_executor executor, Devices& devices, Journal& journal,
                     SqliteStore& registry, Engine& engine, TimingConfig timing)
    : executor_(executor),
      devices_(devices),
      journal_(journal),
      registry_(registry),
      engine_(engine),
      timing_(timing),
      bell_(std::move(executor)) {}

asio::awaitable<void> Caretaker::tend() {
    while (!journal_.is_down()) {
        const std::uint64_t rung = bell_.rung();
        co_await sweep();
        co_await keep_steady();
        co_await bell_.wait(rung, journal_.clock(), std::chrono::milliseconds(timing_.sweep_ms));
    }
}

// Events only say "look": what counts is the level read afterwards.
asio::awaitable<void> Caretaker::watch(std::string switch_id) {
    while (!journal_.is_down()) {
        std::function<void(std::string, protocol::VmSteering)> on_event =
            [this](const std::string&, const protocol::VmSteering& seen) { engine_.wake(seen.vm); };
        Result<void> ended =
            co_await devices_.switch_of(switch_id).events(std::move(on_event), kSilence);
        if (!ended) log::debug("caretaker", ended.error().text());
        // The switch may have been started anew, and without its tables.
        bell_.ring();
        co_await journal_.clock().sleep_for(
            std::chrono::milliseconds(timing_.backoff_max_ms / 10 + 1));
    }
}

// A job owns the steering of its VM, and so do its leftovers.
bool Caretaker::is_left_alone(const std::string& vm) {
    Result<std::optional<std::string>> active = registry_.active_job(vm);
    Result<bool> swept = registry_.has_sweep(vm);
    return !active || active->has_value() || !swept || *swept || engine_.is_driving(vm);
}

asio::awaitable<void> Caretaker::keep_steady() {
    Result<std::vector<VmRow>> vms = registry_.vms("", kVmsMax);
    if (!vms || vms->empty()) co_return;
    std::map<std::string, std::map<std::string, protocol::VmSteering>> by_switch;
    for (const SwitchConfig& one : devices_.switches()) {
        Result<std::vector<protocol::VmSteering>> seen = co_await devices_.switch_of(one.id).vms();
        if (!seen) continue;  // unknown: tried again at the next round
        for (protocol::VmSteering& vm : *seen) by_switch[one.id][vm.vm] = std::move(vm);
        by_switch.try_emplace(one.id);
    }
    for (VmRow& vm : *vms) {
        const HostConfig* host = devices_.host(vm.host);
        if (!host || !by_switch.contains(host->switch_id) || journal_.is_down()) continue;
        const std::string id = vm.id;
        Result<void> kept = co_await keep_one(std::move(vm), by_switch[host->switch_id]);
        if (!kept) log::warning("caretaker", "keep " + id + " steered: " + kept.error().text());
        if (!kept && kept.error().slug == "stale-epoch") journal_.step_down(kept.error().text());
    }
}

Task<void> Caretaker::refresh_spec(VmRow& vm) {
    Result<protocol::AgentVm> told = co_await devices_.agent(vm.host).vm(vm.id);
    if (!told) co_return passed_on(std::move(told).error());
    if (!told->spec) co_return Result<void>{};
    vm.spec = std::move(told->spec);
    co_return registry_.remember_spec(vm.id, *vm.spec);
}

Task<void> Caretaker::keep_one(VmRow vm, const std::map<std::string, protocol::VmSteering>& seen) {
    if (is_left_alone(vm.id)) co_return Result<void>{};
    if (!vm.spec) {
        Result<void> told = co_await refresh_spec(vm);
        if (!told || !vm.spec) co_return told;
    }
    Result<void> named = co_await keep_addresses(devices_, vm, journal_.token());
    if (!named) co_return named;
    const auto known = seen.find(vm.id);
    const HostConfig& host = *devices_.host(vm.host);
    protocol::Steering wanted = steady_steering(host, *vm.spec);
    if (known != seen.end() && is_steady(known->second, wanted)) co_return Result<void>{};
    wanted.command = {journal_.token(), "vm-" + vm.id, "steady-" + std::to_string(++steady_puts_)};
    // Asked again right before the write, with nothing awaited in between: a job admitted meanwhile
    // owns the steering.
    if (is_left_alone(vm.id)) co_return Result<void>{};
    putting_.insert(vm.id);
    Result<protocol::VmSteering> put =
        co_await devices_.switch_of(host.switch_id).steer(vm.id, std::move(wanted));
    putting_.erase(vm.id);
    if (!put) co_return passed_on(std::move(put).error());
    log::info("caretaker", vm.id + " is steered to " + host.id + " by " + host.switch_id);
    co_return Result<void>{};
}

asio::awaitable<void> Caretaker::sweep() {
    Result<std::vector<Sweep>> left = registry_.sweeps();
    if (!left) co_return;
    for (const Sweep& one : *left) {
        if (journal_.is_down()) co_return;
        const bool too_early = std::ranges::any_of(*left, [&](const Sweep& other) {
            return other.job == one.job && other.part == part_before(one.part);
        });
        if (too_early) continue;  // the fence goes late, at the next round
        Result<void> done = co_await sweep_one(one);
        Result<void> noted = done ? registry_.sweep_done(one.id)
                                  : registry_.sweep_failed(one.id, done.error().text());
        if (!noted) log::error("caretaker", noted.error().text());
        if (!done && done.error().slug == "stale-epoch") journal_.step_down(done.error().text());
    }
}

Task<void> Caretaker::sweep_one(Sweep sweep) {
    Result<Migration> job = json::from_text<Migration>(sweep.record, "read a leftover");
    if (!job) co_return passed_on(std::move(job).error());
    if (!devices_.host(job->source) || !devices_.host(job->destination))
        co_return fail(Fault::Missing, "sweep " + sweep.job, "a host left the configuration");
    job->attempt = sweep.attempts + 100;  // another step to the devices than any the job made
    JobRun run(std::move(*job), Flags{}, devices_, journal_, timing_, executor_);
    Result<void> done = co_await perform_part(run, sweep.part);
    co_return done;
}

}  // namespace godwit::controller
