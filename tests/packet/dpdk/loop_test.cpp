// The worker's loop on real ethdevs (net_ring), its lcore a thread: what the control thread may do meanwhile.
#include "dataplane/dpdk/workers.hpp"

#include "dataplane/dpdk/environment.hpp"
#include "tests/packet/dpdk/eal.hpp"

#include <filesystem>
#include <poll.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <gtest/gtest.h>

namespace godwit::test {
namespace {

using dpdk::Workers;

// One uplink and one VM port, each of which gives back what it is sent.
class Loop : public testing::Test {
protected:
    Loop() {
        Eal::instance();
        auto file = dpdk::TableFile::open(path_, {1024, 1024, 256});
        EXPECT_TRUE(file) << file.error().text();
        file_ = std::move(*file);
        worker_ = std::make_unique<dpdk::Worker>(file_->tables(), stations_, 2);
        worker_->device = {Eal::instance().loop(0), Eal::instance().loop(1)};
        worker_->plane.directory = &directory_;
        auto loop = Workers::make({worker_.get()}, *file_, events_);
        EXPECT_TRUE(loop) << loop.error().text();
        loop_ = std::move(*loop);
    }
    ~Loop() override {
        loop_.reset();
        close(events_);
        unlink(path_.c_str());
    }
    std::uint64_t seen() { return worker_->counters.reason(STEER_WHY_NOT_MANAGED); }
    // A frame that goes round for ever: out of port 0, and in there again.
    void send_round() {
        EXPECT_TRUE(loop_->hand_over(
            Eal::instance().frame(ethernet(kVmMac, kClientMac, 0x88b5, Bytes(46, 1))), 0));
    }
    void until_seen(std::uint64_t more) {
        const std::uint64_t wanted = seen() + more;
        while (seen() < wanted) usleep(100);
    }

    std::string path_ = "/dev/shm/gwt" + std::to_string(getpid()) + "-loop";
    int events_ = eventfd(0, EFD_NONBLOCK);
    dpdk::Directory directory_;
    dpdk::Stations stations_{/*seed=*/7, dpdk::kTicksPerSecond};
    std::unique_ptr<dpdk::TableFile> file_;
    std::unique_ptr<dpdk::Worker> worker_;
    std::unique_ptr<Workers> loop_;
};

TEST_F(Loop, ForwardsAndStandsStillWhilePaused) {
    ASSERT_TRUE(loop_->start());
    for (int i = 0; i < 8; ++i) send_round();
    until_seen(1);
    for (int round = 0; round < 50; ++round) {
        const dpdk::Quiet::Pause pause(loop_->quiet());
        const std::uint64_t then = seen();
        directory_ = dpdk::Directory();  // a burst on its way would be reading it
        loop_->quiet().wait();           // who stands by keeps nobody waiting
        ASSERT_EQ(seen(), then);
    }
    until_seen(1);
}

TEST_F(Loop, BeatsSoThatASuccessorKnowsHowLongNobodyForwarded) {
    ASSERT_TRUE(loop_->start());
    send_round();
    until_seen(1);
    loop_.reset();
    file_.reset();
    auto next = dpdk::TableFile::open(path_, {1024, 1024, 256});
    ASSERT_TRUE(next) << next.error().text();
    EXPECT_TRUE((*next)->adopted());
    EXPECT_LT((*next)->silent_for(), std::chrono::minutes(10));
}

TEST_F(Loop, RaisesTheEventWhenSomebodyMayBeDrained) {
    ASSERT_TRUE(loop_->start());
    file_->tables().drained.fetch_add(1);
    pollfd raised{events_, POLLIN, 0};
    ASSERT_EQ(poll(&raised, 1, 60000), 1);
    eventfd_t count = 0;
    EXPECT_EQ(eventfd_read(events_, &count), 0);
}

TEST_F(Loop, WhatIsHandedOverBeyondItsRoomIsRefusedAndFreed) {
    Eal::instance().loop(0);
    Eal::instance().loop(1);
    const std::uint32_t before = Eal::instance().frames_out();
    int taken = 0;
    for (int i = 0; i < 300; ++i)
        taken += loop_->hand_over(Eal::instance().frame(Bytes(60, 1)), 0) ? 1 : 0;
    EXPECT_EQ(taken, 255);
    EXPECT_EQ(Eal::instance().frames_out(), before + 255);
    loop_.reset();
    EXPECT_EQ(Eal::instance().frames_out(), before);
}

TEST(BackOffTest, SleepsLongerAndLongerUntilAFrameComes) {
    dpdk::BackOff back_off;
    unsigned longest = 0;
    for (unsigned look = 0; look < dpdk::BackOff::kSpins; ++look)
        EXPECT_EQ(back_off.next(false), 0u);
    EXPECT_EQ(back_off.next(false), dpdk::BackOff::kShortest_us);
    for (int look = 0; look < 100000; ++look) {
        const unsigned sleep = back_off.next(false);
        EXPECT_GE(sleep, longest);
        longest = sleep;
    }
    EXPECT_EQ(longest, dpdk::BackOff::kLongest_us);
    EXPECT_EQ(back_off.next(true), 0u);
    EXPECT_EQ(back_off.next(false), 0u);
}

TEST(EnvironmentArguments, SayWhatTheYamlSays) {
    dpdk::EnvironmentOptions options{
        {{dataplane::Device::Kind::tap, "t0"}}, 1, {}, 96, false, "godwit-sw-1"};
    using Words = std::vector<std::string>;
    EXPECT_EQ(dpdk::environment_arguments(options, {0, 1}),
              (Words{"godwit-switch", "--no-telemetry", "--log-level=error",
                     "--lcores=0@(0,1),1@(0,1)", "-m", "96", "--file-prefix=godwit-sw-1",
                     "--no-huge", "--no-shconf", "--vdev=net_tap0,iface=t0", "--no-pci"}));
    options.lcores = {1};
    options.hugepages = true;
    options.devices = {{dataplane::Device::Kind::pci, "0000:01:00.0"}};
    EXPECT_EQ(
        dpdk::environment_arguments(options, {0, 1}),
        (Words{"godwit-switch", "--no-telemetry", "--log-level=error", "--lcores=0@(0,1),1@(1)",
               "-m", "96", "--file-prefix=godwit-sw-1", "--allow=0000:01:00.0"}));
    options.workers = 2;
    options.lcores = {3, 1};
    EXPECT_EQ(dpdk::environment_arguments(options, {0, 1, 3})[3], "--lcores=0@(0,1,3),1@(3),2@(1)");
    options.lcores = {};
    EXPECT_EQ(dpdk::environment_arguments(options, {0, 1})[3], "--lcores=0@(0,1),1@(0,1),2@(0,1)");
}

TEST(EnvironmentArguments, MoreWorkersThanCpusAreRefused) {
    dpdk::EnvironmentOptions options{{}, 3, {}, 96, false, "x"};
    const std::vector<std::uint32_t> cpus{0, 1};
    Result<void> refused = dpdk::check_lcores(options, cpus);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().cause,
              "dpdk.workers is 3, and every worker needs a CPU: this process may use 0, 1");
    options.workers = 2;
    EXPECT_TRUE(dpdk::check_lcores(options, cpus));
    options.lcores = {1, 4};
    refused = dpdk::check_lcores(options, cpus);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().cause, "dpdk.lcores has CPU 4, and this process may use 0, 1");
}

}  // namespace
}  // namespace godwit::test
