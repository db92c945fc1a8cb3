#include "dataplane/flows.hpp"

#include <algorithm>
#include <set>

namespace godwit::dataplane {
namespace {

constexpr std::size_t kKeptMax = 4096;
constexpr std::size_t kQueueMax = 4096;
constexpr std::uint32_t kFollowEvery = 100;
constexpr std::uint32_t kPerSecondMax = 100'000;
// What goes on and on, and what is none of ours: sampled and not always told.
constexpr steer_why kOrdinary[] = {STEER_WHY_NOT_MANAGED, STEER_WHY_SESSION,
                                   STEER_WHY_NEIGHBOUR,   STEER_WHY_NEIGHBOUR_BOTH,
                                   STEER_WHY_FRAGMENT,    STEER_WHY_TEMPORARY};

bool is_set(const protocol::FlowSampling& sampling) {
    return sampling.every != 0 || !sampling.always.empty();
}

http::Event gap_event(std::uint64_t lost, const std::string& where) {
    return {{}, "gap", json::to_text(protocol::FlowGap{lost, where})};
}

}  // namespace

Result<void> check_sampling(const protocol::FlowSampling& sampling) {
    Error error{Fault::Rejected, "sample flows", "", "invalid-document"};
    for (std::size_t i = 0; i < sampling.always.size(); ++i)
        if (!reason_of(sampling.always[i]))
            error.fields.push_back(
                {"/always/" + std::to_string(i),
                 "\"" + sampling.always[i] + "\" is no reason; known are " + known_reasons()});
    if (sampling.per_second < 10 || sampling.per_second > kPerSecondMax)
        error.fields.push_back({"/per_second", "expected 10 to " + std::to_string(kPerSecondMax)});
    if (error.fields.empty()) return {};
    error.cause = error.fields.front().message;
    return std::unexpected(std::move(error));
}

Flows::Flows(boost::asio::any_io_executor executor, std::string switch_id, Plane& plane,
             const Steerings& steerings, Clock& clock, protocol::FlowSampling sampling)
    : executor_(executor),
      switch_id_(std::move(switch_id)),
      tap_(plane.tap()),
      steerings_(steerings),
      ports_(plane.ports()),
      captures_(executor, tap_ ? &tap_->watch() : nullptr, clock),
      wanted_(std::move(sampling)) {
    if (tap_) apply();
}

Result<void> Flows::check_plane() const {
    if (tap_) return {};
    return fail(Fault::Conflict, "look into the plane", "this plane writes no packets down",
                "no-flows");
}

protocol::FlowSampling Flows::effective() const {
    if (is_set(wanted_) || followers_.empty()) return wanted_;
    protocol::FlowSampling sampling{kFollowEvery, {}, wanted_.per_second};
    for (std::uint32_t why = 0; why < STEER_WHYS; ++why)
        if (!std::ranges::count(kOrdinary, static_cast<steer_why>(why)))
            sampling.always.push_back(steer_why_name(why));
    return sampling;
}

// Off first and on last: no packet sees half of it.
void Flows::apply() {
    steer_watch& watch = tap_->watch();
    const protocol::FlowSampling sampling = effective();
    std::array<std::uint64_t, 4> always{};
    for (const std::string& name : sampling.always) {
        const std::uint32_t why = reason_of(name).value_or(STEER_WHYS);
        if (why < STEER_WHYS) always[why / 64] |= std::uint64_t{1} << (why % 64);
    }
    steer_store32(&watch.every, sampling.every);
    for (std::size_t i = 0; i < always.size(); ++i)
        __atomic_store_n(&watch.always[i], always[i], __ATOMIC_RELAXED);
    const std::uint32_t on = (is_set(sampling) ? STEER_WATCH_SAMPLES : 0) |
                             (captures_.is_active() ? STEER_WATCH_CAPTURES : 0);
    const bool was_on = steer_load32(&watch.on) != 0;
    if (on != 0 && !was_on)
        steer_store32(reinterpret_cast<std::uint32_t*>(&watch.budget), sampling.per_second / 10);
    steer_publish32(&watch.on, on);
}

Result<protocol::FlowSamplingStatus> Flows::sample(const protocol::FlowSampling& wanted) {
    Result<void> good = check_plane();
    if (good) good = check_sampling(wanted);
    if (!good) return std::unexpected(std::move(good).error());
    wanted_ = wanted;
    apply();
    return sampling();
}

protocol::FlowSamplingStatus Flows::sampling() const {
    return {wanted_, effective(), followers_.size(), recorded_, lost_};
}

protocol::FlowList Flows::last(const FlowFilter& filter, std::size_t most) const {
    protocol::FlowList list{{}, lost_};
    for (auto kept = kept_.rbegin(); kept != kept_.rend() && list.flows.size() < most; ++kept)
        if (filter.matches(kept->record, kept->row)) list.flows.push_back(kept->row);
    std::ranges::reverse(list.flows);
    return list;
}

http::Response Flows::follow(FlowFilter filter, std::size_t most) {
    auto queue = std::make_shared<http::EventQueue>(
        executor_, kQueueMax, [](std::uint64_t lost) { return gap_event(lost, "reader"); });
    for (const protocol::FlowRow& row : last(filter, most).flows)
        queue->push({{}, "flow", json::to_text(row)});
    followers_.push_back({std::move(filter), queue});
    apply();
    http::Response response;
    response.stream = [queue](std::shared_ptr<http::EventSink> sink) {
        return http::EventQueue::serve(queue, std::move(sink));
    };
    return response;
}

Result<protocol::Capture> Flows::begin_capture(const protocol::CaptureRequest& request) {
    Result<void> possible = check_plane();
    if (!possible) return std::unexpected(std::move(possible).error());
    std::uint16_t vm = STEER_FLOW_NO_VM;
    if (!request.vm.empty()) {
        auto known = steerings_.vms().find(request.vm);
        if (known == steerings_.vms().end())
            return fail(Fault::Missing, "capture", "VM " + request.vm + " is not steered here",
                        "unknown-vm");
        vm = known->second.index;
    }
    Result<protocol::Capture> capture = captures_.begin(request, vm);
    apply();
    return capture;
}

std::size_t Flows::hear(std::size_t most) {
    const FlowNames names(switch_id_, ports_, steerings_.vms());
    const std::uint64_t ahead = wall_minus_monotonic_ns();
    const std::size_t count =
        tap_->read(most, [&](const steer_flow& record, std::span<const std::uint8_t> bytes) {
            const std::uint64_t time_ns = record.time_ns + ahead;
            protocol::FlowRow row = names.row(record, time_ns);
            captures_.take(record, bytes, row, time_ns);
            if (record.wanted & STEER_FLOW_SAMPLED) tell(record, std::move(row));
        });
    tell_lost();
    return count;
}

void Flows::tell(const steer_flow& record, protocol::FlowRow row) {
    ++recorded_;
    std::string text;  // made once, and only when somebody wants it
    for (const Follower& follower : followers_) {
        const std::shared_ptr<http::EventQueue> queue = follower.queue.lock();
        if (!queue || !follower.filter.matches(record, row)) continue;
        if (text.empty()) text = json::to_text(row);
        queue->push({{}, "flow", text});
    }
    if (kept_.size() == kKeptMax) kept_.pop_front();
    kept_.push_back({record, std::move(row)});
}

// The plane's count goes round; the difference does not care.
void Flows::tell_lost() {
    const std::uint32_t now = steer_load32(&tap_->watch().lost);
    const std::uint32_t more = now - lost_seen_;
    if (more == 0) return;
    lost_seen_ = now;
    lost_ += more;
    for (const Follower& follower : followers_)
        if (const auto queue = follower.queue.lock()) queue->push(gap_event(more, "switch"));
}

void Flows::forget_followers() {
    std::erase_if(followers_, [](const Follower& one) { return one.queue.expired(); });
}

void Flows::refill() {
    if (!tap_) return;
    forget_followers();
    captures_.look();
    tell_lost();
    steer_store32(reinterpret_cast<std::uint32_t*>(&tap_->watch().budget),
                  effective().per_second / 10);
    apply();
}

void Flows::close() {
    for (const Follower& follower : followers_)
        if (const auto queue = follower.queue.lock()) queue->close();
    if (!tap_) return;
    captures_.close();
    steer_publish32(&tap_->watch().on, 0);
}

}  // namespace godwit::dataplane
