// Stories of one migration, told on fakes behind real HTTP.
#include "tests/unit/controller/migration_story.hpp"

#include <gtest/gtest.h>

namespace godwit::fakes {

namespace {

using protocol::OnDeadline;

void cancel_in(ControllerRig& rig, Phase phase) {
    rig.meanwhile = [phase](ControllerRig& now) {
        const auto& last = now.life->crashing.last;
        if (last && last->phase == phase && last->state == State::running &&
            !now.life->store->flags(now.job_id)->cancel)
            EXPECT_TRUE(now.life->engine.cancel(now.job_id));
    };
}

TEST_F(MigrationStory, OldSessionsEndOnTheSourceAndTheVmIsAtTheDestination) {
    begin();
    run_to_rest();
    expect_clean("succeeded");
    expect_at("host-b", "host-a");
    const protocol::MigrationResult result = *seen().result;
    EXPECT_EQ(result.sessions_at_start, 6U);
    EXPECT_EQ(result.sessions_kept, 6U);
    EXPECT_EQ(result.sessions_reset, 0U);
    EXPECT_EQ(result.sessions_moved, 3U);
    EXPECT_EQ(result.bytes_copied, 300U);
    EXPECT_EQ(result.bytes_patched, 128U);
    EXPECT_EQ(result.source_pause_ms, 40);
    EXPECT_GT(result.flip_us, 0);
    EXPECT_TRUE(result.phase_ms.contains("draining"));
    EXPECT_GE(world.announcements, 1);
}

TEST_F(MigrationStory, EveryPhaseWritesItsIntentBeforeItsOutcome) {
    begin();
    run_to_rest();
    for (const controller::PhaseRow& row : controller::phase_table()) {
        int intent = -1;
        int outcome = -1;
        int at = 0;
        for (const protocol::StepRow& step : steps()) {
            if (step.phase == row.name && step.what == "intent") intent = at;
            if (step.phase == row.name && step.what == "outcome") outcome = at;
            ++at;
        }
        EXPECT_GE(intent, 0) << row.name;
        EXPECT_GT(outcome, intent) << row.name;
    }
}

TEST_F(MigrationStory, PercentNeverRunsBackwardsAndEndsAtAHundred) {
    request.drain = {30, OnDeadline::reset};
    world.ending["host-a"] = 0;
    begin();
    run_to_rest();
    std::uint32_t before = 0;
    for (const auto& event : life->store->events_after(job_id, 0, 1000).value()) {
        const auto shown = json::from_text<protocol::Job>(event.text, "event");
        ASSERT_TRUE(shown);
        EXPECT_GE(shown->progress.percent, before);
        before = shown->progress.percent;
    }
    EXPECT_EQ(before, 100U);
}

TEST_F(MigrationStory, SteerSkipsMemoryVisibly) {
    method = "steer";
    protocol::AgentVm there = world.hosts["host-a"].vms["web-1"];
    there.spec->mac = "52:54:00:00:00:02";
    world.hosts["host-b"].vms["web-1"] = there;
    begin();
    run_to_rest();
    expect_clean("succeeded");
    for (const char* phase : {"reserve", "destination", "copying", "quiescing", "patching"})
        EXPECT_TRUE(has_step(phase, "skipped")) << phase;
    EXPECT_EQ(world.count_calls("/copy"), 0);
    EXPECT_EQ(world.managed["web-1"].steering.backends.at(0).mac, "52:54:00:00:00:02");
}

TEST_F(MigrationStory, WholeMovesEverySessionAndDrainsNothing) {
    method = "whole";
    begin();
    run_to_rest();
    expect_clean("succeeded");
    expect_at("host-b", "host-a");
    for (const char* phase : {"steering", "draining", "quiescing", "patching"})
        EXPECT_TRUE(has_step(phase, "skipped")) << phase;
    const protocol::MigrationResult result = *seen().result;
    EXPECT_EQ(result.sessions_at_start, 9U);  // 6, and 3 that began as the switch turned
    EXPECT_EQ(result.sessions_kept, 9U);
    EXPECT_EQ(result.sessions_reset, 0U);
    EXPECT_EQ(result.root, "00ff");
    EXPECT_GE(result.source_pause_ms, 40);
    EXPECT_EQ(world.count_calls("/merge"), 0);
    EXPECT_EQ(world.hosts["host-b"].vms["web-1"].role, "sole");
}

// The source has stood still for longer than it may before the job could be committed.
TEST_F(MigrationStory, APauseOverBudgetIsTakenBackBeforeTheCommit) {
    method = "whole";
    request.memory.pause_budget_ms = 500;
    world.stood_still_ms = 501;
    begin();
    run_to_rest();
    expect_clean("failed");
    expect_at("host-a", "host-b");
    EXPECT_EQ(world.hosts["host-a"].vms["web-1"].state, protocol::VmState::running);
    EXPECT_TRUE(seen().error->type.ends_with("pause-budget")) << seen().error->detail;
    ASSERT_EQ(seen().error->next_actions.size(), 3U);
    EXPECT_TRUE(seen().error->next_actions[1].contains("--pause-budget-ms 1000"));
}

TEST_F(MigrationStory, ADestinationThatDiesLoadedIsFoundBeforeTheCommit) {
    method = "whole";
    world.destination_dies_loaded = true;
    begin();
    run_to_rest();
    expect_clean("failed");
    expect_at("host-a", "host-b");
    EXPECT_EQ(world.hosts["host-a"].vms["web-1"].state, protocol::VmState::running);
    EXPECT_TRUE(seen().error->type.ends_with("destination-lost")) << seen().error->detail;
}

TEST_F(MigrationStory, AFreezeThatIsRefusedRollsBackAndSaysHowItCouldBeDone) {
    method = "whole";
    request.memory = {std::nullopt, {}, 1, 100};
    world.freeze_problem = "pause-budget";
    begin();
    run_to_rest();
    expect_clean("failed");
    expect_at("host-a", "host-b");
    EXPECT_TRUE(seen().error->type.ends_with("pause-budget")) << seen().error->detail;
    ASSERT_FALSE(seen().error->next_actions.empty());
    EXPECT_TRUE(seen().error->next_actions[0].contains("--rounds 3"));
}

TEST_F(MigrationStory, BootTurnsNewcomersOnlyWhenTheFreshVmListensWhereTheSourceDoes) {
    method = "boot";
    world.hosts["host-b"].qemu_version = "10.0.0";  // no device state moves
    world.hosts["host-b"].looks_until_listening = 3;
    begin();
    run_until([this] { return job().phase > Phase::copying; });
    EXPECT_EQ(world.hosts["host-b"].looks_until_listening, 0);
    EXPECT_EQ(world.count_calls("PUT /v1/vms/web-1/activation"), 1);
    run_to_rest();
    expect_clean("succeeded");
    expect_at("host-b", "host-a");
    EXPECT_EQ(seen().result->bytes_patched, 128U);
    EXPECT_EQ(seen().result->sessions_kept, 6U);
}

TEST_F(MigrationStory, AFreshVmThatNeverListensIsGivenUpAtTheDeadline) {
    method = "boot";
    world.hosts["host-b"].looks_until_listening = 1'000'000;
    begin();
    run_to_rest();
    expect_clean("failed");
    expect_at("host-a", "host-b");
    EXPECT_TRUE(seen().error->type.ends_with("not-ready")) << seen().error->detail;
}

TEST_F(MigrationStory, TheSourceIsKeptStillListedAndFencedWhenAskedFor) {
    request.source_after = protocol::SourceAfter::keep;
    begin();
    run_to_rest();
    EXPECT_EQ(seen().state, "succeeded");
    EXPECT_EQ(world.hosts["host-a"].vms["web-1"].state, protocol::VmState::paused);
    EXPECT_EQ(world.managed["web-1"].steering.backends.size(), 2U);
    EXPECT_EQ(world.violations, std::vector<std::string>{});
}

// ---- refusals of preflight

struct Refusal {
    const char* name;
    const char* slug;
    std::function<void(ControllerRig&)> arrange;
};

struct PreflightRefuses : MigrationStory, testing::WithParamInterface<Refusal> {};

TEST_P(PreflightRefuses, AndTheWorldIsAsItWas) {
    GetParam().arrange(*this);
    begin();
    run_to_rest();
    EXPECT_EQ(seen().state, "failed");
    EXPECT_TRUE(seen().error->type.ends_with(GetParam().slug)) << seen().error->detail;
    EXPECT_EQ(world.count_calls("PUT /v1/vms"), 0);
    EXPECT_EQ(last_events(), 1);
}

INSTANTIATE_TEST_SUITE_P(
    Each, PreflightRefuses,
    testing::Values(
        Refusal{"NoMemory", "no-memory",
                [](ControllerRig& r) { r.world.hosts["host-b"].memory_available = 1 << 20; }},
        Refusal{"OtherQemu", "incompatible-host",
                [](ControllerRig& r) { r.world.hosts["host-b"].qemu_version = "10.0.0"; }},
        Refusal{"OtherAccelerator", "incompatible-host",
                [](ControllerRig& r) { r.world.hosts["host-b"].accelerator = "kvm"; }},
        Refusal{"Occupied", "destination-occupied",
                [](ControllerRig& r) {
                    r.world.hosts["host-b"].vms["web-1"] = r.world.hosts["host-a"].vms["web-1"];
                }},
        Refusal{"NotRunning", "not-running",
                [](ControllerRig& r) {
                    r.world.hosts["host-a"].vms["web-1"].state = protocol::VmState::stopped;
                }},
        Refusal{"GoneFromItsHost", "unknown-vm",
                [](ControllerRig& r) { r.world.hosts["host-a"].vms.clear(); }},
        Refusal{"DiskThatBothWouldWrite", "shared-disk",
                [](ControllerRig& r) {
                    r.world.hosts["host-a"].vms["web-1"].spec->disks = {
                        {"/images/a.raw", "raw", true}};
                }},
        Refusal{"BootWithoutARegion", "no-regions",
                [](ControllerRig& r) {
                    r.method = "boot";
                    r.world.hosts["host-a"].vms["web-1"].spec->regions.clear();
                }},
        Refusal{"BootWithoutAGuestAgent", "no-guest-agent",
                [](ControllerRig& r) {
                    r.method = "boot";
                    r.world.hosts["host-a"].vms["web-1"].spec->guest_agent = false;
                }},
        Refusal{"SteerToNothing", "destination-missing",
                [](ControllerRig& r) { r.method = "steer"; }},
        Refusal{"SamePort", "same-port",
                [](ControllerRig& r) { r.config.hosts[1].port = "port-a"; }},
        Refusal{"UnknownPort", "unknown-port",
                [](ControllerRig& r) { r.config.hosts[1].port = "port-z"; }},
        Refusal{"SilentDestination", "device-error",
                [](ControllerRig& r) { r.world.die("host-b"); }}),
    [](const auto& info) { return info.param.name; });

TEST_F(MigrationStory, UntrackedSessionsRefuseAMigrationUnlessForced) {
    start();
    life->store->put_vm({"web-1", "host-a", "fork", {}, std::nullopt}).value();
    spawn(life->caretaker.keep_steady());
    run_until([this] { return world.managed.contains("web-1"); });
    world.managed["web-1"].steering.untracked = world.untracked = 2;
    submit();
    run_to_rest();
    EXPECT_EQ(seen().state, "failed");
    EXPECT_TRUE(seen().error->type.ends_with("untracked-sessions"));
}

TEST_F(MigrationStory, UntrackedSessionsAreAcceptedWhenForced) {
    request.force = true;
    world.untracked = 2;
    begin();
    run_to_rest();
    expect_clean("succeeded");
}

// ---- drain policies

TEST_F(MigrationStory, PolicyWaitWarnsAtTheDeadlineAndGoesOnWaiting) {
    request.drain = {60, OnDeadline::wait};
    world.ending["host-a"] = 0;
    begin();
    run_until([this] { return has_step("draining", "warning"); });
    EXPECT_EQ(seen().state, "running");
    world.ending["host-a"] = 6;
    run_to_rest();
    expect_clean("succeeded");
    EXPECT_EQ(seen().result->sessions_reset, 0U);
}

TEST_F(MigrationStory, PolicyRollbackDrainsTheDestinationBackBeforeItIsDestroyed) {
    request.drain = {60, OnDeadline::rollback};
    world.ending["host-a"] = 0;
    world.ending["host-b"] = 1;
    begin();
    run_to_rest();
    expect_clean("failed");
    expect_at("host-a", "host-b");
    EXPECT_TRUE(seen().error->type.ends_with("drain-deadline"));
    EXPECT_EQ(world.sessions_of("host-a"), 9U);  // 6 that stayed, 3 that came after the flip back
}

TEST_F(MigrationStory, PolicyResetTellsWhatIsLeftAndCountsIt) {
    request.drain = {60, OnDeadline::reset};
    world.ending["host-a"] = 0;
    begin();
    run_to_rest();
    expect_clean("succeeded");
    EXPECT_EQ(seen().result->sessions_reset, 6U);
    EXPECT_EQ(seen().result->sessions_kept, 0U);
}

TEST_F(MigrationStory, ForceResetsNow) {
    request.drain = {3600, OnDeadline::wait};
    world.ending["host-a"] = 0;
    begin();
    run_until([this] { return job().phase == Phase::draining && job().began; });
    const auto before = life->clock.now();
    ASSERT_TRUE(life->engine.force(job_id));
    run_to_rest();
    expect_clean("succeeded");
    EXPECT_LT(life->clock.now() - before, std::chrono::minutes(2));
    EXPECT_EQ(seen().result->sessions_reset, 6U);
}

TEST_F(MigrationStory, ASourceThatOpensASessionAfterItWasDrainedIsDrainedAgain) {
    world.opened_once_drained = 4;
    world.hosts["host-a"].guest_sockets = 1;
    begin();
    run_to_rest();
    expect_clean("succeeded");
    EXPECT_TRUE(has_step("draining", "warning"));  // the guest's table disagreed
}

TEST_F(MigrationStory, ASwitchThatForgotTheVmIsToldAgain) {
    world.ending["host-a"] = 0;
    begin();
    run_until([this] { return job().phase == Phase::draining && job().began; });
    world.managed.clear();
    world.sessions_on_hosting = 0;
    run_to_rest();
    EXPECT_EQ(seen().state, "succeeded");
    EXPECT_TRUE(has_step("draining", "warning"));
}

// ---- cancel

struct CancelInPhase : MigrationStory, testing::WithParamInterface<Phase> {};

TEST_P(CancelInPhase, LeavesTheVmWhereItWas) {
    world.ending["host-a"] = 1;
    cancel_in(*this, GetParam());
    begin();
    run_to_rest();
    if (GetParam() < Phase::commit) {
        expect_clean("cancelled");
        if (!world.managed.contains("web-1")) return;
        expect_at("host-a", "host-b");
    } else {
        EXPECT_TRUE(seen().done);
    }
    EXPECT_EQ(world.violations, std::vector<std::string>{});
}

INSTANTIATE_TEST_SUITE_P(Each, CancelInPhase,
                         testing::Values(Phase::preflight, Phase::reserve, Phase::hosting,
                                         Phase::destination, Phase::copying, Phase::steering,
                                         Phase::draining, Phase::commit),
                         [](const auto& info) {
                             return std::string(controller::row_of(info.param).name);
                         });

TEST_F(MigrationStory, ACancelAfterTheCommitIsRefused) {
    world.hosts["host-a"].looks_until_quiet = 1000;
    begin();
    run_until([this] { return job().phase == Phase::quiescing; });
    Result<Migration> refused = life->engine.cancel(job_id);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().slug, "past-commit-point");
    EXPECT_FALSE(seen().may_cancel);
    ASSERT_TRUE(life->engine.force(job_id));
    run_to_rest();
    expect_clean("succeeded");
    Result<Migration> ended = life->engine.cancel(job_id);
    ASSERT_FALSE(ended);
    EXPECT_EQ(ended.error().slug, "job-finished");
}

// ---- devices that fail

TEST_F(MigrationStory, AFailedCopyIsRolledBack) {
    world.copy_fails = true;
    begin();
    run_to_rest();
    expect_clean("failed");
    expect_at("host-a", "host-b");
    EXPECT_TRUE(seen().error->detail.contains("disk of the destination is full"));
}

TEST_F(MigrationStory, ASourceLostInMidCopyIsWaitedForAndTheCopyGoesOn) {
    begin();
    run_until([this] { return job().phase == Phase::copying && job().began; });
    world.die("host-a");
    run_until([this] { return has_step("copying", "retry"); });
    world.revive("host-a");
    run_to_rest();
    expect_clean("succeeded");
    EXPECT_TRUE(has_step("copying", "retry"));
}

TEST_F(MigrationStory, ADestinationLostForGoodIsRolledBackAsFarAsItAnswersAndThenAPersonIsAsked) {
    begin();
    run_until([this] { return job().phase == Phase::copying && job().began; });
    world.die("host-b");
    run_to_rest();
    EXPECT_EQ(seen().state, "needs-attention");
    EXPECT_FALSE(seen().error->next_actions.empty());
    EXPECT_EQ(world.managed["web-1"].steering.owner, "host-a");  // and the clone's seat is fenced
    EXPECT_EQ(world.managed["web-1"].steering.backends.size(), 2U);
    world.revive("host-b");
    ASSERT_TRUE(life->engine.resume(job_id, true, std::nullopt));
    run_to_rest();
    expect_clean("failed");
    expect_at("host-a", "host-b");
}

TEST_F(MigrationStory, AfterTheCommitALostDestinationAsksAPersonAndResumeGoesOn) {
    world.troubles = {{"host-b", "/addresses", Mishap::refuse, 1000}};
    begin();
    run_to_rest();
    EXPECT_EQ(seen().state, "needs-attention");
    EXPECT_EQ(seen().phase, "handover");
    EXPECT_TRUE(seen().committed);
    EXPECT_TRUE(world.managed["web-1"].steering.hosting);  // somebody answers for the address
    world.troubles.clear();
    ASSERT_TRUE(life->engine.resume(job_id, true, std::nullopt));
    run_to_rest();
    expect_clean("succeeded");
}

TEST_F(MigrationStory, AConflictAsksAPersonWhoseChoiceGoesOn) {
    world.merge_conflicts = true;
    begin();
    run_to_rest();
    EXPECT_EQ(seen().state, "needs-attention");
    EXPECT_EQ(seen().phase, "patching");
    EXPECT_TRUE(seen().error->type.ends_with("merge-conflict"));
    EXPECT_EQ(world.hosts["host-a"].vms["web-1"].state, protocol::VmState::paused);
    ASSERT_TRUE(life->engine.resume(job_id, false, protocol::OnConflict::source_wins));
    run_to_rest();
    expect_clean("succeeded");
}

TEST_F(MigrationStory, ASourceThatCannotBeRetiredDoesNotKeepTheJobFromSucceeding) {
    world.troubles = {{"host-a", "/retirement", Mishap::refuse, 1000}};
    begin();
    run_to_rest();
    EXPECT_EQ(seen().state, "succeeded");
    EXPECT_EQ(life->store->sweeps()->size(), 2U);  // the source, and the fence that must outlive it
    EXPECT_EQ(world.managed["web-1"].steering.backends.size(), 2U);
    world.troubles.clear();
    spawn(life->caretaker.sweep());
    run_until([this] { return life->store->sweeps()->size() == 1; });
    spawn(life->caretaker.sweep());
    run_until([this] { return life->store->sweeps()->empty(); });
    expect_clean("succeeded");
    expect_at("host-b", "host-a");
}

struct OneMishap : MigrationStory, testing::WithParamInterface<std::tuple<const char*, Mishap>> {};

TEST_P(OneMishap, OnAnyRequestIsSurvived) {
    const std::string request_line = std::get<0>(GetParam());
    const std::size_t space = request_line.find(' ');
    world.troubles = {{request_line.substr(0, space), request_line.substr(space + 1),
                       std::get<1>(GetParam()), 1}};
    begin();
    run_to_rest();
    EXPECT_EQ(world.troubles.front().times, 0) << "nothing asked for it";
    expect_clean("succeeded");
    expect_at("host-b", "host-a");
}

INSTANTIATE_TEST_SUITE_P(
    Each, OneMishap,
    testing::Combine(
        testing::Values("host-a PUT /v1/fence", "host-b GET /v1/host", "switch GET /v1/switch",
                        "host-b PUT /v1/reservations", "switch PUT /v1/vms",
                        "host-b PUT /v1/vms/web-1/incoming", "host-a PUT /v1/vms/web-1/copy",
                        "host-a GET /v1/vms/web-1/copy", "host-b PUT /v1/vms/web-1/activation",
                        "switch GET /v1/vms/web-1/steering", "host-b GET /v1/vms/web-1/addresses",
                        "switch POST", "host-a PUT /v1/vms/web-1/quiescence",
                        "host-a PUT /v1/vms/web-1/merge", "host-a PUT /v1/vms/web-1/retirement",
                        "host-b PUT /v1/vms/web-1/adoption", "host-b DELETE /v1/reservations"),
        testing::Values(Mishap::refuse, Mishap::hang, Mishap::lost)));

// ---- fencing

TEST_F(MigrationStory, AControllerThatWasReplacedStepsDownAndChangesNothing) {
    begin();
    run_until([this] { return job().phase == Phase::copying && job().began; });
    world.hosts["host-a"].token = world.hosts["host-b"].token = world.switch_token = 99;
    run_until([this] { return life->journal.is_down(); });
    run_until([this] { return life->engine.running() == 0; });
    EXPECT_EQ(world.hosts["host-a"].vms["web-1"].state, protocol::VmState::running);
    EXPECT_EQ(world.managed["web-1"].steering.owner, "host-a");
}

TEST_F(MigrationStory, AZombieMayNotWriteToTheStoreOfItsSuccessor) {
    begin();
    run_until([this] { return job().phase == Phase::copying && job().began; });
    Result<std::uint64_t> next = life->store->raise_token(1);
    ASSERT_TRUE(next);
    run_until([this] { return life->journal.is_down(); });
    EXPECT_EQ(job().phase, Phase::copying);
}

TEST_F(MigrationStory, ANewStartRaisesTheTokenOnAllDevicesOfActiveJobsFirst) {
    begin();
    run_until([this] { return job().phase == Phase::draining; });
    start();
    const std::size_t before = world.calls.size();
    run_until([this] { return life->engine.running() > 0; });
    std::vector<std::string> first(world.calls.begin() + static_cast<std::ptrdiff_t>(before),
                                   world.calls.end());
    ASSERT_GE(first.size(), 3U);
    first.resize(3);
    for (const std::string& call : first) EXPECT_TRUE(call.contains("PUT /v1/fence  ")) << call;
    EXPECT_EQ(world.switch_token, life->journal.token());
    run_to_rest();
    expect_clean("succeeded");
}

TEST_F(MigrationStory, AnAnswerOfTheStoreThatWasLostIsReadAgain) {
    begin();
    run_until([this] { return job().phase == Phase::hosting; });
    life->crashing.answers_lost = 1;
    run_until([this] { return job().phase == Phase::copying; });
    life->crashing.answers_lost = 2;
    life->crashing.lost_writes_happen = false;
    run_to_rest();
    expect_clean("succeeded");
}

TEST_F(MigrationStory, ARegisteredVmIsSteeredBeforeAnyMigrationAndAfterASwitchForgotIt) {
    start();
    spawn(life->caretaker.keep_steady());
    run_until([this] { return world.managed.contains("web-1"); });
    EXPECT_EQ(world.managed["web-1"].steering.owner, "host-a");
    EXPECT_FALSE(world.managed["web-1"].steering.hosting);
    world.managed.clear();
    spawn(life->caretaker.keep_steady());
    run_until([this] { return world.managed.contains("web-1"); });
    EXPECT_EQ(world.violations, std::vector<std::string>{});
}

}  // namespace

}  // namespace godwit::fakes
