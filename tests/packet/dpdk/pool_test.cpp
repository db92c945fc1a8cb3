// The pool is as large as everything that can hold a frame at once.
#include "dataplane/dpdk/pool.hpp"

#include "dataplane/dpdk/worker.hpp"
#include "dataplane/dpdk/workers.hpp"

#include "tests/packet/dpdk/eal.hpp"

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include <gtest/gtest.h>

namespace godwit::test {
namespace {

using dataplane::Device;

std::vector<Device> ports(Device::Kind kind, std::size_t count) {
    return std::vector<Device>(count, Device{.kind = kind, .where = "x"});
}

TEST(Pool, HasAFrameLeftWhenEveryGuestIsAway) {
    for (const std::size_t count : {1u, 2u, 8u, 32u}) {
        const std::uint32_t waiting =
            static_cast<std::uint32_t>(count) * std::uint32_t{dpdk::Waiting::kMax};
        const std::uint32_t frames = dpdk::frames_needed(ports(Device::Kind::vhost_user, count), 1);
        EXPECT_GE(frames, waiting + dpdk::kHandedOverMax + dpdk::kBurstMax) << count << " guests";
        EXPECT_EQ(frames & (frames + 1), 0u) << "a mempool wants a power of two less one";
    }
}

TEST(Pool, CountsWhatADriverKeepsForItself) {
    const std::uint32_t none = dpdk::frames_needed(ports(Device::Kind::af_packet, 16), 1);
    EXPECT_GE(dpdk::frames_needed(ports(Device::Kind::pci, 16), 1),
              16u * 2 * dpdk::kDescriptors + dpdk::kBurstMax);
    EXPECT_GT(dpdk::frames_needed(ports(Device::Kind::af_xdp, 16), 1), none);
    EXPECT_GT(dpdk::frames_needed(ports(Device::Kind::tap, 16), 1), none);
}

TEST(Pool, HasRoomForAFrameInOnePieceWhereADeviceWantsThat) {
    std::vector<Device> jumbo = ports(Device::Kind::af_packet, 4);
    EXPECT_EQ(dpdk::room_needed(jumbo), dpdk::kUsualRoom);
    jumbo[1].mtu = 9000;
    EXPECT_GE(dpdk::room_needed(jumbo), jumbo[1].ring_frame_bytes());
    const std::uint32_t frames = dpdk::frames_needed(jumbo, 1);
    EXPECT_GT(dpdk::megabytes_needed(frames, dpdk::room_needed(jumbo)),
              std::uint64_t{frames} * 9000 >> 20);
    EXPECT_FALSE(
        dpdk::check_memory(frames, dpdk::megabytes_needed(frames), dpdk::room_needed(jumbo)));
    std::vector<Device> pieces = ports(Device::Kind::vhost_user, 4);
    pieces[1].mtu = 9000;
    EXPECT_EQ(dpdk::room_needed(pieces), dpdk::kUsualRoom);
}

TEST(Pool, CountsWhatIsOnTheWayBetweenWorkers) {
    const std::vector<Device> three = ports(Device::Kind::af_packet, 3);
    for (const unsigned workers : {2u, 4u, dpdk::kWorkersMax})
        EXPECT_GE(dpdk::frames_needed(three, workers),
                  workers * (workers - 1) * dpdk::kBetweenWorkers + workers * dpdk::kBurstMax);
}

TEST(Pool, TooLittleMemoryIsSaidWithTheNumberThatWouldDo) {
    const std::uint32_t frames = dpdk::frames_needed(ports(Device::Kind::vhost_user, 32), 1);
    const std::uint32_t needed = dpdk::megabytes_needed(frames);
    EXPECT_GT(std::uint64_t{needed} << 20, std::uint64_t{frames} * RTE_MBUF_DEFAULT_BUF_SIZE);
    EXPECT_TRUE(dpdk::check_memory(frames, needed));
    const Result<void> refused = dpdk::check_memory(frames, needed - 1);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().cause.find("dpdk.memory_mb is " + std::to_string(needed - 1) +
                                         ", set it to at least " + std::to_string(needed)),
              std::string::npos)
        << refused.error().text();
}

// The pool of the switch in the lab: an uplink and two guests, both away, and still the uplink receives.
TEST(Pool, GuestsThatAreAwayDoNotStarveTheOthers) {
    Eal::instance();
    std::vector<Device> devices = ports(Device::Kind::vhost_user, 3);
    devices[0].kind = Device::Kind::af_packet;
    rte_mempool* pool =
        rte_pktmbuf_pool_create("derived", dpdk::frames_needed(devices, 1), dpdk::kFramesCached, 0,
                                RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    ASSERT_NE(pool, nullptr);
    {
        dpdk::Waiting guests[2] = {dpdk::Waiting(500), dpdk::Waiting(500)};
        for (dpdk::Waiting& guest : guests) {
            std::uint16_t kept = 1;
            while (kept == 1) {  // frames of 9000 bytes
                rte_mbuf* frame = rte_pktmbuf_alloc(pool);
                ASSERT_NE(frame, nullptr);
                for (unsigned i = 1; i < dpdk::kSegmentsMax; ++i)
                    ASSERT_EQ(rte_pktmbuf_chain(frame, rte_pktmbuf_alloc(pool)), 0);
                kept = guest.keep(&frame, 1, 1);
                if (kept == 0) rte_pktmbuf_free(frame);
            }
        }
        EXPECT_LE(rte_mempool_in_use_count(pool), 2u * dpdk::Waiting::kMax);
        const std::uint32_t rest =
            dpdk::kHandedOverMax +
            dpdk::kSegmentsMax * (dpdk::kBurstMax + dpdk::kDeparturesMax * 3);
        std::vector<rte_mbuf*> hands(rest);
        EXPECT_EQ(rte_pktmbuf_alloc_bulk(pool, hands.data(), rest), 0);
        rte_pktmbuf_free_bulk(hands.data(), rest);
    }
    EXPECT_EQ(rte_mempool_in_use_count(pool), 0u);
    rte_mempool_free(pool);
}

}  // namespace
}  // namespace godwit::test
