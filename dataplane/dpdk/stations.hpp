// Where unmanaged stations are, learnt like a bridge does: four places for each of 1024 values of a
// keyed hash, the oldest makes room. Workers share it: an entry is one atomic word, and a race costs at
// most a flooded frame.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>

namespace godwit::dpdk {

class Stations {
public:
    // IEEE 802.1Q-2022 table 8-6: an address that has not been seen for 300 s is forgotten.
    static constexpr std::uint32_t kAgeing_s = 300;

    Stations(std::uint64_t seed, std::uint32_t ticks_per_s)
        : seed_(seed), ageing_(kAgeing_s * ticks_per_s) {}

    // A group address is nobody's and is not learnt.
    void learn(const std::uint8_t* mac, std::uint16_t port, std::uint32_t tick);
    void forget(const std::uint8_t* mac);
    // The port, unless nobody knows or it was too long ago.
    std::optional<std::uint16_t> find(const std::uint8_t* mac, std::uint32_t tick) const;

private:
    static constexpr std::size_t kSets = 1024, kWays = 4;
    struct Station {
        std::atomic<std::uint64_t> who{0};  // MAC << 16 | port + 1; 0: empty
        std::atomic<std::uint32_t> seen{0};
    };
    using Set = std::array<Station, kWays>;
    std::size_t set_of(std::uint64_t mac) const {
        return (mac + seed_) * 0x9e3779b97f4a7c15ull >> 54;
    }

    std::uint64_t seed_;
    std::uint32_t ageing_;
    std::array<Set, kSets> sets_{};
};

}  // namespace godwit::dpdk
