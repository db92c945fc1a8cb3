// Whose an address is, and who sends from a port: built once from what is configured, then only read.
// A change makes a new directory; workers get it between two bursts. The hash is not keyed, because
// what is configured comes from the operator, and who asks for something else meets an empty place after
// at most half of them.
#pragma once

#include "steering/types.h"

#include "dataplane/plane.hpp"

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

namespace godwit::dpdk {

template <std::size_t kWords, typename Value>
class FixedMap {
public:
    using Key = std::array<std::uint32_t, kWords>;
    using Entries = std::vector<std::pair<Key, Value>>;

    // The first of two entries with one key counts.
    explicit FixedMap(const Entries& entries = {})
        : places_(std::bit_ceil(entries.size() * 2 + 1)), mask_(places_.size() - 1) {
        for (const auto& [key, value] : entries) {
            Place& place = places_[index_of(key)];
            if (!place.used) place = {key, value, true};
        }
    }
    // NULL: not there. Valid as long as the map.
    const Value* find(const Key& key) const {
        const Place& place = places_[index_of(key)];
        return place.used ? &place.value : nullptr;
    }

private:
    static constexpr std::uint64_t kMultipliers[] = {0x9e3779b97f4a7c15ull, 0xc2b2ae3d27d4eb4full,
                                                     0x165667b19e3779f9ull, 0xd6e8feb86659fd93ull,
                                                     0xff51afd7ed558ccdull};
    static_assert(kWords <= std::size(kMultipliers));
    struct Place {
        Key key{};
        Value value{};
        bool used = false;
    };
    // Where `key` is, or would be; more than half of the places are empty, so the walk ends.
    std::size_t index_of(const Key& key) const {
        // A sum, whose products the processor makes at the same time: this is asked several times for a packet.
        std::uint64_t hash = 0;
        for (std::size_t i = 0; i < kWords; ++i) hash += key[i] * kMultipliers[i];
        std::size_t at = (hash >> 32 ^ hash >> 15) & mask_;
        while (places_[at].used && places_[at].key != key) at = (at + 1) & mask_;
        return at;
    }
    std::vector<Place> places_;
    std::size_t mask_;
};

using Vms = std::map<std::uint16_t, dataplane::VmSetup>;

class Directory {
public:
    Directory() = default;
    // A backend's ifindex in `vms` is its port's number plus one, 0 an empty slot.
    explicit Directory(const Vms& vms);

    const steer_address* address(std::uint32_t family, std::uint32_t vlan,
                                 const std::uint32_t* be) const {
        const std::uint32_t place = vlan << 8 | family;
        if (family == 4) return addresses4_.find({place, be[0]});
        return addresses6_.find({place, be[0], be[1], be[2], be[3]});
    }
    const steer_identity* sender(std::uint32_t ifindex, const std::uint8_t* mac) const {
        return senders_.find(sender_key(ifindex, mac));
    }
    const steer_translation* translation(std::uint32_t vm, std::uint32_t slot) const {
        return translations_.find({vm, slot});
    }

private:
    static std::array<std::uint32_t, 3> sender_key(std::uint32_t ifindex, const std::uint8_t* mac) {
        std::array<std::uint32_t, 3> key{ifindex, 0, 0};
        std::memcpy(&key[1], mac, 6);
        return key;
    }
    FixedMap<2, steer_address> addresses4_;
    FixedMap<5, steer_address> addresses6_;
    FixedMap<3, steer_identity> senders_;
    FixedMap<2, steer_translation> translations_;
};

}  // namespace godwit::dpdk
