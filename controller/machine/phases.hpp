// The phase table (phases.def) as C++, and the pure rules that follow from it. No I/O.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <boost/describe.hpp>

namespace godwit::controller {

enum class Phase {
#define GODWIT_PHASE(name, ...) name,
#include "controller/machine/phases.def"
#undef GODWIT_PHASE
};
// Stored and shown by name, so that a later version may add phases in between. A test compares the
// names with the table's: a macro cannot be built from an #include.
BOOST_DESCRIBE_ENUM(Phase, accepted, preflight, reserve, hosting, destination, copying, steering,
                    draining, commit, handover, quiescing, patching, retiring)

enum class State { running, rolling_back, needs_attention, succeeded, failed, cancelled };
BOOST_DESCRIBE_ENUM(State, running, rolling_back, needs_attention, succeeded, failed, cancelled)

enum class OnFailure { fail, roll_back, ask, sweep };
BOOST_DESCRIBE_ENUM(OnFailure, fail, roll_back, ask, sweep)

struct PhaseRow {
    Phase phase;
    std::string_view name;
    std::uint32_t weight;
    std::uint32_t deadline_s;
    bool may_cancel;
    bool memory, split;
    OnFailure on_failure;
    std::string_view effect;
};

#define GODWIT_PHASE(...) +1
constexpr std::size_t kPhases = 0
#include "controller/machine/phases.def"
    ;
#undef GODWIT_PHASE

const std::array<PhaseRow, kPhases>& phase_table();
const PhaseRow& row_of(Phase phase);
std::optional<Phase> next_phase(Phase phase);
std::optional<Phase> previous_phase(Phase phase);
std::optional<Phase> phase_named(std::string_view name);
// Progress in percent when `fraction` (0..1) of this phase is done.
std::uint32_t percent_at(Phase phase, double fraction);
bool is_terminal(State state);
// docs/phases.md, whole: the table and the edges. A test compares the file with it.
std::string phases_document();

}  // namespace godwit::controller
