// A step leaves one phase. It can be run again from its first line: `apply` converges on a desired
// state, `observe` tells whether an earlier try has done so, `compensate` undoes it and can be
// repeated. The engine writes the intent before `apply` and the outcome after it.
#pragma once

#include "lib/clock.hpp"
#include "lib/task.hpp"

#include "controller/clients/devices.hpp"
#include "controller/machine/bell.hpp"
#include "controller/machine/journal.hpp"

#include <chrono>
#include <memory>
#include <string>

namespace godwit::controller {

// One job while it is being moved: the record, what people asked, and what wakes it. It outlives
// every coroutine of its steps.
struct JobRun {
    JobRun(Migration record, Flags asked, Devices& reachable, Journal& log, TimingConfig pace,
           boost::asio::any_io_executor executor)
        : job(std::move(record)),
          flags(asked),
          devices(reachable),
          journal(log),
          timing(pace),
          bell(std::move(executor)) {}

    Migration job;
    Flags flags;
    Devices& devices;
    Journal& journal;
    TimingConfig timing;
    Bell bell;
    std::int64_t shown_ms = 0;  // when progress was written last
    std::string shown;          // and what it said

    AgentClient& source() { return devices.agent(job.source); }
    AgentClient& destination() { return devices.agent(job.destination); }
    SwitchClient& access_switch() { return devices.switch_of(job.facts.switch_id); }
    std::int64_t now_ms() { return unix_ms(journal.clock().now()); }
    bool is_late() { return now_ms() >= job.deadline_ms; }

    // (token, job, step) for a device. A repeated try is another step to it: it must converge anew,
    // not repeat what it answered before.
    protocol::Command command(const std::string& step) const;
    // The desired state of the switch; backends: both, in the order source, destination. `owner` is the name of one.
    // The switch hosts at least while that one is in mode nat: nobody else would answer.
    protocol::Steering steering(const std::string& step, const std::string& owner) const;

    // Writes a step row and takes up what people asked.
    Result<void> note(const std::string& what, const std::string& detail);
    // Writes progress when it changed, once a second at most. `fraction` of the phase is done.
    Result<void> show(double fraction, const std::string& detail);
    // The same, never held back: something else begins.
    Result<void> announce(double fraction, const std::string& detail);
    // Waits for the bell or one poll interval. Conflict cancel-requested when the job is to turn
    // back, Conflict stale-epoch when another controller has taken over.
    Task<void> pause(std::uint64_t rung);
};

using StepFunction = Task<void> (*)(JobRun&);
// true: the effect is in place, nothing is left to do.
using Observation = Task<bool> (*)(JobRun&);

struct Step {
    StepFunction precheck =
        nullptr;  // reads only, before the intent; may move the job to another phase
    StepFunction apply = nullptr;
    Observation observe = nullptr;  // absent: `apply` itself begins by looking
    StepFunction compensate = nullptr;
};

const Step& step_of(Phase phase);

extern const Step kAccepted, kPreflight, kReserve, kHosting, kDestination, kCopying, kSteering,
    kDraining, kCommit, kHandover, kQuiescing, kPatching, kRetiring;

// The guest at the destination has configured every address that it is to have there, and in mode nat none that
// is the source's.
bool has_addresses(const protocol::AddressList& seen, const Migration& job);

// The VM at the destination was found dead. Before the commit the job is rolled back; after it a person
// is asked, because what the VM has learnt there goes with it.
inline constexpr std::string_view kDestinationLost = "destination-lost";
// Method whole: it died before its first instruction there, so the job takes itself back.
inline constexpr std::string_view kNeverRan = "destination-never-ran";
// Rejected/destination-lost when its agent says that its QEMU has ended. Silence says nothing.
Task<void> check_destination_lives(JobRun& run);
// Before anything is turned back to the source: Rejected/source-lost when it has ended, and then the destination is
// all that is left.
Task<void> check_source_lives(JobRun& run);
// The VM the job made there goes; gone already is as good.
Task<void> remove_destination(JobRun& run);
// Ends the copy: the source goes on, alone.
Task<void> let_source_go(JobRun& run);

// Preflight's questions alone, for validate_only: fills job.facts.
Task<void> check_preflight(JobRun& run);

// Parts of retiring (migration.hpp), also used by the sweeper. `narrow-switch` takes away the fence of the source,
// so it comes after `retire-source`; `end-leases` lets others have the source's temporary addresses,
// so it comes after both.
// The part that must be done before this one; empty: none.
std::string_view part_before(std::string_view part);
std::vector<std::string> retiring_parts(const Migration& job);
Task<void> perform_part(JobRun& run, std::string part);

}  // namespace godwit::controller
