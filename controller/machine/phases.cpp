#include "controller/machine/phases.hpp"

#include "lib/json.hpp"

#include <algorithm>

namespace godwit::controller {

const std::array<PhaseRow, kPhases>& phase_table() {
    static constexpr std::array<PhaseRow, kPhases> kTable = {{
#define GODWIT_PHASE(name, weight, deadline_s, may_cancel, memory, split, on_failure, effect) \
    {Phase::name,           #name, weight, deadline_s, may_cancel, memory, split,             \
     OnFailure::on_failure, effect},
#include "controller/machine/phases.def"
#undef GODWIT_PHASE
    }};
    return kTable;
}

const PhaseRow& row_of(Phase phase) {
    return phase_table().at(static_cast<std::size_t>(phase));
}

std::optional<Phase> next_phase(Phase phase) {
    const std::size_t next = static_cast<std::size_t>(phase) + 1;
    if (next == kPhases) return std::nullopt;
    return phase_table()[next].phase;
}

std::optional<Phase> previous_phase(Phase phase) {
    if (phase == phase_table().front().phase) return std::nullopt;
    return phase_table()[static_cast<std::size_t>(phase) - 1].phase;
}

std::optional<Phase> phase_named(std::string_view name) {
    for (const PhaseRow& row : phase_table())
        if (row.name == name) return row.phase;
    return std::nullopt;
}

std::uint32_t percent_at(Phase phase, double fraction) {
    double percent = 0;
    for (const PhaseRow& row : phase_table()) {
        if (row.phase == phase) {
            percent += row.weight * std::clamp(fraction, 0.0, 1.0);
            break;
        }
        percent += row.weight;
    }
    return static_cast<std::uint32_t>(percent);
}

bool is_terminal(State state) {
    return state == State::succeeded || state == State::failed || state == State::cancelled;
}

namespace {

std::string deadline_text(std::uint32_t seconds) {
    return seconds == 0 ? "the request's policy" : std::to_string(seconds) + " s";
}

std::string failure_text(OnFailure edge) {
    switch (edge) {
        case OnFailure::fail:
            return "failed";
        case OnFailure::roll_back:
            return "rolling-back";
        case OnFailure::ask:
            return "needs-attention";
        case OnFailure::sweep:
            return "succeeded, the rest swept later";
    }
    return "";
}

constexpr std::string_view kHead = R"(# The phases of a migration

Derived from `controller/machine/phases.def`; a test compares this page with the table. To write it
anew: `build/controller/godwit-controller-phases > docs/phases.md`.

| # | phase | effect | weight | deadline | cancel | skipped by `steer` | by `whole` | on failure |
|---|---|---|---|---|---|---|---|---|
)";

constexpr std::string_view kTail = R"(
A job is in one state and one phase. States: `running`, `rolling-back`, `needs-attention`; terminal:
`succeeded`, `failed`, `cancelled` (the last two are rolled back).

| from | to | when |
|---|---|---|
| `running`, a phase | `running`, the next phase | its outcome is recorded |
| `running`, commit | `running`, draining | the source opened a session after it had been drained |
| `running`, cancel = yes | `rolling-back` | `:cancel`, or as the table says on failure |
| `running`, cancel = no | `needs-attention` | deadline passed, or a permanent refusal |
| `running`, retiring | `succeeded` | always; what could not be done is recorded and swept |
| `rolling-back` | `failed`, `cancelled` | everything the job made is undone |
| `rolling-back` | `needs-attention` | a device refuses or stays silent beyond the deadline |
| `needs-attention` | `running`, `rolling-back` | `:resume` (observes first), `:retry`, `:force` |
| `running`, handover (`whole`) | `rolling-back` | the destination died before its first instruction |
| `needs-attention` after the commit | `rolling-back` | `:take-back`, until the source is told to go |

Rolling back walks the phases in reverse, the one in progress included, whether or not its outcome was
recorded:

1. patching (only after a take-back): the source goes on; handover of `whole`: every session's
   port turns back, the destination is destroyed;
2. steering: the default owner flips back to the source, the destination drains (drain policy: `wait`
   and `rollback` wait, `reset` resets at the deadline, `:force` resets now), then it is fenced; of a
   destination that is dead the sessions are reset;
3. copying: the copy is aborted, the source goes on untouched (of `whole`: from where it was stopped);
4. destination: the VM made by the job is destroyed, behind the fence and without a session;
5. hosting: the switch stops answering, the addresses are the source's alone, and it is announced;
6. reserve: the lease is given back.
)";

}  // namespace

std::string phases_document() {
    std::string text(kHead);
    int number = 0;
    for (const PhaseRow& row : phase_table()) {
        text += "| " + std::to_string(number++) + " | `" + std::string(row.name) + "` | " +
                std::string(row.effect) + " | " + std::to_string(row.weight) + " | " +
                deadline_text(row.deadline_s) + " | " + (row.may_cancel ? "yes" : "no") + " | " +
                (row.memory ? "yes" : "no") + " | " + (row.split ? "yes" : "no") + " | " +
                failure_text(row.on_failure) + " |\n";
    }
    return text + std::string(kTail);
}

}  // namespace godwit::controller
