// Packets counted by port, verdict and reason: whose number is whose, and what is told of them.
#include "dataplane/packet_counts.hpp"

#include "dataplane/port_numbers.hpp"
#include "dataplane/routes.hpp"
#include "tests/fakes/fake_plane.hpp"

#include <gtest/gtest.h>

namespace godwit::test {
namespace {

using Numbers = std::vector<std::uint32_t>;

class PortNumbersTest : public testing::Test {
protected:
    Numbers number(const std::vector<std::string>& ports) {
        given_up.clear();
        return dataplane::number_ports(std::span(names), ports,
                                       [this](std::uint32_t n) { given_up.push_back(n); });
    }
    dataplane::PortNames names{};
    Numbers given_up;
};

TEST_F(PortNumbersTest, APortKeepsItsNumberWhereverItStands) {
    EXPECT_EQ(number({"up", "a", "b"}), (Numbers{1, 2, 3}));
    EXPECT_EQ(number({"b", "up", "a"}), (Numbers{3, 1, 2}));
    EXPECT_TRUE(given_up.empty());
}

TEST_F(PortNumbersTest, ANumberIsGivenUpBeforeSomebodyElseGetsIt) {
    number({"up", "a", "b"});
    EXPECT_EQ(number({"up", "b", "c"}), (Numbers{1, 3, 2}));
    EXPECT_EQ(given_up, Numbers{2});
    EXPECT_EQ(number({"up", "a", "b"}), (Numbers{1, 2, 3}));
    EXPECT_EQ(given_up, Numbers{2}) << "who comes again begins at zero";
}

TEST_F(PortNumbersTest, AsManyPortsAsASwitchMayHaveFindANumber) {
    std::vector<std::string> first, second;
    for (unsigned i = 1; i < STEER_TALLY_PORTS; ++i) {
        first.push_back("old" + std::to_string(i));
        second.push_back("new" + std::to_string(i));
    }
    number(first);
    Numbers all = number(second);
    EXPECT_EQ(given_up.size(), first.size());
    std::ranges::sort(all);
    EXPECT_EQ(all.front(), 1u);
    EXPECT_EQ(all.back(), STEER_TALLY_PORTS - 1);
    EXPECT_EQ(std::ranges::unique(all).size(), 0u);
}

TEST(PacketCounts, AreToldOneByOneAndByReason) {
    FakePlane plane;
    plane.counted = {{"uplink", {}}, {"", {}}};
    plane.counted[0].counted.packets[steer_tally_cell(STEER_FORWARD, STEER_WHY_SESSION)] = 5;
    plane.counted[0].counted.packets[steer_tally_cell(STEER_PASS, STEER_WHY_SESSION)] = 2;
    plane.counted[1].counted.packets[steer_tally_cell(STEER_DROP, STEER_WHY_FENCED)] = 1;
    EXPECT_EQ(plane.reason(STEER_WHY_SESSION), 7u);
    const protocol::SwitchStats stats = dataplane::read_stats(plane);
    EXPECT_EQ(stats.reasons.at("session"), 7u);
    EXPECT_EQ(stats.reasons.at("fenced"), 1u);
    EXPECT_EQ(stats.reasons.at("handshake"), 0u);
    ASSERT_EQ(stats.packets.size(), 3u) << "what is 0 is left out";
    EXPECT_EQ(stats.packets[1].port + stats.packets[1].verdict + stats.packets[1].reason,
              "uplinkforwardsession");
    EXPECT_EQ(stats.packets[1].packets, 5u);
    EXPECT_EQ(stats.packets[2].port + stats.packets[2].verdict, "drop");
}

}  // namespace
}  // namespace godwit::test
