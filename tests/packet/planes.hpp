// The plane that this executable's stories run on: the same story files are compiled once per plane,
// because the model runs anywhere and the others need root (meson.build names them). A plane is default
// constructible, or with TableSizes.
#pragma once

#include "steering/parse.h"

#include <gtest/gtest.h>

#ifdef GODWIT_PLANE_HEADER
#include GODWIT_PLANE_HEADER
#else
#include "tests/packet/model_plane.hpp"
#define GODWIT_PLANE ModelPlane
#endif

namespace godwit::test {

using Planes = testing::Types<GODWIT_PLANE>;

// A managed VM, steady on its source, with the addresses 10.1.0.1 and 2001:db8:1::1.
template <typename P>
class EveryPlane : public testing::Test {
protected:
    EveryPlane() {
        plane.manage({});
        plane.steer(steady(kSource));
    }

    // The whole three-way handshake, with `slot` as the server.
    void establish(const Tcp& client, Slot slot) {
        Port port = slot == kSource ? kSourcePort : kDestinationPort;
        plane.send(kUplink, client.syn());
        plane.send(port, client.reply().syn_ack());
        plane.send(kUplink, client.ack());
    }
    Outcome from_client(const Bytes& frame) { return plane.send(kUplink, frame); }
    Outcome from_source(const Bytes& frame) { return plane.send(kSourcePort, frame); }
    Outcome from_destination(const Bytes& frame) { return plane.send(kDestinationPort, frame); }

    P plane;
};

// The same client over both families: every story that is about TCP is told twice.
inline std::vector<Tcp> both_families(std::uint16_t port = 4000) {
    std::string text = std::to_string(port);
    return {tcp("10.0.0.9:" + text, "10.1.0.1:80"),
            tcp("[2001:db8::9]:" + text, "[2001:db8:1::1]:80")};
}

inline testing::AssertionResult went_to(const Outcome& out, Port port, const std::string& why) {
    if (out.action == STEER_FORWARD && out.to == std::vector{port} && out.why == why)
        return testing::AssertionSuccess();
    return testing::AssertionFailure() << "action " << out.action << ", port "
                                       << (out.to.empty() ? -1 : out.to[0]) << ", why " << out.why;
}
inline testing::AssertionResult passed(const Outcome& out, const std::string& why) {
    if (out.action == STEER_PASS && out.why == why) return testing::AssertionSuccess();
    return testing::AssertionFailure() << "action " << out.action << ", why " << out.why;
}
inline testing::AssertionResult dropped(const Outcome& out, const std::string& why) {
    if (out.action == STEER_DROP && out.why == why) return testing::AssertionSuccess();
    return testing::AssertionFailure() << "action " << out.action << ", why " << out.why;
}
// Dropped, and an RST went back whose number the sender's copy of `client`'s connection expects next.
inline testing::AssertionResult refused(const Outcome& out, Port sender, const Tcp& client) {
    struct steer_packet rst;
    const std::uint8_t* data = out.frame.data();
    steer_parse(&rst, data, data + out.frame.size(), static_cast<std::uint32_t>(out.frame.size()));
    const bool believed = rst.kind == STEER_RST && rst.seq == client.isn + 1 &&
                          rst.tcp_flags == WIRE_TCP_RST && rst.source_port == client.from.port &&
                          rst.destination_port == client.to.port;
    if (out.action == STEER_REFUSE && out.why == "copy-refused" && out.to == std::vector{sender} &&
        believed)
        return testing::AssertionSuccess();
    return testing::AssertionFailure() << "action " << out.action << ", why " << out.why
                                       << ", RST kind " << int{rst.kind} << " number " << rst.seq;
}

}  // namespace godwit::test
