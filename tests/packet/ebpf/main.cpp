// Exit 77, which the test runner counts as skipped, where these tests cannot run.
#include <cstdio>
#include <unistd.h>

#include <gtest/gtest.h>

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    if (geteuid() != 0) {
        std::fprintf(stderr, "skipped: needs root\n");
        return 77;
    }
    return RUN_ALL_TESTS();
}
