// The plane that this executable's stories run on: the same story files are compiled once per plane,
// because the model runs anywhere and the others need root (meson.build names them). A plane is default
// constructible, or with TableSizes.
#pragma once

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
    P plane;
};

}  // namespace godwit::test
