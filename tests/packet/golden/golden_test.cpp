// The golden traces on this executable's plane: every frame of a file in, and what leaves must be what the file says,
// byte for byte.
#include "tests/packet/golden/trace.hpp"
#include "tests/packet/planes.hpp"
#include "tests/packet/traffic.hpp"

#include <algorithm>
#include <filesystem>
#include <unistd.h>

namespace godwit::test {

TYPED_TEST_SUITE(EveryPlane, Planes);

std::vector<std::string> golden_files() {
    std::vector<std::string> paths;
    for (const auto& entry : std::filesystem::directory_iterator(GODWIT_GOLDEN))
        if (entry.path().extension() == ".pcapng") paths.push_back(entry.path());
    std::ranges::sort(paths);
    return paths;
}

template <typename P>
testing::AssertionResult replays(const Trace& trace) {
    P plane;
    for (std::size_t i = 0; i < trace.size(); ++i) {
        const Step& step = trace[i];
        for (const std::string& line : step.commands) command(plane, line);
        Outcome is = plane.send(step.from, step.frame);
        bool by_wire = false;
        if constexpr (requires { plane.went_by_wire(); }) by_wire = plane.went_by_wire();
        // What would leave by the port it came from goes nowhere, and is not seen.
        if constexpr (requires { plane.left(); })
            if (is.action == STEER_PASS && plane.left().empty()) is.frame = step.outcome.frame;
        if (auto same = agree({step.from, step.frame}, is, step.outcome, by_wire); !same)
            return testing::AssertionFailure() << "packet " << i + 1 << ": " << same.message();
    }
    return testing::AssertionSuccess();
}

TYPED_TEST(EveryPlane, GoldenTracesLeaveAsTheyAreWritten) {
    const std::vector<std::string> files = golden_files();
    ASSERT_GE(files.size(), 11u);
    for (const std::string& path : files) EXPECT_TRUE(replays<TypeParam>(read_trace(path))) << path;
}

TYPED_TEST(EveryPlane, AGoldenTraceThatSaysOtherwiseIsNoticed) {
    Trace trace = read_trace(std::string(GODWIT_GOLDEN) + "/nat.pcapng");
    Bytes& left = trace.front().outcome.frame;
    left.back() ^= 1;
    EXPECT_FALSE(replays<TypeParam>(trace));
    left.back() ^= 1;
    EXPECT_TRUE(replays<TypeParam>(trace));
    trace.front().outcome.why = "session";
    EXPECT_FALSE(replays<TypeParam>(trace));
}

TEST(Trace, AFileThatIsNoneIsRefusedWithItsName) {
    EXPECT_THROW(read_trace("/nowhere.pcapng"), std::runtime_error);
    const std::string path = testing::TempDir() + "/gwt" + std::to_string(getpid()) + ".pcapng";
    write_trace(path, read_trace(std::string(GODWIT_GOLDEN) + "/vlan.pcapng"));
    std::filesystem::resize_file(path, std::filesystem::file_size(path) - 8);
    try {
        read_trace(path);
        ADD_FAILURE() << "read a file that is cut off";
    } catch (const std::runtime_error& error) {
        EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
    }
    std::filesystem::remove(path);
}

}  // namespace godwit::test
