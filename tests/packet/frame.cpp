// Builds the frames of frame.hpp byte by byte; independent of steering/, so that a wrong offset there
// is not repeated here. Relies on inet_pton for addresses only.
#include "tests/packet/frame.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace godwit::test {
namespace {

void put16(Bytes& out, unsigned value) {
    out.push_back(static_cast<std::uint8_t>(value >> 8));
    out.push_back(static_cast<std::uint8_t>(value));
}
void put32(Bytes& out, std::uint32_t value) {
    put16(out, value >> 16);
    put16(out, value & 0xffff);
}
void set16(Bytes& out, std::size_t at, unsigned value) {
    out.at(at) = static_cast<std::uint8_t>(value >> 8);
    out.at(at + 1) = static_cast<std::uint8_t>(value);
}
template <typename Range>
void append(Bytes& out, const Range& more) {
    out.insert(out.end(), more.begin(), more.end());
}
std::size_t address_bytes(const Address& a) {
    return a.family == 4 ? 4 : 16;
}
void put_address(Bytes& out, const Address& a) {
    out.insert(out.end(), a.bytes.begin(),
               a.bytes.begin() + static_cast<std::ptrdiff_t>(address_bytes(a)));
}

// The pseudo header of RFC 9293 3.1 and RFC 8200 8.1, in front of `payload`.
std::uint16_t transport_checksum(const Address& from, const Address& to, std::uint8_t protocol,
                                 const Bytes& payload) {
    Bytes pseudo;
    put_address(pseudo, from);
    put_address(pseudo, to);
    put32(pseudo, static_cast<std::uint32_t>(payload.size()));
    put32(pseudo, protocol);
    append(pseudo, payload);
    return internet_checksum(pseudo);
}

Bytes icmpv6_frame(const Mac& to_mac, const Mac& from_mac, const Address& from, const Address& to,
                   Bytes message) {
    set16(message, 2, transport_checksum(from, to, 58, message));
    Bytes packet = ip(from, to, 58, message);
    packet[7] = 255;
    return ethernet(to_mac, from_mac, 0x86dd, packet);
}

Mac solicited_node_mac(const Address& target) {
    return {0x33, 0x33, 0xff, target.bytes[13], target.bytes[14], target.bytes[15]};
}
Address solicited_node(const Address& target) {
    Address group = address("ff02::1:ff00:0");
    std::memcpy(&group.bytes[13], &target.bytes[13], 3);
    return group;
}
Bytes neighbour_message(std::uint8_t type, std::uint8_t flags, const Address& target) {
    Bytes message{type, 0, 0, 0, flags, 0, 0, 0};
    put_address(message, target);
    return message;
}

}  // namespace

std::array<std::uint32_t, 4> Address::words_be() const {
    std::array<std::uint32_t, 4> words{};
    std::memcpy(words.data(), bytes.data(), 16);
    return words;
}

Address address(std::string_view text) {
    std::string copy(text);
    Address a;
    a.family = copy.find(':') == std::string::npos ? 4 : 6;
    if (inet_pton(a.family == 4 ? AF_INET : AF_INET6, copy.c_str(), a.bytes.data()) != 1)
        throw std::invalid_argument("not an address: " + copy);
    return a;
}

Endpoint endpoint(std::string_view text, const Mac& mac) {
    std::size_t colon = text.rfind(':');
    std::string_view host = text.substr(0, colon);
    if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
    int port = std::atoi(std::string(text.substr(colon + 1)).c_str());
    return {address(host), static_cast<std::uint16_t>(port), mac};
}

std::uint16_t internet_checksum(const Bytes& bytes, std::uint32_t sum) {
    for (std::size_t i = 0; i < bytes.size(); i += 2)
        sum +=
            static_cast<std::uint32_t>(bytes[i] << 8) | (i + 1 < bytes.size() ? bytes[i + 1] : 0u);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(~sum);
}

Bytes ethernet(const Mac& to, const Mac& from, std::uint16_t type, const Bytes& payload) {
    Bytes frame;
    append(frame, to);
    append(frame, from);
    put16(frame, type);
    append(frame, payload);
    return frame;
}

Bytes ip(const Address& from, const Address& to, std::uint8_t protocol, const Bytes& payload,
         std::uint16_t fragment) {
    Bytes packet;
    if (from.family == 6) {
        put32(packet, 0x60000000);
        put16(packet, static_cast<unsigned>(payload.size()));
        packet.push_back(protocol);
        packet.push_back(64);
        put_address(packet, from);
        put_address(packet, to);
        append(packet, payload);
        return packet;
    }
    put16(packet, 0x4500);
    put16(packet, static_cast<unsigned>(20 + payload.size()));
    put16(packet, 1);
    put16(packet, fragment);
    packet.push_back(64);
    packet.push_back(protocol);
    put16(packet, 0);
    put_address(packet, from);
    put_address(packet, to);
    set16(packet, 10, internet_checksum(packet));
    append(packet, payload);
    return packet;
}

Bytes Tcp::segment(const Segment& s) const {
    Bytes l4;
    put16(l4, from.port);
    put16(l4, to.port);
    put32(l4, s.seq);
    put32(l4, s.ack);
    l4.push_back(0x50);
    l4.push_back(s.flags);
    put16(l4, 64240);
    put32(l4, 0);
    append(l4, s.payload);
    set16(l4, 16, transport_checksum(from.ip, to.ip, 6, l4));
    return ethernet(to.mac, from.mac, from.ip.family == 4 ? 0x0800 : 0x86dd,
                    ip(from.ip, to.ip, 6, l4));
}

Bytes Tcp::syn() const {
    return segment({0x02, isn, 0, {}});
}
Bytes Tcp::syn_ack() const {
    return segment({0x12, isn, peer_isn + 1, {}});
}
Bytes Tcp::ack_of(std::uint32_t number) const {
    return segment({0x10, isn + 1, number, {}});
}
Bytes Tcp::data(std::string_view text, std::uint32_t offset) const {
    return segment({0x18, isn + 1 + offset, peer_isn + 1, std::string(text)});
}
Bytes Tcp::fin(std::uint32_t offset, std::uint32_t peer_offset) const {
    return segment({0x11, isn + 1 + offset, peer_isn + 1 + peer_offset, {}});
}
Bytes Tcp::fin_acked(std::uint32_t offset, std::uint32_t peer_offset) const {
    return segment({0x10, isn + 1 + offset, peer_isn + 1 + peer_offset, {}});
}
Bytes Tcp::rst(std::uint32_t offset) const {
    return segment({0x14, isn + 1 + offset, peer_isn + 1, {}});
}

Tcp tcp(std::string_view client, std::string_view vm) {
    return {endpoint(client, kClientMac), endpoint(vm, kVmMac)};
}

Bytes Udp::datagram(std::string_view text) const {
    Bytes l4;
    put16(l4, from.port);
    put16(l4, to.port);
    put16(l4, static_cast<unsigned>(8 + text.size()));
    put16(l4, 0);
    append(l4, text);
    set16(l4, 6, transport_checksum(from.ip, to.ip, 17, l4));
    return ethernet(to.mac, from.mac, from.ip.family == 4 ? 0x0800 : 0x86dd,
                    ip(from.ip, to.ip, 17, l4));
}
Udp udp(std::string_view client, std::string_view vm) {
    return {endpoint(client, kClientMac), endpoint(vm, kVmMac)};
}

Bytes Echo::message(bool is_request) const {
    Bytes l4{0, 0, 0, 0};
    bool v4 = from.family == 4;
    l4[0] = static_cast<std::uint8_t>(v4 ? (is_request ? 8 : 0) : (is_request ? 128 : 129));
    put16(l4, identifier);
    put16(l4, 1);
    append(l4, std::string_view("ping"));
    if (!v4) return icmpv6_frame(to_mac, from_mac, from, to, l4);
    set16(l4, 2, internet_checksum(l4));
    return ethernet(to_mac, from_mac, 0x0800, ip(from, to, 1, l4));
}
Bytes Echo::reply() const {
    return Echo{to, from, to_mac, from_mac, identifier}.message(false);
}
Echo echo(std::string_view asker, std::string_view asked, std::uint16_t identifier) {
    return {address(asker), address(asked), kClientMac, kVmMac, identifier};
}
Echo echo_from_vm(std::string_view vm, std::string_view peer, std::uint16_t identifier) {
    return {address(vm), address(peer), kVmMac, kClientMac, identifier};
}

Bytes arp(const Arp& f) {
    Bytes body{0, 1, 8, 0, 6, 4};
    put16(body, f.operation);
    append(body, f.sender_mac);
    put_address(body, address(f.sender));
    append(body, f.target_mac);
    put_address(body, address(f.target));
    return ethernet(f.to, f.sender_mac, f.ethertype, body);
}
Bytes arp_request(std::string_view asker, std::string_view asked) {
    return arp({1, kClientMac, std::string(asker), {}, std::string(asked)});
}
Bytes arp_request_from_vm(std::string_view vm, std::string_view asked) {
    return arp({1, kVmMac, std::string(vm), {}, std::string(asked)});
}
Bytes arp_reply_to_vm(std::string_view client, std::string_view vm) {
    return arp({2, kClientMac, std::string(client), kVmMac, std::string(vm), kVmMac});
}
Bytes arp_reply_from_vm(std::string_view vm, std::string_view client) {
    return arp({2, kVmMac, std::string(vm), kClientMac, std::string(client), kClientMac});
}
Bytes gratuitous_arp(std::string_view text, const Mac& mac) {
    return arp({1, mac, std::string(text), {}, std::string(text)});
}
Bytes rarp(const Mac& mac) {
    return arp({3, mac, "0.0.0.0", mac, "0.0.0.0", kBroadcast, 0x8035});
}

Bytes neighbour_solicit(std::string_view asker, std::string_view target, const Mac& mac) {
    Address to = address(target);
    Bytes message = neighbour_message(135, 0, to);
    append(message, Bytes{1, 1});
    append(message, mac);
    return icmpv6_frame(solicited_node_mac(to), mac, address(asker), solicited_node(to), message);
}
Bytes duplicate_probe(std::string_view target, const Mac& mac) {
    Address to = address(target);
    return icmpv6_frame(solicited_node_mac(to), mac, address("::"), solicited_node(to),
                        neighbour_message(135, 0, to));
}
Bytes neighbour_advert(std::string_view target, std::string_view to, const Mac& mac,
                       const Mac& to_mac, bool solicited) {
    Bytes message = neighbour_message(136, static_cast<std::uint8_t>(0x20 | (solicited ? 0x40 : 0)),
                                      address(target));
    append(message, Bytes{2, 1});
    append(message, mac);
    return icmpv6_frame(to_mac, mac, address(target), address(to), message);
}
Bytes router_solicit(const Mac& mac) {
    return icmpv6_frame({0x33, 0x33, 0, 0, 0, 2}, mac, address("::"), address("ff02::2"),
                        Bytes{133, 0, 0, 0, 0, 0, 0, 0});
}
Bytes icmp_error(std::string_view router, std::string_view vm) {
    Bytes l4{3, 4, 0, 0, 0, 0, 0x05, 0x14};
    append(l4, ip(address(vm), address("10.0.0.9"), 6, Bytes(8, 0)));
    set16(l4, 2, internet_checksum(l4));
    return ethernet(kVmMac, kClientMac, 0x0800, ip(address(router), address(vm), 1, l4));
}
Bytes icmpv6_error(std::string_view router, std::string_view vm) {
    Bytes l4{2, 0, 0, 0, 0, 0, 0x05, 0x00};
    append(l4, ip(address(vm), address("2001:db8::9"), 6, Bytes(8, 0)));
    return icmpv6_frame(kVmMac, kClientMac, address(router), address(vm), l4);
}

Bytes error_about(const Address& router, const Endpoint& to, const Bytes& about) {
    const bool v4 = router.family == 4;
    Bytes message = v4 ? Bytes{3, 4, 0, 0, 0, 0, 0x05, 0x14} : Bytes{2, 0, 0, 0, 0, 0, 0x05, 0x00};
    message.insert(message.end(), about.begin() + 14, about.begin() + 14 + (v4 ? 28 : 60));
    if (!v4) return icmpv6_frame(to.mac, kClientMac, router, to.ip, message);
    set16(message, 2, internet_checksum(message));
    return ethernet(to.mac, kClientMac, 0x0800, ip(router, to.ip, 1, message));
}
Bytes icmp_error(const IcmpError& error) {
    const bool v4 = error.about.at(12) == 0x08;
    const std::size_t header = v4 ? (error.about.at(14) & 15u) * 4u : 40u;
    Bytes l4{error.type ? error.type : static_cast<std::uint8_t>(v4 ? 3 : 2), 0, 0, 0, 0, 0, 5, 0};
    l4[1] = v4 && !error.type ? 4 : error.code;
    const std::size_t end = std::min(14 + header + error.l4_bytes, error.about.size());
    l4.insert(l4.end(), error.about.begin() + 14,
              error.about.begin() + static_cast<std::ptrdiff_t>(end));
    Mac to_mac, from_mac;
    std::memcpy(to_mac.data(), &error.about.at(6), 6);
    std::memcpy(from_mac.data(), &error.about.at(0), 6);
    Address to;
    to.family = v4 ? 4 : 6;
    std::memcpy(to.bytes.data(), &error.about.at(v4 ? 26 : 22), v4 ? 4 : 16);
    if (!v4) return icmpv6_frame(to_mac, from_mac, address(error.router), to, l4);
    set16(l4, 2, internet_checksum(l4));
    return ethernet(to_mac, from_mac, 0x0800, ip(address(error.router), to, 1, l4));
}

Bytes vlan_tagged(const Bytes& frame, std::uint16_t vlan) {
    Bytes tagged(frame.begin(), frame.begin() + 12);
    put16(tagged, 0x8100);
    put16(tagged, vlan);
    tagged.insert(tagged.end(), frame.begin() + 12, frame.end());
    return tagged;
}
Bytes fragment_of(const Bytes& frame, std::uint16_t offset_words) {
    Bytes copy = frame;
    set16(copy, 14 + 6, offset_words);
    set16(copy, 14 + 10, 0);
    set16(copy, 14 + 10, internet_checksum(Bytes(copy.begin() + 14, copy.begin() + 34)));
    return copy;
}

std::vector<Bytes> pieces_of(const Bytes& frame, std::uint32_t identification, std::size_t bytes) {
    const bool v4 = frame.at(12) == 0x08;
    const std::size_t header = v4 ? 14 + (frame.at(14) & 15u) * 4u : 54;
    std::vector<Bytes> pieces;
    for (std::size_t at = header; at < frame.size(); at += bytes) {
        const std::size_t end = std::min(at + bytes, frame.size());
        const std::size_t offset = at - header;
        const bool more = end < frame.size();
        Bytes piece(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(header));
        if (v4) {
            set16(piece, 16, static_cast<unsigned>(header - 14 + end - at));
            set16(piece, 18, identification & 0xffff);
            piece =
                fragment_of(piece, static_cast<std::uint16_t>(offset / 8 | (more ? 0x2000 : 0)));
        } else {
            set16(piece, 18, static_cast<unsigned>(8 + end - at));
            put16(piece, static_cast<unsigned>(piece.at(20) << 8));
            put16(piece, static_cast<unsigned>(offset | (more ? 1 : 0)));
            put32(piece, identification);
            piece.at(20) = 44;
        }
        piece.insert(piece.end(), frame.begin() + static_cast<std::ptrdiff_t>(at),
                     frame.begin() + static_cast<std::ptrdiff_t>(end));
        pieces.push_back(piece);
    }
    return pieces;
}

Bytes with_extensions(const Bytes& frame, const std::vector<std::uint8_t>& types) {
    const bool v4 = frame.at(12) == 0x08;
    Bytes copy = frame, chain;
    const std::size_t protocol = v4 ? 23 : 20, length = v4 ? 16 : 18;
    for (std::size_t i = 0; i < types.size(); ++i) {
        const std::uint8_t next = i + 1 < types.size() ? types[i + 1] : frame.at(protocol);
        // 16 bytes each, which AH counts in words less two, and the others in words of 8 less one.
        append(chain, Bytes{next, static_cast<std::uint8_t>(types[i] == 51 ? 2 : 1)});
        append(chain, Bytes(14, 0));
    }
    if (!types.empty()) copy.at(protocol) = types[0];
    set16(copy, length,
          static_cast<unsigned>(copy.at(length) * 256u + copy.at(length + 1) + chain.size()));
    const std::ptrdiff_t header = v4 ? 14 + (frame.at(14) & 15) * 4 : 54;
    copy.insert(copy.begin() + header, chain.begin(), chain.end());
    return v4 ? fragment_of(copy, static_cast<std::uint16_t>(copy.at(20) << 8 | copy.at(21)))
              : copy;
}

bool tcp_checksum_is_right(const Bytes& frame) {
    bool v4 = frame.at(12) == 0x08;
    Address from, to;
    std::size_t l4 = v4 ? 34 : 54;
    from.family = to.family = v4 ? 4 : 6;
    std::memcpy(from.bytes.data(), &frame.at(v4 ? 26 : 22), v4 ? 4 : 16);
    std::memcpy(to.bytes.data(), &frame.at(v4 ? 30 : 38), v4 ? 4 : 16);
    return transport_checksum(
               from, to, 6, Bytes(frame.begin() + static_cast<std::ptrdiff_t>(l4), frame.end())) ==
           0;
}
bool icmpv6_checksum_is_right(const Bytes& frame) {
    Address from, to;
    from.family = to.family = 6;
    std::memcpy(from.bytes.data(), &frame.at(22), 16);
    std::memcpy(to.bytes.data(), &frame.at(38), 16);
    return transport_checksum(from, to, 58, Bytes(frame.begin() + 54, frame.end())) == 0;
}

}  // namespace godwit::test
