#include "lib/config.hpp"

#include "tests/fakes/temporary_directory.hpp"

#include <gtest/gtest.h>

namespace {

using namespace godwit;

struct Port {
    std::string name;
    std::uint16_t vlan = 0;
    static constexpr std::string_view kRequired[] = {"name"};
};
BOOST_DESCRIBE_STRUCT(Port, (), (name, vlan))
struct Config {
    int version = 0;
    std::string listen;
    std::vector<Port> ports;
    static constexpr std::string_view kRequired[] = {"version"};
};
BOOST_DESCRIBE_STRUCT(Config, (), (version, listen, ports))

std::vector<std::string> errors_of(const std::string& yaml) {
    fakes::TemporaryDirectory directory;
    const std::string file = directory.write("c.yaml", yaml);
    Result<Config> config = config::load<Config>(file);
    std::vector<std::string> lines;
    if (config) return lines;
    for (const FieldError& error : config.error().fields)
        lines.push_back(std::to_string(error.line) + ":" + std::to_string(error.column) + " " +
                        error.pointer + " " + error.message);
    if (lines.empty()) lines.push_back(config.error().cause);
    return lines;
}

json::bj::value value_of(const std::string& yaml) {
    Result<config::Document> document = config::parse_yaml(yaml, "t.yaml");
    return document ? document->value : json::bj::value(document.error().text());
}

TEST(Config, ReadsAGoodFile) {
    fakes::TemporaryDirectory directory;
    const std::string file = directory.write(
        "c.yaml",
        "# first\nversion: 1\nlisten: 10.0.0.1:80\nports:\n  - name: \"a\"\n    vlan: 0x10\n");
    Result<Config> config = config::load<Config>(file);
    ASSERT_TRUE(config) << config.error().text();
    EXPECT_EQ(config->ports[0].vlan, 16);
    EXPECT_EQ(config->listen, "10.0.0.1:80");
}

TEST(Config, TellsEveryErrorAtOnceWithItsPlace) {
    const std::vector<std::string> expected = {
        "4:5 /ports/0/nmae is not a known field; did you mean \"name\"?",
        "4:5 /ports/0/name is missing",
        "5:11 /ports/0/vlan is a string, expected a whole number",
        "2:9 /listen is a number, expected a string (quote it)",
        "2:1 /version is missing",
    };
    std::vector<std::string> said =
        errors_of("# no version\nlisten: 80\nports:\n  - nmae: x\n    vlan: \"7\"\n");
    ASSERT_EQ(said.size(), expected.size());
    for (const std::string& line : expected)
        EXPECT_NE(std::ranges::find(said, line), said.end()) << line << "\nnot in\n"
                                                             << testing::PrintToString(said);
}

TEST(Config, TextOfTheErrorIsFileLineColumnPointerMessage) {
    fakes::TemporaryDirectory directory;
    const std::string file = directory.write("c.yaml", "version: x\n");
    Result<Config> config = config::load<Config>(file);
    ASSERT_FALSE(config);
    EXPECT_NE(
        config.error().text().find(file + ":1:10: /version is a string, expected a whole number"),
        std::string::npos)
        << config.error().text();
}

TEST(Config, SemanticErrorsGetTheirPlaceToo) {
    fakes::TemporaryDirectory directory;
    const std::string file =
        directory.write("c.yaml", "version: 1\nports:\n  - name: a\n  - name: a\n");
    auto check = [](const Config&, std::vector<FieldError>& errors) {
        errors.push_back({"/ports/1/name", "is there twice"});
    };
    Result<Config> config = config::load<Config>(file, check);
    ASSERT_FALSE(config);
    EXPECT_EQ(config.error().fields[0].line, 4);
    EXPECT_EQ(config.error().fields[0].column, 11);
}

TEST(Config, RefusesWhatMakesYamlSurprising) {
    struct Case {
        const char* yaml;
        const char* said;
    };
    for (const Case& c : std::initializer_list<Case>{
             {"version: 1\nversion: 2\n", "2:1 /version is there twice; the first is in line 1"},
             {"version: &a 1\n", "anchors are refused"},
             {"version: *a\n", "2:"},
             {"version: 1\n<<: {listen: x}\n", "merge keys are refused"},
             {"version: !!int 1\n", "the tag"},
             {"version: !thing 1\n", "the tag"},
             {"? [a, b]\n: 1\n", "a key must be one word"},
             {"version: 1\n---\nversion: 2\n", "second document"},
             {"version: [1\n", "is not YAML"},
             {"", "/version is missing"},
             {"- 1\n", "expected a mapping"}}) {
        std::vector<std::string> said = errors_of(c.yaml);
        ASSERT_FALSE(said.empty()) << c.yaml;
        if (std::string(c.said) == "2:") continue;  // an unknown alias is an error of the parser
        EXPECT_NE(said[0].find(c.said), std::string::npos) << c.yaml << said[0];
    }
}

TEST(Config, KnownAliasesAreRefusedToo) {
    std::vector<std::string> said = errors_of("listen: &a x\nversion: *a\n");
    ASSERT_EQ(said.size(), 2u);
    EXPECT_NE(said[1].find("2:10 /version aliases are refused"), std::string::npos) << said[1];
}

TEST(Config, DepthAndSizeAreCapped) {
    std::string deep;
    for (int i = 0; i < 40; ++i) deep = "[" + deep + "]";
    EXPECT_NE(errors_of("ports: " + deep)[0].find("nested deeper than 32"), std::string::npos)
        << testing::PrintToString(errors_of("ports: " + deep));
    EXPECT_EQ(errors_of("listen: " + std::string(1 << 20, 'x'))[0], "is larger than 1 MiB");
    EXPECT_FALSE(errors_of(std::string(200000, '[')).empty());
}

TEST(Config, PlainScalarsFollowTheCoreSchemaAndQuotedOnesStayStrings) {
    EXPECT_TRUE(value_of("true").is_bool());
    EXPECT_TRUE(value_of("\"true\"").is_string());
    EXPECT_TRUE(value_of("'12'").is_string());
    EXPECT_TRUE(value_of("no").is_string());
    EXPECT_TRUE(value_of("12:30:45").is_string());
    EXPECT_TRUE(value_of("52:54:00:00:00:01").is_string());
    EXPECT_TRUE(value_of("~").is_null());
    EXPECT_EQ(value_of("0o17").as_int64(), 15);
    EXPECT_EQ(value_of("-12").as_int64(), -12);
    EXPECT_EQ(value_of("017").as_int64(), 17);
    EXPECT_EQ(value_of("18446744073709551615").as_uint64(), UINT64_MAX);
    EXPECT_EQ(value_of("1.5e3").as_double(), 1500.0);
    EXPECT_TRUE(value_of("1.2.3").is_string());
    EXPECT_TRUE(value_of("1e999").is_string());
    EXPECT_TRUE(value_of(".inf").is_string());
}

TEST(Config, AMissingFileIsNamed) {
    Result<Config> config = config::load<Config>("/nonexistent/c.yaml");
    ASSERT_FALSE(config);
    EXPECT_EQ(config.error().text(), "/nonexistent/c.yaml: No such file or directory [Rejected]");
}

}  // namespace
