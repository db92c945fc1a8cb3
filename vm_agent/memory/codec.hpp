// Compression of what goes over the wire: two codecs (Debian's liblz4 and libzstd), and the choice among
// them and none, by what was measured of each and of the link.
#pragma once

#include "lib/error.hpp"

#include "protocol/agent_wire.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace godwit::memory {

using protocol::Compression;
using protocol::wire::Codec;

// nullopt when it does not become smaller by a twentieth: then it is not worth the other side's time.
std::optional<std::vector<std::byte>> compressed(Codec codec, std::span<const std::byte> bytes);
// Exactly `raw_bytes`, or Corrupt/malformed-frame: these bytes come from another host.
Result<std::vector<std::byte>> decompressed(Codec codec, std::span<const std::byte> packed,
                                            std::uint64_t raw_bytes);

// How a codec does on this memory and this processor, now.
struct CodecSpeed {
    double bytes_per_s = 0;  // of memory, compressed by one thread; 0: not measured
    double ratio = 1;        // compressed size by size
};
// The one with which memory goes fastest over a link of so many bytes per second, while the link sends
// what was compressed before: 1/link against max(1/speed, ratio/link). A codec must gain a tenth, or the
// measurement would choose. Link 0: not known, nothing is compressed.
Codec fastest(double link_bytes_per_s, const CodecSpeed& lz4, const CodecSpeed& zstd);

// Packs the pieces of one copy. Every so many bytes both codecs are tried on a part of a piece, since
// memory and the processor's load are not everywhere the same.
class Packer {
public:
    explicit Packer(Compression wanted) : wanted_(wanted) {}

    struct Packed {
        Codec codec = Codec::raw;
        std::span<const std::byte>
            bytes;  // the piece itself, or of this packer until the next pack()
    };
    Packed pack(std::span<const std::byte> piece, double link_bytes_per_s);

private:
    void sample(std::span<const std::byte> piece);
    Codec choose(double link_bytes_per_s) const;

    Compression wanted_;
    CodecSpeed lz4_, zstd_;
    std::uint64_t until_sample_ = 0;
    std::vector<std::byte> packed_;
};

}  // namespace godwit::memory
