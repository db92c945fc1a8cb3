// Sessions that the guest has lost without a word, and what a drain does about them.
#include "controller/steps/guest_sockets.hpp"
#include "tests/fakes/controller_rig.hpp"

#include <gtest/gtest.h>

namespace godwit::fakes {
namespace {

using protocol::OnDeadline;

// The source's sessions do not end by themselves; the guest has them at the first look and then no more.
struct LostSockets : testing::Test, ControllerRig {
    LostSockets() {
        request.drain = {600, OnDeadline::reset};
        world.ending["host-a"] = 0;
        meanwhile = [this](ControllerRig&) {
            std::vector<protocol::TcpSocket>& has = world.hosts["host-a"].guest_tcp;
            const int looks = world.count_calls("GET /v1/sessions");
            if (looks <= 1 && has.empty() && had) has = world.sockets_of("host-a");
            if (looks > 1) has.clear();
        };
    }
    void begin() {
        start();
        submit();
    }
    void expect_clean() {
        EXPECT_EQ(seen().state, "succeeded") << json::to_text(seen());
        EXPECT_EQ(world.violations, std::vector<std::string>{});
        EXPECT_EQ(world.leftovers(), std::vector<std::string>{});
    }
    bool had = true;
};

TEST_F(LostSockets, DoNotHoldTheDrain) {
    begin();
    run_to_rest();
    expect_clean();
    EXPECT_EQ(world.count_calls(":end-lost"), 1);
    EXPECT_TRUE(has_step("draining", "lost"));
    EXPECT_EQ(seen().result->sessions_reset, 0U);
    EXPECT_GE(world.count_calls("GET /v1/vms/web-1/sockets"), 3) << "had once, missed twice";
}

TEST_F(LostSockets, AreOnlyThoseThatTheGuestWasSeenToHave) {
    had = false;  // a container's, say
    begin();
    run_to_rest();
    expect_clean();
    EXPECT_EQ(world.count_calls(":end-lost"), 0);
    EXPECT_EQ(seen().result->sessions_reset, 6U) << "by the deadline";
}

TEST_F(LostSockets, AreNoneWhilePacketsPass) {
    world.packets_pass = true;
    begin();
    run_to_rest();
    expect_clean();
    EXPECT_EQ(world.count_calls(":end-lost"), 0);
    EXPECT_EQ(seen().result->sessions_reset, 6U);
}

TEST_F(LostSockets, AreNotLookedForWhenNobodyAnswers) {
    world.troubles = {{"host-a", "/sockets", fakes::Mishap::refuse, 1000}};
    begin();
    run_to_rest();
    EXPECT_EQ(seen().state, "succeeded");
    EXPECT_EQ(world.count_calls(":end-lost"), 0);
    EXPECT_EQ(seen().result->sessions_reset, 6U);
}

TEST(GuestSockets, MissesASessionTwiceInARowWithTheSameStamp) {
    controller::GuestSockets sockets;
    const auto list = [](const std::string& stamp) {
        protocol::SessionRow row{"web-1", "host-a", "tcp", "10.1.0.10", "10.0.0.9:4000", "closing"};
        row.port = 80;
        row.stamp = stamp;
        return protocol::SessionList{{row}, 1};
    };
    const protocol::SocketTable none, has{1, {}, {}, {{"10.1.0.10", "10.0.0.9:4000", 80}}};
    EXPECT_TRUE(sockets.compare(list("1"), none).empty());
    EXPECT_TRUE(sockets.compare(list("1"), none).empty()) << "never seen";
    EXPECT_TRUE(sockets.compare(list("1"), has).empty());
    EXPECT_TRUE(sockets.compare(list("1"), none).empty()) << "missed once";
    EXPECT_TRUE(sockets.compare(list("2"), none).empty()) << "a packet has passed";
    EXPECT_TRUE(sockets.compare(list("2"), has).empty()) << "there again";
    EXPECT_TRUE(sockets.compare(list("2"), none).empty());
    EXPECT_EQ(sockets.compare(list("2"), none),
              (std::vector<protocol::LostSession>{{"10.1.0.10", "10.0.0.9:4000", "2", 80}}));
    EXPECT_TRUE(sockets.compare({}, none).empty());
    EXPECT_TRUE(sockets.compare(list("2"), none).empty()) << "another session on the same ports";
}

}  // namespace
}  // namespace godwit::fakes
