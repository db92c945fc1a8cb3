// Stories of migrations to a destination that has addresses of its own (steering mode nat), and of VLANs.
#include "lib/store/sqlite.hpp"

#include "tests/fakes/controller_rig.hpp"
#include "tests/fakes/fake_answers.hpp"

#include <gtest/gtest.h>

namespace godwit::fakes {

namespace {

using Texts = std::vector<std::string>;
using protocol::SteeringMode;

boost::asio::awaitable<void> steady_round(ControllerRig& rig, bool& done) {
    co_await rig.life->caretaker.keep_steady();
    done = true;
}

struct NatStory : testing::Test, ControllerRig {
    NatStory() {
        method = "boot";
        request.steering = "nat";
        config.switches[0].temporary_addresses = {"10.1.0.200-10.1.0.203/24",
                                                  "fd00:1::200-fd00:1::203/64"};
    }
    void begin() {
        start();
        submit();
        run_to_rest();
    }
    void expect_ended(const char* state) {
        EXPECT_EQ(seen().state, state) << json::to_text(seen());
        EXPECT_EQ(world.violations, Texts{});
        EXPECT_EQ(world.leftovers(), Texts{});
        EXPECT_EQ(last_events(), 1);
    }
    void expect_back_at_the_source(const char* state) {
        expect_ended(state);
        EXPECT_TRUE(world.hosts["host-a"].vms.contains("web-1"));
        EXPECT_FALSE(world.hosts["host-b"].vms.contains("web-1"));
        EXPECT_EQ(leases(), Texts{});
        if (!world.managed.contains("web-1")) return;
        EXPECT_EQ(steering().owner, "host-a");
        EXPECT_FALSE(steering().hosting);
    }
    void keep_steady() {
        bool kept = false;
        spawn(steady_round(*this, kept));
        run_until([&] { return kept; });
    }
    protocol::VmSteering& steering() { return world.managed["web-1"].steering; }
    Texts leases() {
        Result<sqlite::Database> file_of = sqlite::Database::open(file("controller.db"));
        Texts all;
        for (const sqlite::Row& row :
             file_of->query("SELECT address FROM temporary_addresses ORDER BY address").value())
            all.push_back(row.at(0).text());
        return all;
    }
    std::string problem() { return seen().error ? seen().error->type : "none"; }
};

TEST_F(NatStory, TheDestinationIsReachedByAddressesOfItsOwnAndTheSwitchGoesOnAnswering) {
    begin();
    expect_ended("succeeded");
    EXPECT_EQ(seen().result->sessions_kept, 6U);
    EXPECT_EQ(seen().result->sessions_moved, 3U);
    ASSERT_EQ(steering().backends.size(), 1U);
    const protocol::BackendSteering& there = steering().backends[0];
    EXPECT_EQ(steering().owner, "host-b@nat");
    EXPECT_TRUE(steering().hosting);
    EXPECT_EQ(steering().addresses, (Texts{"10.1.0.10", "fd00:1::10"}));
    EXPECT_EQ(there.mode, SteeringMode::nat);
    EXPECT_EQ(there.temporary_addresses, (Texts{"10.1.0.200", "fd00:1::200"}));
    EXPECT_EQ(there.mac, "02:67:0a:01:00:c8");
    const protocol::VmSpec made = *world.hosts["host-b"].vms["web-1"].spec;
    EXPECT_EQ(made.mac, there.mac);
    EXPECT_EQ(made.temporary_addresses, (Texts{"10.1.0.200/24", "fd00:1::200/64"}));
    EXPECT_EQ(*world.hosts["host-b"].guest_addresses, (Texts{"10.1.0.200", "fd00:1::200"}));
    EXPECT_EQ(leases(), (Texts{"10.1.0.200", "fd00:1::200"}));
    EXPECT_GE(world.announcements, 1);
}

TEST_F(NatStory, ItsSteadySteeringIsPutAgainToASwitchThatHasForgottenIt) {
    begin();
    world.managed.clear();
    world.sessions_on_hosting = 0;
    keep_steady();
    ASSERT_TRUE(world.managed.contains("web-1"));
    EXPECT_EQ(steering().owner, "host-b@nat");
    EXPECT_TRUE(steering().hosting);
    EXPECT_EQ(steering().backends.at(0).temporary_addresses, (Texts{"10.1.0.200", "fd00:1::200"}));
}

TEST_F(NatStory, AGuestThatHasStartedAnewGetsItsAddressesAgain) {
    begin();
    world.hosts["host-b"].guest_addresses = {"10.1.0.10", "fd00:1::10"};
    keep_steady();
    EXPECT_EQ(*world.hosts["host-b"].guest_addresses, (Texts{"10.1.0.200", "fd00:1::200"}));
    world.hosts["host-b"].refusals_of_addresses = 1;  // it is starting
    world.managed.clear();
    world.sessions_on_hosting = 0;
    keep_steady();
    EXPECT_EQ(steering().owner, "host-b@nat") << "one that is silent holds up nothing else";
}

TEST_F(NatStory, TheWayHomeGivesTheAddressesBack) {
    begin();
    job_id = "j-2";
    request.destination.host = "host-a";
    request.steering = "l2";
    submit();
    run_to_rest();
    expect_ended("succeeded");
    EXPECT_EQ(steering().owner, "host-a");
    EXPECT_FALSE(steering().hosting);
    EXPECT_EQ(steering().backends.at(0).mode, SteeringMode::l2);
    EXPECT_NE(steering().backends.at(0).mac, "02:67:0a:01:00:c8");
    EXPECT_EQ(leases(), Texts{});
}

// CN102932409A [0073]-[0075]: nobody has the hosted address but the switch.
TEST_F(NatStory, BothMayHaveAddressesOfTheirOwn) {
    begin();
    job_id = "j-2";
    request.destination.host = "host-a";
    submit();
    run_to_rest();
    expect_ended("succeeded");
    EXPECT_EQ(steering().owner, "host-a@nat");
    EXPECT_EQ(steering().backends.at(0).temporary_addresses, (Texts{"10.1.0.201", "fd00:1::201"}));
    EXPECT_EQ(leases(), (Texts{"10.1.0.201", "fd00:1::201"}));
}

// Long enough for the guest's sockets to be compared: the backend is not called like the host whose agent knows.
TEST_F(NatStory, ALongDrainAsksTheAgentOfItsHost) {
    begin();
    job_id = "j-2";
    request.destination.host = "host-a";
    request.steering = "l2";
    request.drain = {100, protocol::OnDeadline::reset};
    world.ending["host-b"] = 0;
    submit();
    run_to_rest();
    expect_ended("succeeded");
    EXPECT_EQ(seen().result->sessions_reset, 3U);
}

TEST_F(NatStory, MethodSteerTakesTheAddressesThatTheDestinationHas) {
    method = "steer";
    protocol::AgentVm there = world.hosts["host-a"].vms["web-1"];
    there.spec->mac = "52:54:00:00:00:02";
    there.spec->temporary_addresses = {"10.1.0.77/24", "fd00:1::77/64"};
    world.hosts["host-b"].vms["web-1"] = there;
    world.hosts["host-b"].guest_addresses = {"10.1.0.77", "fd00:1::77"};
    begin();
    expect_ended("succeeded");
    EXPECT_EQ(steering().backends.at(0).temporary_addresses, (Texts{"10.1.0.77", "fd00:1::77"}));
    EXPECT_EQ(steering().backends.at(0).mac, "52:54:00:00:00:02");
    EXPECT_EQ(leases(), Texts{});
}

TEST_F(NatStory, MethodSteerWithoutAddressesThereIsRefused) {
    method = "steer";
    world.hosts["host-b"].vms["web-1"] = world.hosts["host-a"].vms["web-1"];
    begin();
    EXPECT_EQ(seen().state, "failed");
    EXPECT_TRUE(problem().ends_with("temporary-address")) << problem();
    EXPECT_EQ(world.count_calls("PUT /v1/vms/web-1/steering"), 0);
}

// ---- it does not go well ----

TEST_F(NatStory, WithoutARangeInTheNetworkNothingBegins) {
    config.switches[0].temporary_addresses = {"10.2.0.200-10.2.0.203/24"};
    begin();
    expect_back_at_the_source("failed");
    EXPECT_TRUE(problem().ends_with("no-temporary-address")) << problem();
    EXPECT_TRUE(seen().error->detail.contains("10.1.0.10")) << seen().error->detail;
    EXPECT_EQ(world.count_calls("/reservations"), 0);
}

TEST_F(NatStory, WhenAllAddressesAreLentTheJobFailsBeforeAnythingMoved) {
    config.switches[0].temporary_addresses = {"10.1.0.200-10.1.0.200/24",
                                              "fd00:1::200-fd00:1::203/64"};
    start();
    ASSERT_TRUE(life->store->lease("j-0", "web-0", {{"10.1.0.200/24"}}));
    submit();
    run_to_rest();
    expect_ended("failed");
    EXPECT_TRUE(problem().ends_with("no-temporary-address")) << problem();
    EXPECT_EQ(leases(), (Texts{"10.1.0.200"})) << "another's lease was ended";
    EXPECT_EQ(world.count_calls("/incoming"), 0);
}

TEST_F(NatStory, ACloneOrAWholeVmCannotTakeTemporaryAddressesAlong) {
    begin();
    for (const char* other : {"fork", "whole"}) {
        job_id = std::string("j-") + other;
        method = other;
        request.destination.host = "host-a";
        request.steering = "l2";
        submit();
        run_to_rest();
        EXPECT_EQ(seen().state, "failed");
        EXPECT_TRUE(problem().ends_with("reached-by-nat")) << problem();
        EXPECT_EQ(steering().owner, "host-b@nat");
    }
    EXPECT_EQ(leases(), (Texts{"10.1.0.200", "fd00:1::200"}));
}

TEST_F(NatStory, AGuestThatIsStillStartingIsAskedAgain) {
    world.hosts["host-b"].refusals_of_addresses = 5;
    begin();
    expect_ended("succeeded");
}

TEST_F(NatStory, AGuestThatNeverTakesItsAddressesIsGivenUp) {
    world.hosts["host-b"].refusals_of_addresses = 1'000'000;
    begin();
    expect_back_at_the_source("failed");
    EXPECT_TRUE(problem().ends_with("not-ready")) << problem();
}

TEST_F(NatStory, ADeadlineBringsTheSessionsBackAndEndsTheLease) {
    request.drain = {20, protocol::OnDeadline::rollback};
    world.ending["host-a"] = 0;
    begin();
    expect_back_at_the_source("failed");
    EXPECT_TRUE(problem().ends_with("drain-deadline")) << problem();
}

struct NatInTrouble : NatStory, testing::WithParamInterface<Trouble> {};

// Refused, never answered, or done without an answer: asked again, with the same addresses.
TEST_P(NatInTrouble, TheSameEndIsReached) {
    for (const Mishap mishap : {Mishap::refuse, Mishap::hang, Mishap::lost}) {
        Trouble trouble = GetParam();
        trouble.mishap = mishap;
        world.troubles.push_back(trouble);
    }
    begin();
    expect_ended("succeeded");
    EXPECT_EQ(leases(), (Texts{"10.1.0.200", "fd00:1::200"}));
    for (const Trouble& trouble : world.troubles) EXPECT_EQ(trouble.times, 0) << "never struck";
}

INSTANTIATE_TEST_SUITE_P(Each, NatInTrouble,
                         testing::Values(Trouble{"host-b", "PUT /v1/reservations"},
                                         Trouble{"switch", "PUT /v1/vms/web-1/steering"},
                                         Trouble{"host-b", "PUT /v1/vms/web-1/incoming"},
                                         Trouble{"host-b", "PUT /v1/vms/web-1/addresses"},
                                         Trouble{"host-b", "GET /v1/vms/web-1/addresses"},
                                         Trouble{"switch", "POST /v1/vms/web-1:announce"},
                                         Trouble{"host-a", "PUT /v1/vms/web-1/retirement"}));

struct NatCancelledIn : NatStory, testing::WithParamInterface<Phase> {};

TEST_P(NatCancelledIn, TheLeaseEndsWithTheJob) {
    world.ending["host-a"] = 1;
    meanwhile = [](ControllerRig& now) {
        const auto& last = now.life->crashing.last;
        if (last && last->phase == GetParam() && last->state == State::running &&
            !now.life->store->flags(now.job_id)->cancel)
            EXPECT_TRUE(now.life->engine.cancel(now.job_id));
    };
    begin();
    expect_back_at_the_source("cancelled");
}

INSTANTIATE_TEST_SUITE_P(Each, NatCancelledIn,
                         testing::Values(Phase::reserve, Phase::hosting, Phase::destination,
                                         Phase::copying, Phase::steering, Phase::draining));

// ---- VLANs ----

TEST_F(NatStory, TheVlansOfTheDescriptionReachTheSwitchInEveryStep) {
    world.hosts["host-a"].vms["web-1"].spec->vlans = {100, 7};
    begin();
    expect_ended("succeeded");
    EXPECT_EQ(steering().vlans, (std::vector<std::uint16_t>{100, 7}));
    EXPECT_EQ(world.hosts["host-b"].vms["web-1"].spec->vlans, (std::vector<std::uint16_t>{100, 7}));
}

TEST_F(NatStory, ASwitchThatKnowsOtherVlansIsToldTheRightOnes) {
    world.hosts["host-a"].vms["web-1"].spec->vlans = {100};
    world.sessions_on_hosting = 0;
    start();
    keep_steady();
    EXPECT_EQ(steering().vlans, (std::vector<std::uint16_t>{100}));
    steering().vlans = {200};
    keep_steady();
    EXPECT_EQ(steering().vlans, (std::vector<std::uint16_t>{100}));
}

}  // namespace

}  // namespace godwit::fakes
