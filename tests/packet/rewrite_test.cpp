// The frames the switch writes itself, against the independent builders of frame.hpp.
#include "steering/rewrite.h"

#include "tests/packet/frame.hpp"

#include <cstring>

#include <gtest/gtest.h>

namespace godwit::test {
namespace {

steer_rst rst_of(const Tcp& side, bool acks) {
    steer_rst rst{};
    std::memcpy(rst.from_mac, side.from.mac.data(), 6);
    std::memcpy(rst.to_mac, side.to.mac.data(), 6);
    std::memcpy(rst.from, side.from.ip.bytes.data(), 16);
    std::memcpy(rst.to, side.to.ip.bytes.data(), 16);
    rst.from_port = side.from.port;
    rst.to_port = side.to.port;
    rst.seq = 0x89abcdef;
    rst.ack = 0x01234567;
    rst.acks = acks;
    rst.wide = side.from.ip.family == 6;
    return rst;
}

TEST(Rewrite, RstIsWhatATcpWouldSend) {
    for (const char* vm : {"10.1.0.1:80", "[2001:db8:1::1]:80"}) {
        bool wide = vm[0] == '[';
        Tcp side = tcp(wide ? "[2001:db8::9]:4000" : "10.0.0.9:4000", vm).reply();
        for (bool acks : {false, true}) {
            Bytes frame(128);
            steer_rst rst = rst_of(side, acks);
            frame.resize(steer_write_rst(frame.data(), &rst));
            std::uint8_t flags = static_cast<std::uint8_t>(acks ? 0x14 : 0x04);
            Bytes expected = side.segment({flags, rst.seq, acks ? rst.ack : 0, {}});
            EXPECT_TRUE(tcp_checksum_is_right(frame));
            std::size_t l4 = wide ? 54 : 34;
            ASSERT_EQ(frame.size(), expected.size());
            EXPECT_TRUE(std::equal(frame.begin() + static_cast<std::ptrdiff_t>(l4),
                                   frame.begin() + static_cast<std::ptrdiff_t>(l4) + 14,
                                   expected.begin() + static_cast<std::ptrdiff_t>(l4)));
            if (!wide) {
                EXPECT_EQ(internet_checksum(Bytes(frame.begin() + 14, frame.begin() + 34)), 0);
            }
        }
    }
}

TEST(Rewrite, AnnouncementsAreWhatAHostWouldSend) {
    Bytes frame(STEER_ARP_FRAME_BYTES);
    steer_write_arp_announcement(frame.data(), kVmMac.data(), address("10.1.0.1").words_be()[0]);
    EXPECT_EQ(frame, gratuitous_arp("10.1.0.1"));
    Bytes advert(STEER_NA_FRAME_BYTES);
    steer_write_nd_announcement(advert.data(), kVmMac.data(),
                                address("2001:db8:1::1").bytes.data());
    EXPECT_EQ(advert, neighbour_advert("2001:db8:1::1", "ff02::1", kVmMac, {0x33, 0x33, 0, 0, 0, 1},
                                       false));
}

TEST(Rewrite, FrameTooShortForTheAnswerIsRefused) {
    Bytes request = arp_request("10.1.0.9", "10.1.0.1");
    std::uint8_t* data = request.data();
    EXPECT_FALSE(steer_answer_arp(data, data + STEER_ARP_FRAME_BYTES - 1, kVmMac.data()));
    EXPECT_EQ(request, arp_request("10.1.0.9", "10.1.0.1")) << "and left as it was";
    Bytes probe = duplicate_probe("2001:db8:1::1", kClientMac);
    EXPECT_FALSE(steer_answer_nd(probe.data(), probe.data() + probe.size(), kVmMac.data()));
    EXPECT_EQ(probe, duplicate_probe("2001:db8:1::1", kClientMac));
}

TEST(Rewrite, ChecksumFollowsAChangedWordWithoutLookingAtTheRest) {
    for (unsigned before : {0x0000u, 0x0001u, 0x7fffu, 0xfffeu, 0xffffu})
        for (unsigned after : {0x0000u, 0x1234u, 0xffffu}) {
            Bytes words{0x12, 0x34, 0, 0, 0x56, 0x78};
            auto put = [&](unsigned value) {
                words[2] = static_cast<std::uint8_t>(value >> 8);
                words[3] = static_cast<std::uint8_t>(value);
            };
            put(before);
            std::uint16_t old_sum = internet_checksum(words);
            put(after);
            EXPECT_EQ(steer_checksum_replace(old_sum, static_cast<std::uint16_t>(before),
                                             static_cast<std::uint16_t>(after)),
                      internet_checksum(words));
        }
}

}  // namespace
}  // namespace godwit::test
