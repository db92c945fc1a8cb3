#include "dataplane/dpdk/pool.hpp"

#include "dataplane/dpdk/worker.hpp"
#include "dataplane/dpdk/workers.hpp"

#include <algorithm>
#include <bit>
#include <rte_mbuf.h>
#include <rte_mempool.h>

namespace godwit::dpdk {
namespace {

using dataplane::Device;

// A cache gives back when it is half over its size (CACHE_FLUSHTHRESH_MULTIPLIER of rte_mempool.c).
constexpr std::uint32_t kCachedMax = kFramesCached + kFramesCached / 2;
// net_af_xdp takes two rings of 2048 for what comes and one for what leaves, whatever it is told.
constexpr std::uint32_t kAfXdpFrames = 3 * 2048;
constexpr std::size_t kOtherBytes = 16 << 20;  // devices, rings, and what alignment takes

// What a device keeps while nothing happens. af_packet, memif and vhost-user copy, and take a buffer for what has come.
std::uint32_t held_by(const Device& device, unsigned workers) {
    switch (device.kind) {
        case Device::Kind::pci:
            return 2 * kDescriptors * workers;  // a queue of each kind for every worker
        case Device::Kind::tap:
            return kDescriptors;
        case Device::Kind::af_xdp:
            return kAfXdpFrames;
        case Device::Kind::vhost_user:
            return Waiting::kMax;
        case Device::Kind::af_packet:
        case Device::Kind::memif:
            return 0;
    }
    return 0;
}

// What a worker has in its hands: a burst that came, and what is to leave by every port.
std::uint32_t held_by_worker(std::size_t ports, std::uint32_t segments) {
    return kCachedMax + segments * (kBurstMax + kDeparturesMax * static_cast<std::uint32_t>(ports));
}

}  // namespace

std::uint32_t room_needed(const std::vector<Device>& devices) {
    std::uint32_t room = kUsualRoom;
    for (const Device& device : devices)
        if (device.kind == Device::Kind::af_packet)
            room = std::max(room, device.ring_frame_bytes());
    return room;
}

std::uint32_t frames_needed(const std::vector<Device>& devices, unsigned workers,
                            std::size_t ports) {
    const std::uint32_t room = room_needed(devices);
    const std::uint32_t segments = (kSegmentsMax * kUsualRoom + room - 1) / room;
    std::uint32_t frames = kCachedMax + kHandedOverMax;  // the control thread's
    for (const Device& device : devices) frames += held_by(device, workers);
    frames += workers * held_by_worker(std::max(ports, devices.size()), segments);
    frames += workers * (workers - 1) * kBetweenWorkers * segments;
    return std::bit_ceil(frames + 1) - 1;
}

std::uint32_t megabytes_needed(std::uint32_t frames, std::uint32_t room) {
    const std::size_t one = rte_mempool_calc_obj_size(
        static_cast<std::uint32_t>(sizeof(rte_mbuf)) + RTE_PKTMBUF_HEADROOM + room, 0, nullptr);
    return static_cast<std::uint32_t>((one * frames + kOtherBytes + (1 << 20) - 1) >> 20);
}

Result<void> check_memory(std::uint32_t frames, std::uint32_t memory_mb, std::uint32_t room) {
    const std::uint32_t needed = megabytes_needed(frames, room);
    if (memory_mb >= needed) return {};
    return fail(Fault::Rejected, "make the pool of frames",
                "these ports and workers can hold " + std::to_string(frames) + " frames at once, " +
                    std::to_string(needed) + " MiB: dpdk.memory_mb is " +
                    std::to_string(memory_mb) + ", set it to at least " + std::to_string(needed));
}

}  // namespace godwit::dpdk
