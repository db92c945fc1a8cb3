// `struct steer_plane` of the model and its hooks: vectors instead of maps. Included before steer.h by
// whoever runs the steering text in user space (model plane, unit tests, bench).
#pragma once

#include "steering/parse.h"
#include "steering/slot.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

struct steer_plane {
    struct steer_config config{};
    std::array<std::vector<struct steer_line>, STEER_TABLES> tables;
    std::vector<vm_record> vms;
    std::map<std::array<std::uint32_t, 5>, struct steer_address>
        hosted;  // family | vlan << 8, address
    std::map<std::pair<std::uint32_t, std::array<std::uint8_t, 6>>, steer_identity> senders;
    std::map<std::pair<std::uint32_t, std::uint32_t>, steer_translation> translations;  // vm, slot
    std::map<std::array<std::uint8_t, sizeof(steer_key)>, std::uint32_t> direct;
    std::set<std::array<std::uint8_t, sizeof(steer_key)>> resets;
    std::function<void()> on_reset_add;  // what another core does at that very moment
    std::uint32_t ifindex = 0;           // where the current frame came in
    std::uint32_t tick = 1;
    unsigned drained_events = 0;
    std::array<std::uint64_t, STEER_WHYS> reasons{};
};

static inline struct steer_line* steer_line(steer_plane* plane, enum steer_table table,
                                            std::uint32_t index) {
    std::vector<struct steer_line>& lines = plane->tables[table];
    return index < lines.size() ? &lines[index] : nullptr;
}
static inline const struct steer_config* steer_config(steer_plane* plane) {
    return &plane->config;
}
static inline std::uint32_t steer_tick(steer_plane* plane) {
    return plane->tick;
}
static inline vm_record* steer_vm(steer_plane* plane, std::uint32_t vm) {
    return vm < plane->vms.size() ? &plane->vms[vm] : nullptr;
}
static inline const struct steer_address* steer_hosted(steer_plane* plane,
                                                       const struct steer_packet* p,
                                                       const std::uint32_t* be) {
    const bool wide = p->family == 6;
    auto found = plane->hosted.find({std::uint32_t{p->family} | p->vlan << 8, be[0],
                                     wide ? be[1] : 0, wide ? be[2] : 0, wide ? be[3] : 0});
    return found == plane->hosted.end() ? nullptr : &found->second;
}
static inline const struct steer_identity* steer_sender(steer_plane* plane,
                                                        const std::uint8_t* mac) {
    std::array<std::uint8_t, 6> key;
    std::memcpy(key.data(), mac, 6);
    auto found = plane->senders.find({plane->ifindex, key});
    return found == plane->senders.end() ? nullptr : &found->second;
}
static inline const steer_translation* steer_translation_of(steer_plane* plane, std::uint32_t vm,
                                                            std::uint32_t slot) {
    auto found = plane->translations.find({vm, slot});
    return found == plane->translations.end() ? nullptr : &found->second;
}
static inline std::array<std::uint8_t, sizeof(steer_key)> bytes_of(const struct steer_key* key) {
    std::array<std::uint8_t, sizeof(steer_key)> bytes;
    std::memcpy(bytes.data(), key, sizeof(*key));
    return bytes;
}
static inline std::uint32_t* steer_direct(steer_plane* plane, const struct steer_key* key,
                                          bool make) {
    const auto bytes = bytes_of(key);
    if (make) return &plane->direct[bytes];
    auto found = plane->direct.find(bytes);
    return found == plane->direct.end() ? nullptr : &found->second;
}
static inline void steer_drained(steer_plane* plane, vm_record*, std::uint32_t) {
    __atomic_fetch_add(&plane->drained_events, 1, __ATOMIC_RELAXED);
}
static inline bool steer_resets_unused(steer_plane* plane) {
    return plane->resets.empty();
}
static inline bool steer_reset_known(steer_plane* plane, const struct steer_key* key) {
    return plane->resets.contains(bytes_of(key));
}
static inline void steer_reset_add(steer_plane* plane, const struct steer_key* key) {
    plane->resets.insert(bytes_of(key));
    if (plane->on_reset_add) plane->on_reset_add();
}
static inline void steer_reset_remove(steer_plane* plane, const struct steer_key* key) {
    plane->resets.erase(bytes_of(key));
}

namespace godwit::test {

struct ModelSizes {
    std::uint32_t session_lines, overflow_lines, handshake_lines, vms;
};

inline void size_tables(steer_plane& plane, const ModelSizes& sizes, std::uint32_t seed,
                        std::uint32_t ticks_per_s) {
    std::mt19937 random(seed);
    for (std::uint32_t& word : plane.config.seed) word = static_cast<std::uint32_t>(random());
    for (unsigned t = 0; t < STEER_TABLES; ++t) {
        auto table = static_cast<enum steer_table>(t);
        steer_geometry& geometry = plane.config.table[t];
        bool sessions = steer_is_session_table(table);
        geometry.home_mask = (sessions ? sizes.session_lines : sizes.handshake_lines) - 1;
        geometry.overflow_mask = sessions ? sizes.overflow_lines - 1 : 0;
        plane.tables[t].assign(steer_lines(table, geometry), {});
    }
    plane.vms.assign(sizes.vms, {});
    const std::uint32_t seconds[] = STEER_TIMEOUTS_DEFAULT_S;
    for (vm_record& vm : plane.vms) {
        vm.vm = static_cast<std::uint16_t>(&vm - plane.vms.data());
        std::uint32_t ticks[8];
        for (int i = 0; i < 8; ++i) ticks[i] = seconds[i] * ticks_per_s;
        std::memcpy(&vm.timeouts, ticks, sizeof(ticks));
    }
}

}  // namespace godwit::test
