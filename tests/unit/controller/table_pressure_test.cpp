// A migration needs room in the switch's tables; without it sessions would go untracked and break.
#include "tests/unit/controller/migration_story.hpp"

namespace godwit::fakes {
namespace {

TEST_F(MigrationStory, ATableMoreThanHalfFullRefusesAMigration) {
    world.stats.table_used = 501;
    world.stats.table_capacity = 1000;
    begin();
    run_to_rest();
    EXPECT_EQ(seen().state, "failed");
    EXPECT_TRUE(seen().error->type.ends_with("table-pressure"));
    EXPECT_NE(seen().error->detail.find("501 entries in 1000 slots"), std::string::npos);
    EXPECT_NE(seen().error->detail.find("raise tables.sessions_v4"), std::string::npos);
}

TEST_F(MigrationStory, TheOtherFamilysTableCountsToo) {
    world.stats.table_used_v6 = 501;
    world.stats.table_capacity_v6 = 1000;
    begin();
    run_to_rest();
    EXPECT_NE(seen().error->detail.find("raise tables.sessions_v6"), std::string::npos);
}

TEST_F(MigrationStory, AHalfFullTableIsRoomEnough) {
    world.stats.table_used = world.stats.table_used_v6 = 500;
    world.stats.table_capacity = world.stats.table_capacity_v6 = 1000;
    begin();
    run_to_rest();
    expect_clean("succeeded");
}

TEST_F(MigrationStory, WhoForcesItMigratesOverAFullTable) {
    world.stats.table_used = world.stats.table_capacity = 1000;
    request.force = true;
    begin();
    run_to_rest();
    expect_clean("succeeded");
}

}  // namespace
}  // namespace godwit::fakes
