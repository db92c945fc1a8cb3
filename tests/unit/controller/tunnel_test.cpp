// Migrations to a host behind another switch, which the steering switch reaches by a tunnel.
#include "controller/config.hpp"
#include "tests/unit/controller/migration_story.hpp"

namespace godwit::fakes {

namespace {

const protocol::TunnelStatus kNear{"10.98.0.1", "10.98.0.2", 4100, 4789, 1500};
const protocol::TunnelStatus kFar{"10.98.0.2", "10.98.0.1", 4100, 4789, 1500};

struct TunnelStory : MigrationStory {
    TunnelStory() {
        config.switches.push_back({"sw-2", world.address("far-switch")});
        config.hosts[1].behind = "sw-2";
        world.tunnel = kNear;
        world.far_end = kFar;
        request.steering = "vxlan";
    }
    void expect_refused(const std::string& slug, const std::string& because) {
        begin();
        run_to_rest();
        expect_clean("failed");
        expect_at("host-a", "host-b");
        ASSERT_TRUE(seen().error);
        EXPECT_TRUE(seen().error->type.ends_with(slug)) << seen().error->type;
        EXPECT_NE(seen().error->detail.find(because), std::string::npos) << seen().error->detail;
    }
    void expect_at(const std::string& host, const std::string& other) {
        EXPECT_TRUE(world.hosts[host].vms.contains("web-1"));
        EXPECT_FALSE(world.hosts[other].vms.contains("web-1"));
        EXPECT_EQ(life->store->vm("web-1")->host, host);
    }
};

TEST_F(TunnelStory, TheSteeringSwitchGoesOnForwardingThroughTheTunnelAfterTheHandover) {
    begin();
    run_to_rest();
    expect_clean("succeeded");
    MigrationStory::expect_at("host-b", "host-a");
    ASSERT_EQ(world.managed["web-1"].steering.backends.size(), 1U);
    EXPECT_EQ(world.managed["web-1"].steering.backends[0].port, "port-b");
    EXPECT_EQ(world.count_calls("far-switch PUT"), 0) << "the far one only relays";
}

TEST_F(TunnelStory, AVmThatMovesAsAWholeGoesThroughTheTunnelToo) {
    method = "whole";
    begin();
    run_to_rest();
    expect_clean("succeeded");
    MigrationStory::expect_at("host-b", "host-a");
}

TEST_F(TunnelStory, TheWayHomeIsL2) {
    begin();
    run_to_rest();
    job_id = "j-2";
    request.destination.host = "host-a";
    request.steering = "l2";
    submit();
    run_to_rest();
    expect_clean("succeeded");
    MigrationStory::expect_at("host-a", "host-b");
}

TEST_F(TunnelStory, ACancelBringsEverythingBackThroughTheTunnel) {
    world.ending["host-a"] = 0;  // it would drain for ever
    begin();
    run_until([&] { return job().phase == Phase::draining; });
    ASSERT_TRUE(life->engine.cancel(job_id));
    run_to_rest();
    expect_clean("cancelled");
    MigrationStory::expect_at("host-a", "host-b");
}

TEST_F(TunnelStory, APortThatIsNoTunnelIsRefusedWithTheFix) {
    world.tunnel.reset();
    expect_refused("no-tunnel", "give the port vxlan: {local, remote, vni, underlay} there");
}

TEST_F(TunnelStory, AFarSwitchWithoutTheOtherEndIsRefusedWithTheFix) {
    world.far_end.reset();
    expect_refused("no-tunnel",
                   "vxlan: {local: 10.98.0.2, remote: 10.98.0.1, vni: 4100, udp_port: 4789");
}

TEST_F(TunnelStory, EndsThatDoNotMatchAreNoTunnel) {
    world.far_end->vni = 4101;
    expect_refused("no-tunnel", "no port of switch sw-2 is the other end of tunnel port-b of sw-1");
}

TEST_F(TunnelStory, ATunnelThatIsDownIsRefused) {
    world.tunnel_up = false;
    expect_refused("tunnel-down", "tunnel port-b of switch sw-1 is down");
}

TEST_F(TunnelStory, L2IsRefusedBehindAnotherSwitch) {
    request.steering = "l2";
    expect_refused("unsupported-steering", "host-b is behind sw-2");
}

TEST_F(TunnelStory, VxlanIsRefusedWhereNoTunnelIsOnTheWay) {
    config.hosts[1].behind.clear();
    expect_refused("unsupported-steering", "host-b is behind sw-1 itself");
}

TEST_F(TunnelStory, AHostOfAnotherSwitchWithoutATunnelIsRefusedWithTheFix) {
    config.hosts[1].behind.clear();
    config.hosts[1].switch_id = "sw-2";
    expect_refused("different-switch", "behind: sw-2");
}

TEST_F(TunnelStory, NatGoesThroughATunnelAsWell) {
    config.switches[0].temporary_addresses = {"10.1.0.200-10.1.0.203/24",
                                              "fd00:1::200-fd00:1::203/64"};
    method = "boot";
    request.steering = "nat";
    begin();
    run_to_rest();
    expect_clean("succeeded");
    EXPECT_EQ(world.managed["web-1"].steering.backends.at(0).port, "port-b");
}

TEST(TunnelConfig, WhatAHostIsBehindIsChecked) {
    controller::Config config;
    config.listen = {"unix:/run/a.sock"};
    config.switches = {{"sw-1", "10.9.0.1:1"}};
    config.hosts = {{"host-a", "10.9.0.2:1", "sw-1", "a", "sw-9"},
                    {"host-b", "10.9.0.3:1", "sw-1", "b", "sw-1"}};
    std::vector<FieldError> errors;
    controller::check_config(config, errors);
    ASSERT_EQ(errors.size(), 2U);
    EXPECT_EQ(errors[0].pointer, "/hosts/0/behind");
    EXPECT_EQ(errors[1].pointer, "/hosts/1/behind");
}

}  // namespace

}  // namespace godwit::fakes
