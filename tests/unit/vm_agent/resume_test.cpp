// A copy over a link that is cut, at any byte and in either direction: it goes on where it was, no
// byte of the memory is wrong, and what is sent twice is bounded and counted.
#include "tests/fakes/cutting_proxy.hpp"
#include "tests/fakes/fleet_ca.hpp"
#include "tests/fakes/temporary_directory.hpp"
#include "vm_agent/memory/copy.hpp"
#include "vm_agent/memory/session.hpp"

#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <mutex>
#include <random>
#include <thread>

#include <gtest/gtest.h>

namespace {

using namespace godwit;
using namespace godwit::memory;
using namespace godwit::protocol::wire;
using fakes::CuttingProxy;
using fakes::TemporaryDirectory;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::uint64_t kRam = 12 << 20, kDevices = 300'000;
constexpr std::size_t kWindow = 4 << 20;
const std::string kSecret = "the peers' secret";

Hello hello_for(const std::string& vm) {
    Hello hello;
    hello.command = {3, "j-1", "copying"};
    hello.vm = vm;
    hello.blocks = {{"ram", kRam}};
    return hello;
}

// What the agent's TransferServer does with connections, around a copy into one image.
class Destination {
public:
    Destination(Image& image, std::shared_ptr<const tls::Context> tls)
        : image_(image), tls_(std::move(tls)), listener_(socket(AF_INET, SOCK_STREAM, 0)) {
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof(at);
        if (bind(listener_.get(), reinterpret_cast<sockaddr*>(&at), size) != 0 ||
            listen(listener_.get(), 4) != 0)
            abort();
        getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&at), &size);
        address = "127.0.0.1:" + std::to_string(ntohs(at.sin_port));
        acceptor_ = std::thread([this] { accept_all(); });
    }
    ~Destination() {
        stopping_ = true;
        acceptor_.join();
        finish();
    }
    // Until the copy has ended, well or not.
    void finish() {
        std::thread worker;
        {
            std::lock_guard guard(mutex_);
            worker = std::move(worker_);
        }
        if (worker.joinable()) worker.join();
    }

    std::string address;
    Result<CopyLanding> landed = fail(Fault::Lost, "", "");
    Result<Descriptor> devices = fail(Fault::Lost, "", "");
    Result<void> flushed;
    std::atomic<bool> forgets = false;  // as an agent that was restarted
    milliseconds patience{10'000};

private:
    void accept_all() {
        while (!stopping_) {
            pollfd waiting{listener_.get(), POLLIN, 0};
            if (poll(&waiting, 1, 20) != 1) continue;
            auto channel = std::make_shared<FrameChannel>(
                Descriptor(accept(listener_.get(), nullptr, nullptr)));
            greet(channel);
        }
    }
    void greet(const std::shared_ptr<FrameChannel>& channel) {
        channel->set_deadline(milliseconds(5000));
        if (tls_ && !channel->take_tls(tls_, milliseconds(2000))) return;
        Result<Caller> caller = hear_hello(*channel, kSecret);
        if (!caller) return;
        if (!caller->hello.resume) {
            seat_ = std::make_shared<Seat>();
            session_ = channel;
            channel->set_patience(patience);
            if (!begin_at(seat_, *channel, *caller, "host-b", kSecret)) return;
            std::lock_guard guard(mutex_);
            worker_ = std::thread([this, channel] { work(*channel); });
        } else if (forgets) {
            channel->abort({Fault::Conflict, "take a session up again", "it was restarted"});
        } else {
            session_->disconnect();
            if (!take_up_at(*seat_, *channel, *caller, "host-b", kSecret,
                            steady_clock::now() + milliseconds(3000)))
                channel->disconnect();
        }
    }
    void work(FrameChannel& channel) {
        landed = receive_copy(channel, image_);
        if (landed) (void)channel.send(FrameType::patched, bytes_of(landed->root));
        if (landed) devices = receive_devices(channel);
        if (devices) (void)channel.send(FrameType::loaded, {});
        channel.set_patience(milliseconds(300));
        flushed = channel.flush();
    }

    Image& image_;
    std::shared_ptr<const tls::Context> tls_;
    Descriptor listener_;
    std::atomic<bool> stopping_ = false;
    std::shared_ptr<Seat> seat_;
    std::shared_ptr<FrameChannel> session_;
    std::mutex mutex_;  // of worker_, which the acceptor begins and the test's thread waits for
    std::thread acceptor_, worker_;
};

class AgentResume : public testing::Test {
protected:
    AgentResume() {
        signal(SIGPIPE, SIG_IGN);
        for (const char* host : {"a", "b"})
            if (!MappedFile::create(folder.file(host), kRam)) abort();
        std::mt19937_64 random(7);
        Image guest = *Image::open(blocks("a"));
        for (std::uint64_t at = 0; at < kRam * 3 / 4; at += 8) {
            const std::uint64_t word = random();
            std::memcpy(guest.blocks()[0].data() + at, &word, 8);
        }
    }
    std::vector<BlockFile> blocks(const std::string& host) const {
        return {{{"ram", kRam}, folder.file(host)}};
    }

    struct Outcome {
        Result<void> done;
        std::uint64_t resumes = 0, bytes_resent = 0, connections = 0, to_target = 0,
                      from_target = 0;
        bool is_equal = false;
        std::uint64_t device_bytes = 0;
    };

    // A whole copy: base, one change at the fork, device state.
    Outcome copy(std::deque<CuttingProxy::Cut> cuts) {
        Image guest = *Image::open(blocks("a"));
        Image target = *Image::open(blocks("b"));
        std::memset(target.blocks()[0].data(), 0x5a, kRam);
        Destination there(target, tls_there);
        CuttingProxy link(there.address, std::move(cuts));
        Outcome outcome;
        outcome.done = send(guest, link, outcome);
        there.finish();
        outcome.connections = link.connections;
        outcome.to_target = link.to_target;
        outcome.from_target = link.from_target;
        outcome.is_equal = *target.root() == *guest.root();
        if (there.devices)
            outcome.device_bytes =
                static_cast<std::uint64_t>(lseek(there.devices->get(), 0, SEEK_END));
        return outcome;
    }

    Result<void> send(Image& guest, const CuttingProxy& link, Outcome& outcome) {
        const Peer peer{link.address, "host-b"};
        auto channel = FrameChannel::connect(peer, tls_here, milliseconds(5000));
        if (!channel) return std::unexpected(channel.error());
        Result<void> done = begin_session(**channel, peer, {kSecret, tls_here}, hello_for("web-1"));
        if (!done) return done;
        (*channel)->set_window(kWindow);
        (*channel)->set_deadline(milliseconds(10'000));
        auto progress = std::make_shared<CopyProgress>();
        Result<CopySource> source = CopySource::open(blocks("a"), progress);
        if (!source) return std::unexpected(source.error());
        done = source->send_base(**channel);
        for (std::uint64_t at = 0; at < 4 << 20; at += 4096)
            guest.blocks()[0].data()[at + 9] ^= std::byte{255};
        if (done) done = source->get_ready();
        if (done) done = source->capture();
        if (done) {
            Result<Root> root = source->send_diff(**channel, 8);
            done = root ? Result<void>{} : std::unexpected(root.error());
        }
        Descriptor state(open(folder.file("a").c_str(), O_RDONLY));
        if (done) done = send_devices(**channel, state.get(), kDevices);
        outcome.resumes = (*channel)->resumes();
        outcome.bytes_resent = (*channel)->bytes_resent();
        return done;
    }

    void expect_good(const Outcome& outcome, const std::string& where) {
        ASSERT_TRUE(outcome.done) << where << ": " << outcome.done.error().text();
        EXPECT_TRUE(outcome.is_equal) << where;
        EXPECT_EQ(outcome.device_bytes, kDevices) << where;
        EXPECT_LE(outcome.bytes_resent, outcome.resumes * (kWindow + kPayloadMax)) << where;
    }

    TemporaryDirectory folder;
    std::shared_ptr<const tls::Context> tls_here, tls_there;
};

TEST_F(AgentResume, WithoutACutNothingIsSentTwice) {
    const Outcome outcome = copy({});
    expect_good(outcome, "uncut");
    EXPECT_EQ(outcome.resumes, 0u);
    EXPECT_EQ(outcome.bytes_resent, 0u);
    EXPECT_EQ(outcome.connections, 1u);
}

// Places in the greeting belong to no session yet: the first is behind it.
TEST_F(AgentResume, CutAnywhereOnTheWayThereItGoesOn) {
    const Outcome whole = copy({});
    constexpr std::uint64_t kGreeting = 1000;
    for (int part = 0; part <= 16; ++part) {
        const std::uint64_t place =
            kGreeting + (whole.to_target - kGreeting) * static_cast<std::uint64_t>(part) / 16 -
            (part == 16);
        const Outcome outcome = copy({{.to_target = place}});
        expect_good(outcome, "cut after " + std::to_string(place));
        if (part < 16) EXPECT_EQ(outcome.resumes, 1u) << place;
        EXPECT_LE(outcome.to_target, whole.to_target + kWindow + kPayloadMax + 4096) << place;
    }
}

// The words of the destination: BASE_HELD, PATCHED, LOADED and the ACKs between.
TEST_F(AgentResume, CutAnywhereOnTheWayBackItGoesOn) {
    const Outcome whole = copy({});
    // Three words of 24 to 40 bytes and at least five ACKs of 24 lie behind the greeting.
    for (std::uint64_t from_end = 0; from_end < 208; from_end += 8) {
        const Outcome outcome = copy({{.from_target = whole.from_target - from_end}});
        expect_good(outcome, "cut " + std::to_string(from_end) + " before the end");
    }
}

TEST_F(AgentResume, ManyCutsInARowAreManyResumes) {
    std::deque<CuttingProxy::Cut> cuts;
    for (int i = 0; i < 5; ++i) cuts.push_back({.to_target = 2 << 20});
    const Outcome outcome = copy(std::move(cuts));
    expect_good(outcome, "five cuts");
    EXPECT_EQ(outcome.resumes, 5u);
    EXPECT_GT(outcome.bytes_resent, 0u);
}

TEST_F(AgentResume, CutAgainInTheGreetingIsTriedAgain) {
    const Outcome outcome =
        copy({{.to_target = 3 << 20}, {.to_target = 1}, {.from_target = 50}, {.to_target = 700}});
    expect_good(outcome, "cut in the greeting");
    EXPECT_EQ(outcome.connections, 5u);
}

TEST_F(AgentResume, TlsIsMadeAnewForEveryConnection) {
    TemporaryDirectory certificates;
    fakes::FleetCa fleet(certificates.file(""), "Godwit fleet");
    tls_here = *tls::Context::load(fleet.issue("host-a", "DNS:host-a"));
    tls_there = *tls::Context::load(fleet.issue("host-b", "DNS:host-b"));
    std::deque<CuttingProxy::Cut> cuts;
    for (std::uint64_t place : {1 << 20, 3'333'333, 2'000, 900})
        cuts.push_back({.to_target = place});
    const Outcome outcome = copy(std::move(cuts));
    expect_good(outcome, "cut in TLS");
    EXPECT_GE(outcome.resumes, 2u);
}

TEST_F(AgentResume, AnAgentThatWasRestartedRefusesAtOnce) {
    Image guest = *Image::open(blocks("a"));
    Image target = *Image::open(blocks("b"));
    Destination there(target, nullptr);
    there.forgets = true;
    there.patience = milliseconds(200);
    CuttingProxy link(there.address, {{.to_target = 3 << 20}});
    Outcome outcome;
    const Result<void> done = send(guest, link, outcome);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().fault, Fault::Lost);
    EXPECT_EQ(done.error().slug, "session-gone");
    EXPECT_NE(done.error().cause.find("restarted"), std::string::npos) << done.error().text();
}

TEST_F(AgentResume, WhoNeverComesBackCostsItsPatience) {
    int fds[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    FrameChannel channel{Descriptor(fds[0])};
    close(fds[1]);
    channel.set_patience(milliseconds(250));
    int asked = 0;
    channel.begin_session([&](std::uint32_t, Deadline) -> Result<Rejoined> {
        ++asked;
        return fail(Fault::Lost, "connect", "No route to host", "peer-unreachable");
    });
    Result<Frame> frame = channel.receive();
    ASSERT_FALSE(frame);
    EXPECT_EQ(frame.error().fault, Fault::Lost);
    EXPECT_NE(frame.error().cause.find("No route"), std::string::npos) << frame.error().text();
    EXPECT_GT(asked, 1);
}

// Two ends of a session over a socket pair that is never cut.
struct Pair {
    Pair() {
        int fds[2];
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0) abort();
        here = std::make_unique<FrameChannel>(Descriptor(fds[0]));
        there = std::make_unique<FrameChannel>(Descriptor(fds[1]));
        for (FrameChannel* one : {here.get(), there.get()}) one->set_deadline(milliseconds(200));
        here->begin_session([](std::uint32_t, Deadline) -> Result<Rejoined> {
            return fail(Fault::Conflict, "connect", "there is no other connection");
        });
    }
    std::unique_ptr<FrameChannel> here, there;
};

TEST(AgentCredit, NoMoreThanTheWindowIsUnderWay) {
    Pair pair;
    pair.here->set_window(100'000);
    const std::vector<std::byte> body(40'000);
    // `there` has no session and acknowledges nothing.
    ASSERT_TRUE(pair.here->send(FrameType::base, body));
    ASSERT_TRUE(pair.here->send(FrameType::base, body));
    const std::uint64_t sent = pair.here->bytes_sent();
    Result<void> third = pair.here->send(FrameType::base, body);
    ASSERT_FALSE(third) << "it must wait for an ACK";
    EXPECT_EQ(third.error().slug, "peer-silent");
    EXPECT_EQ(pair.here->bytes_sent(), sent);
}

TEST(AgentCredit, AnAckGivesRoomAndAFalseOneIsRefused) {
    Pair pair;
    pair.here->set_window(100'000);
    const std::vector<std::byte> body(40'000);
    pair.there->begin_session({[](std::uint32_t, Deadline) -> Result<Rejoined> {
        return fail(Fault::Conflict, "connect", "there is no other connection");
    }});
    for (int i = 0; i < 4; ++i) {
        ASSERT_TRUE(pair.here->send(FrameType::merge_end, body)) << i;
        ASSERT_TRUE(pair.there->receive()) << i;  // acknowledges at once
    }
    ASSERT_TRUE(pair.here->flush());
    FrameHead ack{kFrameMagic, kFrameVersion, static_cast<std::uint16_t>(FrameType::ack), 0, 99, 0};
    ack.checksum = frame_checksum(ack, {});
    ASSERT_TRUE(pair.there->transport()->write_some(bytes_of(ack),
                                                    steady_clock::now() + milliseconds(200)));
    Result<Frame> frame = pair.here->receive();
    ASSERT_FALSE(frame);
    EXPECT_EQ(frame.error().slug, "malformed-frame");
    EXPECT_NE(frame.error().cause.find("99"), std::string::npos) << frame.error().text();
}

TEST(AgentSeat, AConnectionForAnEarlierCutIsNotTaken) {
    Seat seat;
    std::uint64_t stale = 0;
    std::thread first(
        [&] { stale = seat.waiting(steady_clock::now() + milliseconds(5000))->turn; });
    Result<Rejoined> none = seat.wait(5, steady_clock::now() + milliseconds(100));
    first.join();
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().fault, Fault::Lost);
    std::thread second([&] {
        Result<Seat::Waiting> waiting = seat.waiting(steady_clock::now() + milliseconds(5000));
        seat.offer({nullptr, 1}, stale);
        seat.offer({nullptr, 2}, waiting->turn);
    });
    Result<Rejoined> taken = seat.wait(6, steady_clock::now() + milliseconds(5000));
    second.join();
    ASSERT_TRUE(taken);
    EXPECT_EQ(taken->received, 2u);
    seat.close();
    Result<Rejoined> closed = seat.wait(6, steady_clock::now() + milliseconds(5000));
    ASSERT_FALSE(closed);
    EXPECT_EQ(closed.error().slug, "cancelled");
}

TEST(AgentSessions, OneThatFailedIsRefusedWithItsReason) {
    Sessions sessions;
    int fds[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    close(fds[1]);
    auto channel = std::make_shared<FrameChannel>(Descriptor(fds[0]));
    sessions.add("s-1", {"web-1", "j-1", channel, std::make_shared<Seat>()});
    ASSERT_TRUE(sessions.find("s-1"));
    EXPECT_FALSE(sessions.end_cut("web-1")) << "its connection is not cut";
    sessions.remove(channel, "No space left on device");
    Result<Session> gone = sessions.find("s-1");
    ASSERT_FALSE(gone);
    EXPECT_EQ(gone.error().cause, "No space left on device");
    EXPECT_NE(sessions.find("s-2").error().cause.find("does not know"), std::string::npos);
}

}  // namespace
