// Frames that a port does not take now, for a far end that is away for a moment: a guest that stands still while its
// snapshot is taken, or that has not begun yet at the place it moves to. A tap has such a queue in the kernel, the
// socket of a vhost-user device has none. Bounded in number and in time; who is away longer gets what comes after.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

struct rte_mbuf;

namespace godwit::dpdk {

class Waiting {
public:
    static constexpr std::uint32_t kMax = 512;  // buffers; a tap's queue holds 1000 frames
    // Longer than a pause that anybody plans, shorter than the patience of who sent them.
    static constexpr std::uint32_t kLongest_s = 4;

    explicit Waiting(std::uint32_t ticks_per_s) : longest_(kLongest_s * ticks_per_s) {}
    ~Waiting();
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

    // Also for who does not hold the lock of those who share it; then it is a hint.
    bool empty() const { return count_.load(std::memory_order_relaxed) == 0; }
    // Takes the frames over that there is room for, from the first on: how many.
    std::uint16_t keep(rte_mbuf** frames, std::uint16_t count, std::uint32_t tick);
    // Out of the port's device, in order, as far as it takes them. Freed instead: those too old, how many.
    std::uint32_t send(std::uint16_t ethdev, std::uint32_t tick);

private:
    struct Kept {
        rte_mbuf* frame;
        std::uint32_t since, buffers;
    };
    Kept& first() { return kept_[begin_ % kMax]; }
    void drop_first();
    std::array<Kept, kMax> kept_{};
    std::uint32_t begin_ = 0, buffers_ = 0;
    std::atomic<std::uint32_t> count_{0};
    std::uint32_t longest_;
};

}  // namespace godwit::dpdk
