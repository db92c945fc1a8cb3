#include "vm_agent/memory/codec.hpp"

#include <algorithm>
#include <chrono>
#include <lz4.h>
#include <string>
#include <zstd.h>

namespace godwit::memory {

namespace {

constexpr int kZstdLevel = 1;                        // the fastest of its regular levels
constexpr double kGainMin = 0.9;                     // of the time without it
constexpr std::size_t kSampleBytes = 64 * 1024;      // tried with each codec
constexpr std::uint64_t kSampleEvery = 32ull << 20;  // 0.4 % of the work
constexpr double kNewestWeight = 0.5;

std::unexpected<Error> malformed(std::string cause) {
    return fail(Fault::Corrupt, "decompress memory", std::move(cause), "malformed-frame");
}

const char* chars(std::span<const std::byte> bytes) {
    return reinterpret_cast<const char*>(bytes.data());
}

// How many bytes the codec made, 0 when they do not fit.
std::size_t compress_into(Codec codec, std::span<const std::byte> bytes, std::span<std::byte> out) {
    if (codec == Codec::lz4) {
        const int made =
            LZ4_compress_default(chars(bytes), reinterpret_cast<char*>(out.data()),
                                 static_cast<int>(bytes.size()), static_cast<int>(out.size()));
        return static_cast<std::size_t>(std::max(made, 0));
    }
    const std::size_t made =
        ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), kZstdLevel);
    return ZSTD_isError(made) ? 0 : made;
}

CodecSpeed measured(Codec codec, std::span<const std::byte> bytes) {
    std::vector<std::byte> out(bytes.size() + bytes.size() / 8 + 1024);
    const auto begin = std::chrono::steady_clock::now();
    const std::size_t made = compress_into(codec, bytes, out);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    const double size = static_cast<double>(bytes.size());
    return {size / std::max(taken.count(), 1e-9),
            made == 0 ? 1.0 : static_cast<double>(made) / size};
}

void blend(CodecSpeed& known, const CodecSpeed& newest) {
    if (known.bytes_per_s == 0) {
        known = newest;
        return;
    }
    known.bytes_per_s += kNewestWeight * (newest.bytes_per_s - known.bytes_per_s);
    known.ratio += kNewestWeight * (newest.ratio - known.ratio);
}

double seconds_per_byte(const CodecSpeed& codec, double link) {
    return std::max(1.0 / codec.bytes_per_s, codec.ratio / link);
}

}  // namespace

std::optional<std::vector<std::byte>> compressed(Codec codec, std::span<const std::byte> bytes) {
    std::vector<std::byte> out(bytes.size() - bytes.size() / 20);
    out.resize(compress_into(codec, bytes, out));
    if (out.empty()) return std::nullopt;
    return out;
}

Result<std::vector<std::byte>> decompressed(Codec codec, std::span<const std::byte> packed,
                                            std::uint64_t raw_bytes) {
    if (raw_bytes == 0 || raw_bytes > protocol::wire::kPayloadMax)
        return malformed(std::to_string(raw_bytes) + " bytes, at most " +
                         std::to_string(protocol::wire::kPayloadMax) + " are taken at once");
    std::vector<std::byte> out(raw_bytes);
    std::uint64_t made = 0;
    if (codec == Codec::lz4) {
        const int got =
            LZ4_decompress_safe(chars(packed), reinterpret_cast<char*>(out.data()),
                                static_cast<int>(packed.size()), static_cast<int>(out.size()));
        made = static_cast<std::uint64_t>(std::max(got, 0));
    } else if (codec == Codec::zstd) {
        made = ZSTD_decompress(out.data(), out.size(), packed.data(), packed.size());
    } else {
        return malformed("unknown codec " + std::to_string(static_cast<std::uint32_t>(codec)));
    }
    if (made != raw_bytes)
        return malformed("they do not become the " + std::to_string(raw_bytes) +
                         " bytes they are said to be");
    return out;
}

Codec fastest(double link_bytes_per_s, const CodecSpeed& lz4, const CodecSpeed& zstd) {
    if (link_bytes_per_s <= 0) return Codec::raw;
    double best = kGainMin / link_bytes_per_s;
    Codec choice = Codec::raw;
    if (lz4.bytes_per_s > 0 && seconds_per_byte(lz4, link_bytes_per_s) < best) {
        best = seconds_per_byte(lz4, link_bytes_per_s);
        choice = Codec::lz4;
    }
    if (zstd.bytes_per_s > 0 && seconds_per_byte(zstd, link_bytes_per_s) < best)
        choice = Codec::zstd;
    return choice;
}

void Packer::sample(std::span<const std::byte> piece) {
    const std::span<const std::byte> part = piece.first(std::min(piece.size(), kSampleBytes));
    blend(lz4_, measured(Codec::lz4, part));
    blend(zstd_, measured(Codec::zstd, part));
    until_sample_ = kSampleEvery;
}

Codec Packer::choose(double link_bytes_per_s) const {
    switch (wanted_) {
        case Compression::off:
            return Codec::raw;
        case Compression::lz4:
            return Codec::lz4;
        case Compression::zstd:
            return Codec::zstd;
        case Compression::automatic:
            return fastest(link_bytes_per_s, lz4_, zstd_);
    }
    return Codec::raw;
}

Packer::Packed Packer::pack(std::span<const std::byte> piece, double link_bytes_per_s) {
    if (wanted_ == Compression::automatic && piece.size() >= protocol::wire::kPageBytes) {
        if (until_sample_ < piece.size()) sample(piece);
        until_sample_ -= std::min<std::uint64_t>(until_sample_, piece.size());
    }
    const Codec codec = choose(link_bytes_per_s);
    std::optional<std::vector<std::byte>> smaller;
    if (codec != Codec::raw) smaller = compressed(codec, piece);
    if (!smaller) return {Codec::raw, piece};
    packed_ = std::move(*smaller);
    return {codec, packed_};
}

}  // namespace godwit::memory
