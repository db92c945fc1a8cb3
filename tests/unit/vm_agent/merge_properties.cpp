// For any base, source and destination: the merge is what each rule defines, a second merge of the
// same changes writes nothing, and conflicts are exactly the lines both sides changed to different
// bytes.
#include "vm_agent/memory/merge.hpp"

#include <bit>
#include <cstring>

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

namespace {

using namespace godwit::memory;
using Words = std::array<std::uint64_t, 8>;

// Few different words, so that sides often agree; both ends of the range, so that sums wrap.
rc::Gen<std::uint64_t> words() {
    return rc::gen::element<std::uint64_t>(0, 1, 2, 3, 100, ~0ull, ~0ull - 1, 1ull << 63);
}

struct Sides {
    Line base, source, destination;
};

rc::Gen<Sides> sides() {
    return rc::gen::map(
        rc::gen::container<std::vector<std::uint64_t>>(24, words()), [](const auto& all) {
            // A third of the lines are left as they were on one side or the other.
            Sides made;
            std::memcpy(made.base.data(), all.data(), 64);
            std::memcpy(made.source.data(), all.data() + (all[8] % 3 == 0 ? 0 : 8), 64);
            std::memcpy(made.destination.data(), all.data() + (all[16] % 3 == 0 ? 0 : 16), 64);
            if (all[23] == 1) made.destination = made.source;
            return made;
        });
}

// What the destination holds after one merge, or nothing for a conflict.
std::optional<Line> merged(godwit_rule rule, const Sides& s) {
    if (s.source == s.base) return s.destination;  // such lines are never sent
    const MergedLine line = merge_line(rule, s.base, s.source, s.destination);
    if (line.fate == LineFate::conflict) return std::nullopt;
    return line.fate == LineFate::write ? line.bytes : s.destination;
}

bool clashes(const Sides& s) {
    return s.source != s.base && s.destination != s.base && s.source != s.destination;
}

// The rule in one sentence, for lines that both sides changed; else whoever changed it.
Line plain(const Sides& s, const Line& both_changed) {
    if (s.source == s.base) return s.destination;
    if (s.destination == s.base) return s.source;
    return both_changed;
}

RC_GTEST_PROP(MergeRule, FailConflictsExactlyWhereBothChanged, ()) {
    const Sides s = *sides();
    const std::optional<Line> result = merged(GODWIT_FAIL, s);
    RC_ASSERT(result.has_value() == !clashes(s));
    if (result) RC_ASSERT(*result == plain(s, s.source));
}

RC_GTEST_PROP(MergeRule, SourceWins, ()) {
    const Sides s = *sides();
    RC_ASSERT(merged(GODWIT_SOURCE_WINS, s) == plain(s, s.source));
}

RC_GTEST_PROP(MergeRule, DestinationWins, ()) {
    const Sides s = *sides();
    RC_ASSERT(merged(GODWIT_DESTINATION_WINS, s) == plain(s, s.destination));
}

RC_GTEST_PROP(MergeRule, AddDeltaAddsWhatTheSourceAdded, ()) {
    const Sides s = *sides();
    const std::optional<Line> result = merged(GODWIT_ADD_DELTA, s);
    RC_ASSERT(result.has_value());
    const Words base = std::bit_cast<Words>(s.base), source = std::bit_cast<Words>(s.source);
    const Words before = std::bit_cast<Words>(s.destination), after = std::bit_cast<Words>(*result);
    for (std::size_t i = 0; i < 8; ++i) RC_ASSERT(after[i] - before[i] == source[i] - base[i]);
}

RC_GTEST_PROP(MergeRule, MaxTakesTheLargerOfEachWord, ()) {
    const Sides s = *sides();
    const std::optional<Line> result = merged(GODWIT_MAX, s);
    RC_ASSERT(result.has_value());
    if (s.source == s.base) return;
    const Words source = std::bit_cast<Words>(s.source);
    const Words before = std::bit_cast<Words>(s.destination), after = std::bit_cast<Words>(*result);
    for (std::size_t i = 0; i < 8; ++i) RC_ASSERT(after[i] == std::max(source[i], before[i]));
}

// add-delta cannot be: the outcome file of a merge keeps it from being made twice.
RC_GTEST_PROP(MergeRule, SecondMergeOfTheSameChangesWritesNothing, ()) {
    Sides s = *sides();
    const auto rule =
        *rc::gen::element(GODWIT_FAIL, GODWIT_SOURCE_WINS, GODWIT_DESTINATION_WINS, GODWIT_MAX);
    const std::optional<Line> once = merged(rule, s);
    RC_PRE(once.has_value());
    s.destination = *once;
    RC_ASSERT(merged(rule, s) == once);
}

}  // namespace
