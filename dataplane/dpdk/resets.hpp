// TCP sessions that were ended with their peers to be told: whoever speaks on one gets an RST. Bounded; the
// oldest of a set makes room, and who has not spoken by then is told by the VM's own RST. Plain shared memory
// without pointers. One thread adds, workers find and remove.
#pragma once

#include "steering/slot.h"

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <vector>

namespace godwit::dpdk {

class alignas(64) Resets {
public:
    static constexpr std::size_t kSets = 8192, kWays = 8;

    // Nobody has ever been added: nothing to look for.
    bool is_unused() const { return added_.load(std::memory_order_relaxed) == 0; }
    void add(const steer_key& key);
    bool contains(const steer_key& key) { return find(key) != nullptr; }
    // A new session of that name ends the matter.
    void remove(const steer_key& key);
    // All of them, the oldest first.
    std::vector<steer_key> all() const;
    // An entry whose writer was killed in the middle of it is given up.
    void repair();

private:
    using Words = std::array<std::uint32_t, sizeof(steer_key) / 4>;
    // `order`: 0 empty, 1 being written, else it grows with every one that is added.
    struct Entry {
        std::atomic<std::uint32_t> order;
        std::array<std::atomic<std::uint32_t>, std::tuple_size_v<Words>> words;
        std::uint32_t reserved;
    };
    static_assert(sizeof(Entry) == 32 && sizeof(steer_key) % 4 == 0);
    std::array<Entry, kWays>& set_of(const Words& words);
    Entry* find(const steer_key& key);

    std::atomic<std::uint32_t> added_;
    std::array<std::array<Entry, kWays>, kSets> sets_;
};

}  // namespace godwit::dpdk
