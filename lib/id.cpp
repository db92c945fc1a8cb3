#include "lib/id.hpp"

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include <openssl/rand.h>

namespace godwit {

namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;

// Bytes 0-5 the milliseconds since 1970, most significant first; the rest random.
std::array<unsigned char, 16> timed_bytes(std::chrono::system_clock::time_point now) {
    std::array<unsigned char, 16> bytes{};
    // Without randomness no name is safe to give out; there is nothing to go on with.
    if (RAND_bytes(bytes.data() + 6, 10) != 1) std::abort();
    const auto ms =
        static_cast<std::uint64_t>(duration_cast<milliseconds>(now.time_since_epoch()).count());
    for (std::size_t i = 0; i < 6; ++i) bytes[i] = static_cast<unsigned char>(ms >> (40 - 8 * i));
    return bytes;
}

}  // namespace

std::string uuid_v7(std::chrono::system_clock::time_point now) {
    std::array<unsigned char, 16> bytes = timed_bytes(now);
    bytes[6] = static_cast<unsigned char>((bytes[6] & 0x0f) | 0x70);
    bytes[8] = static_cast<unsigned char>((bytes[8] & 0x3f) | 0x80);
    constexpr std::string_view kHex = "0123456789abcdef";
    std::string text;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
        text += kHex[bytes[i] >> 4];
        text += kHex[bytes[i] & 15];
    }
    return text;
}

std::string new_id(std::string_view prefix, std::chrono::system_clock::time_point now) {
    constexpr std::string_view kDigits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    const std::array<unsigned char, 16> bytes = timed_bytes(now);
    std::string text(prefix);
    // 128 bits are 26 digits of 5 bits, the first one with 3.
    for (int digit = 0; digit < 26; ++digit) {
        unsigned value = 0;
        for (int bit = digit * 5 - 2; bit < digit * 5 + 3; ++bit) {
            value <<= 1;
            if (bit >= 0) value |= (bytes[static_cast<std::size_t>(bit / 8)] >> (7 - bit % 8)) & 1u;
        }
        text += kDigits[value];
    }
    return text;
}

std::string rfc3339(std::chrono::system_clock::time_point time) {
    const auto ms = duration_cast<milliseconds>(time.time_since_epoch()).count();
    const std::time_t seconds = static_cast<std::time_t>(ms / 1000);
    std::tm parts{};
    gmtime_r(&seconds, &parts);
    char text[40];
    const std::size_t length = std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
    std::snprintf(text + length, sizeof(text) - length, ".%03dZ", static_cast<int>(ms % 1000));
    return text;
}

}  // namespace godwit
