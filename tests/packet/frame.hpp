// Ethernet frames for stories: real headers, real checksums, built from what a reader would say.
//   Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
//   plane.send(kUplink, client.syn());  plane.send(kSourcePort, client.reply().syn_ack());
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace godwit::test {

using Bytes = std::vector<std::uint8_t>;
using Mac = std::array<std::uint8_t, 6>;

inline constexpr Mac kClientMac{0x02, 0, 0, 0, 0, 0x09};
inline constexpr Mac kVmMac{0x52, 0x54, 0, 0, 0, 0x01};
inline constexpr Mac kOtherVmMac{0x52, 0x54, 0, 0, 0, 0x02};
inline constexpr Mac kBroadcast{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

struct Address {
    int family = 4;
    std::array<std::uint8_t, 16> bytes{};  // IPv4 in the first four
    std::array<std::uint32_t, 4> words_be() const;
    bool operator==(const Address&) const = default;
};
Address address(std::string_view text);

struct Endpoint {
    Address ip;
    std::uint16_t port = 0;
    Mac mac{};
};
Endpoint endpoint(std::string_view text,
                  const Mac& mac);  // "10.0.0.9:4000" or "[2001:db8::9]:4000"

struct Segment {
    std::uint8_t flags = 0;
    std::uint32_t seq = 0, ack = 0;
    std::string payload;
};

// One side of a TCP conversation. Sequence numbers follow from the two initial ones.
struct Tcp {
    Endpoint from, to;
    std::uint32_t isn = 1000, peer_isn = 9000;

    Tcp reply() const { return {to, from, peer_isn, isn}; }
    Tcp restarted(std::uint32_t new_isn) const { return {from, to, new_isn, peer_isn}; }
    Bytes segment(const Segment& s) const;

    Bytes syn() const;
    Bytes syn_ack() const;
    Bytes ack() const { return ack_of(peer_isn + 1); }
    Bytes ack_of(std::uint32_t number) const;
    Bytes data(std::string_view text, std::uint32_t offset = 0) const;
    Bytes fin(std::uint32_t offset = 0, std::uint32_t peer_offset = 0) const;
    Bytes fin_acked(std::uint32_t offset = 1, std::uint32_t peer_offset = 1) const;
    Bytes rst(std::uint32_t offset = 0) const;  // aborts: seq = isn + 1 + offset, acknowledges
    // "I know no such connection", as RFC 9293 3.10.7.1 answers a segment that acknowledged isn + 1.
    Bytes refusal() const { return segment({0x04, isn + 1, 0, {}}); }
};
Tcp tcp(std::string_view client, std::string_view vm);

struct Udp {
    Endpoint from, to;
    Udp reply() const { return {to, from}; }
    Bytes datagram(std::string_view text = "hello") const;
};
Udp udp(std::string_view client, std::string_view vm);

struct Echo {
    Address from, to;
    Mac from_mac = kClientMac, to_mac = kVmMac;
    std::uint16_t identifier = 7;
    Bytes request() const { return message(true); }
    Bytes reply() const;  // the other end's answer
    Bytes message(bool is_request) const;
};
Echo echo(std::string_view asker, std::string_view asked, std::uint16_t identifier = 7);
Echo echo_from_vm(std::string_view vm, std::string_view peer, std::uint16_t identifier = 7);

struct Arp {
    std::uint16_t operation;
    Mac sender_mac;
    std::string sender;
    Mac target_mac;
    std::string target;
    Mac to = kBroadcast;
    std::uint16_t ethertype = 0x0806;
};
Bytes arp(const Arp& fields);
Bytes arp_request(std::string_view asker, std::string_view asked);  // a client asks
Bytes arp_request_from_vm(std::string_view vm, std::string_view asked);
Bytes arp_reply_to_vm(std::string_view client, std::string_view vm);
Bytes arp_reply_from_vm(std::string_view vm, std::string_view client);
Bytes gratuitous_arp(std::string_view address, const Mac& mac = kVmMac);
Bytes rarp(const Mac& mac = kVmMac);

Bytes neighbour_solicit(std::string_view asker, std::string_view target,
                        const Mac& mac = kClientMac);
Bytes duplicate_probe(std::string_view target, const Mac& mac);
Bytes neighbour_advert(std::string_view target, std::string_view to, const Mac& mac,
                       const Mac& to_mac, bool solicited);
Bytes router_solicit(const Mac& mac);
Bytes icmp_error(std::string_view router, std::string_view vm);    // fragmentation needed
Bytes icmpv6_error(std::string_view router, std::string_view vm);  // packet too big

// An ICMP error of `router` to `to` about `about`, which it returns a piece of: fragmentation needed, or packet too
// big. The piece is the IP header and 8 bytes, more for IPv6.
Bytes error_about(const Address& router, const Endpoint& to, const Bytes& about);
// What a router, or the addressee itself, says about a packet: "too big" unless `type` says otherwise, with
// the first `l4_bytes` behind the IP header of the packet it is about.
struct IcmpError {
    Bytes about;
    std::string router;
    std::uint8_t type = 0;
    std::size_t l4_bytes = 8;
    std::uint8_t code = 0;  // of `type`
};
Bytes icmp_error(const IcmpError& error);

// Bare layers, for what the builders above do not say.
Bytes ethernet(const Mac& to, const Mac& from, std::uint16_t type, const Bytes& payload);
Bytes ip(const Address& from, const Address& to, std::uint8_t protocol, const Bytes& payload,
         std::uint16_t fragment = 0);
Bytes vlan_tagged(const Bytes& frame, std::uint16_t vlan);
Bytes fragment_of(const Bytes& frame,
                  std::uint16_t offset_words);  // IPv4: sets the offset, fixes the sum

// The packet in pieces of at most `bytes` (a multiple of 8) behind the IP header, first one first.
std::vector<Bytes> pieces_of(const Bytes& frame, std::uint32_t identification, std::size_t bytes);
// With these extension headers between the IP header and the transport header: IPv6's own, AH in both.
Bytes with_extensions(const Bytes& frame, const std::vector<std::uint8_t>& types);

std::uint16_t internet_checksum(const Bytes& bytes, std::uint32_t sum = 0);
bool tcp_checksum_is_right(const Bytes& frame);
bool icmpv6_checksum_is_right(const Bytes& frame);

}  // namespace godwit::test
