#include "tests/packet/traffic.hpp"

#include "tests/packet/quic.hpp"

#include <algorithm>
#include <string>

#include <gtest/gtest.h>

namespace godwit::test {
namespace {

const ManagedVm::Nat kSourceNat{{0x52, 0x54, 0, 0, 0, 0x30}, {"10.1.0.30", "2001:db8:1::30"}};
const ManagedVm::Nat kDestinationNat{{0x52, 0x54, 0, 0, 0, 0x31}, {"10.1.0.31", "2001:db8:1::31"}};

void replace_all(Bytes& frame, const auto& from, const auto& to) {
    for (auto at = std::ranges::search(frame, from).begin(); at != frame.end();
         at = std::ranges::search(frame, from).begin())
        std::ranges::copy(to, at);
}
void replace_all(Bytes& frame, const Address& from, const Address& to) {
    const std::size_t bytes = from.family == 4 ? 4 : 16;
    replace_all(frame, std::span(from.bytes).first(bytes), std::span(to.bytes).first(bytes));
}
// The IPv4 header's sum; the transport's stays as wrong as the change made it, which both planes must keep.
void mend(Bytes& frame, bool v6) {
    if (v6 || frame.size() < 34) return;
    frame[24] = frame[25] = 0;
    const std::uint16_t sum = internet_checksum({frame.begin() + 14, frame.begin() + 34});
    frame[24] = static_cast<std::uint8_t>(sum >> 8);
    frame[25] = static_cast<std::uint8_t>(sum);
}

}  // namespace

unsigned Choices::below(unsigned limit) {
    unsigned value = 0;
    for (unsigned reach = 1; reach < limit && !rest_.empty(); reach *= 256) {
        value = value * 256 + rest_.front();
        rest_ = rest_.subspan(1);
    }
    return value % limit;
}

Sent Traffic::next() {
    Sent sent = renamed(whole());
    if (below(10) == 0) sent.from = static_cast<Port>(below(kPorts));
    switch (below(9)) {
        case 0:
            flip_bits(sent.frame, 1 + below(4));
            break;
        case 1:
            flip_bits(sent.frame, 1);
            break;
        case 4:
            overwrite(sent.frame);
            break;
        case 2:
            cut(sent);
            break;
        case 3:
            sent.frame.resize(sent.frame.size() + below(64), static_cast<std::uint8_t>(below(256)));
            break;
        default:
            break;
    }
    return sent;
}

ManagedVm Traffic::vm() {
    ManagedVm vm;
    switch (below(4)) {
        case 0:
            break;
        case 1:
            vm.nat[kSource] = kSourceNat;
            vm.nat[kDestination] = kDestinationNat;
            vm.ports[kDestination] = below(2) ? kSourcePort : kDestinationPort;
            break;
        default:
            vm.nat[kDestination] = kDestinationNat;
            break;
    }
    vm_ = vm;
    return vm;
}

Plan Traffic::plan() {
    const Slot owner = below(2) ? kSource : kDestination;
    const Slot other = owner == kSource ? kDestination : kSource;
    switch (below(4)) {
        case 0:
            return steady(owner);
        case 1:
            return hosted(owner);
        default:
            return flipped(other, owner);
    }
}

// In mode nat most of what a backend says comes from its temporary address and its own MAC, and some peers
// address it by them. Whatever the builders made, checksums are right again or will be wrong the same way.
Sent Traffic::renamed(Sent sent) {
    if (sent.from == kOtherVmPort) return sent;
    const bool from_vm = sent.from != kUplink;
    const unsigned slot = from_vm ? sent.from - kSourcePort : below(2);
    if (from_vm) sent.from = vm_.ports[slot];
    if (!vm_.nat[slot] || below(from_vm ? 6 : 4) == (from_vm ? 0 : 1)) return sent;
    if (!from_vm && below(3) != 0) return sent;
    const ManagedVm::Nat& nat = *vm_.nat[slot];
    std::ranges::copy(nat.mac, sent.frame.begin() + (from_vm ? 6 : 0));
    const bool v6 = sent.frame[12] == 0x86, ip = v6 || sent.frame[13] == 0x00;
    if (sent.frame[13] == 0x06) replace_all(sent.frame, vm_.mac, nat.mac);
    replace_all(sent.frame, address(vm_.addresses[v6]), address(nat.temporary[v6]));
    if (ip) mend(sent.frame, v6);
    return sent;
}

Sent Traffic::whole() {
    switch (below(5)) {
        case 0:
            return neighbours();
        case 1:
            return connectionless();
        case 2:
            return quic();
        default:
            return segments();
    }
}

Tcp Traffic::client() {
    const std::string port = std::to_string(4000 + below(6));
    return below(3) == 0 ? tcp("[2001:db8::9]:" + port, "[2001:db8:1::1]:80")
                         : tcp("10.0.0.9:" + port, "10.1.0.1:80");
}

Sent Traffic::segments() {
    const bool from_vm = below(2);
    const Tcp peer = client();
    const Tcp side = from_vm ? peer.reply() : peer;
    const Port from = from_vm ? backend() : kUplink;
    switch (below(9)) {
        case 0:
            return {from, from_vm ? side.syn_ack() : side.syn()};
        case 1:
            return {from, from_vm ? side.syn() : side.syn_ack()};
        case 2:
            return {from, side.fin()};
        case 3:
            return {from, side.fin_acked()};
        case 4:
            return {from, side.rst()};
        case 5:
            return {from, side.rst(below(5))};
        case 6:
            return {from, side.ack()};
        default:
            return {from, side.data("hello", below(3))};
    }
}

Sent Traffic::connectionless() {
    const bool from_vm = below(2), v6 = below(3) == 0;
    const Port from = from_vm ? backend() : kUplink;
    const Udp flow =
        v6 ? udp("[2001:db8::9]:5353", "[2001:db8:1::1]:53") : udp("10.0.0.9:5353", "10.1.0.1:53");
    const Udp side = from_vm ? flow.reply() : flow;
    const auto identifier = static_cast<std::uint16_t>(below(4));
    const Echo ping = v6 ? echo("2001:db8::9", "2001:db8:1::1", identifier)
                         : echo("10.0.0.9", "10.1.0.1", identifier);
    switch (below(9)) {
        case 0:
            return {from, from_vm ? ping.reply() : ping.request()};
        case 8:
            return piece_or_extended(from, side);
        case 7:
            return icmp_error_about(from);
        case 1:
            return {kUplink, v6 ? icmpv6_error("2001:db8::1", "2001:db8:1::1")
                                : icmp_error("10.0.0.1", "10.1.0.1")};
        case 2:
            return {from, vlan_tagged(below(3) ? side.datagram() : vlan_tagged(side.datagram(), 5),
                                      static_cast<std::uint16_t>(below(3) * 5))};
        case 3:
            return v6 ? Sent{from, side.datagram()}
                      : Sent{from, fragment_of(side.datagram(), below(2) ? 0x2000 : 0x10)};
        default:
            return {from, side.datagram()};
    }
}

// A few connections with ids of two lengths, whose clients move about.
Sent Traffic::quic() {
    static constexpr std::uint32_t kVersions[] = {kQuicV1, kQuicV1, kQuicV2, 0xff00001d, 0, 7};
    const bool from_vm = below(2);
    const std::string port = std::to_string(6000 + below(8));
    const Udp flow = below(3) == 0 ? udp("[2001:db8::9]:" + port, "[2001:db8:1::1]:443")
                                   : udp("10.0.0.9:" + port, "10.1.0.1:443");
    const Udp side = from_vm ? flow.reply() : flow;
    const auto id = [&] {
        return std::string(below(2) ? 7 : 17, 'i') + static_cast<char>('a' + below(3));
    };
    const std::string text =
        below(2) ? quic_short(id())
                 : quic_long({id(), below(8) ? id() : std::string(below(22), 'l'),
                              static_cast<LongType>(below(4)), kVersions[below(6)]});
    return {from_vm ? backend() : kUplink, side.datagram(text)};
}

Sent Traffic::piece_or_extended(Port from, const Udp& side) {
    static constexpr std::uint8_t kTypes[] = {0, 60, 43, 51, 44, 60};
    std::vector<std::uint8_t> chain(below(4) ? below(2) : below(10));
    for (std::uint8_t& type : chain) type = kTypes[below(6)];
    if (side.from.ip.family == 4) chain.assign(below(5) ? 0 : 1, 51);
    const Bytes whole = with_extensions(side.datagram(std::string(60, 'x')), chain);
    const std::vector<Bytes> pieces = pieces_of(whole, below(3), below(3) ? 24 : 2000);
    return {from, pieces[below(static_cast<unsigned>(pieces.size()))]};
}

// About what the other end has just sent, or might have.
Sent Traffic::icmp_error_about(Port from) {
    const Tcp peer = client();
    const bool v4 = peer.from.ip.family == 4;
    Bytes about = from == kUplink ? peer.reply().data("hello") : peer.data("hello");
    if (below(4) == 0) flip_bits(about, 1);
    const auto type = static_cast<std::uint8_t>(below(2) ? 0 : v4 ? 11 : 3);
    const char* router =
        from == kUplink ? (v4 ? "10.0.0.1" : "2001:db8::1") : (v4 ? "10.1.0.1" : "2001:db8:1::1");
    about.at(12) = v4 ? 0x08 : 0x86;
    if (v4) about.at(14) |= 0x04;
    return {from, icmp_error({about, router, type, below(3) ? 8u : below(24)})};
}

Sent Traffic::neighbours() {
    switch (below(16)) {
        case 12:
            return {backend(),
                    Udp{{address("10.1.0.1"), 68, kVmMac}, {address("10.1.0.254"), 67, kClientMac}}
                        .datagram()};
        case 13:
            return {kUplink,
                    Udp{{address("10.1.0.254"), 67, kClientMac}, {address("10.1.0.1"), 68, kVmMac}}
                        .datagram()};
        case 14:
            return {below(2) ? kUplink : backend(),
                    Udp{{address("10.1.0.1"), 5353, kVmMac},
                        {address(below(2) ? "224.0.0.251" : "10.1.0.1"), 5353, kBroadcast}}
                        .datagram()};
        case 15:
            return {below(2) ? kUplink : kOtherVmPort,
                    arp({2, kClientMac, "10.1.0.1", kOtherVmMac, "10.1.0.2", kOtherVmMac})};
        case 0:
            return {kUplink, arp_request("10.0.0.9", "10.1.0.1")};
        case 1:
            return {backend(), arp_request_from_vm("10.1.0.1", "10.0.0.9")};
        case 2:
            return {kUplink, arp_reply_to_vm("10.0.0.9", "10.1.0.1")};
        case 3:
            return {backend(), arp_reply_from_vm("10.1.0.1", "10.0.0.9")};
        case 4:
            return {backend(), gratuitous_arp("10.1.0.1")};
        case 5:
            return {backend(), rarp()};
        case 6:
            return {kUplink, neighbour_solicit("2001:db8::9", "2001:db8:1::1")};
        case 7:
            return {backend(),
                    neighbour_advert("2001:db8:1::1", "2001:db8::9", kVmMac, kClientMac, below(2))};
        case 8:
            return {kUplink,
                    neighbour_advert("2001:db8::9", "2001:db8:1::1", kClientMac, kVmMac, true)};
        case 9:
            return {kUplink, duplicate_probe("2001:db8:1::1", kClientMac)};
        case 10:
            return {backend(), router_solicit(kVmMac)};
        default:
            return {kOtherVmPort, arp_request("10.0.0.8", "10.1.0.1")};
    }
}

void Traffic::flip_bits(Bytes& frame, unsigned count) {
    // Headers matter most: the first 60 bytes.
    for (unsigned i = 0; i < count; ++i)
        frame[below(static_cast<unsigned>(std::min<std::size_t>(frame.size(), 60)))] ^=
            static_cast<std::uint8_t>(1u << below(8));
}

void Traffic::overwrite(Bytes& frame) {
    const unsigned at = below(static_cast<unsigned>(std::min<std::size_t>(frame.size(), 100)));
    for (std::size_t i = at; i < std::min<std::size_t>(frame.size(), at + 1 + below(4)); ++i)
        frame[i] = static_cast<std::uint8_t>(below(256));
}

// A test run of tc wants whole IP headers; shorter frames go the long way, so seldom.
void Traffic::cut(Sent& sent) {
    const unsigned least = sent.from == kUplink || below(400) == 0 ? 14 : 54;
    const auto size = static_cast<unsigned>(sent.frame.size());
    if (size > least) sent.frame.resize(least + below(size - least));
}

namespace {

std::string hex(const Bytes& bytes) {
    std::string text;
    for (std::uint8_t byte : bytes) {
        constexpr const char* kDigits = "0123456789abcdef";
        text += {kDigits[byte >> 4], kDigits[byte & 15]};
    }
    return text;
}

// A copy for each backend that hears, in its names, in any order.
bool same_ports(const Outcome& real, const Outcome& model) {
    if (model.action != STEER_BOTH) return real.to == model.to;
    std::vector<Sent> is, should;
    for (std::size_t i = 0; i < real.to.size(); ++i) is.push_back({real.to[i], real.copies[i]});
    for (std::size_t i = 0; i < model.to.size(); ++i)
        should.push_back({model.to[i], model.copies[i]});
    return std::ranges::is_permutation(is, should);
}

}  // namespace

testing::AssertionResult agree(const Sent& sent, const Outcome& real, const Outcome& model,
                               bool on_the_wire) {
    const bool unseen = model.action == STEER_PASS || model.action == STEER_REFUSE;
    if (on_the_wire && unseen && real.action == STEER_DROP && real.why == model.why)
        return testing::AssertionSuccess();
    // Both backends, and the frame cannot be rewritten for one, or for neither.
    if (model.action == STEER_BOTH && model.to.size() < 2 && real.to == model.to &&
        real.why == model.why)
        return testing::AssertionSuccess();
    const bool bytes =
        model.action == STEER_DROP || model.action == STEER_BOTH || real.frame == model.frame;
    if (real.action == model.action && real.why == model.why && same_ports(real, model) && bytes)
        return testing::AssertionSuccess();
    return testing::AssertionFailure()
           << "port " << sent.from << " frame " << hex(sent.frame) << "\n real action "
           << real.action << " why " << real.why << " to " << (real.to.empty() ? -1 : real.to[0])
           << "\nmodel action " << model.action << " why " << model.why << " to "
           << (model.to.empty() ? -1 : model.to[0]) << (bytes ? "" : "\nthe bytes differ");
}

}  // namespace godwit::test
