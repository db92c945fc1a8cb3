// `struct steer_plane` of the DPDK plane and its hooks of steering/slot.h and ending.h, over plain memory. Included
// before steering/steer.h.
#pragma once

#include "steering/parse.h"
#include "steering/slot.h"
#include "steering/tally.h"

#include "dataplane/dpdk/directory.hpp"
#include "dataplane/dpdk/resets.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace godwit::dpdk {

struct BackendCounters {
    std::uint64_t to = 0, from = 0, fenced = 0;
};
// One worker's: by the port's number, and of vm * STEER_SLOTS + slot.
struct CounterSet {
    std::span<struct steer_tally> tallies;
    std::span<BackendCounters> backends;
};

// The plane's memory, as its owner has it: hugepages, a shared file, or a test's vectors. The
// spans hold steer_lines() lines and STEER_VMS_MAX or fewer records.
struct Tables {
    struct steer_config config{};
    std::array<std::span<struct steer_line>, STEER_TABLES> lines;
    std::span<vm_record> vms;
    Resets* resets = nullptr;  // none: nobody is ever told
    // By worker. Empty: each has its own, and they end with it.
    std::vector<CounterSet> counters;
    std::atomic<std::uint32_t> drained{0};  // "look at the counters", so many times
};

// Peers that have lately addressed a temporary address itself (steer_direct). A worker's own.
class DirectPeers {
public:
    DirectPeers() : peers_(kSets * kWays) {}
    std::uint32_t* find(const steer_key& key, bool make);

private:
    static constexpr std::size_t kSets = 4096, kWays = 4;
    struct Peer {
        steer_key key{};
        std::uint32_t tick = 0;
        std::uint32_t used = 0;  // grows with every use of the table; 0: empty
    };
    std::vector<Peer> peers_;
    std::uint32_t uses_ = 0;
};

inline std::uint32_t* DirectPeers::find(const steer_key& key, bool make) {
    std::uint64_t hash =
        (std::uint64_t{key.peer_be} << 32 | std::uint32_t{key.peer_port} << 16 | key.vm_port) *
        0x9e3779b97f4a7c15ull;
    hash ^= key.peer_rest[2] * 0xc2b2ae3d27d4eb4full;
    Peer* first = &peers_[(hash >> 40 & (kSets - 1)) * kWays];
    const std::span<Peer> set(first, kWays);
    for (Peer& peer : set)
        if (peer.used != 0 && std::memcmp(&peer.key, &key, sizeof(key)) == 0) {
            peer.used = ++uses_;
            return &peer.tick;
        }
    if (!make) return nullptr;
    Peer& oldest = *std::ranges::min_element(set, {}, &Peer::used);
    oldest = {key, 0, ++uses_};
    return &oldest.tick;
}

}  // namespace godwit::dpdk

// One per worker.
struct steer_plane {
    godwit::dpdk::Tables* tables = nullptr;
    const godwit::dpdk::Directory* directory = nullptr;  // the same for a whole burst
    std::uint32_t ifindex = 0;                           // where the burst came in: port + 1
    std::uint32_t tick = 1;                              // read once per burst
    godwit::dpdk::DirectPeers direct = {};
};

static inline struct steer_line* steer_line(steer_plane* plane, enum steer_table table,
                                            std::uint32_t index) {
    const std::span<struct steer_line> lines = plane->tables->lines[table];
    return index < lines.size() ? &lines[index] : nullptr;
}
static inline const struct steer_config* steer_config(steer_plane* plane) {
    return &plane->tables->config;
}
static inline std::uint32_t steer_tick(steer_plane* plane) {
    return plane->tick;
}
static inline vm_record* steer_vm(steer_plane* plane, std::uint32_t vm) {
    return vm < plane->tables->vms.size() ? &plane->tables->vms[vm] : nullptr;
}
static inline const struct steer_address* steer_hosted(steer_plane* plane,
                                                       const struct steer_packet* p,
                                                       const std::uint32_t* be) {
    return plane->directory->address(p->family, p->vlan, be);
}
static inline const struct steer_identity* steer_sender(steer_plane* plane,
                                                        const std::uint8_t* mac) {
    return plane->directory->sender(plane->ifindex, mac);
}
static inline const struct steer_translation* steer_translation_of(steer_plane* plane,
                                                                   std::uint32_t vm,
                                                                   std::uint32_t slot) {
    return plane->directory->translation(vm, slot & 1);
}
static inline std::uint32_t* steer_direct(steer_plane* plane, const struct steer_key* key,
                                          bool make) {
    return plane->direct.find(*key, make);
}
static inline void steer_drained(steer_plane* plane, vm_record*, std::uint32_t) {
    plane->tables->drained.fetch_add(1, std::memory_order_release);
}

static inline bool steer_resets_unused(steer_plane* plane) {
    return !plane->tables->resets || plane->tables->resets->is_unused();
}
static inline bool steer_reset_known(steer_plane* plane, const struct steer_key* key) {
    return plane->tables->resets && plane->tables->resets->contains(*key);
}
static inline void steer_reset_add(steer_plane* plane, const struct steer_key* key) {
    if (plane->tables->resets) plane->tables->resets->add(*key);
}
static inline void steer_reset_remove(steer_plane* plane, const struct steer_key* key) {
    if (plane->tables->resets) plane->tables->resets->remove(*key);
}
