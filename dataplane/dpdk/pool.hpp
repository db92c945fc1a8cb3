// How many frame buffers the plane can hold at once, wherever they wait: so many are in the pool. With one less a far
// end that is away, or a worker that is late, could take the buffers that the other ports receive into.
#pragma once

#include "lib/error.hpp"

#include "dataplane/device.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace godwit::dpdk {

inline constexpr std::uint16_t kDescriptors = 512;  // of a device's queue
inline constexpr unsigned kFramesCached = 256;      // of the pool, by each lcore
// Buffers of one frame: 9000 bytes in pieces of 2 KiB.
inline constexpr std::uint32_t kSegmentsMax = 5;
inline constexpr std::uint32_t kUsualRoom = 2048;  // of a buffer

// Of each buffer: an af_packet device takes no frame in pieces.
std::uint32_t room_needed(const std::vector<dataplane::Device>& devices);

// A number that suits a mempool: a power of two less one.
// `ports`: with the tunnels, which have no device of their own; 0: as many as devices.
std::uint32_t frames_needed(const std::vector<dataplane::Device>& devices, unsigned workers,
                            std::size_t ports = 0);
// Of DPDK's memory, for the pool and what else is made there.
std::uint32_t megabytes_needed(std::uint32_t frames, std::uint32_t room = kUsualRoom);
// Rejected: names dpdk.memory_mb and what it must be.
Result<void> check_memory(std::uint32_t frames, std::uint32_t memory_mb,
                          std::uint32_t room = kUsualRoom);

}  // namespace godwit::dpdk
