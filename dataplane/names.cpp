#include "dataplane/names.hpp"

#include <arpa/inet.h>
#include <cstdio>
#include <cstring>

namespace godwit::dataplane {

Result<HostedAddress> parse_hosted(const std::string& text) {
    HostedAddress address;
    if (inet_pton(AF_INET, text.c_str(), address.words_be.data()) == 1) {
        const std::uint32_t host = ntohl(address.words_be[0]);
        if (host == 0 || host >> 28 >= 0xe)
            return fail(Fault::Rejected, "address \"" + text + "\"", "must be a unicast address");
        return address;
    }
    address.family = 6;
    if (inet_pton(AF_INET6, text.c_str(), address.words_be.data()) == 1) {
        if ((ntohl(address.words_be[0]) >> 24) == 0xff)
            return fail(Fault::Rejected, "address \"" + text + "\"", "must be a unicast address");
        return address;
    }
    return fail(
        Fault::Rejected, "address \"" + text + "\"",
        "is no IP address, write one like 10.1.0.10 or 2001:db8::1, without a prefix length");
}

std::string to_text(const HostedAddress& address) {
    char text[INET6_ADDRSTRLEN] = {};
    inet_ntop(address.family == 4 ? AF_INET : AF_INET6, address.words_be.data(), text,
              sizeof(text));
    return text;
}

Result<Mac> parse_mac(const std::string& text) {
    Mac mac{};
    char rest = 0;
    const int fields = std::sscanf(text.c_str(), "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%c", &mac[0],
                                   &mac[1], &mac[2], &mac[3], &mac[4], &mac[5], &rest);
    if (fields != 6 || text.size() != 17)
        return fail(Fault::Rejected, "MAC \"" + text + "\"",
                    "write six hex bytes like 52:54:00:12:34:56");
    if ((mac[0] & 1) || mac == Mac{})
        return fail(Fault::Rejected, "MAC \"" + text + "\"",
                    "must be one station's, not a group's");
    return mac;
}

}  // namespace godwit::dataplane
