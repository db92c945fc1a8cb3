#include "vm_agent/memory/session.hpp"

namespace godwit::memory {

namespace {

constexpr std::size_t kReasonsMax = 16;

}  // namespace

Result<Rejoined> Seat::wait(std::uint32_t received, Deadline deadline) {
    std::unique_lock guard(mutex_);
    waiting_ = Waiting{received, ++turns_};
    offered_.reset();
    changed_.notify_all();
    changed_.wait_until(guard, deadline, [this] { return offered_ || is_closed_; });
    waiting_.reset();
    if (is_closed_) return fail(Fault::Conflict, "wait for the source", "cancelled", "cancelled");
    if (!offered_)
        return fail(Fault::Lost, "wait for the source", "it did not come back", "peer-unreachable");
    return std::exchange(offered_, std::nullopt).value();
}

Result<Seat::Waiting> Seat::waiting(Deadline deadline) {
    std::unique_lock guard(mutex_);
    changed_.wait_until(guard, deadline, [this] { return waiting_ || is_closed_; });
    if (waiting_) return *waiting_;
    return fail(Fault::Lost, "take a session up again", "it is still at work", "peer-unreachable");
}

void Seat::offer(Rejoined connection, std::uint64_t turn) {
    std::lock_guard guard(mutex_);
    if (!waiting_ || waiting_->turn != turn) return;
    offered_ = std::move(connection);
    changed_.notify_all();
}

void Seat::close() {
    std::lock_guard guard(mutex_);
    is_closed_ = true;
    changed_.notify_all();
}

Result<void> begin_at(const std::shared_ptr<Seat>& seat, FrameChannel& channel,
                      const Caller& caller, const std::string& host, const std::string& secret) {
    Result<void> welcomed = welcome(channel, caller, host, secret);
    channel.begin_session([seat](std::uint32_t received, Deadline deadline) {
        return seat->wait(received, deadline);
    });
    return welcomed;
}

Result<void> take_up_at(Seat& seat, FrameChannel& channel, const Caller& caller,
                        const std::string& host, const std::string& secret, Deadline deadline) {
    Result<Seat::Waiting> waiting = seat.waiting(deadline);
    if (!waiting) return std::unexpected(std::move(waiting).error());
    Result<void> welcomed = welcome(channel, caller, host, secret, waiting->received);
    if (welcomed) seat.offer({channel.transport(), caller.hello.received}, waiting->turn);
    return welcomed;
}

void Session::end() const {
    channel->cancel();
    seat->close();
}

Result<Session> Sessions::find(const std::string& id) const {
    auto found = open_.find(id);
    if (found != open_.end()) return found->second;
    for (const auto& [session, reason] : reasons_)
        if (session == id)
            return fail(Fault::Conflict, "take a session up again", reason, "session-gone");
    return fail(Fault::Conflict, "take a session up again",
                "this agent does not know it: it was restarted, or gave up waiting",
                "session-gone");
}

void Sessions::remove(const std::shared_ptr<FrameChannel>& channel, const std::string& reason) {
    for (auto it = open_.begin(); it != open_.end(); ++it) {
        if (it->second.channel != channel) continue;
        if (!reason.empty()) reasons_.emplace_back(it->first, reason);
        if (reasons_.size() > kReasonsMax) reasons_.pop_front();
        open_.erase(it);
        return;
    }
}

void Sessions::end_of(const std::string& vm) const {
    for (const auto& [id, session] : open_)
        if (session.vm == vm) session.end();
}

bool Sessions::end_cut(const std::string& vm) const {
    bool ended = false;
    for (const auto& [id, session] : open_) {
        if (session.vm != vm || !session.channel->is_reconnecting()) continue;
        session.end();
        ended = true;
    }
    return ended;
}

void Sessions::end_all() const {
    for (const auto& [id, session] : open_) session.end();
}

}  // namespace godwit::memory
