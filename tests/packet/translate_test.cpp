// Incremental checksums against recomputed ones: a frame with one address rewritten is byte for byte the frame that
// would have been built with the other address.
#include "steering/translate.h"

#include "tests/packet/frame.hpp"

#include <algorithm>
#include <cstring>

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

namespace godwit::test {
namespace {

constexpr Mac kBackendMac{0x52, 0x54, 0, 0, 0, 0x31};

struct Pair {  // one address before and after
    Address hosted, temporary;
};

// Words of all zeros and all ones are where one's complement has two zeros.
Address any_address(int family) {
    Address a;
    a.family = family;
    const auto word = rc::gen::weightedOneOf<std::uint8_t>(
        {{4, rc::gen::arbitrary<std::uint8_t>()}, {1, rc::gen::element<std::uint8_t>(0x00, 0xff)}});
    const std::size_t bytes = family == 4 ? 4 : 16;
    for (std::size_t i = 0; i < bytes; ++i) a.bytes[i] = *word;
    return a;
}

steer_translation names_of(const Pair& pair) {
    steer_translation names{};
    const bool v4 = pair.hosted.family == 4;
    std::memcpy(v4 ? &names.hosted4_be : names.hosted6_be, pair.hosted.bytes.data(), v4 ? 4 : 16);
    std::memcpy(v4 ? &names.temporary4_be : names.temporary6_be, pair.temporary.bytes.data(),
                v4 ? 4 : 16);
    std::ranges::copy(kBackendMac, names.mac);
    return names;
}

bool translate(Bytes& frame, const Pair& pair, steer_way way) {
    const steer_translation names = names_of(pair);
    return steer_translate(frame.data(), frame.data() + frame.size(), &names, way);
}

enum class Kind { Tcp, Udp, Ping, Error };

// What `from` would send to `to`; `mac` is the backend's end.
Bytes message(Kind kind, const Endpoint& from, const Endpoint& to, const std::string& text) {
    switch (kind) {
        case Kind::Tcp:
            return Tcp{from, to}.data(text);
        case Kind::Udp:
            return Udp{from, to}.datagram(text);
        case Kind::Ping:
            return Echo{from.ip, to.ip, from.mac, to.mac, from.port}.request();
        case Kind::Error:
            return {};
    }
    return {};
}

void both_ways(Kind kind, int family) {
    const Pair pair{any_address(family), any_address(family)};
    const Endpoint peer{any_address(family), *rc::gen::arbitrary<std::uint16_t>(), kClientMac};
    RC_PRE(!(pair.hosted == pair.temporary) && !(peer.ip == pair.hosted) &&
           !(peer.ip == pair.temporary));
    const auto port = *rc::gen::arbitrary<std::uint16_t>();
    const auto text = *rc::gen::container<std::string>(rc::gen::arbitrary<char>());
    const Endpoint outside{pair.hosted, port, kVmMac}, there{pair.temporary, port, kBackendMac};

    Bytes arrives = message(kind, peer, outside, text);
    RC_ASSERT(translate(arrives, pair, STEER_TOWARDS));
    RC_ASSERT(arrives == message(kind, peer, there, text));

    Bytes leaves = message(kind, there, peer, text);
    RC_ASSERT(translate(leaves, pair, STEER_BACK));
    const Endpoint said{pair.hosted, port, kBackendMac};
    RC_ASSERT(leaves == message(kind, said, peer, text));
}

RC_GTEST_PROP(Translate, TcpIsWhatItWouldHaveBeen, ()) {
    both_ways(Kind::Tcp, *rc::gen::element(4, 6));
}
RC_GTEST_PROP(Translate, UdpIsWhatItWouldHaveBeen, ()) {
    both_ways(Kind::Udp, *rc::gen::element(4, 6));
}
RC_GTEST_PROP(Translate, PingIsWhatItWouldHaveBeen, ()) {
    both_ways(Kind::Ping, *rc::gen::element(4, 6));
}

RC_GTEST_PROP(Translate, ErrorIsWhatItWouldHaveBeenInsideToo, ()) {
    const int family = *rc::gen::element(4, 6);
    const Pair pair{any_address(family), any_address(family)};
    const Endpoint peer{any_address(family), 443, kClientMac};
    const Address router = any_address(family);
    RC_PRE(!(pair.hosted == pair.temporary) && !(router == pair.hosted) &&
           !(router == pair.temporary) && !(peer.ip == pair.hosted) &&
           !(peer.ip == pair.temporary));
    const Endpoint outside{pair.hosted, 80, kVmMac}, there{pair.temporary, 80, kBackendMac};
    // Its piece of TCP ends before the checksum in IPv4; in IPv6 it has one, which stays as it was sent.
    const auto about = [&](const Endpoint& backend) {
        Bytes sent = Tcp{backend, peer}.data("long");
        sent[family == 4 ? 50 : 70] = sent[family == 4 ? 51 : 71] = 0x55;
        return sent;
    };
    Bytes error = error_about(router, outside, about(outside));
    RC_ASSERT(translate(error, pair, STEER_TOWARDS));
    RC_ASSERT(error == error_about(router, there, about(there)));
}

RC_GTEST_PROP(Translate, ThereAndBackIsTheSameFrame, ()) {
    const int family = *rc::gen::element(4, 6);
    const Pair pair{any_address(family), any_address(family)};
    RC_PRE(!(pair.hosted == pair.temporary));
    Bytes frame = *rc::gen::container<Bytes>(200, rc::gen::arbitrary<std::uint8_t>());
    const Bytes header =
        Tcp{{pair.temporary, 1, kBackendMac}, {address("::1"), 2, kClientMac}}.syn();
    // Any bytes behind headers that a parser would have let through.
    const Bytes start = ethernet(kClientMac, kBackendMac, family == 4 ? 0x0800 : 0x86dd,
                                 ip(pair.temporary, any_address(family), 6, Bytes(120, 0)));
    std::copy(start.begin(), start.begin() + (family == 4 ? 34 : 54), frame.begin());
    Bytes once = frame;
    RC_ASSERT(translate(once, pair, STEER_BACK));
    Bytes back = once;
    const Pair other{pair.temporary, pair.hosted};
    RC_ASSERT(translate(back, other, STEER_BACK));
    // A sum of all ones and one of all zeros are the same number; nothing else may differ.
    for (std::size_t i = 0; i < frame.size(); i += 2) {
        const unsigned was = static_cast<unsigned>(frame[i] << 8 | frame[i + 1]);
        const unsigned is = static_cast<unsigned>(back[i] << 8 | back[i + 1]);
        RC_ASSERT(was == is || (was % 0xffff == 0 && is % 0xffff == 0));
    }
}

Pair usual(int family = 4) {
    return family == 4 ? Pair{address("10.9.1.10"), address("10.9.1.31")}
                       : Pair{address("2001:db8:9::10"), address("2001:db8:9::31")};
}

TEST(Translate, DatagramWhoseChecksumBecomesZeroSaysAllOnes) {
    const Pair pair = usual();
    const Endpoint peer{address("10.0.0.9"), 1, kClientMac};
    const Endpoint there{pair.temporary, 2, kBackendMac}, outside{pair.hosted, 2, kVmMac};
    for (unsigned port = 1; port < 0x10000; ++port) {
        Endpoint from = peer;
        from.port = static_cast<std::uint16_t>(port);
        Bytes frame = Udp{from, there}.datagram("");
        if (frame[40] | frame[41]) continue;
        frame[40] = frame[41] = 0xff;  // what a sender makes of it, RFC 768
        Bytes arrives = Udp{from, outside}.datagram("");
        ASSERT_TRUE(translate(arrives, pair, STEER_TOWARDS));
        EXPECT_EQ(arrives, frame);
        return;
    }
    FAIL() << "no port has the checksum zero";
}

TEST(Translate, DatagramWithoutChecksumKeepsNone) {
    for (int family : {4, 6}) {
        const Pair pair = usual(family);
        const Endpoint peer{address(family == 4 ? "10.0.0.9" : "2001:db8::9"), 1, kClientMac};
        Bytes frame = Udp{peer, {pair.hosted, 2, kVmMac}}.datagram("tunnel");
        const std::size_t at = family == 4 ? 40 : 60;
        frame[at] = frame[at + 1] = 0;
        ASSERT_TRUE(translate(frame, pair, STEER_TOWARDS));
        EXPECT_EQ(frame[at] | frame[at + 1], 0);
    }
}

TEST(Translate, FrameOfOtherAddressesGetsTheMacAlone) {
    for (const char* vm : {"10.9.1.99:80", "[2001:db8:9::99]:80"}) {
        Tcp other = tcp(vm[0] == '[' ? "[2001:db8::9]:4000" : "10.0.0.9:4000", vm);
        Bytes frame = other.syn();
        const bool wide = vm[0] == '[';
        ASSERT_TRUE(translate(frame, usual(wide ? 6 : 4), STEER_TOWARDS));
        other.to.mac = kBackendMac;
        EXPECT_EQ(frame, other.syn());
    }
    Bytes question = arp_request("10.0.0.9", "10.9.1.10");
    ASSERT_TRUE(translate(question, usual(), STEER_TOWARDS));
    EXPECT_EQ(question, arp_request("10.0.0.9", "10.9.1.10"));
}

TEST(Translate, TagsAreSteppedOver) {
    const Pair pair = usual();
    const Tcp sent{{address("10.0.0.9"), 4000, kClientMac}, {pair.hosted, 80, kVmMac}};
    const Tcp seen{sent.from, {pair.temporary, 80, kBackendMac}};
    Bytes once = vlan_tagged(sent.syn(), 5), twice = vlan_tagged(once, 7);
    ASSERT_TRUE(translate(once, pair, STEER_TOWARDS));
    EXPECT_EQ(once, vlan_tagged(seen.syn(), 5));
    ASSERT_TRUE(translate(twice, pair, STEER_TOWARDS));
    EXPECT_EQ(twice, vlan_tagged(vlan_tagged(seen.syn(), 5), 7));
}

// IPv6 with extension headers in front of TCP.
Bytes extended(const Tcp& side, const Bytes& extensions, std::uint8_t first) {
    const Bytes plain = side.data("behind");
    Bytes payload = extensions;
    payload.insert(payload.end(), plain.begin() + 54, plain.end());
    return ethernet(side.to.mac, side.from.mac, 0x86dd,
                    ip(side.from.ip, side.to.ip, first, payload));
}

TEST(Translate, ExtensionHeadersAreSteppedOver) {
    const Pair pair = usual(6);
    const Tcp sent{{address("2001:db8::9"), 4000, kClientMac}, {pair.hosted, 80, kVmMac}};
    const Tcp seen{sent.from, {pair.temporary, 80, kBackendMac}};
    // Hop-by-hop, destination options of 16 bytes, a first fragment.
    Bytes chain{60, 0, 1, 4, 0, 0, 0, 0};
    const Bytes options{44, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    chain.insert(chain.end(), options.begin(), options.end());
    const Bytes fragment{6, 0, 0, 1, 0, 0, 0, 9};
    chain.insert(chain.end(), fragment.begin(), fragment.end());
    Bytes frame = extended(sent, chain, 0);
    ASSERT_TRUE(translate(frame, pair, STEER_TOWARDS));
    EXPECT_EQ(frame, extended(seen, chain, 0));
    // A later fragment: what looks like a checksum is data.
    const Bytes later{6, 0, 0, 0x40, 0, 0, 0, 9};
    frame = extended(sent, later, 44);
    const Bytes before = frame;
    ASSERT_TRUE(translate(frame, pair, STEER_TOWARDS));
    EXPECT_TRUE(std::equal(frame.begin() + 54, frame.end(), before.begin() + 54));
    EXPECT_NE(frame, before);
}

TEST(Translate, WhatCannotBeDoneIsRefused) {
    const Pair pair = usual(6);
    const Tcp sent{{address("2001:db8::9"), 4000, kClientMac}, {pair.hosted, 80, kVmMac}};
    const auto refuses = [&](Bytes frame) { return !translate(frame, pair, STEER_TOWARDS); };
    EXPECT_TRUE(refuses(extended(sent, Bytes(24, 6), 51))) << "AH signs the addresses";
    Bytes endless;
    for (int i = 0; i < 8; ++i) endless.insert(endless.end(), {0, 0, 1, 4, 0, 0, 0, 0});
    EXPECT_TRUE(refuses(extended(sent, endless, 0))) << "more headers than anybody sends";
    Bytes far{6, 31};
    far.resize(256);
    EXPECT_TRUE(refuses(extended(sent, far, 60))) << "TCP begins out of reach";
    Bytes cut = sent.syn();
    cut.resize(60);
    EXPECT_TRUE(refuses(cut)) << "the checksum is not there";
}

}  // namespace
}  // namespace godwit::test
