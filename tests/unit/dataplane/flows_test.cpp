// Looking inside a switch: rows, filters, sampling, gaps and captures over the routes that serve them.
#include "dataplane/flows.hpp"

#include "dataplane/routes.hpp"
#include "tests/fakes/fake_plane.hpp"
#include "tests/fakes/manual_clock.hpp"
#include "tests/fakes/run_task.hpp"
#include "tests/fakes/temporary_directory.hpp"

#include <arpa/inet.h>

#include <boost/asio/detached.hpp>
#include <gtest/gtest.h>

namespace godwit::test {
namespace {

using namespace std::chrono_literals;
using Words = std::vector<std::string>;

// A listener that takes everything, or is slow, or has gone.
struct Listener final : http::EventSink {
    std::vector<http::Event> events;
    std::size_t takes = SIZE_MAX;  // then it is slow
    bool gone = false;
    boost::asio::steady_timer never;

    explicit Listener(boost::asio::io_context& io)
        : never(io, boost::asio::steady_timer::time_point::max()) {}
    Task<void> send(http::Event event) override {
        if (gone) co_return fail(Fault::Lost, "send", "the listener has gone");
        while (events.size() >= takes) {
            boost::system::error_code woken;
            co_await never.async_wait(
                boost::asio::redirect_error(boost::asio::use_awaitable, woken));
        }
        events.push_back(std::move(event));
        co_return Result<void>{};
    }
    Task<void> heartbeat() override { co_return Result<void>{}; }

    Words types() const {
        Words all;
        for (const http::Event& event : events) all.push_back(event.type);
        return all;
    }
    json::bj::value at(std::size_t index) const { return json::bj::parse(events.at(index).data); }
};

class SwitchFlows : public testing::Test {
protected:
    SwitchFlows() {
        const protocol::Backend a{"host-a", "host-a", "52:54:00:00:00:0A"},
            b{"host-b", "host-b", "52:54:00:00:00:0A"};
        EXPECT_TRUE(steerings.start());
        EXPECT_TRUE(steerings.put(
            "web-1", {{1, "j-1", "step"}, {"10.1.0.10"}, {a, b}, "host-b", "host-a", true}));
        make();
    }
    void make(protocol::FlowSampling sampling = {}) {
        flows = std::make_unique<dataplane::Flows>(io.get_executor(), "sw-1", plane, steerings,
                                                   clock, std::move(sampling));
        routes = dataplane::flow_routes(*flows);
    }
    http::Response ask(const std::string& method, const std::string& pattern,
                       std::map<std::string, std::string> query = {}, std::string body = "",
                       std::string capture = "") {
        for (const http::Route& route : routes)
            if (route.method == method && route.pattern == pattern) {
                http::Request request;
                request.method = method;
                request.query = std::move(query);
                request.body = std::move(body);
                request.params["capture"] = std::move(capture);
                return fakes::run_on(io, route.handler(std::move(request)));
            }
        throw std::runtime_error("no route " + pattern);
    }
    std::shared_ptr<Listener> listen(const http::Response& response) {
        auto listener = std::make_shared<Listener>(io);
        EXPECT_TRUE(response.stream) << response.body;
        boost::asio::co_spawn(io, response.stream(listener), boost::asio::detached);
        turn();
        return listener;
    }
    std::shared_ptr<Listener> follow(std::map<std::string, std::string> query = {}) {
        query["follow"] = "true";
        return listen(ask("GET", "/v1/flows", std::move(query)));
    }
    void turn() {
        io.restart();
        io.poll();
    }
    void hear() {
        while (flows->hear(64) == 64) {
        }
        turn();
    }
    static steer_packet packet(const char* source, std::uint16_t source_port,
                               const char* destination, std::uint16_t destination_port,
                               std::uint8_t protocol = 6) {
        steer_packet p{};
        p.family = 4;
        p.protocol = protocol;
        p.kind = protocol == 6 ? STEER_SEGMENT : STEER_UDP;
        p.tcp_flags = protocol == 6 ? 0x12 : 0;
        p.source_port = source_port;
        p.destination_port = destination_port;
        inet_pton(AF_INET, source, p.source);
        inet_pton(AF_INET, destination, p.destination);
        const std::uint8_t mac[6] = {0x52, 0x54, 0, 0, 0, 0x0a};
        std::copy_n(mac, 6, p.source_mac);
        return p;
    }
    static steer_flow about(std::uint32_t in, std::uint32_t out, steer_verdict verdict,
                            std::uint16_t vm = 0) {
        steer_flow flow{};
        flow.in = in;
        flow.out = out;
        flow.verdict = verdict;
        flow.vm = vm;
        return flow;
    }
    // One of each: forwarded to host-a, fenced from host-b, nobody's.
    void pass_three() {
        plane.fake_tap.pass(packet("10.0.0.9", 4000, "10.1.0.10", 80),
                            about(2, 3, {STEER_FORWARD, 0, 0, STEER_WHY_SESSION}));
        plane.fake_tap.pass(packet("10.1.0.10", 80, "10.0.0.9", 4001),
                            about(4, 0, {STEER_DROP, 0, 0, STEER_WHY_FENCED}));
        plane.fake_tap.pass(
            packet("192.0.2.1", 53, "192.0.2.2", 5353, 17),
            about(2, 0, {STEER_PASS, 0, 0, STEER_WHY_NOT_MANAGED}, STEER_FLOW_NO_VM));
    }
    Words reasons_of(const Listener& listener) {
        Words all;
        for (std::size_t i = 0; i < listener.events.size(); ++i)
            all.push_back(listener.events[i].type == "flow"
                              ? std::string(listener.at(i).at("reason").as_string())
                              : listener.events[i].type);
        return all;
    }
    static std::string complaints(const http::Response& response) {
        std::string all = std::to_string(response.status) + "\n";
        for (const FieldError& e : http::error_of(response, "").fields)
            all += e.pointer + " " + e.message + "\n";
        return all;
    }

    fakes::TemporaryDirectory directory;
    boost::asio::io_context io;
    fakes::ManualClock clock;
    FakePlane plane;
    dataplane::Steerings steerings{plane, dataplane::StateFile(directory.file("state")),
                                   [](const std::string&, const protocol::VmSteering&) {}};
    std::unique_ptr<dataplane::Flows> flows;
    std::vector<http::Route> routes;
};

#define EXPECT_HAS(text, part) \
    EXPECT_NE((text).find(part), std::string::npos) << "\"" << part << "\" is not in:\n" << (text)

TEST_F(SwitchFlows, RowSaysWhoWhereAndWhy) {
    make({1, {}, 1000});
    auto listener = follow();
    pass_three();
    hear();
    ASSERT_EQ(listener->types(), (Words{"flow", "flow", "flow"}));
    const json::bj::value forwarded = listener->at(0), fenced = listener->at(1),
                          other = listener->at(2);
    EXPECT_EQ(forwarded.at("direction"), "in");
    EXPECT_EQ(forwarded.at("in_port"), "uplink");
    EXPECT_EQ(forwarded.at("out_port"), "host-a");
    EXPECT_EQ(forwarded.at("vm"), "web-1");
    EXPECT_EQ(forwarded.at("owner"), "host-a");
    EXPECT_EQ(forwarded.at("protocol"), "tcp");
    EXPECT_EQ(forwarded.at("source"), "10.0.0.9");
    EXPECT_EQ(forwarded.at("destination_port"), 80);
    EXPECT_EQ(forwarded.at("tcp_flags"), "SYN,ACK");
    EXPECT_EQ(forwarded.at("verdict"), "forward");
    EXPECT_EQ(forwarded.at("reason"), "session");
    EXPECT_EQ(forwarded.at("switch_id"), "sw-1");
    EXPECT_EQ(fenced.at("direction"), "out");
    EXPECT_EQ(fenced.at("out_port"), "");
    EXPECT_EQ(fenced.at("owner"), "host-b") << "who sent it, found by port and MAC";
    EXPECT_EQ(other.at("vm"), "");
    EXPECT_EQ(other.at("protocol"), "udp");
    EXPECT_EQ(std::string(other.at("time").as_string()).size(), 30u) << "nanoseconds, UTC";
}

TEST_F(SwitchFlows, FiltersAreMetByAllFieldsAndAnyOfTheirValues) {
    make({1, {}, 1000});
    const std::vector<std::pair<std::map<std::string, std::string>, Words>> cases = {
        {{{"vm", "web-1"}}, {"session", "fenced"}},
        {{{"not_vm", "web-1"}}, {"not-managed"}},
        {{{"verdict", "drop,pass"}}, {"fenced", "not-managed"}},
        {{{"verdict", "drop,pass"}, {"not_reason", "fenced"}}, {"not-managed"}},
        {{{"reason", "session"}}, {"session"}},
        {{{"owner", "host-b"}}, {"fenced"}},
        {{{"protocol", "17"}}, {"not-managed"}},
        {{{"not_protocol", "tcp,icmp"}}, {"not-managed"}},
        {{{"ip", "10.0.0.0/8"}}, {"session", "fenced"}},
        {{{"ip", "10.0.0.9"}, {"port", "4001"}}, {"fenced"}},
        {{{"not_ip", "192.0.2.0/31"}}, {"session", "fenced"}},
        {{{"ip", "0.0.0.0/0"}, {"not_port", "80"}}, {"not-managed"}},
        {{{"ip", "fd00::/8"}}, {}},
    };
    std::vector<std::shared_ptr<Listener>> listeners;
    for (const auto& [query, wanted] : cases) listeners.push_back(follow(query));
    pass_three();
    hear();
    for (std::size_t i = 0; i < cases.size(); ++i)
        EXPECT_EQ(reasons_of(*listeners[i]), cases[i].second) << "case " << i;
}

TEST_F(SwitchFlows, UnknownValuesAreRefusedWithThoseThatAreKnown) {
    const std::string all = complaints(ask("GET", "/v1/flows",
                                           {{"reason", "fenced,boredom"},
                                            {"not_verdict", "accept"},
                                            {"protocol", "256"},
                                            {"ip", "10.0.0.0/33"},
                                            {"port", "0"},
                                            {"last", "many"},
                                            {"follow", "yes"},
                                            {"colour", "red"}}));
    EXPECT_HAS(all, "422");
    EXPECT_HAS(all, "/reason \"boredom\" is no reason; known are not-managed, session, handshake");
    EXPECT_HAS(all, "/not_verdict \"accept\" is no verdict; known are pass, forward");
    EXPECT_HAS(all, "/protocol \"256\" is no protocol");
    EXPECT_HAS(all, "/ip \"10.0.0.0/33\" is neither an address nor a prefix");
    EXPECT_HAS(all, "/port \"0\" is no port");
    EXPECT_HAS(all, "/last expected 0 to 4096");
    EXPECT_HAS(all, "/follow expected true or false");
    EXPECT_HAS(all, "/colour is no filter; known are vm");
    EXPECT_EQ(plane.fake_tap.watch().on, 0u);
}

TEST_F(SwitchFlows, NothingIsSampledUntilSomebodyFollows) {
    EXPECT_EQ(plane.fake_tap.watch().on, 0u);
    auto listener = follow();
    EXPECT_EQ(plane.fake_tap.watch().on, 1u);
    EXPECT_EQ(plane.fake_tap.watch().every, 100u);
    plane.fake_tap.watch().every = 0;  // without luck
    pass_three();
    hear();
    EXPECT_EQ(reasons_of(*listener), Words{"fenced"}) << "always told, while sessions are sampled";
    listener->gone = true;
    pass_three();
    hear();
    flows->refill();
    EXPECT_EQ(plane.fake_tap.watch().on, 0u) << "nobody is left";
}

TEST_F(SwitchFlows, SamplingIsSetAtRunTimeAndChecked) {
    http::Response set =
        ask("PUT", "/v1/sampling", {}, R"({"every": 7, "always": ["fenced"], "per_second": 500})");
    ASSERT_EQ(set.status, 200) << set.body;
    EXPECT_EQ(plane.fake_tap.watch().every, 7u);
    EXPECT_EQ(plane.fake_tap.watch().budget, 50) << "a tenth, for a tenth of a second";
    EXPECT_EQ(plane.fake_tap.watch().always[0], 1ull << STEER_WHY_FENCED);
    EXPECT_EQ(plane.fake_tap.watch().on, 1u);
    const std::string wrong = complaints(
        ask("PUT", "/v1/sampling", {}, R"({"always": ["fenced", "boredom"], "per_second": 0})"));
    EXPECT_HAS(wrong, "/always/1 \"boredom\" is no reason; known are not-managed");
    EXPECT_HAS(wrong, "/per_second expected 10 to 100000");
    EXPECT_EQ(plane.fake_tap.watch().every, 7u) << "nothing of a refused wish is taken";
    ask("PUT", "/v1/sampling", {}, "{}");
    EXPECT_EQ(plane.fake_tap.watch().on, 0u);
}

TEST_F(SwitchFlows, LastOnesAreKeptAndOldestComesFirst) {
    make({1, {}, 1000});
    pass_three();
    hear();
    const auto list = json::bj::parse(ask("GET", "/v1/flows", {{"last", "2"}}).body);
    ASSERT_EQ(list.at("flows").as_array().size(), 2u);
    EXPECT_EQ(list.at("flows").at(0).at("reason"), "fenced");
    EXPECT_EQ(reasons_of(*follow({{"last", "9"}, {"vm", "web-1"}})), (Words{"session", "fenced"}));
}

TEST_F(SwitchFlows, WhatThePlaneCouldNotWriteIsAGap) {
    make({1, {}, 1000});
    auto listener = follow();
    plane.fake_tap.room = 2;
    pass_three();
    hear();
    ASSERT_EQ(reasons_of(*listener), (Words{"session", "fenced", "gap"}));
    EXPECT_EQ(listener->at(2), (json::bj::value{{"lost", 1}, {"where", "switch"}}));
    EXPECT_EQ(json::bj::parse(ask("GET", "/v1/sampling").body).at("lost"), 1);
}

TEST_F(SwitchFlows, FloodEndsAtTheBudgetAndIsCounted) {
    make({1, {}, 100});
    auto listener = follow();
    for (int i = 0; i < 20; ++i) pass_three();
    hear();
    EXPECT_EQ(listener->events.size(), 11u) << "ten, and the gap";
    EXPECT_EQ(listener->at(10), (json::bj::value{{"lost", 50}, {"where", "switch"}}));
    flows->refill();
    pass_three();
    hear();
    EXPECT_EQ(listener->events.size(), 14u);
}

TEST_F(SwitchFlows, SlowReaderLosesAndIsToldHowMuch) {
    make({1, {}, 100'000});
    auto slow = follow();
    auto quick = follow();
    slow->takes = 1;
    for (int i = 0; i < 2000; ++i) {
        flows->refill();
        pass_three();
        hear();
    }
    EXPECT_EQ(quick->events.size(), 6000u);
    slow->takes = SIZE_MAX;
    slow->never.cancel();
    turn();
    // One was taken, one was on its way, 4096 waited.
    ASSERT_EQ(slow->events.size(), 4099u);
    EXPECT_EQ(slow->events.back().type, "gap");
    EXPECT_EQ(slow->at(4098), (json::bj::value{{"lost", 6000 - 4098}, {"where", "reader"}}));
}

TEST_F(SwitchFlows, PlaneWithoutATapSaysSo) {
    plane.tap_there = false;
    make();
    EXPECT_EQ(http::error_of(ask("GET", "/v1/flows"), "").slug, "no-flows");
    EXPECT_EQ(http::error_of(ask("PUT", "/v1/sampling", {}, "{}"), "").slug, "no-flows");
    EXPECT_EQ(http::error_of(ask("POST", "/v1/captures", {}, R"({"ends": [":80"]})"), "").slug,
              "no-flows");
    flows->refill();
    flows->close();
}

class SwitchCaptures : public SwitchFlows {
protected:
    std::string begin(const std::string& body) {
        http::Response begun = ask("POST", "/v1/captures", {}, body);
        EXPECT_EQ(begun.status, 201) << begun.body;
        return std::string(json::bj::parse(begun.body).at("id").as_string());
    }
    std::shared_ptr<Listener> read(const std::string& id) {
        return listen(ask("GET", "/v1/captures/{capture}/frames", {}, "", id));
    }
    void pass_frames(int count = 1) {
        const std::vector<std::uint8_t> frame = {'p', 'a', 'y', 'l', 'o', 'a', 'd',
                                                 1,   2,   3,   4,   5,   6,   7};
        for (int i = 0; i < count; ++i) {
            plane.fake_tap.pass(packet("10.0.0.9", 4000, "10.1.0.10", 80),
                                about(2, 3, {STEER_FORWARD, 0, 0, STEER_WHY_SESSION}), frame);
            plane.fake_tap.pass(packet("10.1.0.10", 80, "10.0.0.8", 4000),
                                about(3, 2, {STEER_PASS, 0, 0, STEER_WHY_SESSION}), frame);
        }
    }
    static constexpr const char* kOne =
        R"({"vm": "web-1", "protocol": "tcp", "ends": ["10.1.0.10:80", "10.0.0.9:4000"], "count": 2})";
};

TEST_F(SwitchCaptures, FramesOfOneSessionAreStreamedUntilTheCount) {
    auto follower = follow();
    plane.fake_tap.watch().every = 0;
    auto reader = read(begin(kOne));
    pass_frames(3);
    hear();
    ASSERT_EQ(reader->types(), (Words{"frame", "frame", "end"}));
    EXPECT_EQ(reader->at(0).at("bytes"), "cGF5bG9hZAECAwQFBgc=");
    EXPECT_EQ(reader->at(0).at("length"), 14);
    EXPECT_EQ(reader->at(0).at("flow").at("source_port"), 4000);
    EXPECT_EQ(reader->at(2), (json::bj::value{{"why", "count"}, {"frames", 2}, {"lost", 0}}));
    EXPECT_EQ(follower->events.size(), 0u) << "no payload and no row for who only follows";
    EXPECT_EQ(plane.fake_tap.watch().capture[0].snap, 0u);
}

TEST_F(SwitchCaptures, EndsInTimeAndByHandAndWhenItsReaderGoes) {
    const std::string by_time = begin(kOne), by_hand = begin(kOne), by_leaving = begin(kOne);
    auto timed = read(by_time), stopped = read(by_hand), left = read(by_leaving);
    EXPECT_EQ(ask("DELETE", "/v1/captures/{capture}", {}, "", by_hand).status, 204);
    turn();
    EXPECT_EQ(stopped->at(0).at("why"), "stopped");
    left->gone = true;
    pass_frames();
    hear();
    flows->refill();
    EXPECT_EQ(plane.fake_tap.watch().capture[2].snap, 0u);
    clock.advance(59s);
    flows->refill();
    EXPECT_EQ(timed->types(), Words{"frame"});
    clock.advance(1s);
    flows->refill();
    turn();
    EXPECT_EQ(timed->at(1), (json::bj::value{{"why", "time"}, {"frames", 1}, {"lost", 0}}));
    EXPECT_EQ(plane.fake_tap.watch().on, 0u);
    EXPECT_EQ(ask("DELETE", "/v1/captures/{capture}", {}, "", by_time).status, 404);
}

TEST_F(SwitchCaptures, QuickEndWaitsForItsReader) {
    const std::string id = begin(kOne);
    pass_frames(2);
    hear();
    auto reader = read(id);
    EXPECT_EQ(reader->types(), (Words{"frame", "frame", "end"}));
    const std::string unread = begin(kOne);
    pass_frames(2);
    hear();
    clock.advance(11s);
    flows->refill();
    EXPECT_EQ(ask("GET", "/v1/captures/{capture}/frames", {}, "", unread).status, 404);
}

TEST_F(SwitchCaptures, IsReadByOneAndFourAreTheMost) {
    std::vector<std::shared_ptr<Listener>> readers;
    std::string id;
    for (int i = 0; i < 4; ++i) readers.push_back(read(id = begin(kOne)));
    const http::Response again = ask("GET", "/v1/captures/{capture}/frames", {}, "", id);
    EXPECT_EQ(http::error_of(again, "").slug, "capture-read");
    const http::Response fifth = ask("POST", "/v1/captures", {}, kOne);
    EXPECT_EQ(fifth.status, 409);
    EXPECT_EQ(http::error_of(fifth, "").slug, "too-many-captures");
}

TEST_F(SwitchCaptures, LostFramesAreInItsLastWord) {
    auto reader = read(begin(kOne));
    plane.fake_tap.room = 1;
    pass_frames(3);
    hear();
    clock.advance(60s);
    flows->refill();
    turn();
    EXPECT_EQ(reader->at(1), (json::bj::value{{"why", "time"}, {"frames", 1}, {"lost", 2}}));
}

TEST_F(SwitchCaptures, WrongRequestsAreRefusedByField) {
    const std::string all = complaints(ask(
        "POST", "/v1/captures", {},
        R"({"protocol": "tpc", "ends": ["10.1.0.10:", "fd00::10"], "count": 0, "seconds": 3601, "snap": 4096})"));
    EXPECT_HAS(all, "422");
    EXPECT_HAS(all, "/protocol \"tpc\" is no IP protocol");
    EXPECT_HAS(all, "/ends/0 \"10.1.0.10:\" is no end of a session; write one like 10.1.0.10:80");
    EXPECT_EQ(all.find("/ends/1"), std::string::npos);
    EXPECT_HAS(all, "/count expected 1 to 1000000");
    EXPECT_HAS(all, "/seconds expected 1 to 3600");
    EXPECT_HAS(all, "/snap expected 14 to 2048");
    EXPECT_HAS(complaints(ask("POST", "/v1/captures", {}, "{}")),
               "/ends name a VM or an end: a capture of everything is refused");
    EXPECT_EQ(ask("POST", "/v1/captures", {}, R"({"vm": "web-9"})").status, 404);
    for (const char* bad : {"[fd00::1", "[fd00::1]80", "[fd00::1]:", "10.0.0.9:0", ":", "", "[]:80",
                            "host:80", "10.0.0.9:65536"})
        EXPECT_FALSE(dataplane::narrow({"", "", {bad}}, 0)) << bad;
    for (const char* good : {"[fd00::1]", "[fd00::1]:80", "fd00::1", ":80", "10.0.0.9"})
        EXPECT_TRUE(dataplane::narrow({"", "", {good}}, 0)) << good;
}

}  // namespace
}  // namespace godwit::test
