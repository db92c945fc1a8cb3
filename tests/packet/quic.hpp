// QUIC datagrams as a switch sees them: headers, and behind them what is protected (RFC 8999, RFC 9000 section 17).
#pragma once

#include <cstdint>
#include <string>

namespace godwit::test {

inline constexpr std::uint32_t kQuicV1 = 1, kQuicV2 = 0x6b3343cf;
enum class LongType : std::uint8_t { initial = 0, zero_rtt = 1, handshake = 2, retry = 3 };  // v1

struct LongHeader {
    std::string to, from;  // connection ids
    LongType type = LongType::initial;
    std::uint32_t version = kQuicV1;
};

inline std::string quic_long(const LongHeader& header) {
    std::string text(1, static_cast<char>(0xc0 | static_cast<unsigned>(header.type) << 4));
    for (int shift = 24; shift >= 0; shift -= 8)
        text += static_cast<char>(header.version >> shift & 0xff);
    for (const std::string& id : {header.to, header.from}) {
        text += static_cast<char>(id.size());
        text += id;
    }
    return text + std::string(40, 'p');
}

inline std::string quic_short(const std::string& to, char tag = 'p') {
    return "\x41" + to + std::string(24, 'p') + std::string(16, tag);
}

// RFC 9000 section 10.3: nothing in it but its end is the same twice.
inline std::string quic_reset(char token, std::size_t bytes = 41, char random = 'r') {
    return "\x41" + std::string(bytes - 17, random) + std::string(16, token);
}

}  // namespace godwit::test
