// The bandwidth limit and the measured rate, on time that the test makes.
#include "vm_agent/memory/pace.hpp"

#include <gtest/gtest.h>

namespace godwit::memory {

namespace {

using namespace std::chrono_literals;
constexpr std::uint64_t kMib = 1 << 20;

struct Paced : testing::Test {
    PaceTime now = PaceTime(1000s);
    Pace pace;
    Meter meter;
    std::chrono::milliseconds wait_for(std::uint64_t bytes) {
        return std::chrono::duration_cast<std::chrono::milliseconds>(pace.take(bytes, now) - now);
    }
};

TEST_F(Paced, WithoutALimitNobodyWaits) {
    for (int i = 0; i < 100; ++i) EXPECT_EQ(wait_for(100 * kMib), 0ms);
}

TEST_F(Paced, TakersWaitTheirTurnWhateverStreamTheyAre) {
    pace.set_limit(kMib);
    EXPECT_EQ(wait_for(kMib), 950ms);  // 50 ms were saved up
    EXPECT_EQ(wait_for(kMib), 1950ms);
    now += 1950ms;
    EXPECT_EQ(wait_for(kMib / 4), 250ms);
}

TEST_F(Paced, SilenceSavesUpNoMoreThanTheBurst) {
    pace.set_limit(kMib);
    wait_for(kMib);
    now += 1h;
    EXPECT_EQ(wait_for(kMib), 950ms);
}

TEST_F(Paced, AnotherLimitHoldsFromTheNextTakeOn) {
    pace.set_limit(kMib);
    EXPECT_EQ(wait_for(kMib), 950ms);
    pace.set_limit(10 * kMib);
    EXPECT_EQ(wait_for(kMib), 1050ms);
    pace.set_limit(0);
    EXPECT_EQ(wait_for(kMib), 0ms);
}

TEST_F(Paced, TheRateIsThatOfTheLastSecondsAndFallsInSilence) {
    for (int i = 0; i < 40; ++i) {
        meter.note(kMib, now);
        now += 100ms;
    }
    EXPECT_NEAR(meter.bytes_per_s(now), 10.0 * kMib, kMib);
    for (int i = 0; i < 100; ++i) {  // ten times slower from here on
        meter.note(kMib / 10, now);
        now += 100ms;
    }
    EXPECT_NEAR(meter.bytes_per_s(now), 1.0 * kMib, 0.2 * kMib);
    EXPECT_LT(meter.bytes_per_s(now + 10s), 0.05 * kMib);
    EXPECT_EQ(meter.bytes_per_s(now + 1h), 0);
}

TEST_F(Paced, TheFirstSecondHasARateToo) {
    EXPECT_EQ(meter.bytes_per_s(now), 0);
    meter.note(kMib, now);
    EXPECT_NEAR(meter.bytes_per_s(now + 500ms), 2.0 * kMib, 1);
}

}  // namespace

}  // namespace godwit::memory
