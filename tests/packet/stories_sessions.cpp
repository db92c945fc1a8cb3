#include "tests/packet/planes.hpp"
namespace godwit::test {
TYPED_TEST_SUITE(EveryPlane, Planes);
TYPED_TEST(EveryPlane, ConnectionOpenedBeforeTheFlipStaysWithTheSource) {
    Tcp client = tcp("10.0.0.9:4000", "10.1.0.1:80");
    this->establish(client, kSource);
    this->plane.steer(flipped(kSource, kDestination));
    Outcome out = this->plane.send(kUplink, client.data("hello"));
    EXPECT_EQ(out.to, std::vector{kSourcePort});
    EXPECT_EQ(out.why, "session");
    EXPECT_EQ(this->plane.pinned_to(client), kSource);
}
}
