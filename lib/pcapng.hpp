// The blocks of a pcapng file (draft-ietf-opsawg-pcapng): numbers in the byte order of this machine, which the first
// block tells the reader, everything on four bytes, and options behind the body.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace godwit::pcapng {

enum : std::uint32_t {
    kSection = 0x0a0d0d0a,
    kByteOrder = 0x1a2b3c4d,  // what a section begins with
    kInterface = 1,
    kStatistics = 5,
    kPacket = 6,
};
// Of packets, interfaces and sections; which one a code means depends on its block.
enum : std::uint16_t {
    kEndOfOptions = 0,
    kComment = 1,
    kInterfaceName = 2,
    kPacketFlags = 2,
    kApplication = 4,
    kDropped = 5,
    kResolution = 9,
};
enum : std::uint32_t { kInbound = 1, kOutbound = 2 };  // the low bits of a packet's flags
inline constexpr std::uint16_t kEthernet = 1;          // LINKTYPE_ETHERNET

class Block {
public:
    explicit Block(std::uint32_t type) {
        number(type);
        number(std::uint32_t{0});  // the length, at the end
    }
    template <typename T>
    void number(T value) {
        const auto* from = reinterpret_cast<const std::uint8_t*>(&value);
        bytes_.insert(bytes_.end(), from, from + sizeof(value));
    }
    void padded(std::span<const std::uint8_t> data) {
        bytes_.insert(bytes_.end(), data.begin(), data.end());
        bytes_.resize((bytes_.size() + 3) / 4 * 4);
    }
    void option(std::uint16_t code, std::span<const std::uint8_t> value) {
        number(code);
        number(static_cast<std::uint16_t>(value.size()));
        padded(value);
    }
    void option(std::uint16_t code, std::string_view text) {
        option(code, std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
    }
    // The whole block. It can be asked for once, and lives as long as this.
    std::span<const std::uint8_t> done() {
        number(std::uint32_t{kEndOfOptions});
        const auto length = static_cast<std::uint32_t>(bytes_.size() + 4);
        std::memcpy(&bytes_[4], &length, sizeof(length));
        number(length);
        return bytes_;
    }

private:
    std::vector<std::uint8_t> bytes_;
};

// What a file begins with: one section, of a length that is not known yet.
inline Block section() {
    Block block(kSection);
    block.number(std::uint32_t{kByteOrder});
    block.number(std::uint16_t{1});
    block.number(std::uint16_t{0});
    block.number(std::int64_t{-1});
    return block;
}

}  // namespace godwit::pcapng
