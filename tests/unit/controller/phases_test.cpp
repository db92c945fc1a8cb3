// The table is whole, and the page of the docs is the table.
#include "controller/machine/phases.hpp"

#include "lib/json.hpp"

#include "controller/config.hpp"
#include "tests/fakes/temporary_directory.hpp"

#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

namespace godwit::controller {

TEST(PhaseTable, WeightsSumToAHundred) {
    std::uint32_t sum = 0;
    for (const PhaseRow& row : phase_table()) sum += row.weight;
    EXPECT_EQ(sum, 100U);
    EXPECT_EQ(percent_at(Phase::retiring, 1.0), 100U);
}

TEST(PhaseTable, EveryPhaseIsStoredUnderTheNameOfTheTable) {
    for (const PhaseRow& row : phase_table()) {
        EXPECT_EQ(json::enum_name(row.phase), row.name);
        EXPECT_EQ(phase_named(row.name), row.phase);
    }
}

TEST(PhaseTable, NothingIsCancelledOrRolledBackAfterTheCommit) {
    for (const PhaseRow& row : phase_table()) {
        EXPECT_EQ(row.may_cancel, row.phase <= Phase::commit) << row.name;
        const bool back =
            row.on_failure == OnFailure::roll_back || row.on_failure == OnFailure::fail;
        EXPECT_EQ(back, row.phase <= Phase::commit) << row.name;
    }
}

TEST(PhaseTable, TheDocumentIsDerivedFromIt) {
    std::ifstream file(GODWIT_SOURCE_ROOT "/docs/phases.md");
    std::stringstream text;
    text << file.rdbuf();
    EXPECT_EQ(text.str(), phases_document());
}

TEST(ControllerConfig, TheShippedFileIsGood) {
    const auto config = load_config(GODWIT_SOURCE_ROOT "/configs/controller.yaml");
    EXPECT_TRUE(config) << config.error().text();
}

TEST(ControllerConfig, EveryErrorIsToldAtOnceWithItsPlace) {
    fakes::TemporaryDirectory directory;
    const std::string file = directory.write("c.yaml", R"(version: 2
listen: ["nonsense"]
peer_token_file: /x
switches: [{id: sw-1, address: "10.0.0.1:1", temporary_addresses: [
    "10.9.1.30", "10.9.1.39-10.9.1.30/24", "10.9.1.30-10.9.2.39/24", "fd09::1-fd09::2/128",
    "10.9.1.30-fd09::1/24", "fd09::-fd09::1:0/64", "10.9.1.30-10.9.1.39/24"]}]
hosts:
  - {id: Host A, agent: "10.0.0.2:1", switch_id: sw-9, port: ""}
vms: [{id: web-1, host: nowhere, method: magic}]
)");
    const auto config = load_config(file);
    ASSERT_FALSE(config);
    const std::string text = config.error().text();
    for (const char* part :
         {"/version", "/listen/0", "/hosts/0/id", "/hosts/0/switch_id", "/hosts/0/port",
          "/vms/0/host", "/vms/0/method", ":8:", "addresses/0 ", "addresses/1 ", "addresses/2 ",
          "addresses/3 ", "addresses/4 ", "addresses/5 "})
        EXPECT_TRUE(text.contains(part)) << part << "\n" << text;
    EXPECT_FALSE(text.contains("addresses/6 ")) << text;
}

}  // namespace godwit::controller
