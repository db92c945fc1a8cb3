#include "controller/steps/guest_sockets.hpp"

#include "lib/log.hpp"

#include <set>
#include <utility>

namespace godwit::controller {

namespace {

constexpr std::int64_t kEvery_ms = 30'000;
// Enough for the rest of a drain; what is not listed is not ended.
constexpr const char* kListed = "1000";

std::string name_of(const std::string& address, std::uint16_t port, const std::string& peer) {
    return address + " " + std::to_string(port) + " " + peer;
}

Task<void> end_lost(JobRun& run, Drain drain, std::vector<protocol::LostSession> lost) {
    protocol::EndLostRequest request{run.command("end-lost-" + drain.leaving), drain.leaving,
                                     std::move(lost)};
    Result<protocol::EndLostResult> ended =
        co_await run.access_switch().end_lost(run.job.vm, std::move(request));
    if (!ended) co_return std::unexpected(std::move(ended).error());
    if (ended->ended == 0) co_return Result<void>{};
    co_return run.note("lost", std::to_string(ended->ended) + " sessions of " + drain.leaving +
                                   " forgotten: the guest has no socket for them any more");
}

// Another controller has taken over; anything else can wait for the next look.
bool matters(const Error& error) {
    return error.slug == "stale-epoch";
}

Result<void> later(const JobRun& run, Error error) {
    if (matters(error)) return std::unexpected(std::move(error));
    log::info("drain", run.job.id + ": sockets were not compared: " + error.text());
    return {};
}

}  // namespace

std::vector<protocol::LostSession> GuestSockets::compare(const protocol::SessionList& listed,
                                                         const protocol::SocketTable& guest) {
    std::set<std::string> has;
    for (const protocol::TcpSocket& one : guest.tcp)
        has.insert(name_of(one.address, one.port, one.peer));
    std::map<std::string, std::string> now;
    std::vector<protocol::LostSession> lost;
    for (const protocol::SessionRow& row : listed.sessions) {
        const std::string name = name_of(row.address, row.port, row.peer);
        const auto known = missed_with_.find(name);
        if (row.protocol != "tcp") continue;
        if (has.contains(name)) {
            now[name] = "";
        } else if (known != missed_with_.end()) {
            now[name] = row.stamp;
            if (known->second == row.stamp)
                lost.push_back({row.address, row.peer, row.stamp, row.port});
        }
    }
    missed_with_ = std::move(now);
    return lost;
}

Task<void> GuestSockets::look(JobRun& run, Drain drain) {
    const std::int64_t now_ms = run.now_ms();
    const bool first = next_ms_ == 0;
    if (!run.job.facts.spec.guest_agent || now_ms < next_ms_) co_return Result<void>{};
    next_ms_ = now_ms + kEvery_ms;
    if (first) co_return Result<void>{};  // a short drain does not wait for the guest's answer
    const std::string query = "?vm=" + run.job.vm + "&owner=" + drain.leaving + "&limit=" + kListed;
    Result<protocol::SessionList> listed = co_await run.access_switch().sessions(query);
    if (!listed) co_return later(run, std::move(listed).error());
    // A backend in mode nat is not called like its host; its sockets have its temporary addresses, so that none of
    // the list was ever seen there, and all are left alone.
    AgentClient& agent =
        drain.leaving == run.job.facts.source.name ? run.source() : run.destination();
    Result<protocol::SocketTable> guest = co_await agent.sockets(run.job.vm);
    if (!guest) co_return later(run, std::move(guest).error());
    std::vector<protocol::LostSession> lost = compare(*listed, *guest);
    if (lost.empty()) co_return Result<void>{};
    Result<void> ended = co_await end_lost(run, std::move(drain), std::move(lost));
    if (!ended) co_return later(run, std::move(ended).error());
    co_return ended;
}

}  // namespace godwit::controller
