// Stories of a destination that dies or goes silent, before and after the commit; and what else people say
// about a running job: limits, and when its source is quiet.
#include "tests/unit/controller/migration_story.hpp"

namespace godwit::fakes {

namespace {

// Committed, and dead before its first instruction: only the source can be the VM.
TEST_F(MigrationStory, ADestinationThatNeverRanIsTakenBackAfterTheCommit) {
    method = "whole";
    world.dies_in_activation = DiesInActivation::before_running;
    begin();
    run_to_rest();
    EXPECT_TRUE(has_step("commit", "outcome"));
    expect_clean("failed");
    expect_at("host-a", "host-b");
    EXPECT_EQ(world.hosts["host-a"].vms["web-1"].state, protocol::VmState::running);
    EXPECT_EQ(world.sessions_of("host-a"), 12U);  // 6, and what began at either turn of the port
    EXPECT_TRUE(seen().error->type.ends_with("destination-never-ran")) << seen().error->detail;
    EXPECT_FALSE(seen().committed);
}

// It may have answered somebody: whether that is thrown away is a person's decision.
TEST_F(MigrationStory, ADestinationThatRanAndDiedIsTakenBackByAPerson) {
    method = "whole";
    world.dies_in_activation = DiesInActivation::after_running;
    begin();
    run_to_rest();
    EXPECT_EQ(seen().state, "needs-attention");
    EXPECT_EQ(world.hosts["host-a"].vms["web-1"].state, protocol::VmState::paused);
    EXPECT_TRUE(advises("godwit job take-back " + job_id));
    ASSERT_TRUE(life->engine.take_back(job_id));
    run_to_rest();
    expect_clean("failed");
    expect_at("host-a", "host-b");
    EXPECT_EQ(world.hosts["host-a"].vms["web-1"].state, protocol::VmState::running);
    EXPECT_FALSE(life->engine.take_back(job_id));
}

// Nobody knows whether it runs there. The switch takes its place away, the source goes on, and what may
// be left there is removed when its agent is back.
TEST_F(MigrationStory, ASilentDestinationIsFencedBeforeTheSourceGoesOn) {
    method = "whole";
    world.troubles = {{"host-b", "/activation", Mishap::lost, 1}};
    meanwhile = [](ControllerRig& rig) {
        if (rig.world.count_calls("/activation") > 0 && rig.world.hosts["host-b"].token != 0) {
            rig.world.hosts["host-b"].loaded = false;  // the fake would call it two that run
            rig.world.die("host-b");
            rig.meanwhile = {};
        }
    };
    begin();
    run_to_rest();
    ASSERT_EQ(seen().state, "needs-attention") << json::to_text(seen());
    ASSERT_TRUE(life->engine.take_back(job_id));
    run_to_rest();
    EXPECT_EQ(seen().state, "needs-attention");
    EXPECT_EQ(seen().phase, "destination");
    EXPECT_TRUE(has_step("handover", "warning"));
    EXPECT_EQ(world.managed["web-1"].steering.owner, "host-a");
    EXPECT_EQ(world.hosts["host-a"].vms["web-1"].state, protocol::VmState::running);
    world.revive("host-b");
    ASSERT_TRUE(life->engine.resume(job_id, true, std::nullopt));
    run_to_rest();
    expect_clean("failed");
    expect_at("host-a", "host-b");
}

void kill_destination_in(ControllerRig& rig, Phase phase) {
    rig.meanwhile = [phase](ControllerRig& now) {
        const auto& last = now.life->crashing.last;
        if (!last || last->phase != phase || last->state != State::running) return;
        now.world.hosts["host-b"].vms.at("web-1").state = protocol::VmState::stopped;
        now.meanwhile = {};
    };
}

// Newcomers are sent to nobody: they are the source's again, and those of the dead clone are told.
TEST_F(MigrationStory, ACloneThatDiesWhileTheSourceDrainsIsRolledBackAtOnce) {
    world.ending["host-a"] = 0;
    kill_destination_in(*this, Phase::draining);
    begin();
    run_to_rest();
    expect_clean("failed");
    expect_at("host-a", "host-b");
    EXPECT_EQ(world.sessions_of("host-a"), 9U);  // its own, and newcomers of the flip back
    EXPECT_TRUE(seen().error->type.ends_with("destination-lost")) << seen().error->detail;
}

// The destination is all that is left of it: drained and destroyed for a dead source, nobody would run.
TEST_F(MigrationStory, NothingIsTurnedBackToASourceThatHasEnded) {
    world.ending["host-a"] = 0;
    begin();
    run_until([this] { return job().phase == Phase::draining; });
    world.hosts["host-a"].vms.at("web-1").state = protocol::VmState::stopped;
    ASSERT_TRUE(life->engine.cancel(job_id));
    run_to_rest();
    EXPECT_EQ(seen().state, "needs-attention") << json::to_text(seen());
    EXPECT_TRUE(seen().error->type.ends_with("source-lost")) << seen().error->detail;
    EXPECT_EQ(world.managed["web-1"].steering.owner, "host-b");
    EXPECT_EQ(world.hosts["host-b"].vms.at("web-1").state, protocol::VmState::running);
}

struct DiesAfterTheCommit : MigrationStory, testing::WithParamInterface<Phase> {};

TEST_P(DiesAfterTheCommit, TheSourceIsKeptAndAPersonDecides) {
    kill_destination_in(*this, GetParam());
    begin();
    run_to_rest();
    ASSERT_EQ(seen().state, "needs-attention") << json::to_text(seen());
    EXPECT_TRUE(seen().error->type.ends_with("destination-lost")) << seen().error->detail;
    EXPECT_TRUE(world.hosts["host-a"].vms.contains("web-1"));
    EXPECT_TRUE(advises("godwit job take-back " + job_id));
    ASSERT_TRUE(life->engine.take_back(job_id));
    run_to_rest();
    expect_clean("failed");
    expect_at("host-a", "host-b");
    EXPECT_EQ(world.hosts["host-a"].vms["web-1"].state, protocol::VmState::running);
}

INSTANTIATE_TEST_SUITE_P(OfAClone, DiesAfterTheCommit,
                         testing::Values(Phase::handover, Phase::quiescing, Phase::patching,
                                         Phase::retiring),
                         [](const auto& info) {
                             return std::string(controller::row_of(info.param).name);
                         });

TEST_F(MigrationStory, ALimitGivenWhileTheMemoryIsCopiedReachesTheCopyAndTheEta) {
    request.memory.bandwidth_mib_s = 100;
    begin();
    run_until([this] { return world.hosts["host-a"].copies["web-1"].bandwidth_mib_s == 100; });
    run_until([this] { return job().progress.eta_s.has_value(); });
    EXPECT_LE(*job().progress.eta_s, 6U);  // what is left at 50 bytes a second
    ASSERT_TRUE(life->engine.limit(job_id, 20));
    run_until([this] { return world.hosts["host-a"].copies["web-1"].bandwidth_mib_s == 20; });
    EXPECT_TRUE(has_step("copying", "limit"));
    run_to_rest();
    expect_clean("succeeded");
    const auto late = life->engine.limit(job_id, 20);
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error().slug, "not-copying");
}

TEST_F(MigrationStory, ASourceThatNeverBecomesQuietAsksAPerson) {
    world.hosts["host-a"].looks_until_quiet = 1'000'000;
    request.memory.quiet = {200, 30};
    begin();
    run_to_rest();
    EXPECT_EQ(seen().state, "needs-attention");
    EXPECT_EQ(seen().phase, "quiescing");
    EXPECT_TRUE(seen().error->type.ends_with("not-quiet")) << seen().error->detail;
    ASSERT_TRUE(life->engine.force(job_id));
    run_to_rest();
    expect_clean("succeeded");
}

TEST_F(MigrationStory, ASourceThatNeverBecomesQuietIsPausedWhenThatIsThePolicy) {
    world.hosts["host-a"].looks_until_quiet = 1'000'000;
    request.memory.quiet = {200, 30, protocol::OnUnquiet::pause};
    begin();
    run_to_rest();
    expect_clean("succeeded");
    EXPECT_TRUE(has_step("quiescing", "warning"));
    EXPECT_GE(world.hosts["host-a"].quiet_window_ms, 200U);
}

TEST_F(MigrationStory, AGuestThatSaysItIsQuietIsBelieved) {
    world.hosts["host-a"].guest_says_quiet = true;
    begin();
    run_to_rest();
    expect_clean("succeeded");
    EXPECT_TRUE(has_step("quiescing", "quiet"));
}

// It may have died between the last look and the order to go: the order is not given.
TEST_F(MigrationStory, ASourceIsNotRetiredWhenTheVmHasEndedAtTheDestination) {
    kill_destination_in(*this, Phase::retiring);
    begin();
    run_to_rest();
    ASSERT_EQ(seen().state, "needs-attention") << json::to_text(seen());
    EXPECT_TRUE(seen().error->type.ends_with("destination-lost")) << seen().error->detail;
    EXPECT_EQ(world.count_calls("/retirement"), 0);
    EXPECT_TRUE(world.hosts["host-a"].vms.contains("web-1"));
    world.hosts["host-b"].vms["web-1"].state = protocol::VmState::running;  // started again by hand
    ASSERT_TRUE(life->engine.resume(job_id, true, std::nullopt));
    run_to_rest();
    expect_clean("succeeded");
}

// Between the first order to go, which got no answer, and the second.
void kill_destination_after_retirement(ControllerRig& rig) {
    rig.meanwhile = [](ControllerRig& now) {
        const auto& last = now.life->crashing.last;
        if (!last || !last->source_told || last->attempt < 2) return;
        now.world.hosts["host-b"].vms.at("web-1").state = protocol::VmState::stopped;
        now.meanwhile = {};
    };
}

// Told to go, it did not hear, and then the destination died: it is all that there is of the VM.
TEST_F(MigrationStory, ASourceThatDidNotHearThatItGoesCanBeGoneBackTo) {
    world.troubles = {{"host-a", "/retirement", Mishap::hang, 1},
                      {"host-b", "/adoption", Mishap::refuse, 1}};
    kill_destination_after_retirement(*this);
    begin();
    run_to_rest();
    ASSERT_EQ(seen().state, "needs-attention") << json::to_text(seen());
    EXPECT_TRUE(has_step("retiring", "kept"));
    EXPECT_TRUE(advises("godwit job take-back " + job_id));
    ASSERT_TRUE(life->engine.take_back(job_id));
    run_to_rest();
    expect_clean("failed");
    expect_at("host-a", "host-b");
    EXPECT_EQ(world.hosts["host-a"].vms["web-1"].state, protocol::VmState::running);
}

struct SourceThatHeard : MigrationStory, testing::WithParamInterface<protocol::SourceAfter> {};

// Nothing is left to go back to, and the destination is a VM that ended.
TEST_P(SourceThatHeard, ADestinationThatDiesLaterDoesNotHoldTheJob) {
    request.source_after = GetParam();
    world.troubles = {{"host-a", "/retirement", Mishap::lost, 1},
                      {"host-b", "/adoption", Mishap::refuse, 1}};
    kill_destination_after_retirement(*this);
    begin();
    run_to_rest();
    EXPECT_EQ(seen().state, "succeeded") << json::to_text(seen());
    EXPECT_EQ(world.managed["web-1"].steering.owner, "host-b");
}

INSTANTIATE_TEST_SUITE_P(AndIs, SourceThatHeard,
                         testing::Values(protocol::SourceAfter::delete_,
                                         protocol::SourceAfter::stop),
                         [](const auto& info) {
                             return std::string(
                                 info.param == protocol::SourceAfter::stop ? "stopped" : "deleted");
                         });

// Nobody knows whether it heard: it is not gone back to, and the dead destination is nobody's until it is known.
TEST_F(MigrationStory, ASilentSourceBesideADeadDestinationIsAsked) {
    kill_destination_in(*this, Phase::retiring);
    begin();
    run_until([this] { return job().phase == Phase::retiring; });
    world.die("host-a");
    run_to_rest();
    ASSERT_EQ(seen().state, "needs-attention") << json::to_text(seen());
    EXPECT_TRUE(world.hosts["host-b"].vms.at("web-1").owner_job);
    world.revive("host-a");
    ASSERT_TRUE(life->engine.take_back(job_id));
    run_to_rest();
    expect_clean("failed");
    expect_at("host-a", "host-b");
}

// The adoption was done and its answer lost: the destination is its user's, and the job does not take it away.
TEST_F(MigrationStory, AnAdoptionWhoseAnswerIsLostCounts) {
    world.troubles = {{"host-a", "/retirement", Mishap::hang, 1},
                      {"host-b", "/adoption", Mishap::lost, 1}};
    kill_destination_after_retirement(*this);
    begin();
    run_to_rest();
    EXPECT_EQ(seen().state, "succeeded") << json::to_text(seen());
    EXPECT_TRUE(world.hosts["host-a"].vms.contains("web-1"));
    EXPECT_EQ(life->store->sweeps()->size(), 2U);
}

// Its user has it already: it is not taken away, and the source stays until somebody has looked.
TEST_F(MigrationStory, AnAdoptedDestinationThatDiesLeavesTheSourceToTheSweeper) {
    world.troubles = {{"host-a", "/retirement", Mishap::hang, 1}};
    kill_destination_after_retirement(*this);
    begin();
    run_to_rest();
    EXPECT_EQ(seen().state, "succeeded") << json::to_text(seen());
    EXPECT_TRUE(world.hosts["host-a"].vms.contains("web-1"));
    ASSERT_EQ(life->store->sweeps()->size(), 2U);
    spawn(life->caretaker.sweep());
    run_until([this] { return life->store->sweeps()->front().attempts == 1; });
    EXPECT_TRUE(world.hosts["host-a"].vms.contains("web-1"));
    world.hosts["host-b"].vms.at("web-1").state = protocol::VmState::running;
    for (std::size_t left : {1U, 0U}) {
        spawn(life->caretaker.sweep());
        run_until([this, left] { return life->store->sweeps()->size() == left; });
    }
    EXPECT_EQ(world.leftovers(), std::vector<std::string>{});
    expect_at("host-b", "host-a");
}

TEST_F(MigrationStory, ATakeBackIsRefusedWhereThereIsNothingToTakeBack) {
    begin();
    run_until([this] { return job().phase == Phase::draining; });
    const auto early = life->engine.take_back(job_id);
    ASSERT_FALSE(early);
    EXPECT_EQ(early.error().slug, "not-waiting");
    run_to_rest();
    const auto late = life->engine.take_back(job_id);
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error().slug, "job-finished");
}

}  // namespace

}  // namespace godwit::fakes
