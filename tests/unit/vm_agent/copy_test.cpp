// A whole copy over a socket, without QEMU: the "guest" is a thread that writes into the source's
// memory. And what a hostile source may not do to the destination.
#include "vm_agent/memory/copy.hpp"

#include "tests/fakes/temporary_directory.hpp"

#include <cstring>
#include <fcntl.h>
#include <random>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>

namespace {

using namespace godwit;
using fakes::TemporaryDirectory;
using namespace godwit::memory;
using namespace godwit::protocol::wire;

constexpr std::uint64_t kRam = 24 << 20, kRegion = 4 << 20;

struct TwoHosts {
    TwoHosts() {
        int fds[2];
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0) std::abort();
        source = std::make_unique<FrameChannel>(Descriptor(fds[0]));
        destination = std::make_unique<FrameChannel>(Descriptor(fds[1]));
        for (FrameChannel* one : {source.get(), destination.get()})
            one->set_deadline(std::chrono::seconds(20));
        for (const char* host : {"a", "b"})
            for (auto [name, bytes] : {std::pair{"ram", kRam}, {"region", kRegion}})
                if (!MappedFile::create(file(host, name), bytes)) std::abort();
    }
    std::string file(const std::string& host, const std::string& name) const {
        return folder.file("") + host + "." + name;
    }
    std::vector<BlockFile> blocks(const std::string& host) const {
        return {{{"ram", kRam}, file(host, "ram")}, {{"region:r", kRegion}, file(host, "region")}};
    }

    TemporaryDirectory folder;
    std::unique_ptr<FrameChannel> source, destination;
};

void scribble(Image& image, std::uint64_t seed, int times) {
    std::mt19937_64 random(seed);
    for (int i = 0; i < times; ++i) {
        MappedFile& block = image.blocks()[random() % 2];
        const std::uint64_t word = random() % 4 == 0 ? 0 : random();
        std::memcpy(block.data() + random() % (block.size() / 8) * 8, &word, 8);
    }
}

TEST(Copy, DestinationHoldsTheImageOfTheForkHoweverTheGuestWroteMeanwhile) {
    TwoHosts hosts;
    Image guest = *Image::open(hosts.blocks("a"));
    scribble(guest, 1, 20'000);
    // Left over from an earlier attempt: the copy must not show through.
    Image target = *Image::open(hosts.blocks("b"));
    scribble(target, 2, 5'000);

    Result<CopyLanding> landed = fail(Fault::Lost, "", "");
    Result<Descriptor> devices = fail(Fault::Lost, "", "");
    std::thread there([&] {
        landed = receive_copy(*hosts.destination, target);
        if (!landed) return hosts.destination->abort(landed.error());
        (void)hosts.destination->send(FrameType::patched, bytes_of(landed->root));
        devices = receive_devices(*hosts.destination);
        (void)hosts.destination->send(FrameType::loaded, {});
    });
    auto progress = std::make_shared<CopyProgress>();
    Result<CopySource> copy = CopySource::open(hosts.blocks("a"), progress);
    ASSERT_TRUE(copy) << copy.error().text();
    std::atomic<bool> running = true;
    std::thread writer([&] {
        for (std::uint64_t seed = 3; running; ++seed) scribble(guest, seed, 500);
    });
    Result<void> sent = copy->send_base(*hosts.source);
    running = false;  // the fork: the guest stands still
    writer.join();
    ASSERT_TRUE(sent) << sent.error().text();
    scribble(guest, 99, 1000);
    ASSERT_TRUE(copy->get_ready());
    ASSERT_TRUE(copy->capture());
    const Root at_fork = *guest.root();
    scribble(guest, 100, 1000);  // and it goes on
    Result<Root> root = copy->send_diff(*hosts.source, 8);
    ASSERT_TRUE(root) << root.error().text();
    Descriptor state(open(hosts.file("a", "ram").c_str(), O_RDONLY));
    ASSERT_TRUE(send_devices(*hosts.source, state.get(), 3'000'000));
    there.join();
    ASSERT_TRUE(landed);
    EXPECT_EQ(*root, at_fork);
    EXPECT_EQ(*target.root(), at_fork);
    EXPECT_EQ(*copy->fork_image().root(), at_fork);
    EXPECT_EQ(landed->epoch, 8u);
    ASSERT_TRUE(devices);
    EXPECT_EQ(lseek(devices->get(), 0, SEEK_END), 3'000'000);
    EXPECT_GT(progress->bytes_diff, 0u);
    EXPECT_EQ(progress->bytes_total, progress->bytes_copied);
}

TEST(Copy, PagesOfZerosCostNothingOnTheWire) {
    TwoHosts hosts;
    {
        Image guest = *Image::open(hosts.blocks("a"));
        std::memset(guest.blocks()[0].data(), 0, kRam);
        std::memset(guest.blocks()[0].data() + (5 << 20), 1, kPageBytes);
    }
    Image target = *Image::open(hosts.blocks("b"));
    std::thread there([&] { (void)receive_copy(*hosts.destination, target); });
    auto progress = std::make_shared<CopyProgress>();
    Result<CopySource> copy = CopySource::open(hosts.blocks("a"), progress);
    ASSERT_TRUE(copy);
    ASSERT_TRUE(copy->send_base(*hosts.source));
    EXPECT_LT(hosts.source->bytes_sent(), 2 * kPageBytes);
    hosts.source->cancel();
    there.join();
    EXPECT_EQ(target.blocks()[0].data()[5 << 20], std::byte{1});
}

// Method whole: rounds while the guest writes, a reckoning that sends nothing, and the last compare.
TEST(Copy, RoundsAreProvenAndTheLastCompareSendsWhatIsLeft) {
    TwoHosts hosts;
    Image guest = *Image::open(hosts.blocks("a"));
    scribble(guest, 1, 20'000);
    Image target = *Image::open(hosts.blocks("b"));
    Result<CopyLanding> landed = fail(Fault::Lost, "", "");
    std::thread there([&] {
        Result<void> held = receive_base(*hosts.destination, target);
        if (held) held = receive_rounds(*hosts.destination, target);
        if (held) held = hosts.destination->send(FrameType::standing_by, {});
        if (!held) return hosts.destination->abort(held.error());
        landed = receive_changes(*hosts.destination, target);
        if (!landed) return hosts.destination->abort(landed.error());
        (void)hosts.destination->send(FrameType::patched, bytes_of(landed->root));
    });
    auto progress = std::make_shared<CopyProgress>();
    Result<CopySource> copy = CopySource::open(hosts.blocks("a"), progress);
    ASSERT_TRUE(copy) << copy.error().text();
    std::atomic<bool> running = true;
    std::thread writer([&] {
        for (std::uint64_t seed = 3; running; ++seed) scribble(guest, seed, 500);
    });
    Result<void> done = copy->send_base(*hosts.source);
    if (done) done = copy->get_ready();
    for (int round = 0; round < 3 && done; ++round) {
        done = copy->capture();
        if (done) done = copy->send_round(*hosts.source);
        if (done) done = copy->get_ready();
    }
    const std::uint64_t in_rounds = progress->bytes_diff;
    if (done) done = copy->capture();
    const double reckoned = copy->expected_pause_ms(0);
    copy->forget_capture();
    running = false;
    writer.join();
    ASSERT_TRUE(done) << done.error().text();
    EXPECT_GT(in_rounds, 0u);
    EXPECT_GT(reckoned, copy->expected_pause_ms(0))
        << "what was found counts, until it is forgotten";
    EXPECT_EQ(progress->bytes_diff, in_rounds) << "a reckoning sends nothing";

    ASSERT_TRUE(hosts.source->send(FrameType::standby, {}));
    ASSERT_TRUE(hosts.source->expect(FrameType::standing_by));
    ASSERT_TRUE(copy->capture());
    const Root when_stopped = *guest.root();
    Result<Root> root = copy->send_diff(*hosts.source, 0);
    ASSERT_TRUE(root) << root.error().text();
    there.join();
    ASSERT_TRUE(landed);
    EXPECT_EQ(*root, when_stopped);
    EXPECT_EQ(*target.root(), when_stopped);
}

TEST(CopyDestination, ARoundThatIsNotEqualIsRefused) {
    TwoHosts hosts;
    Image target = *Image::open(hosts.blocks("b"));
    const Root wrong{1, 2};
    ASSERT_TRUE(hosts.source->send(FrameType::base_end, bytes_of(wrong)));
    Result<void> refused = receive_rounds(*hosts.destination, target);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().cause.find("after the round"), std::string::npos);
    ASSERT_TRUE(hosts.source->send(FrameType::devstate, {}));
    refused = receive_rounds(*hosts.destination, target);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().cause.find("neither"), std::string::npos);
}

// One frame, and what the destination says to it. Its memory must be what it was.
std::string refusal_of(FrameType type, std::span<const std::byte> head,
                       std::span<const std::byte> body = {}) {
    TwoHosts hosts;
    Image target = *Image::open(hosts.blocks("b"));
    const Root before = *target.root();
    std::thread source([&] {
        (void)hosts.source->send(type, head, body);
        hosts.source->cancel();
    });
    Result<CopyLanding> landed = receive_copy(*hosts.destination, target);
    source.join();
    EXPECT_EQ(*target.root(), before);
    return landed ? "taken" : landed.error().cause;
}

TEST(CopyDestination, RangesOutsideOfABlockAreRefusedAndNothingIsWritten) {
    const std::vector<std::byte> page(kPageBytes, std::byte{1});
    auto range = [&](RangeHead head) { return refusal_of(FrameType::base, bytes_of(head), page); };
    EXPECT_NE(range({2, Codec::raw, 0, kPageBytes}).find("block 2 of 2"), std::string::npos);
    EXPECT_NE(range({0, Codec::raw, kRam, kPageBytes}).find("does not lie in"), std::string::npos);
    EXPECT_NE(range({0, Codec::raw, ~0ull << 12, kPageBytes}).find("does not lie in"),
              std::string::npos);
    EXPECT_NE(range({0, Codec::raw, 64, kPageBytes}).find("does not lie in"), std::string::npos);
    EXPECT_NE(range({0, Codec::raw, 0, 0}).find("does not lie in"), std::string::npos);
    EXPECT_NE(range({0, Codec::raw, 0, ~0ull << 12}).find("does not lie in"), std::string::npos);
    EXPECT_NE(range({0, Codec::raw, 0, 2 * kPageBytes}).find("says it has"), std::string::npos);
    const RangeHead all{1, Codec::raw, 0, kRegion + kPageBytes};
    EXPECT_NE(refusal_of(FrameType::zero, bytes_of(all)).find("does not lie in"),
              std::string::npos);
    EXPECT_NE(refusal_of(FrameType::base, bytes_of(all).first(7)).find("cut short"),
              std::string::npos);
}

TEST(CopyDestination, PackedMemoryThatIsNotWhatItSaysIsRefused) {
    const std::vector<std::byte> page(kPageBytes, std::byte{1});
    const std::vector<std::byte> packed = *compressed(Codec::zstd, page);
    auto range = [&](Codec codec, std::uint64_t length) {
        const RangeHead head{0, codec, 0, length};
        return refusal_of(FrameType::base, bytes_of(head), packed);
    };
    EXPECT_NE(range(Codec::zstd, 2 * kPageBytes).find("said to be"), std::string::npos);
    EXPECT_NE(range(Codec::lz4, kPageBytes).find("said to be"), std::string::npos);
    EXPECT_NE(range(static_cast<Codec>(7), kPageBytes).find("unknown codec 7"), std::string::npos);
    EXPECT_NE(range(Codec::zstd, kRam).find("are taken at once"), std::string::npos);
}

// What is sent of a copy in which pages become zero between base and fork.
std::uint64_t bytes_of_copy(Compression compression, bool zeroes) {
    TwoHosts hosts;
    Image guest = *Image::open(hosts.blocks("a"));
    Image target = *Image::open(hosts.blocks("b"));
    for (std::size_t i = 0; i < (8 << 20); ++i)
        guest.blocks()[0].data()[i] = std::byte(i / 64 % 200 + 1);
    std::thread there([&] {
        Result<CopyLanding> landed = receive_copy(*hosts.destination, target);
        EXPECT_TRUE(landed) << landed.error().text();
        if (landed) (void)hosts.destination->send(FrameType::patched, bytes_of(landed->root));
    });
    auto progress = std::make_shared<CopyProgress>();
    CopySource copy = *CopySource::open(hosts.blocks("a"), progress, compression);
    EXPECT_TRUE(copy.send_base(*hosts.source));
    if (zeroes) std::memset(guest.blocks()[0].data() + (1 << 20), 0, 2 << 20);
    std::memset(guest.blocks()[0].data() + (4 << 20), 9, 64 * 1024);
    EXPECT_TRUE(copy.get_ready());
    EXPECT_TRUE(copy.capture());
    const std::uint64_t before = hosts.source->bytes_sent();
    EXPECT_TRUE(copy.send_diff(*hosts.source, 1));
    there.join();
    EXPECT_EQ(*guest.root(), *target.root());
    EXPECT_EQ(progress->bytes_compressed > 0, compression != Compression::off);
    if (zeroes) EXPECT_GE(progress->bytes_zero, 2u << 20);
    if (zeroes) EXPECT_LT(*target.resident_bytes(), 7u << 20) << "zero pages take memory there";
    EXPECT_LT(hosts.source->bytes_sent() - before, 100'000u);
    return hosts.source->bytes_sent();
}

TEST(Copy, APageThatBecomesZeroIsNotSentAndTakesNoMemoryThere) {
    bytes_of_copy(Compression::off, true);
}

TEST(Copy, CompressedTheMemoryIsTheSameAndTheWireCarriesLess) {
    const std::uint64_t raw = bytes_of_copy(Compression::off, false);
    EXPECT_LT(bytes_of_copy(Compression::lz4, true), raw / 4);
    EXPECT_LT(bytes_of_copy(Compression::zstd, true), raw / 4);
}

TEST(CopyDestination, FramesOutOfTurnAreRefused) {
    EXPECT_NE(refusal_of(FrameType::devstate, {}).find("neither"), std::string::npos);
    EXPECT_NE(refusal_of(FrameType::diff, {}).find("neither"), std::string::npos);
    EXPECT_NE(refusal_of(FrameType::standby, {}).find("neither"), std::string::npos);
}

TEST(CopyDestination, WrongRootIsNotPatchedOver) {
    const Root wrong{1, 2};
    EXPECT_NE(refusal_of(FrameType::base_end, bytes_of(wrong)).find("after the base copy"),
              std::string::npos);
}

std::string device_refusal(DevstateHead head, std::size_t bytes) {
    TwoHosts hosts;
    const std::vector<std::byte> body(bytes);
    std::thread source([&] {
        (void)hosts.source->send(FrameType::devstate, bytes_of(head), body);
        hosts.source->cancel();
    });
    Result<Descriptor> devices = receive_devices(*hosts.destination);
    source.join();
    return devices ? "taken" : devices.error().cause;
}

TEST(CopyDestination, DeviceStateOfHostileSizesIsRefused) {
    EXPECT_EQ(device_refusal({100, 0}, 100), "taken");
    EXPECT_NE(device_refusal({kDevstateMax + 1, 0}, 100).find("device state"), std::string::npos);
    EXPECT_NE(device_refusal({100, 50}, 50).find("device state"), std::string::npos);
    EXPECT_NE(device_refusal({100, 0}, 200).find("device state"), std::string::npos);
    EXPECT_NE(device_refusal({0, 0}, 0).find("device state"), std::string::npos);
}

}  // namespace
