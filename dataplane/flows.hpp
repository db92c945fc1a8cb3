// Looking inside: what the plane writes down becomes rows for who follows, and frames for who captures. One thread.
//
// The plane writes nothing until it is asked. While somebody follows and nobody has set the sampling, one packet in
// 100 is told and every packet that is more than one of a session going on; kept are the newest 4096.
#pragma once

#include "lib/http/message.hpp"

#include "dataplane/captures.hpp"
#include "dataplane/flow_filter.hpp"
#include "dataplane/steering.hpp"

#include <deque>
#include <memory>
#include <vector>

namespace godwit::dataplane {

// Rejected `invalid-document` with every wrong field.
Result<void> check_sampling(const protocol::FlowSampling& sampling);

class Flows {
public:
    // Everything outlives it. `sampling` is checked.
    Flows(boost::asio::any_io_executor executor, std::string switch_id, Plane& plane,
          const Steerings& steerings, Clock& clock, protocol::FlowSampling sampling = {});

    Result<protocol::FlowSamplingStatus> sample(const protocol::FlowSampling& wanted);
    protocol::FlowSamplingStatus sampling() const;

    protocol::FlowList last(const FlowFilter& filter, std::size_t most) const;
    // First the last `most` that match, then what comes, with gaps.
    http::Response follow(FlowFilter filter, std::size_t most);

    Result<protocol::Capture> begin_capture(const protocol::CaptureRequest& request);
    Captures& captures() { return captures_; }

    // Retry `no-flows`: nobody can look into this plane.
    Result<void> check_plane() const;
    // Reads at most `most` records; how many there were. To be called when readable_fd() is.
    std::size_t hear(std::size_t most);
    int readable_fd() { return tap_ ? tap_->readable_fd() : -1; }
    // To be called every kRefillEvery: what may be written until the next time, and who has gone.
    void refill();
    static constexpr auto kRefillEvery = std::chrono::milliseconds(100);
    void close();

private:
    struct Follower {
        FlowFilter filter;
        std::weak_ptr<http::EventQueue> queue;
    };
    struct Kept {
        steer_flow record;
        protocol::FlowRow row;
    };

    protocol::FlowSampling effective() const;
    void apply();
    void tell(const steer_flow& record, protocol::FlowRow row);
    void tell_lost();
    void forget_followers();

    boost::asio::any_io_executor executor_;
    std::string switch_id_;
    Tap* tap_;
    const Steerings& steerings_;
    std::vector<PortState> ports_;
    Captures captures_;
    protocol::FlowSampling wanted_;
    std::vector<Follower> followers_;
    std::deque<Kept> kept_;
    std::uint64_t recorded_ = 0, lost_ = 0;
    std::uint32_t lost_seen_ = 0;  // of the plane's own count
};

}  // namespace godwit::dataplane
