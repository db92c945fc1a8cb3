// The ring between the worker and who reads: in order, whole, and nothing twice.
#include "dataplane/dpdk/tap.hpp"

#include <cstring>
#include <thread>

#include <gtest/gtest.h>

namespace godwit::test {
namespace {

using dpdk::FlowRing;

// `captured` bytes behind the record, all of them the low byte of its number.
bool put(FlowRing& ring, std::uint32_t number, std::size_t captured) {
    steer_flow* flow = ring.reserve(captured);
    if (!flow) return false;
    *flow = {};
    flow->length = number;
    flow->captured = static_cast<std::uint16_t>(captured);
    std::memset(flow + 1, static_cast<int>(number & 0xff), captured);
    ring.publish();
    return true;
}

// Reads so many at most; each must be the next one and whole.
std::size_t take(FlowRing& ring, std::uint32_t& next, std::size_t most) {
    return ring.read(most, [&](const steer_flow& flow, std::span<const std::uint8_t> bytes) {
        ASSERT_EQ(flow.length, next);
        for (const std::uint8_t byte : bytes) ASSERT_EQ(byte, next & 0xff);
        ++next;
    });
}

TEST(FlowRingTest, RecordsOfEverySizeComeOutInOrderAcrossTheEnd) {
    FlowRing ring(8192);
    std::uint32_t in = 0, out = 0;
    for (int round = 0; round < 1000; ++round) {
        while (put(ring, in, in * 37 % 2048)) ++in;
        EXPECT_GT(take(ring, out, 1), 0u) << "a full ring has something to read";
    }
    take(ring, out, 1000);
    EXPECT_EQ(out, in);
    EXPECT_TRUE(ring.empty());
}

TEST(FlowRingTest, OneThreadWritesWhileAnotherReads) {
    FlowRing ring(16384);
    constexpr std::uint32_t kRecords = 50'000;
    std::thread writer([&] {
        for (std::uint32_t number = 0; number < kRecords;)
            if (put(ring, number, number % 300))
                ++number;
            else
                std::this_thread::yield();
    });
    std::uint32_t next = 0;
    while (next < kRecords)
        if (take(ring, next, 64) == 0) std::this_thread::yield();
    writer.join();
    EXPECT_TRUE(ring.empty());
}

}  // namespace
}  // namespace godwit::test
