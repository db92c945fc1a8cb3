// The other end of a tunnel as a station of the underlay. It is believed with care: only an answer that was asked for
// makes it known, there is one for a tunnel, and while the known one answers nobody takes its place. Any worker
// reads and confirms it; who changes it does so under the lock.
#pragma once

#include "dataplane/plane.hpp"

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>

namespace godwit::dpdk {

class Neighbour {
public:
    using Mac = dataplane::Mac;
    explicit Neighbour(std::uint32_t ticks_per_s) : second_(ticks_per_s) {}

    // Where frames go; also while it is being asked again.
    std::optional<Mac> mac() const;
    // It says who it is: an answer, or anything else. False: it was not believed.
    bool hear(const Mac& mac, bool answers, std::uint32_t tick);
    // A frame of the tunnel came from this station: as good as an answer, of the one that is known.
    void confirm(const Mac& mac, std::uint32_t tick);
    // Whether to ask now: that station alone when it is known, else everybody. True counts as asked.
    bool is_due(std::uint32_t tick);

private:
    // RFC 4861's reachable time and number of questions, for ARP as well; one question a second.
    static constexpr std::uint32_t kFresh_s = 30, kAsks = 3;
    std::uint32_t second_;
    std::mutex lock_;
    std::atomic<std::uint64_t> who_{0};        // MAC << 16 | 1; 0: nobody
    std::atomic<std::uint32_t> confirmed_{0};  // tick
    std::atomic<std::uint32_t> asks_{0};       // without an answer; 0: nothing was asked
    std::atomic<bool> is_doubted_{false};      // somebody else claims to be it
    std::uint32_t asked_ = 0;                  // tick of the last question
};

}  // namespace godwit::dpdk
