// The durable record of one migration: everything a fresh controller needs to go on. Stored as one
// JSON document beside its step log; `view` turns it into what people see.
#pragma once

#include "lib/error.hpp"

#include "controller/machine/phases.hpp"
#include "protocol/controller_api.hpp"

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/describe.hpp>

namespace godwit::controller {

// What preflight learned of the world and later phases rely on.
struct Facts {
    protocol::VmSpec spec;
    std::string switch_id;
    protocol::Backend source, destination;  // as the switch knows them
    std::string destination_transfer;       // where its agent takes memory, "10.9.0.2:7010"
    // Mode nat: what the VM is called at the destination, with prefix length.
    std::vector<std::string> temporary_addresses = {};
};
BOOST_DESCRIBE_STRUCT(Facts, (),
                      (spec, switch_id, source, destination, destination_transfer,
                       temporary_addresses))

// Parts of retiring, each done once.
inline constexpr std::string_view kRetireSource = "retire-source";
inline constexpr std::string_view kAdoptDestination = "adopt-destination";
inline constexpr std::string_view kReleaseMemory = "release-memory";
inline constexpr std::string_view kNarrowSwitch = "narrow-switch";
inline constexpr std::string_view kEndLeases = "end-leases";

struct Migration {
    std::string id, vm, source, destination, method, created_by;
    protocol::MigrateRequest request;

    State state = State::running;
    Phase phase = Phase::accepted;  // while rolling back: the phase being undone
    // The intent of `phase` is written and its outcome is not: its effect may have happened.
    bool began = false;
    bool committed = false;
    // Set while going back: `failed` or `cancelled` in the end. Kept in needs-attention, where it
    // tells a rollback that stuck from a forward step that did.
    std::optional<State> ending;
    std::uint32_t attempt = 1;
    std::int64_t entered_ms = 0;   // unix time in ms, when `phase` was entered
    std::int64_t deadline_ms = 0;  // absolute, of `phase`
    bool warned = false;           // the drain deadline passed and the policy is to wait
    // The reset of what is left, by its name to the switch: written before it is asked for, and
    // asked for by the same name after a restart. `reset_before` sessions were reset by earlier
    // ones.
    std::string reset_step;
    std::uint64_t reset_before = 0;

    std::uint64_t version = 0;  // grows by one with each write
    std::uint64_t epoch = 0;    // the token that wrote it last

    Facts facts;
    // Method whole: since when the source has stood still, unix time in ms; 0 before it was stopped.
    std::int64_t frozen_ms = 0;
    // The source was told to go, or is about to be: the last moment at which it is all it was.
    bool source_told = false;
    std::vector<std::string> swept;  // which parts of retiring are done
    protocol::Progress progress;
    protocol::MigrationResult result;
    std::map<std::string, std::string> timestamps;
    std::optional<protocol::Problem> error;
    std::string detail;
};
BOOST_DESCRIBE_STRUCT(Migration, (),
                      (id, vm, source, destination, method, created_by, request, state, phase,
                       began, committed, ending, attempt, entered_ms, deadline_ms, warned,
                       reset_step, reset_before, version, epoch, facts, frozen_ms, source_told,
                       swept, progress, result, timestamps, error, detail))

// What people asked of a running job; columns of their own, because the engine owns the record.
struct Flags {
    bool cancel = false;
    bool force = false;
};

using TimePoint = std::chrono::system_clock::time_point;
std::int64_t unix_ms(TimePoint time);

bool moves_memory(const Migration& job);
bool moves_whole(const Migration& job);     // the VM itself, sessions and all: nothing drains
bool boots_fresh(const Migration& job);     // another VM starts there from the source's regions
bool arrives_by_nat(const Migration& job);  // the destination has addresses of its own
// What the destination is told to make: the source's description, with what is its own there.
protocol::VmSpec destination_spec(const Migration& job);
bool skips(const Migration& job);  // the current phase is not for this method
bool may_cancel(const Migration& job);
bool may_take_back(const Migration& job);  // committed, and the source is still all it was
bool is_done(const Migration& job);

// Pure moves. Each leaves the record ready to be written.
void enter(Migration& job, Phase phase, TimePoint now);
void leave_phase(Migration& job, TimePoint now);  // forward, or to `succeeded` after the last
void turn_back(Migration& job, State ending, TimePoint now);
void step_back(Migration& job, TimePoint now);  // undone: to the phase before, or to the ending
void ask_for_attention(Migration& job, const Error& error, TimePoint now);
void end(Migration& job, State state, TimePoint now);
// Sets percent to what `fraction` of the phase means, never below what was shown before.
void advance_percent(Migration& job, double fraction);

// What a person could ask for instead of a job that was rolled back.
std::vector<std::string> advice(const Migration& job, const Error& error);
protocol::Problem problem_of(const Error& error, std::vector<std::string> next_actions);
protocol::Job view(const Migration& job, Flags flags);

}  // namespace godwit::controller
