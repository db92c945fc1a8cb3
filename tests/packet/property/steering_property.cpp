// Random interleavings of connections, floods, losses, flips and rollbacks, shrunk by rapidcheck when one
// of the world's promises breaks.
#include "tests/packet/property/world.hpp"

#include <sstream>

#include <gtest/gtest.h>
#include <rapidcheck.h>

namespace rc {
template <>
struct Arbitrary<godwit::test::Command> {
    static Gen<godwit::test::Command> arbitrary() {
        using godwit::test::Command;
        // Whole range at every size: a command is a choice, not a quantity.
        auto any = gen::inRange<int>(0, 256);
        return gen::map(gen::tuple(any, any, any), [](const std::tuple<int, int, int>& t) {
            return Command{static_cast<std::uint8_t>(std::get<0>(t)),
                           static_cast<std::uint8_t>(std::get<1>(t)),
                           static_cast<std::uint8_t>(std::get<2>(t))};
        });
    }
};
}  // namespace rc

namespace godwit::test {

void showValue(const Command& c, std::ostream& out) {
    out << "{" << int{c.op} << "," << int{c.who} << "," << int{c.amount} << "}";
}

class Steering : public testing::TestWithParam<Hazard> {};

TEST_P(Steering, KeepsItsPromisesUnderAnyInterleaving) {
    bool held = rc::check("steering keeps its promises", [hazard = GetParam()] {
        auto script = *rc::gen::scale(6.0, rc::gen::arbitrary<std::vector<Command>>());
        World world(hazard);
        world.run(script);
        world.settle();
    });
    EXPECT_TRUE(held);
}

// The same promises over one long life each, where the tables have seen many generations of entries.
TEST_P(Steering, KeepsItsPromisesOverALongLife) {
    for (std::uint32_t seed = 1; seed <= 20; ++seed) {
        std::mt19937 random(seed);
        std::vector<Command> script(6000);
        for (Command& c : script)
            c = {static_cast<std::uint8_t>(random()), static_cast<std::uint8_t>(random()),
                 static_cast<std::uint8_t>(random())};
        World world(GetParam());
        ASSERT_NO_THROW(world.run(script)) << "seed " << seed;
        ASSERT_NO_THROW(world.settle()) << "seed " << seed;
    }
}

INSTANTIATE_TEST_SUITE_P(UnderFloods, Steering, testing::Values(Hazard::Floods));
INSTANTIATE_TEST_SUITE_P(OnStalePorts, Steering, testing::Values(Hazard::StalePorts));

}  // namespace godwit::test
