// Idle limits of the switch, of single VMs and of single ports: what may be written down, and what a plane makes of it.
#include "dataplane/idle_limits.hpp"

#include "dataplane/config.hpp"
#include "dataplane/table_config.hpp"

#include <fstream>
#include <unistd.h>

#include <gtest/gtest.h>

namespace godwit::test {
namespace {

using protocol::PortLimit;
using protocol::PortProtocol;
using protocol::PortSide;

constexpr dataplane::IdleLimits defaults() {
    return {STEER_TIMEOUTS_DEFAULT_S};
}

std::string complaints(const protocol::IdleLimits& limits) {
    std::vector<FieldError> errors;
    protocol::check_idle_limits(limits, "/at", errors);
    std::string all;
    for (const FieldError& e : errors) all += e.pointer + " " + e.message + "\n";
    return all;
}

TEST(IdleLimitsTest, WhatAVmLeavesOutIsAsThePlaneHasIt) {
    vm_record record{};
    protocol::IdleLimits own;
    own.established_s = 100;
    own.icmp_s = 7;
    dataplane::write_limits(record, dataplane::limits_of(own), defaults(), 250);
    EXPECT_EQ(record.timeouts.established, 100u * 250);
    EXPECT_EQ(record.timeouts.icmp, 7u * 250);
    EXPECT_EQ(record.timeouts.udp, 300u * 250);
    EXPECT_EQ(record.timeouts.fragment, 30u * 250);
    dataplane::write_limits(record, {}, defaults(), 250);
    EXPECT_EQ(record.timeouts.established, 7440u * 250) << "and again when it is taken back";
}

// Ages are compared as signed numbers of ticks: a month of milliseconds would be one below zero.
TEST(IdleLimitsTest, TheLongestIsAsLongAsTheClockCanTell) {
    vm_record record{};
    protocol::IdleLimits own;
    own.established_s = 30 * 86400;
    own.ports = {{protocol::PortProtocol::tcp, 22, 30 * 86400}};
    dataplane::write_limits(record, dataplane::limits_of(own), defaults(), 1000);
    EXPECT_EQ(record.timeouts.established, 0x7fffffffu);
    EXPECT_EQ(static_cast<std::uint32_t>(record.port_limits[0]), 0x7fffffffu);
}

TEST(IdleLimitsTest, TheVmsPortsComeBeforeThePlanes) {
    vm_record record{};
    dataplane::IdleLimits plane = defaults();
    plane.ports = {{17, 53, true, 10}};
    protocol::IdleLimits own;
    own.ports = {{PortProtocol::udp, 53, 20, PortSide::peer}, {PortProtocol::tcp, 22, 90000}};
    dataplane::write_limits(record, dataplane::limits_of(own), plane, 100);
    EXPECT_EQ(record.port_limits[0], steer_port_limit(17, 53, true, 2000));
    EXPECT_EQ(record.port_limits[1], steer_port_limit(6, 22, false, 9000000));
    EXPECT_EQ(record.port_limits[2], steer_port_limit(17, 53, true, 1000));
    EXPECT_EQ(record.port_limits[3], 0u);
    dataplane::write_limits(record, {}, defaults(), 100);
    EXPECT_EQ(record.port_limits[0], 0u);
}

TEST(IdleLimitsTest, EveryFieldOutOfItsRangeIsNamed) {
    EXPECT_EQ(complaints({}), "");
    protocol::IdleLimits all{1, 1, 1, 1, 1, 0, 0, 0, {}};
    EXPECT_EQ(std::ranges::count(complaints(all), '\n'), 8);
    EXPECT_NE(complaints(all).find("/at/established_s expected 60 to 2592000\n"),
              std::string::npos);
    protocol::IdleLimits crossed;
    crossed.linger_s = 10;
    crossed.tombstone_s = 5;
    EXPECT_EQ(complaints(crossed), "/at/tombstone_s expected no less than linger_s\n");
}

TEST(IdleLimitsTest, PortsAreFewAndEachIsSaidOnce) {
    protocol::IdleLimits limits;
    limits.ports = {{PortProtocol::udp, 53, 10}, {PortProtocol::udp, 53, 20, PortSide::peer}};
    EXPECT_EQ(complaints(limits), "");
    limits.ports = {{PortProtocol::udp, 53, 10}, {PortProtocol::udp, 53, 20}};
    EXPECT_EQ(complaints(limits),
              "/at/ports/1 this port has a limit already, leave one of them out\n");
    limits.ports = {{PortProtocol::tcp, 0, 59}};
    EXPECT_EQ(complaints(limits),
              "/at/ports/0/port expected 1 to 65535\n/at/ports/0/idle_s expected 60 to 2592000\n");
    limits.ports.clear();
    for (std::uint16_t port = 1; port <= 5; ++port)
        limits.ports.push_back({PortProtocol::tcp, port, 60});
    EXPECT_EQ(complaints(limits),
              "/at/ports expected at most 4 ports; set the limit of the whole protocol for the "
              "rest\n");
}

TEST(NewFlowsTest, AreWrittenInPartsOfAToken) {
    vm_record record{};
    dataplane::write_new_flows(record, {1000, 0}, 250);
    EXPECT_EQ(record.new_flows.per_tick, 4u * STEER_NEW_FLOW_TOKEN);
    EXPECT_EQ(record.new_flows.burst, 1000u * STEER_NEW_FLOW_TOKEN);
    dataplane::write_new_flows(record, {1, 1'000'000}, 500);
    EXPECT_EQ(record.new_flows.per_tick, STEER_NEW_FLOW_TOKEN / 500)
        << "slow, and not 0: that is no limit";
    EXPECT_EQ(record.new_flows.burst, 1'000'000u * STEER_NEW_FLOW_TOKEN);
    dataplane::write_new_flows(record, {}, 500);
    EXPECT_EQ(record.new_flows.per_tick, 0u);
}

TEST(IdleLimitsTest, TheSwitchsYamlSaysThePlaceOfAnError) {
    const std::string file = "/tmp/gwt" + std::to_string(getpid()) + "-limits.yaml";
    const auto load = [&](const std::string& timeouts) {
        std::ofstream(file) << "apiVersion: godwit/v1\nkind: SwitchConfig\nid: sw-1\n"
                               "listen: ['unix:/run/s']\npeer_token_file: /etc/t\n"
                               "ports:\n  - {name: up, interface: eth0, role: uplink}\n"
                               "timeouts:\n"
                            << timeouts;
        return dataplane::load_config(file);
    };
    auto good = load(
        "  udp_s: 20\n  ports: [{protocol: udp, port: 53, idle_s: 5, side: peer}]\n"
        "new_flows: {per_second: 500, burst: 50}\n");
    ASSERT_TRUE(good) << good.error().text();
    const auto limits = dataplane::limits_of(dataplane::idle_limits(good->timeouts));
    EXPECT_EQ(limits.seconds.udp, 20u);
    EXPECT_EQ(limits.seconds.established, 7440u);
    ASSERT_EQ(limits.ports.size(), 1u);
    EXPECT_TRUE(limits.ports[0].of_peer);
    EXPECT_EQ(good->new_flows.burst, 50u);
    auto useless = load("  udp_s: 20\nnew_flows: {burst: 50}\n");
    ASSERT_FALSE(useless);
    EXPECT_EQ(useless.error().fields.at(0).pointer, "/new_flows/burst");
    auto bad = load("  ports:\n  - {protocol: udp, port: 53, idle_s: 1}\n");
    unlink(file.c_str());
    ASSERT_FALSE(bad);
    ASSERT_EQ(bad.error().fields.size(), 1u);
    EXPECT_EQ(bad.error().fields[0].pointer, "/timeouts/ports/0/idle_s");
    EXPECT_EQ(bad.error().fields[0].line, 10u);
}

}  // namespace
}  // namespace godwit::test
