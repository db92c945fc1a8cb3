// The controller is killed before and after each of its writes, started again on the same store,
// and comes to the same end. Nothing that must never happen happens on the way.
#include "tests/fakes/controller_rig.hpp"
#include "tests/fakes/fake_answers.hpp"

#include <gtest/gtest.h>

namespace godwit::fakes {

namespace {

using protocol::OnDeadline;

struct Scenario {
    const char* name;
    const char* end;
    std::function<void(ControllerRig&)> arrange;
};

// Asked again after each start, as a person would: it is only asked for once in the store.
void cancel_when(ControllerRig& rig, Phase phase) {
    rig.world.ending["host-a"] = 1;
    rig.meanwhile = [phase](ControllerRig& now) {
        const auto& last = now.life->crashing.last;
        if (!last || last->phase != phase || last->state != State::running) return;
        if (now.life->store->flags(now.job_id)->cancel) return;
        const Result<Migration> asked = now.life->engine.cancel(now.job_id);
        EXPECT_TRUE(asked) << asked.error().text();
    };
}

// A life that begins has seen no write yet; what the store holds is the last one.
void begin_life(ControllerRig& rig, int crash_at, CrashAt side) {
    rig.start(crash_at, side);
    if (!rig.job_id.empty()) {
        Result<Migration> stored = rig.life->store->job(rig.job_id);
        if (stored) rig.life->crashing.last = std::move(*stored);
    }
    rig.submit();
    rig.run_to_rest();
}

void expect_the_same_end(ControllerRig& rig, const Scenario& scenario, const std::string& where) {
    EXPECT_EQ(rig.seen().state, scenario.end) << where << json::to_text(rig.seen());
    EXPECT_EQ(rig.world.violations, std::vector<std::string>{}) << where;
    EXPECT_EQ(rig.world.leftovers(), std::vector<std::string>{}) << where;
    EXPECT_EQ(rig.last_events(), 1) << where;
    const std::string host = std::string(scenario.end) == "succeeded" ? "host-b" : "host-a";
    const std::string other = host == "host-a" ? "host-b" : "host-a";
    EXPECT_TRUE(rig.world.hosts[host].vms.contains("web-1")) << where;
    EXPECT_FALSE(rig.world.hosts[other].vms.contains("web-1")) << where;
    EXPECT_EQ(rig.world.hosts[host].vms["web-1"].state, protocol::VmState::running) << where;
    EXPECT_EQ(rig.life->store->vm("web-1")->host, host) << where;
    if (rig.world.managed.contains("web-1"))
        EXPECT_EQ(host_of(rig.world.managed["web-1"].steering.owner), host) << where;
}

struct KilledAtEachWrite : testing::TestWithParam<Scenario> {};

TEST_P(KilledAtEachWrite, TheSameEndIsReached) {
    const Scenario& scenario = GetParam();
    int writes = 0;
    {
        ControllerRig rig;
        scenario.arrange(rig);
        begin_life(rig, 0, CrashAt::before_write);
        expect_the_same_end(rig, scenario, "without a crash: ");
        writes = rig.life->crashing.writes;
    }
    ASSERT_GT(writes, 5);
    int crashes = 0;
    for (int at = 1; at <= writes && !testing::Test::HasFailure(); ++at) {
        for (const CrashAt side : {CrashAt::before_write, CrashAt::after_write}) {
            ControllerRig rig;
            scenario.arrange(rig);
            begin_life(rig, at, side);
            crashes += rig.crashed();
            begin_life(rig, 0, side);
            const std::string where = "write " + std::to_string(at) +
                                      (side == CrashAt::before_write ? ", before: " : ", after: ");
            expect_the_same_end(rig, scenario, where);
        }
    }
    EXPECT_GT(crashes, writes);
    RecordProperty("writes", writes);
    RecordProperty("crashes", crashes);
}

// A second crash follows the first by a few writes: what a restart does can be cut off as well.
TEST_P(KilledAtEachWrite, TwiceInARowToo) {
    const Scenario& scenario = GetParam();
    int writes = 0;
    {
        ControllerRig rig;
        scenario.arrange(rig);
        begin_life(rig, 0, CrashAt::before_write);
        writes = rig.life->crashing.writes;
    }
    for (int at = 1; at <= writes && !testing::Test::HasFailure(); at += 3) {
        for (const int then : {1, 2, 3}) {
            ControllerRig rig;
            scenario.arrange(rig);
            begin_life(rig, at, CrashAt::after_write);
            begin_life(rig, then, CrashAt::before_write);
            begin_life(rig, 0, CrashAt::before_write);
            expect_the_same_end(
                rig, scenario,
                "writes " + std::to_string(at) + " and " + std::to_string(then) + ": ");
        }
    }
}

void by_nat(ControllerRig& rig) {
    rig.method = "boot";
    rig.request.steering = "nat";
    // One address of each family: a lease that a crash forgot would be missed by the next life.
    rig.config.switches[0].temporary_addresses = {"10.1.0.200-10.1.0.200/24",
                                                  "fd00:1::200-fd00:1::200/64"};
}

Scenario cancelled_in(const char* name, Phase phase) {
    return {name, "cancelled", [phase](ControllerRig& rig) { cancel_when(rig, phase); }};
}

INSTANTIATE_TEST_SUITE_P(
    Each, KilledAtEachWrite,
    testing::Values(Scenario{"Migration", "succeeded", [](ControllerRig&) {}},
                    Scenario{"CopyFails", "failed",
                             [](ControllerRig& r) { r.world.copy_fails = true; }},
                    Scenario{"PolicyReset", "succeeded",
                             [](ControllerRig& r) {
                                 r.request.drain = {20, OnDeadline::reset};
                                 r.world.ending["host-a"] = 0;
                             }},
                    Scenario{"PolicyRollback", "failed",
                             [](ControllerRig& r) {
                                 r.request.drain = {20, OnDeadline::rollback};
                                 r.world.ending["host-a"] = 0;
                                 r.world.ending["host-b"] = 1;
                             }},
                    Scenario{"Boot", "succeeded", [](ControllerRig& r) { r.method = "boot"; }},
                    Scenario{"Nat", "succeeded", by_nat},
                    Scenario{"NatCancelledInDraining", "cancelled",
                             [](ControllerRig& r) {
                                 by_nat(r);
                                 cancel_when(r, Phase::draining);
                             }},
                    Scenario{"Whole", "succeeded", [](ControllerRig& r) { r.method = "whole"; }},
                    Scenario{"WholeOverBudget", "failed",
                             [](ControllerRig& r) {
                                 r.method = "whole";
                                 r.request.memory.pause_budget_ms = 30;
                             }},
                    Scenario{"WholeCancelledBeforeTheCommit", "cancelled",
                             [](ControllerRig& r) {
                                 r.method = "whole";
                                 cancel_when(r, Phase::commit);
                             }},
                    cancelled_in("CancelInReserve", Phase::reserve),
                    cancelled_in("CancelInHosting", Phase::hosting),
                    cancelled_in("CancelInDestination", Phase::destination),
                    cancelled_in("CancelInCopying", Phase::copying),
                    cancelled_in("CancelInDraining", Phase::draining)),
    [](const auto& info) { return info.param.name; });

TEST(KilledWhileResetting, TheSessionsAreCountedOnce) {
    for (int at = 1; at < 60; ++at) {
        ControllerRig rig;
        rig.request.drain = {20, OnDeadline::reset};
        rig.world.ending["host-a"] = 0;
        begin_life(rig, at, CrashAt::after_write);
        begin_life(rig, 0, CrashAt::after_write);
        EXPECT_EQ(rig.seen().result->sessions_reset, 6U) << "write " << at;
    }
}

}  // namespace

}  // namespace godwit::fakes
