// Compression on the wire: what is packed is what is unpacked, a hostile peer gets a named error, and a
// codec is chosen only where memory arrives sooner with it.
#include "vm_agent/memory/codec.hpp"

#include <random>

#include <gtest/gtest.h>

namespace godwit::memory {

namespace {

constexpr double kMib = 1 << 20;
constexpr CodecSpeed kLz4{500 * kMib, 0.5}, kZstd{200 * kMib, 0.25};

std::vector<std::byte> text_like(std::size_t bytes) {
    std::vector<std::byte> made(bytes);
    for (std::size_t i = 0; i < bytes; ++i) made[i] = std::byte(i % 61 + (i / 4096) % 7);
    return made;
}

std::vector<std::byte> noise(std::size_t bytes) {
    std::minstd_rand random{7};
    std::vector<std::byte> made(bytes);
    for (std::byte& one : made) one = std::byte(random() >> 8);
    return made;
}

struct EachCodec : testing::TestWithParam<Codec> {};

TEST_P(EachCodec, GivesBackWhatItWasGiven) {
    for (std::size_t bytes : {64UL, 4096UL, 1UL << 20}) {
        const std::vector<std::byte> raw = text_like(bytes);
        const auto packed = compressed(GetParam(), raw);
        if (!packed) continue;  // 64 bytes may not become smaller
        EXPECT_LE(packed->size(), bytes - bytes / 20);
        const auto back = decompressed(GetParam(), *packed, bytes);
        ASSERT_TRUE(back) << back.error().text();
        EXPECT_EQ(*back, raw);
    }
    EXPECT_TRUE(compressed(GetParam(), text_like(4096)));
}

TEST_P(EachCodec, LeavesAloneWhatDoesNotBecomeSmaller) {
    EXPECT_FALSE(compressed(GetParam(), noise(65536)));
}

TEST_P(EachCodec, RefusesAPeerThatLies) {
    const auto packed = compressed(GetParam(), text_like(65536));
    ASSERT_TRUE(packed);
    for (std::uint64_t said : {0ULL, 65535ULL, 65537ULL, 1ULL << 40})
        EXPECT_EQ(decompressed(GetParam(), *packed, said).error().slug, "malformed-frame") << said;
    EXPECT_FALSE(decompressed(GetParam(), noise(4096), 65536));
    EXPECT_FALSE(decompressed(GetParam(), {}, 65536));
    const std::span<const std::byte> cut(packed->data(), packed->size() / 2);
    EXPECT_FALSE(decompressed(GetParam(), cut, 65536));
}

INSTANTIATE_TEST_SUITE_P(Codecs, EachCodec, testing::Values(Codec::lz4, Codec::zstd),
                         [](const auto& info) {
                             return info.param == Codec::lz4 ? "Lz4" : "Zstd";
                         });

TEST(CodecChoice, AnUnknownCodecIsRefused) {
    EXPECT_EQ(decompressed(static_cast<Codec>(9), text_like(64), 64).error().slug,
              "malformed-frame");
    EXPECT_EQ(decompressed(Codec::raw, text_like(64), 64).error().slug, "malformed-frame");
}

TEST(CodecChoice, FollowsTheLink) {
    EXPECT_EQ(fastest(0, kLz4, kZstd), Codec::raw);            // not measured
    EXPECT_EQ(fastest(1000 * kMib, kLz4, kZstd), Codec::raw);  // faster than any codec
    EXPECT_EQ(fastest(300 * kMib, kLz4, kZstd), Codec::lz4);   // 2 ms/MiB against 3.3 and 5
    EXPECT_EQ(fastest(50 * kMib, kLz4, kZstd), Codec::zstd);   // 5 ms/MiB against 10 and 20
}

TEST(CodecChoice, ACodecThatGainsNextToNothingIsNotTaken) {
    EXPECT_EQ(fastest(50 * kMib, {500 * kMib, 0.95}, {200 * kMib, 0.92}), Codec::raw);
    EXPECT_EQ(fastest(50 * kMib, {500 * kMib, 0.95}, {200 * kMib, 0.85}), Codec::zstd);
    EXPECT_EQ(fastest(50 * kMib, {}, {}), Codec::raw);
}

TEST(CodecChoice, APackerMeasuresAndFollowsALinkThatChanges) {
    Packer packer(Compression::automatic);
    const std::vector<std::byte> piece = text_like(1 << 20);
    EXPECT_EQ(packer.pack(piece, 1e15).codec, Codec::raw);
    const Packer::Packed slow = packer.pack(piece, kMib);
    EXPECT_NE(slow.codec, Codec::raw);
    EXPECT_LT(slow.bytes.size(), piece.size() / 2);
    EXPECT_EQ(packer.pack(piece, 1e15).codec, Codec::raw);
    EXPECT_EQ(packer.pack(noise(1 << 20), kMib).codec, Codec::raw);  // the piece itself decides
}

TEST(CodecChoice, APersonsChoiceIsKept) {
    const std::vector<std::byte> piece = text_like(65536);
    EXPECT_EQ(Packer(Compression::off).pack(piece, 1).codec, Codec::raw);
    EXPECT_EQ(Packer(Compression::lz4).pack(piece, 1e15).codec, Codec::lz4);
    EXPECT_EQ(Packer(Compression::zstd).pack(piece, 1e15).codec, Codec::zstd);
}

}  // namespace

}  // namespace godwit::memory
