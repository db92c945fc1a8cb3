#include "lib/json.hpp"

#include <gtest/gtest.h>

namespace {

using namespace godwit;

enum class Mode { l2, needs_attention, delete_ };
BOOST_DESCRIBE_ENUM(Mode, l2, needs_attention, delete_)

struct Port {
    std::string name;
    std::uint16_t vlan = 7;
    Mode mode = Mode::l2;
    std::optional<std::string> peer;
    static constexpr std::string_view kRequired[] = {"name"};
};
BOOST_DESCRIBE_STRUCT(Port, (), (name, vlan, mode, peer))

struct Switch {
    std::vector<Port> ports;
    std::map<std::string, std::int32_t> weights;
    bool on = false;
    double ratio = 0;
};
BOOST_DESCRIBE_STRUCT(Switch, (), (ports, weights, on, ratio))

TEST(Json, WhatWasWrittenReadsBackTheSame) {
    Switch before{{{"a", 1, Mode::needs_attention, "b"}, {"c", 2, Mode::delete_, {}}},
                  {{"x", -4}},
                  true,
                  0.5};
    const std::string text = json::to_text(before);
    Result<Switch> after = json::from_text<Switch>(text, "test");
    ASSERT_TRUE(after) << after.error().text();
    EXPECT_EQ(json::to_text(*after), text);
    EXPECT_EQ(after->ports[0].peer, "b");
}

TEST(Json, EnumeratorsAreWrittenWithDashesAndWithoutTheKeywordsUnderscore) {
    EXPECT_EQ(json::enum_name(Mode::needs_attention), "needs-attention");
    EXPECT_EQ(json::enum_name(Mode::delete_), "delete");
    EXPECT_EQ(json::enum_value<Mode>("delete"), Mode::delete_);
    EXPECT_EQ(json::enum_value<Mode>("delete_"), std::nullopt);
}

TEST(Json, AbsentMembersKeepTheirDefaultsAndNullEmptiesAnOptional) {
    Result<Port> port = json::from_text<Port>(R"({"name":"p","peer":null})", "test");
    ASSERT_TRUE(port);
    EXPECT_EQ(port->vlan, 7);
    EXPECT_FALSE(port->peer);
}

TEST(Json, EveryFieldAtFaultIsNamedAtOnceWithItsPointer) {
    Result<Switch> read = json::from_text<Switch>(
        R"({"ports":[{"nmae":"x","vlan":70000,"mode":"l3"}],"weights":{"a/b":"1"},"on":1,"ratio":"x"})",
        "test");
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().slug, "invalid-document");
    std::map<std::string, std::string> said;
    for (const FieldError& field : read.error().fields) said[field.pointer] = field.message;
    EXPECT_EQ(said.at("/ports/0/nmae"), "is not a known field; did you mean \"name\"?");
    EXPECT_EQ(said.at("/ports/0/name"), "is missing");
    EXPECT_EQ(said.at("/ports/0/vlan"), "is out of range, expected 0 to 65535");
    EXPECT_EQ(said.at("/ports/0/mode"), "\"l3\" is not one of: l2, needs-attention, delete");
    EXPECT_EQ(said.at("/weights/a~1b"), "is a string, expected a whole number");
    EXPECT_EQ(said.at("/on"), "is a number, expected true or false");
    EXPECT_EQ(said.at("/ratio"), "is a string, expected a number");
    EXPECT_EQ(said.size(), 7u);
}

TEST(Json, AFarAwayNameGetsTheListOfKnownOnes) {
    Result<Port> read = json::from_text<Port>(R"({"name":"p","colour":1})", "test");
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().fields[0].message,
              "is not a known field; known here: name, vlan, mode, peer");
}

TEST(Json, MalformedTextIsRefusedWithItsPlace) {
    for (const char* text : {"{\"a\":1,}", "{\"a\":1} x", "", "{\"a\":\n  tru}", "\"\xff\""}) {
        Result<json::bj::value> read = json::parse(text, "read the body");
        ASSERT_FALSE(read) << text;
        EXPECT_EQ(read.error().slug, "malformed-json");
        EXPECT_NE(read.error().cause.find("line "), std::string::npos);
    }
    EXPECT_NE(json::parse("{\"a\":\n  trx}", "t").error().cause.find("line 2 column"),
              std::string::npos);
}

TEST(Json, NestingBeyondTheLimitIsRefused) {
    EXPECT_FALSE(json::parse(std::string(10000, '['), "t"));
    EXPECT_TRUE(json::parse(std::string(20, '[') + std::string(20, ']'), "t"));
}

TEST(Error, SaysFromTheOutsideInAndTheNextMove) {
    Error error{Fault::Retry, "ask switch sw-3", "connect: Connection refused"};
    EXPECT_EQ(std::move(error).within("drain m-42").text(),
              "drain m-42: ask switch sw-3: connect: Connection refused [Retry]");
}

}  // namespace
