// What the stories of one migration share: a controller on a world that behaves, and what must be left
// of it in the end.
#pragma once

#include "tests/fakes/controller_rig.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace godwit::fakes {

struct MigrationStory : testing::Test, ControllerRig {
    void begin() {
        start();
        submit();
    }
    void expect_clean(const char* state) {
        EXPECT_EQ(seen().state, state) << json::to_text(seen());
        EXPECT_EQ(world.violations, std::vector<std::string>{});
        EXPECT_EQ(world.leftovers(), std::vector<std::string>{});
        EXPECT_EQ(last_events(), 1);
    }
    bool advises(const std::string& action) {
        const std::vector<std::string> actions = seen().error->next_actions;
        return std::ranges::find(actions, action) != actions.end();
    }
    void expect_at(const std::string& host, const std::string& other) {
        EXPECT_TRUE(world.hosts[host].vms.contains("web-1"));
        EXPECT_FALSE(world.hosts[other].vms.contains("web-1"));
        EXPECT_EQ(world.managed["web-1"].steering.owner, host);
        EXPECT_EQ(life->store->vm("web-1")->host, host);
    }
};

}  // namespace godwit::fakes
