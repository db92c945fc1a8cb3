#include "vm_agent/memory/pace.hpp"

#include <algorithm>

namespace godwit::memory {

using std::chrono::duration;
using std::chrono::duration_cast;

namespace {

constexpr int kWindowsMax = 64;        // after so many silent ones nothing is left of a rate
constexpr double kNewestWeight = 0.4;  // of the newest window; three of them make four fifths

}  // namespace

void Pace::set_limit(std::uint64_t bytes_per_s) {
    std::lock_guard guard(mutex_);
    bytes_per_s_ = bytes_per_s;
}

std::uint64_t Pace::limit() const {
    std::lock_guard guard(mutex_);
    return bytes_per_s_;
}

PaceTime Pace::take(std::uint64_t bytes, PaceTime now) {
    std::lock_guard guard(mutex_);
    if (bytes_per_s_ == 0) return now;
    const PaceTime when = std::max(paid_until_, now - kBurst);
    const duration<double> cost(static_cast<double>(bytes) / static_cast<double>(bytes_per_s_));
    paid_until_ = when + duration_cast<PaceTime::duration>(cost);
    return paid_until_;
}

void Meter::note(std::uint64_t bytes, PaceTime now) {
    std::lock_guard guard(mutex_);
    if (!has_begun_) window_began_ = now;
    has_begun_ = true;
    close_windows(now);
    in_window_ += bytes;
}

void Meter::close_windows(PaceTime now) const {
    for (int i = 0; now - window_began_ >= kWindow; ++i) {
        if (i == kWindowsMax) {
            rate_ = 0;
            window_began_ = now;
            return;
        }
        const double seconds = duration<double>(kWindow).count();
        const double newest = static_cast<double>(in_window_) / seconds;
        rate_ = has_rate_ ? rate_ + kNewestWeight * (newest - rate_) : newest;
        has_rate_ = true;
        in_window_ = 0;
        window_began_ += kWindow;
    }
}

double Meter::bytes_per_s(PaceTime now) const {
    std::lock_guard guard(mutex_);
    if (!has_begun_) return 0;
    close_windows(now);
    if (has_rate_) return rate_;
    // Before the first window is over, what there is.
    const double seconds = duration<double>(now - window_began_).count();
    return seconds <= 0 ? 0 : static_cast<double>(in_window_) / seconds;
}

}  // namespace godwit::memory
