// The switch's control half: what a command may say, what is durable, and in which order the plane hears.
#include "dataplane/config.hpp"
#include "dataplane/names.hpp"
#include "dataplane/sessions.hpp"
#include "dataplane/steering.hpp"
#include "tests/fakes/fake_plane.hpp"

#include <filesystem>
#include <unistd.h>

#include <gtest/gtest.h>

namespace godwit::test {
namespace {

using dataplane::StateFile;
using dataplane::Steerings;
using protocol::Backend;
using protocol::Steering;
using protocol::VmSteering;

const Backend kA{"host-a", "host-a", "52:54:00:00:00:01"};
const Backend kB{"host-b", "host-b", "52:54:00:00:00:01"};
const Backend kC{"host-c", "host-c", "52:54:00:00:00:01"};

Steering steady(const Backend& on, std::uint64_t token = 1) {
    return {{token, "j-1", "step"}, {"10.1.0.10", "fd00::10"}, {on}, on.name, std::nullopt, false};
}
Steering both(const std::string& owner, std::optional<std::string> previous, bool hosting) {
    return {{1, "j-1", "step"},
            {"10.1.0.10", "fd00::10"},
            {kA, kB},
            owner,
            std::move(previous),
            hosting};
}

class SwitchSteering : public testing::Test {
protected:
    SwitchSteering() {
        directory_ = testing::TempDir() + "gwt" + std::to_string(getpid()) + "-steerings-" +
                     testing::UnitTest::GetInstance()->current_test_info()->name();
        restart();
    }
    ~SwitchSteering() override { std::filesystem::remove_all(directory_); }

    void restart() {
        steerings = std::make_unique<Steerings>(
            plane, StateFile(directory_), [this](const std::string& type, const VmSteering& vm) {
                told.push_back(type + " " + vm.owner);
            });
        ASSERT_TRUE(steerings->start());
    }
    std::uint64_t word() { return plane.record(0).steer; }
    // Everything a refused command says about its fields.
    static std::string complaints(const Result<VmSteering>& result) {
        std::string all;
        if (result) return "accepted";
        for (const FieldError& e : result.error().fields) all += e.pointer + " " + e.message + "\n";
        return all;
    }

    std::string directory_;
    FakePlane plane;
    std::vector<std::string> told;
    std::unique_ptr<Steerings> steerings;
};

TEST_F(SwitchSteering, TheSteerWordIsWrittenAfterThePlaneKnowsTheBackend) {
    ASSERT_TRUE(steerings->put("web-1", steady(kA)));
    ASSERT_EQ(plane.order, std::vector<std::string>{"set_vm 0 word 0"});
    EXPECT_EQ(steer_owner(word()), 0u);
    EXPECT_FALSE(steer_is_draining(word()));
    EXPECT_EQ(plane.setups[0].backends[0].ifindex, 3u);
    ASSERT_TRUE(steerings->put("web-1", both("host-a", std::nullopt, true)));
    EXPECT_EQ(dataplane::flags_of(plane.setups[0], 0), 0) << "one MAC: nothing to rewrite";
}

TEST_F(SwitchSteering, PuttingTheSameTwiceChangesNothing) {
    ASSERT_TRUE(steerings->put("web-1", steady(kA)));
    const std::uint64_t before = word();
    Result<VmSteering> again = steerings->put("web-1", steady(kA));
    ASSERT_TRUE(again);
    EXPECT_EQ(again->epoch, 1u);
    EXPECT_EQ(word(), before);
    EXPECT_EQ(plane.order.size(), 1u);
}

TEST_F(SwitchSteering, IdleLimitsOfAVmReachThePlaneAndOutliveTheProcess) {
    ASSERT_TRUE(steerings->put("web-1", steady(kA)));
    EXPECT_EQ(plane.setups[0].limits.seconds.udp, 0u) << "the plane's own";
    Steering wanted = steady(kA);
    wanted.idle_limits.udp_s = 20;
    wanted.idle_limits.ports = {{protocol::PortProtocol::tcp, 22, 90000}};
    const std::uint64_t before = word();
    Result<VmSteering> now = steerings->put("web-1", wanted);
    ASSERT_TRUE(now);
    EXPECT_EQ(now->idle_limits, wanted.idle_limits);
    EXPECT_EQ(word(), before) << "nothing is steered otherwise";
    plane.setups.clear();
    restart();
    EXPECT_EQ(plane.setups[0].limits.seconds.udp, 20u);
    ASSERT_EQ(plane.setups[0].limits.ports.size(), 1u);
    EXPECT_EQ(plane.setups[0].limits.ports[0].idle_s, 90000u);
    wanted.idle_limits.udp_s = 1;
    EXPECT_EQ(complaints(steerings->put("web-1", wanted)),
              "/idle_limits/udp_s expected 2 to 86400\n");
    EXPECT_EQ(plane.setups[0].limits.seconds.udp, 20u);
}

TEST_F(SwitchSteering, TheFlipRaisesTheEpochAndRollbackIsTheSameTheOtherWay) {
    ASSERT_TRUE(steerings->put("web-1", steady(kA)));
    ASSERT_TRUE(steerings->put("web-1", both("host-a", std::nullopt, true)));
    EXPECT_EQ(steer_epoch(word()), 1u) << "hosting is no flip";
    Result<VmSteering> flipped = steerings->put("web-1", both("host-b", "host-a", true));
    ASSERT_TRUE(flipped);
    EXPECT_EQ(flipped->epoch, 2u);
    EXPECT_EQ(steer_owner(word()), 1u);
    EXPECT_EQ(steer_previous(word()), 0u);
    EXPECT_TRUE(steer_is_hosting(word()));
    ASSERT_TRUE(steerings->put("web-1", both("host-a", "host-b", true)));
    EXPECT_EQ(steer_owner(word()), 0u);
    EXPECT_EQ(steer_previous(word()), 1u);
    EXPECT_EQ(steer_authority(word()), 0u)
        << "the clone that drains is not asked about old sessions";
}

TEST_F(SwitchSteering, ARollbackOfAFlipThatNeverCameKnowsTheOriginalToo) {
    ASSERT_TRUE(steerings->put("web-1", steady(kA)));
    ASSERT_TRUE(steerings->put("web-1", both("host-a", "host-b", true)));
    EXPECT_EQ(steer_authority(word()), 0u);
    restart();
    ASSERT_TRUE(steerings->put("web-1", both("host-b", "host-a", true)));
    EXPECT_EQ(steer_authority(word()), 0u) << "kept through flips and restarts";
}

TEST_F(SwitchSteering, DrainedIsTrueOnlyAfterTheGracePeriodAndOnlyAtZero) {
    ASSERT_TRUE(steerings->put("web-1", both("host-b", "host-a", true)));
    EXPECT_FALSE(steerings->status("web-1")->drained)
        << "a packet may still be pinning to the source";
    ASSERT_EQ(steerings->waiting_for_grace().size(), 1u);
    steerings->grace_over("web-1", 1);
    plane.record(0).handshakes[0] = 1;
    EXPECT_FALSE(steerings->status("web-1")->drained);
    plane.record(0).handshakes[0] = 0;
    steerings->look_at_drains();
    EXPECT_TRUE(steerings->status("web-1")->drained);
    plane.record(0).sessions[0] = 1;
    steerings->look_at_drains();
    const std::vector<std::string> expected = {"steering host-b", "drained host-b",
                                               "undrained host-b"};
    EXPECT_EQ(told, expected);
}

TEST_F(SwitchSteering, AnOlderTokenIsRefusedAlsoAfterARestart) {
    ASSERT_TRUE(steerings->put("web-1", steady(kA, 7)));
    restart();
    Result<VmSteering> old = steerings->put("web-1", steady(kB, 6));
    ASSERT_FALSE(old);
    EXPECT_EQ(old.error().slug, "stale-epoch");
    EXPECT_EQ(old.error().fault, Fault::Conflict);
    EXPECT_EQ(steerings->status("web-1")->owner, "host-a");
    EXPECT_FALSE(steerings->reset("web-1", {{6, "j", "s"}, "host-a"}));
    EXPECT_FALSE(steerings->remove("web-1", 6));
    EXPECT_FALSE(steerings->raise_fence({6}));
    EXPECT_EQ(steerings->raise_fence({9})->token, 9u);
    restart();
    EXPECT_EQ(steerings->token(), 9u);
}

TEST_F(SwitchSteering, ARestartMakesThePlaneAgreeWithWhatWasMeant) {
    ASSERT_TRUE(steerings->put("web-1", both("host-b", "host-a", true)));
    const std::uint64_t meant = word();
    plane.record(0) = {};  // as after a reboot
    plane.setups.clear();
    restart();
    EXPECT_EQ(word(), meant);
    EXPECT_EQ(plane.setups[0].backends[1].ifindex, 4u);
    EXPECT_EQ(steerings->status("web-1")->previous, "host-a");
}

TEST_F(SwitchSteering, ACommandThePlaneRefusedIsFinishedByTheNextStart) {
    ASSERT_TRUE(steerings->put("web-1", steady(kA)));
    plane.refuse(true);
    EXPECT_FALSE(steerings->put("web-1", both("host-b", "host-a", true)));
    plane.refuse(false);
    restart();
    EXPECT_EQ(steer_owner(word()), 1u);
}

TEST_F(SwitchSteering, ACommandThePlaneRefusedIsNotDoneWhenItIsSaidAgain) {
    ASSERT_TRUE(steerings->put("web-1", steady(kA)));
    plane.refuse(true);
    EXPECT_FALSE(steerings->put("web-1", both("host-b", "host-a", true)));
    EXPECT_FALSE(steerings->put("web-1", both("host-b", "host-a", true)));
    EXPECT_EQ(steer_owner(word()), 0u);
    plane.refuse(false);
    ASSERT_TRUE(steerings->put("web-1", both("host-b", "host-a", true)));
    EXPECT_EQ(steer_owner(word()), 1u);
}

TEST_F(SwitchSteering, ABackendKeepsItsSlotAndWhoComesNextInheritsNothing) {
    ASSERT_TRUE(steerings->put("web-1", both("host-b", "host-a", true)));
    ASSERT_TRUE(steerings->put("web-1", steady(kB)));
    EXPECT_EQ(steer_owner(word()), 1u) << "host-b stays in slot 1";
    EXPECT_EQ(plane.order.back(), "end 0") << "what host-a left is forgotten";
    Steering next{
        {1, "j-2", "s"}, {"10.1.0.10", "fd00::10"}, {kB, kC}, "host-b", std::nullopt, true};
    ASSERT_TRUE(steerings->put("web-1", next));
    EXPECT_EQ(plane.setups[0].backends[0].ifindex, 5u);
    EXPECT_EQ(plane.setups[0].backends[1].ifindex, 4u);
}

Steering takeover() {
    Steering wanted = both("host-b", std::nullopt, true);
    wanted.takes_over = "host-a";
    return wanted;
}

TEST_F(SwitchSteering, ATakeoverTurnsThePortUnderTheSessionsAndEndsNone) {
    ASSERT_TRUE(steerings->put("web-1", both("host-a", std::nullopt, true)));
    plane.record(0).sessions[0] = 5;
    Result<VmSteering> taken = steerings->put("web-1", takeover());
    ASSERT_TRUE(taken) << taken.error().text();
    EXPECT_EQ(taken->epoch, 2u);
    EXPECT_EQ(taken->owner, "host-b");
    EXPECT_EQ(steer_owner(word()), 0u) << "the slot that has the sessions";
    EXPECT_EQ(plane.setups[0].backends[0].ifindex, 4u);
    EXPECT_EQ(plane.setups[0].backends[1].ifindex, 3u);
    for (const protocol::BackendSteering& one : taken->backends)
        EXPECT_EQ(one.sessions, one.name == "host-b" ? 5u : 0u) << one.name;
    const std::vector<std::string> told = plane.order;
    EXPECT_EQ(std::ranges::count_if(told, [](auto& act) { return act.starts_with("end"); }), 0);
    ASSERT_TRUE(steerings->put("web-1", takeover()));
    EXPECT_EQ(plane.order, told) << "the second time it has happened";
    // The job's next words leave it so, and the old place goes without a session.
    ASSERT_TRUE(steerings->put("web-1", both("host-b", std::nullopt, false)));
    ASSERT_TRUE(steerings->put("web-1", steady(kB)));
    EXPECT_EQ(plane.record(0).sessions[0], 5u);
    EXPECT_EQ(steerings->status("web-1")->epoch, 2u);
}

TEST_F(SwitchSteering, ATakeoverThePlaneRefusedIsFinishedByTheNextStart) {
    ASSERT_TRUE(steerings->put("web-1", both("host-a", std::nullopt, true)));
    plane.refuse(true);
    EXPECT_FALSE(steerings->put("web-1", takeover()));
    plane.refuse(false);
    restart();
    EXPECT_EQ(plane.setups[0].backends[0].ifindex, 4u);
    EXPECT_EQ(steerings->status("web-1")->owner, "host-b");
}

TEST_F(SwitchSteering, ATakeoverThePlaneRefusedIsDoneWhenItIsSaidAgain) {
    ASSERT_TRUE(steerings->put("web-1", both("host-a", std::nullopt, true)));
    plane.record(0).sessions[0] = 7;
    plane.refuse(true);
    EXPECT_FALSE(steerings->put("web-1", takeover()));
    plane.refuse(false);
    ASSERT_TRUE(steerings->put("web-1", takeover()));
    EXPECT_EQ(plane.setups[0].backends[0].ifindex, 4u);
    EXPECT_EQ(plane.record(0).sessions[0], 7u) << "no session was ended";
}

TEST_F(SwitchSteering, ATakeoverOfNobodyOrOfADrainingVmIsRefusedByField) {
    Steering wanted = takeover();
    wanted.takes_over = "host-z";
    EXPECT_NE(complaints(steerings->put("web-1", wanted)).find("/takes_over"), std::string::npos);
    wanted.takes_over = "host-b";
    EXPECT_NE(complaints(steerings->put("web-1", wanted)).find("/takes_over"), std::string::npos);
    wanted = takeover();
    wanted.previous = "host-a";
    EXPECT_NE(complaints(steerings->put("web-1", wanted)).find("/takes_over"), std::string::npos);
}

TEST_F(SwitchSteering, EveryWrongFieldIsNamedAtOnce) {
    Steering bad = both("host-z", "host-z", true);
    bad.addresses = {"10.1.0.300", "10.1.0.7", "10.1.0.7"};
    bad.backends[1].port = "host-a";
    bad.backends[1].mac = "01:00:5e:00:00:01";
    const std::string all = complaints(steerings->put("web-1", bad));
    for (const char* pointer : {"/addresses/0", "/addresses/2", "/backends/1/port",
                                "/backends/1/mac", "/owner", "/previous"})
        EXPECT_NE(all.find(pointer), std::string::npos) << pointer << " is not in:\n" << all;
    EXPECT_TRUE(plane.order.empty());
    EXPECT_FALSE(steerings->status("web-1")) << "nothing of it was kept";
}

TEST_F(SwitchSteering, RefusalsHaveTheirOwnSlug) {
    Steering same = both("host-a", std::nullopt, false);
    same.backends[1].port = "host-a";
    EXPECT_EQ(steerings->put("web-1", same).error().slug, "same-port");
    Steering unknown = steady(kA);
    unknown.backends[0].port = "nowhere";
    EXPECT_EQ(steerings->put("web-1", unknown).error().slug, "unknown-port");
    ASSERT_TRUE(steerings->put("web-1", steady(kA)));
    EXPECT_EQ(steerings->put("web-2", steady(kB)).error().slug, "duplicate-address");
    EXPECT_EQ(steerings->status("web-2").error().slug, "unknown-vm");
}

// The patent's example, [0075]: the source keeps the hosted address, the destination has one of its own.
Backend in_mode_nat(Backend backend, const std::string& number) {
    backend.mode = protocol::SteeringMode::nat;
    backend.mac = "52:54:00:00:00:" + number;
    backend.temporary_addresses = {"10.9.1." + number, "fd09::" + number};
    return backend;
}
Steering to_nat(const std::string& owner, std::optional<std::string> previous) {
    return {{1, "j-1", "step"},          {"10.9.1.10", "fd09::10"},
            {kA, in_mode_nat(kB, "31")}, owner,
            std::move(previous),         true};
}

TEST_F(SwitchSteering, ABackendInModeNatIsToldToThePlaneWithItsOwnNames) {
    Result<VmSteering> put = steerings->put("web-1", to_nat("host-b", "host-a"));
    ASSERT_TRUE(put) << complaints(put);
    const dataplane::VmSetup& setup = plane.setups[0];
    EXPECT_TRUE(setup.backends[0].temporary.empty());
    const steer_translation names = dataplane::translation_of(0, setup, 1);
    EXPECT_EQ(names.temporary4_be, dataplane::parse_hosted("10.9.1.31")->words_be[0]);
    EXPECT_EQ(names.hosted4_be, dataplane::parse_hosted("10.9.1.10")->words_be[0]);
    EXPECT_EQ(names.temporary6_be[3], dataplane::parse_hosted("fd09::31")->words_be[3]);
    EXPECT_EQ(names.address_id6, 1);
    EXPECT_EQ(names.mac[5], 0x31);
    EXPECT_EQ(setup.mac, *dataplane::parse_mac(kA.mac))
        << "the MAC that the peers know, as long as somebody needs it";
    EXPECT_EQ(dataplane::flags_of(setup, 1), STEER_BACKEND_NAT);
    EXPECT_EQ(dataplane::flags_of(setup, 0), STEER_BACKEND_MAC) << "the other has another MAC";
    EXPECT_EQ(put->backends[1].mode, protocol::SteeringMode::nat);
    EXPECT_EQ(put->backends[1].temporary_addresses[0], "10.9.1.31");
    const std::uint64_t meant = word();
    plane.setups.clear();
    restart();
    EXPECT_EQ(word(), meant);
    EXPECT_EQ(plane.setups[0].backends[1].temporary.size(), 2u) << "kept through a restart";
    ASSERT_TRUE(steerings->put("web-1", to_nat("host-b", std::nullopt)));
    EXPECT_EQ(plane.setups[0].mac, *dataplane::parse_mac("52:54:00:00:00:31"))
        << "nothing drains: what is announced now stays, also when the source is taken off the "
           "list";
    Steering alone = to_nat("host-b", std::nullopt);
    alone.backends.erase(alone.backends.begin());
    ASSERT_TRUE(steerings->put("web-1", alone));
    EXPECT_EQ(plane.setups[0].mac, *dataplane::parse_mac("52:54:00:00:00:31"));
}

TEST_F(SwitchSteering, WhatModeNatNeedsIsSaidFieldByField) {
    const auto refused = [&](const Steering& wanted, const std::string& slug,
                             const std::string& pointer) {
        Result<VmSteering> put = steerings->put("web-1", wanted);
        if (put) return testing::AssertionFailure() << "accepted";
        if (put.error().slug != slug)
            return testing::AssertionFailure() << put.error().slug << "\n" << complaints(put);
        if (!complaints(put).contains(pointer + " "))
            return testing::AssertionFailure() << complaints(put);
        return testing::AssertionSuccess();
    };
    const Steering good = to_nat("host-b", "host-a");
    Steering bad = good;
    bad.backends[1].temporary_addresses.pop_back();
    EXPECT_TRUE(refused(bad, "temporary-address", "/backends/1/temporary_addresses"));
    bad = good;
    bad.backends[1].temporary_addresses.push_back("10.9.1.32");
    EXPECT_TRUE(refused(bad, "temporary-address", "/backends/1/temporary_addresses"));
    bad = good;
    bad.backends[1].temporary_addresses[0] = "10.9.1.10";
    EXPECT_TRUE(refused(bad, "invalid-steering", "/backends/1/temporary_addresses/0"));
    bad = good;
    bad.backends[1].temporary_addresses[1] = "fd09::31/64";
    EXPECT_TRUE(refused(bad, "temporary-address", "/backends/1/temporary_addresses/1"));
    bad = good;
    bad.backends[0].temporary_addresses = {"10.9.1.30"};
    EXPECT_TRUE(refused(bad, "temporary-address", "/backends/0/temporary_addresses"));
    bad = good;
    bad.addresses.push_back("10.9.1.11");
    EXPECT_TRUE(refused(bad, "temporary-address", "/addresses"));
    bad = good;
    bad.backends[1].mac = bad.backends[0].mac;
    EXPECT_TRUE(refused(bad, "same-mac", "/backends/1/mac"));
    bad = good;
    bad.previous.reset();
    bad.takes_over = "host-a";
    EXPECT_TRUE(refused(bad, "invalid-steering", "/takes_over"));
    bad = good;
    bad.hosting = false;
    EXPECT_TRUE(refused(bad, "not-hosting", "/hosting"));
    EXPECT_TRUE(plane.order.empty()) << "nothing of it was told";
    Steering one_port = good;
    one_port.backends[1].port = one_port.backends[0].port;
    EXPECT_TRUE(steerings->put("web-1", one_port)) << "their MACs tell them apart";
}

TEST_F(SwitchSteering, ATemporaryAddressBelongsToOneVm) {
    ASSERT_TRUE(steerings->put("web-1", to_nat("host-b", "host-a")));
    Steering thief = steady(kC);
    thief.addresses = {"10.9.1.31"};
    EXPECT_EQ(steerings->put("web-2", thief).error().slug, "duplicate-address");
    thief.addresses = {"10.9.1.40"};
    thief.backends = {in_mode_nat(kC, "31")};
    thief.backends[0].temporary_addresses.pop_back();
    thief.hosting = true;
    EXPECT_EQ(steerings->put("web-2", thief).error().slug, "duplicate-address");
    thief.backends = {in_mode_nat(kC, "41")};
    thief.backends[0].temporary_addresses.pop_back();
    EXPECT_TRUE(steerings->put("web-2", thief));
}

TEST_F(SwitchSteering, ABackendKeepsItsNamesWhileItHasSessions) {
    ASSERT_TRUE(steerings->put("web-1", to_nat("host-b", "host-a")));
    Steering renamed = to_nat("host-b", "host-a");
    renamed.backends[1] = kB;
    for (std::uint32_t* counter : {&plane.record(0).sessions[1], &plane.record(0).handshakes[1]}) {
        *counter = 3;
        Result<VmSteering> put = steerings->put("web-1", renamed);
        ASSERT_FALSE(put);
        EXPECT_EQ(put.error().slug, "mode-in-use");
        EXPECT_TRUE(complaints(put).contains("/backends/1/mode host-b has 3 sessions"));
        *counter = 0;
    }
    plane.record(0).sessions[0] = 3;
    EXPECT_TRUE(steerings->put("web-1", renamed)) << "the other's sessions do not matter";
}

TEST_F(SwitchSteering, AResetAskedTwiceIsDoneOnce) {
    ASSERT_TRUE(steerings->put("web-1", both("host-b", "host-a", true)));
    plane.record(0).sessions[0] = 5;
    EXPECT_EQ(steerings->reset("web-1", {{1, "j-1", "drain"}, "host-a"})->reset, 5u);
    plane.record(0).sessions[0] = 2;
    EXPECT_EQ(steerings->reset("web-1", {{1, "j-1", "drain"}, "host-a"})->reset, 5u);
    EXPECT_EQ(plane.record(0).sessions[0], 2u);
    Result<protocol::ResetResult> nobody = steerings->reset("web-1", {{1, "j-1", "x"}, "host-q"});
    ASSERT_FALSE(nobody);
    EXPECT_EQ(nobody.error().slug, "unknown-backend");
}

TEST_F(SwitchSteering, LostSessionsAreEndedIfTheyAreAsTheyWereListed) {
    ASSERT_TRUE(steerings->put("web-1", both("host-b", "host-a", true)));
    const auto put = [&](std::size_t line, std::uint16_t port, std::uint32_t owner) {
        steer_slot& slot = plane.lines(STEER_SESSIONS4)[line].slot[0];
        slot.peer_port = port;
        slot.vm_port = 80;
        slot.protocol = 6;
        slot.meta = STEER_LIVE | owner << STEER_META_OWNER_SHIFT;
        slot.last_tick = 50;
    };
    put(0, 4000, 0);
    put(1, 4001, 0);
    put(2, 4002, 1);
    const auto listed = dataplane::list_sessions(plane, steerings->vms(), {}).sessions;
    protocol::EndLostRequest request{{1, "j-1", "step"}, "host-a", {}};
    for (const protocol::SessionRow& row : listed)
        request.sessions.push_back({row.address, row.peer, row.stamp, row.port});
    request.sessions.push_back({"10.1.0.10", "0.0.0.0:4000", "no number", 80});
    plane.lines(STEER_SESSIONS4)[1].slot[0].last_tick = 60;  // a packet has passed
    const auto ended = steerings->end_lost("web-1", request);
    ASSERT_TRUE(ended) << ended.error().text();
    EXPECT_EQ(ended->ended, 1u);
    EXPECT_EQ(ended->kept, request.sessions.size() - 1);
    const auto& lines = plane.lines(STEER_SESSIONS4);
    EXPECT_EQ(lines[0].slot[0].meta, 0u);
    EXPECT_NE(lines[1].slot[0].meta, 0u);
    EXPECT_NE(lines[2].slot[0].meta, 0u) << "another owner's";
    EXPECT_EQ(steerings->end_lost("web-1", request)->ended, 0u) << "asked again";

    request.backend = "host-z";
    EXPECT_EQ(steerings->end_lost("web-1", request).error().slug, "unknown-backend");
    EXPECT_EQ(steerings->end_lost("web-9", request).error().slug, "unknown-vm");
    ASSERT_TRUE(steerings->raise_fence({2}));
    EXPECT_EQ(steerings->end_lost("web-1", request).error().slug, "stale-epoch");
}

TEST_F(SwitchSteering, AStateDirectoryIsOneSwitchs) {
    Result<Descriptor> first = StateFile(directory_).lock();
    ASSERT_TRUE(first) << first.error().text();
    Result<Descriptor> second = StateFile(directory_).lock();
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().fault, Fault::Conflict);
    EXPECT_NE(second.error().cause.find("stop it first"), std::string::npos);
    first->reset();
    EXPECT_TRUE(StateFile(directory_).lock());
}

TEST_F(SwitchSteering, AStateFileThatDoesNotReadStopsTheStart) {
    std::filesystem::create_directories(directory_);
    FILE* file = std::fopen((directory_ + "/switch.json").c_str(), "w");
    std::fputs("{\"token\": 3, ", file);
    std::fclose(file);
    Steerings next(plane, StateFile(directory_), [](const std::string&, const VmSteering&) {});
    Result<void> started = next.start();
    ASSERT_FALSE(started);
    EXPECT_EQ(started.error().fault, Fault::Corrupt);
}

TEST(SwitchConfig, TheShippedOneIsGood) {
    Result<dataplane::SwitchConfig> config =
        dataplane::load_config(std::string(GODWIT_SOURCE_ROOT) + "/configs/switch.yaml");
    ASSERT_TRUE(config) << config.error().text();
    EXPECT_EQ(config->ports.size(), 3u);
    EXPECT_EQ(config->timeouts.udp_s, 300u);
    EXPECT_EQ(config->dpdk.memory_mb, dataplane::DpdkConfig{}.memory_mb);
    EXPECT_EQ(config->sampling.per_second, 10000u);
}

TEST(Names, AddressesAndMacsReadStrictly) {
    EXPECT_EQ(dataplane::to_text(*dataplane::parse_hosted("fd00::10")), "fd00::10");
    for (const char* bad : {"", "10.1.0.10/24", "224.0.0.1", "0.0.0.0", "ff02::1", "host-a"})
        EXPECT_FALSE(dataplane::parse_hosted(bad)) << bad;
    EXPECT_TRUE(dataplane::parse_mac("52:54:00:aB:00:01"));
    for (const char* bad : {"", "52:54:00:00:00", "52:54:00:00:00:01:02", "00:00:00:00:00:00", "x"})
        EXPECT_FALSE(dataplane::parse_mac(bad)) << bad;
}

}  // namespace
}  // namespace godwit::test
