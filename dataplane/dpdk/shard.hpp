// Which worker decides about a packet: one for everything between a peer and a VM. In both directions, whatever the
// VM's address is called there (mode nat), with and without ports: so a session's fragments and the ICMP errors about
// it, which name its two ends in the packet they carry, meet no other worker and keep their order. What a VM can send
// and take is less than what a worker forwards, so a pair of ends is never too much for one; VMs with more peers than
// one spread over all. A QUIC connection whose client moves is another pair: its connection ids are in the shared
// table, where any worker finds them.
#pragma once

#include "dataplane/dpdk/hooks.hpp"

#include "steering/decide.h"

#include "dataplane/device.hpp"

#include <cstdint>

namespace godwit::dpdk {

inline constexpr unsigned kWorkersMax = dataplane::kDpdkWorkersMax;
inline constexpr unsigned kAnyWorker = kWorkersMax;

// NH of one end's words, as steering/table.h has it: keyed, so that nobody aims at one worker from many addresses. (One
// address is one worker anyway.)
inline std::uint64_t hashed(const struct steer_config& config, const std::uint32_t* words) {
    const std::uint32_t* seed = config.seed;
    return std::uint64_t{words[0] + seed[0]} * (words[1] + seed[1]) +
           std::uint64_t{words[2] + seed[2]} * (words[3] + seed[3]);
}

// `workers` is 1 to kWorkersMax. kAnyWorker: no managed VM's, or nothing that has to keep an order.
inline unsigned worker_of(const steer_plane& plane, const struct steer_packet& packet,
                          unsigned workers) {
    if (!steer_kind_has_session(packet.kind) && packet.kind != STEER_ICMP_ERROR &&
        packet.kind != STEER_FRAGMENT)
        return kAnyWorker;
    // Whose packet an ICMP error is about was going to `embedded`, and had come from `destination`.
    const std::uint32_t* ends[2] = {
        packet.kind == STEER_ICMP_ERROR ? packet.embedded : packet.source, packet.destination};
    std::uint64_t sum = 0;  // so that the two ends may change places
    bool managed = false;
    for (const std::uint32_t* end : ends) {
        const steer_address* address = plane.directory->address(packet.family, packet.vlan, end);
        managed = managed || address;
        if (address)
            sum += std::uint64_t{(address->vm & ~STEER_TEMPORARY) + 1u} * 0x9e3779b97f4a7c15ull;
        else
            sum += hashed(plane.tables->config, end);
    }
    // The high bits of a product: all bits of the sum count, and no division.
    const std::uint64_t spread = (sum ^ sum >> 32) * 0xd6e8feb86659fd93ull >> 32;
    return managed ? static_cast<unsigned>(spread * workers >> 32) : kAnyWorker;
}

}  // namespace godwit::dpdk
