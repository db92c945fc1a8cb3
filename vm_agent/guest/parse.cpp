#include "vm_agent/guest/parse.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <charconv>
#include <cstring>
#include <sstream>

#include <openssl/evp.h>

namespace godwit::guest {

namespace bj = json::bj;

std::string base64(std::string_view bytes) {
    std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
    const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                       reinterpret_cast<const unsigned char*>(bytes.data()),
                                       static_cast<int>(bytes.size()));
    text.resize(static_cast<std::size_t>(length));
    return text;
}

Result<std::string> from_base64(std::string_view text) {
    std::string bytes(text.size() / 4 * 3 + 3, '\0');
    const int length = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                                       reinterpret_cast<const unsigned char*>(text.data()),
                                       static_cast<int>(text.size()));
    if (length < 0 || text.size() % 4 != 0)
        return fail(Fault::Corrupt, "decode the guest's answer", "is not base64");
    std::size_t padding = 0;
    while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=')
        ++padding;
    bytes.resize(static_cast<std::size_t>(length) - padding);
    return bytes;
}

Result<std::string> piece_of(const Result<bj::value>& answer) {
    if (!answer) return std::unexpected(answer.error());
    boost::system::error_code none;
    const bj::value* text = answer->find_pointer("/buf-b64", none);
    if (!text || !text->is_string()) return std::string();
    return from_base64(std::string_view(text->get_string()));
}

std::optional<int> exit_code_of(const bj::value& status) {
    boost::system::error_code none;
    const bj::value* exited = status.find_pointer("/exited", none);
    if (!exited || !exited->is_bool() || !exited->get_bool()) return std::nullopt;
    const bj::value* code = status.find_pointer("/exitcode", none);
    return code && code->is_int64() ? static_cast<int>(code->get_int64()) : -1;
}

std::vector<std::string> addresses_of(const bj::value& interfaces) {
    std::vector<std::string> found;
    if (!interfaces.is_array()) return found;
    for (const bj::value& one : interfaces.get_array()) {
        boost::system::error_code none;
        const bj::value* name = one.find_pointer("/name", none);
        const bj::value* list = one.find_pointer("/ip-addresses", none);
        if (!list || !list->is_array() || (name && *name == "lo")) continue;
        for (const bj::value& entry : list->get_array()) {
            const bj::value* address = entry.find_pointer("/ip-address", none);
            if (!address || !address->is_string()) continue;
            std::string text(address->get_string());
            if (!text.starts_with("fe80:")) found.push_back(std::move(text));
        }
    }
    return found;
}

namespace {

struct Endpoint {
    std::string address;
    unsigned port = 0;
    std::string text() const {
        const std::string host =
            address.find(':') == std::string::npos ? address : "[" + address + "]";
        return host + ":" + std::to_string(port);
    }
};

// "0100007F:1F90": words of 32 bits in the guest's byte order (x86: little-endian), then the port.
std::optional<Endpoint> endpoint_of(std::string_view text) {
    const std::size_t colon = text.find(':');
    if (colon != 8 && colon != 32) return std::nullopt;
    std::array<std::uint32_t, 4> words{};
    for (std::size_t i = 0; i < colon / 8; ++i) {
        const char* begin = text.data() + i * 8;
        if (std::from_chars(begin, begin + 8, words[i], 16).ptr != begin + 8) return std::nullopt;
    }
    Endpoint endpoint;
    const char* end = text.data() + text.size();
    if (std::from_chars(text.data() + colon + 1, end, endpoint.port, 16).ptr != end)
        return std::nullopt;
    // A v4 peer of a v6 socket is written as v4.
    const bool mapped = colon == 32 && words[0] == 0 && words[1] == 0 && words[2] == 0xffff0000;
    char address[INET6_ADDRSTRLEN] = {};
    if (colon == 8 || mapped)
        inet_ntop(AF_INET, colon == 8 ? words.data() : &words[3], address, sizeof(address));
    else
        inet_ntop(AF_INET6, words.data(), address, sizeof(address));
    endpoint.address = address;
    return endpoint;
}

}  // namespace

protocol::SocketTable socket_table_of(const std::string& proc_text,
                                      const std::vector<std::string>& addresses) {
    constexpr std::string_view kEstablished = "01", kListening = "0A";  // include/net/tcp_states.h
    protocol::SocketTable table;
    std::istringstream lines(proc_text);
    std::string line;
    while (std::getline(lines, line)) {
        std::istringstream fields(line);
        std::string number, local, remote, state;
        fields >> number >> local >> remote >> state;
        std::optional<Endpoint> here = endpoint_of(local), there = endpoint_of(remote);
        if (!here || !there) continue;
        const bool hosted = std::ranges::find(addresses, here->address) != addresses.end();
        if (state == kListening && (hosted || here->address == "0.0.0.0" || here->address == "::"))
            table.tcp_listening.push_back(static_cast<std::uint16_t>(here->port));
        if (state == kListening || !hosted) continue;
        table.tcp.push_back({here->address, there->text(), static_cast<std::uint16_t>(here->port)});
        if (state != kEstablished) continue;
        ++table.tcp_established;
        table.peers.push_back(there->text());
    }
    return table;
}

}  // namespace godwit::guest
