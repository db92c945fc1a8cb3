// draining: old sessions end on the source in their own time. The switch's word counts; the guest's
// own socket table is asked for comparison, and a disagreement is told in detail.
#include "lib/log.hpp"

#include "controller/steps/drain.hpp"

namespace godwit::controller {

namespace {

constexpr std::size_t kPeersShown = 5;

std::string disagreement(const JobRun& run, const protocol::SocketTable& table) {
    std::string text = "the switch says drained, the guest on " + run.job.source + " still has " +
                       std::to_string(table.tcp_established) + " established:";
    for (std::size_t i = 0; i < table.peers.size() && i < kPeersShown; ++i)
        text += " " + table.peers[i];
    if (table.peers.size() > kPeersShown)
        text += " and " + std::to_string(table.peers.size() - kPeersShown) + " more";
    return text;
}

// The guest may keep sockets whose peers are long gone (the switch aged them out). They are not a
// reason to wait for ever, but a reason to tell.
Task<void> compare_with_guest(JobRun& run) {
    if (!run.job.facts.spec.guest_agent) co_return Result<void>{};
    Result<protocol::SocketTable> table = co_await run.source().sockets(run.job.vm);
    if (!table) {
        log::info("drain", run.job.id + ": the guest was not asked: " + table.error().text());
        co_return Result<void>{};
    }
    if (table->tcp_established == 0) co_return Result<void>{};
    const std::string text = disagreement(run, *table);
    log::warning("drain", run.job.id + ": " + text);
    co_return run.note("warning", text);
}

Task<void> apply(JobRun& run) {
    const Drain drain{run.job.facts.source.name, run.job.facts.destination.name, "steering",
                      /*may_roll_back=*/true};
    Result<void> drained = co_await wait_until_drained(run, drain);
    if (!drained) co_return drained;
    Result<void> compared = co_await compare_with_guest(run);
    if (!compared) co_return compared;
    // Level, not edge: what was drained before the guest was asked must still be.
    Result<void> still = co_await wait_until_drained(run, drain);
    if (!still) co_return still;
    protocol::MigrationResult& result = run.job.result;
    const std::uint64_t reset = std::min(result.sessions_reset, result.sessions_at_start);
    result.sessions_kept = result.sessions_at_start - reset;
    co_return still;
}

}  // namespace

const Step kDraining{.apply = apply};

}  // namespace godwit::controller
