// Ids, secrets, addresses, server-sent events, metrics, the clocks.
#include "lib/http/address.hpp"
#include "lib/http/sse.hpp"
#include "lib/id.hpp"
#include "lib/log.hpp"
#include "lib/metrics.hpp"
#include "lib/secret.hpp"

#include "tests/fakes/manual_clock.hpp"
#include "tests/fakes/run_task.hpp"
#include "tests/fakes/temporary_directory.hpp"

#include <set>
#include <sys/stat.h>

#include <gtest/gtest.h>

namespace {

using namespace godwit;
using namespace std::chrono_literals;
using std::chrono::system_clock;

TEST(Ids, SortByTimeAndNeverRepeat) {
    const system_clock::time_point early{1700000000000ms};
    std::set<std::string> ids;
    for (int i = 0; i < 1000; ++i) ids.insert(new_id("j-", early));
    EXPECT_EQ(ids.size(), 1000u);
    EXPECT_LT(*ids.rbegin(), new_id("j-", early + 1ms));
    EXPECT_EQ(ids.begin()->size(), 28u);
    EXPECT_EQ(ids.begin()->substr(0, 12), "j-01HF7YAT00");  // 1700000000000 in Crockford's base 32
}

TEST(Ids, UuidCarriesVersionVariantAndTime) {
    const std::string id = uuid_v7(system_clock::time_point{0x0123456789abms});
    EXPECT_EQ(id.substr(0, 15), "01234567-89ab-7");
    EXPECT_NE(std::string("89ab").find(id[19]), std::string::npos);
    EXPECT_EQ(id.size(), 36u);
}

TEST(Ids, TimesAreRfc3339InUtc) {
    EXPECT_EQ(rfc3339(system_clock::time_point{1700000000007ms}), "2023-11-14T22:13:20.007Z");
}

TEST(Secrets, AFileForItsOwnerOnlyIsRead) {
    fakes::TemporaryDirectory directory;
    const std::string file = directory.file("token");
    const std::string token = *create_secret_file(file);
    EXPECT_EQ(*read_secret_file(file), token);
    EXPECT_EQ(create_secret_file(file).error().fault, Fault::Conflict);
    chmod(file.c_str(), 0644);
    EXPECT_NE(read_secret_file(file).error().cause.find("chmod 600"), std::string::npos);
}

TEST(Secrets, ShortMissingAndTwoLineFilesAreRefused) {
    fakes::TemporaryDirectory directory;
    for (const char* text : {"short", "two lines of it\nand another one here\n", ""}) {
        const std::string file = directory.write("token", text);
        chmod(file.c_str(), 0600);
        EXPECT_EQ(read_secret_file(file).error().fault, Fault::Rejected) << text;
    }
    EXPECT_EQ(read_secret_file(directory.file("none")).error().cause, "No such file or directory");
}

TEST(Secrets, DigestAndComparison) {
    EXPECT_EQ(sha256_hex("abc"),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_TRUE(equal_secrets("same", "same"));
    EXPECT_FALSE(equal_secrets("same", "sama"));
    EXPECT_FALSE(equal_secrets("same", "sam"));
    EXPECT_NE(random_token(), random_token());
}

TEST(Address, TakesTheFormsPeopleWrite) {
    EXPECT_EQ(http::parse_address("http://10.0.0.1:8441/")->text(), "10.0.0.1:8441");
    EXPECT_EQ(http::parse_address("[::1]:80")->host, "::1");
    EXPECT_EQ(http::parse_address("[::1]:80")->text(), "[::1]:80");
    EXPECT_EQ(http::parse_address("unix:/run/x.sock")->path, "/run/x.sock");
    EXPECT_EQ(http::parse_address("host-a:1")->host, "host-a");
}

TEST(Address, RefusesTheRest) {
    for (const char* text : {"", "10.0.0.1", ":80", "a:99999", "a:", "a:8x", "::1:80", "unix:"})
        EXPECT_EQ(http::parse_address(text).error().fault, Fault::Rejected) << text;
    EXPECT_FALSE(http::parse_address("unix:/" + std::string(120, 'x')));
}

TEST(Events, SurviveFormattingAndAnyCuttingUp) {
    const http::Event first{"7", "job", "{\"a\":1}"};
    const http::Event second{"8", "", "two\nlines"};
    const std::string wire = ":\n\n" + http::format_event(first) + http::format_event(second);
    for (std::size_t step = 1; step <= wire.size(); ++step) {
        http::EventParser parser;
        std::vector<http::Event> got;
        for (std::size_t at = 0; at < wire.size(); at += step) {
            auto part = parser.feed(std::string_view(wire).substr(at, step));
            ASSERT_TRUE(part);
            got.insert(got.end(), part->begin(), part->end());
        }
        ASSERT_EQ(got.size(), 2u) << step;
        EXPECT_EQ(got[0].type, "job");
        EXPECT_EQ(got[0].id, "7");
        EXPECT_EQ(got[1].data, "two\nlines");
    }
}

TEST(Events, AnIdOrTypeCannotSmuggleALine) {
    EXPECT_EQ(http::format_event({"1\ndata: x", "a\rb", "d"}),
              "id: 1data: x\nevent: ab\ndata: d\n\n");
}

TEST(Events, CarriageReturnsEndLinesAndEndlessOnesAreRefused) {
    http::EventParser parser;
    EXPECT_EQ(parser.feed("data: a\r\n\r\ndata: b\r\r")->size(), 2u);
    http::EventParser flooded;
    EXPECT_FALSE(flooded.feed(std::string(http::EventParser::kEventMax + 1, 'x')));
}

TEST(Metrics, AreWrittenAsPrometheusReadsThem) {
    Metrics metrics;
    metrics.counter("godwit_jobs_total", "Jobs.", {{"kind", "migration"}}).Increment(3);
    auto& gauge = metrics.gauge("godwit_sessions", "Sessions.");
    metrics.before_text([&gauge] { gauge.Set(12); });
    const std::string text = metrics.text();
    EXPECT_NE(text.find("# TYPE godwit_jobs_total counter"), std::string::npos);
    EXPECT_NE(text.find("godwit_jobs_total{kind=\"migration\"} 3"), std::string::npos) << text;
    EXPECT_NE(text.find("godwit_sessions 12"), std::string::npos) << text;
    EXPECT_EQ(&metrics.gauge("godwit_sessions", "Sessions."), &gauge);
}

TEST(Log, LevelsAreNames) {
    EXPECT_EQ(*log::parse_level("warning"), log::Level::warning);
    EXPECT_FALSE(log::parse_level("loud"));
}

boost::asio::awaitable<int> sleeper(fakes::ManualClock* clock, std::vector<int>* order, int name,
                                    std::chrono::milliseconds time) {
    co_await clock->sleep_for(time);
    order->push_back(name);
    co_return name;
}

TEST(ManualClock, WakesSleepersInTheOrderOfTheirTimesAndOnlyWhenStepped) {
    fakes::ManualClock clock;
    boost::asio::io_context io;
    std::vector<int> order;
    auto ignore = [](std::exception_ptr, int) {};
    boost::asio::co_spawn(io, sleeper(&clock, &order, 2, 20ms), ignore);
    boost::asio::co_spawn(io, sleeper(&clock, &order, 1, 10ms), ignore);
    io.poll();
    EXPECT_EQ(clock.sleepers(), 2u);
    EXPECT_EQ(clock.next_due(), 10ms);
    clock.advance(9ms);
    io.poll();
    EXPECT_TRUE(order.empty());
    clock.advance(11ms);
    io.restart();
    io.poll();
    EXPECT_EQ(order, (std::vector<int>{1, 2}));
    EXPECT_EQ(clock.sleepers(), 0u);
}

}  // namespace
