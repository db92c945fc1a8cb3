// How fast a copy may send and how fast it goes: a token bucket that all streams of one job share, and
// the rate measured over the last seconds. Any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>

namespace godwit::memory {

using PaceTime = std::chrono::steady_clock::time_point;

// A bucket that may be in debt: who takes is told when what was taken may be sent. So streams share
// it fairly in the order in which they ask, and nobody waits with the lock held.
class Pace {
public:
    // Saved up while nothing is sent: this much time's worth may leave at once.
    static constexpr std::chrono::milliseconds kBurst{50};

    void set_limit(std::uint64_t bytes_per_s);  // 0: none; holds for what is taken from now on
    std::uint64_t limit() const;
    // When `bytes` may be sent; `now` or earlier: at once.
    PaceTime take(std::uint64_t bytes, PaceTime now);

private:
    mutable std::mutex mutex_;
    std::uint64_t bytes_per_s_ = 0;
    PaceTime paid_until_{};  // what was taken so far is paid for by then
};

// Bytes per second, smoothed over a few windows, and falling towards 0 while nothing is noted.
class Meter {
public:
    static constexpr std::chrono::milliseconds kWindow{1000};

    void note(std::uint64_t bytes, PaceTime now);
    double bytes_per_s(PaceTime now) const;

private:
    void close_windows(PaceTime now) const;

    mutable std::mutex mutex_;
    mutable PaceTime window_began_{};
    mutable std::uint64_t in_window_ = 0;
    mutable double rate_ = 0;
    mutable bool has_rate_ = false, has_begun_ = false;
};

}  // namespace godwit::memory
