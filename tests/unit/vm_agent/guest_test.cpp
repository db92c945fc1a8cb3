// What a guest's agent may answer, and what is made of it. A guest is not trusted.
#include "tests/fakes/temporary_directory.hpp"
#include "vm_agent/guest/addresses.hpp"
#include "vm_agent/guest/client.hpp"
#include "vm_agent/guest/parse.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <gtest/gtest.h>

namespace {

using namespace godwit;
using fakes::TemporaryDirectory;
namespace asio = boost::asio;
namespace bj = json::bj;
using std::chrono::milliseconds;

TEST(Guest, SocketTableCountsWhatIsEstablishedOnTheHostedAddresses) {
    // 10.1.0.10:22 and :80, a listener, somebody else's address; proc(5), little-endian words.
    const std::string tcp =
        "  sl  local_address rem_address   st\n"
        "   0: 00000000:0016 00000000:0000 0A 00000000:00000000\n"
        "   1: 0A00010A:0016 0900000A:0FA0 01 00000000:00000000\n"
        "   2: 0A00010A:0050 0900000A:0FA1 06 00000000:00000000\n"
        "   3: 0100007F:0050 0100007F:0FA1 01 00000000:00000000\n"
        "   4: rubbish\n";
    const protocol::SocketTable table = guest::socket_table_of(tcp, {"10.1.0.10"});
    EXPECT_EQ(table.tcp_established, 1u);
    EXPECT_EQ(table.peers, (std::vector<std::string>{"10.0.0.9:4000"}));
    // In TIME-WAIT it still is one of the guest's.
    ASSERT_EQ(table.tcp.size(), 2u);
    EXPECT_EQ(table.tcp[1].address, "10.1.0.10");
    EXPECT_EQ(table.tcp[1].port, 80);
    EXPECT_EQ(table.tcp[1].peer, "10.0.0.9:4001");
}

TEST(Guest, V6SocketsAndMappedV4PeersAreReadable) {
    const std::string tcp6 =
        "   0: 010000FD000000000000000010000000:0050 010000FD000000000000000002000000:1F90 01\n"
        "   1: 0000000000000000FFFF00000A00010A:0016 0000000000000000FFFF00000900000A:0FA0 01\n";
    const protocol::SocketTable table = guest::socket_table_of(tcp6, {"10.1.0.10", "fd00:1::10"});
    EXPECT_EQ(table.peers, (std::vector<std::string>{"[fd00:1::2]:8080", "10.0.0.9:4000"}));
}

TEST(Guest, PortsAreListenedOnWhereAPeerCanReachThem) {
    const std::string tcp =
        "   0: 00000000:0016 00000000:0000 0A\n"  // everywhere
        "   1: 0100007F:18EB 00000000:0000 0A\n"  // loopback alone
        "   2: 0A00010A:0050 00000000:0000 0A\n"  // the hosted address
        "   3: 0A00010A:0050 0900000A:0FA0 01\n";
    const protocol::SocketTable table = guest::socket_table_of(tcp, {"10.1.0.10"});
    EXPECT_EQ(table.tcp_listening, (std::vector<std::uint16_t>{22, 80}));
    EXPECT_EQ(table.tcp_established, 1u);
}

constexpr const char* kFreshGuest = R"([
    {"name": "lo", "hardware-address": "00:00:00:00:00:00",
     "ip-addresses": [{"ip-address": "127.0.0.1", "prefix": 8}]},
    {"name": "eth0", "hardware-address": "02:67:0A:01:00:C8",
     "ip-addresses": [{"ip-address": "10.1.0.10", "prefix": 24},
                      {"ip-address": "fd00:1:0:0::10", "prefix": 64}]}])";

TEST(Guest, AddressesAreAddedBeforeOthersAreRemovedAndTheRestIsLeftAlone) {
    const bj::value guest = bj::parse(kFreshGuest);
    const protocol::AddressRequest wanted{
        {}, {"10.1.0.200/24", "fd00:1::200/64"}, {"10.1.0.10", "fd00:1::10"}};
    EXPECT_EQ(guest::address_script(guest, "02:67:0a:01:00:c8", wanted).value(),
              "set -e\n"
              "ip address add 10.1.0.200/24 dev eth0\n"
              "ip address add fd00:1::200/64 dev eth0\n"
              "echo 1 >/proc/sys/net/ipv4/conf/eth0/promote_secondaries\n"
              "ip address del 10.1.0.10/24 dev eth0\n"
              "ip address del fd00:1::10/64 dev eth0\n");
    const protocol::AddressRequest there{{}, {"10.1.0.10/24", "fd00:1::10/64"}, {"10.1.0.200"}};
    EXPECT_EQ(guest::address_script(guest, "02:67:0a:01:00:c8", there).value(), "");
}

TEST(Guest, AddressesAreNotSetOnAnInterfaceThatIsNotTheVms) {
    const protocol::AddressRequest wanted{{}, {"10.1.0.200/24"}, {}};
    const auto none = guest::address_script(bj::parse(kFreshGuest), "02:67:0a:01:00:c9", wanted);
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().slug, "guest-silent");
    // What a guest calls its interface becomes part of a script.
    const bj::value rude = bj::parse(
        R"([{"name": "eth0; reboot", "hardware-address": "02:67:0a:01:00:c8", "ip-addresses": []}])");
    EXPECT_FALSE(guest::address_script(rude, "02:67:0a:01:00:c8", wanted));
}

TEST(Guest, AddressesLeaveOutLoopbackAndLinkLocal) {
    const bj::value answer = bj::parse(R"([
        {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1"}]},
        {"name": "eth0", "ip-addresses": [{"ip-address": "10.1.0.10"}, {"ip-address": "fe80::1"},
                                          {"ip-address": "fd00:1::10"}, {"prefix": 3}]},
        {"name": "eth1"}, 7])");
    EXPECT_EQ(guest::addresses_of(answer), (std::vector<std::string>{"10.1.0.10", "fd00:1::10"}));
    EXPECT_TRUE(guest::addresses_of(bj::value("no list")).empty());
}

TEST(Guest, Base64ThereAndBack) {
    const std::vector<std::string> texts{"", "a", "ab", "abc", std::string("\0\xff\x01", 3)};
    for (const std::string& text : texts) EXPECT_EQ(*guest::from_base64(guest::base64(text)), text);
    EXPECT_FALSE(guest::from_base64("abc"));
    EXPECT_FALSE(guest::from_base64("a%$#"));
}

TEST(Guest, ExitCodes) {
    EXPECT_EQ(guest::exit_code_of(bj::parse(R"({"exited": false})")), std::nullopt);
    EXPECT_EQ(guest::exit_code_of(bj::parse(R"({"exited": true, "exitcode": 3})")), 3);
    EXPECT_EQ(guest::exit_code_of(bj::parse(R"({"exited": true, "signal": 9})")), -1);
    EXPECT_EQ(guest::exit_code_of(bj::parse("[]")), std::nullopt);
}

// Plays the guest's agent: `talk` gets the connection.
using Socket = asio::local::stream_protocol::socket;
template <typename Play, typename Story>
void with_guest(Play play, Story story) {
    TemporaryDirectory folder;
    asio::io_context context{1};
    const std::string path = folder.file("qga");
    asio::local::stream_protocol::acceptor acceptor(context, path);
    auto server = [&]() -> asio::awaitable<void> {
        Socket socket = co_await acceptor.async_accept(asio::use_awaitable);
        co_await play(socket);
    };
    auto client = [&]() -> asio::awaitable<void> { co_await story(path); };
    asio::co_spawn(context, server(), asio::detached);
    asio::co_spawn(context, client(), [&](std::exception_ptr broken) {
        context.stop();
        if (broken) std::rethrow_exception(broken);
    });
    context.run();
}

asio::awaitable<bj::object> next_command(Socket& socket) {
    std::string line;
    co_await asio::async_read_until(socket, asio::dynamic_buffer(line), '\n', asio::use_awaitable);
    if (line.starts_with('\xff')) line.erase(0, 1);
    co_return bj::parse(line).as_object();
}

asio::awaitable<void> say(Socket& socket, std::string text) {
    co_await asio::async_write(socket, asio::buffer(text), asio::use_awaitable);
}

TEST(Guest, AnswersMeantForSomebodyBeforeAreSkipped) {
    auto play = [](Socket& socket) -> asio::awaitable<void> {
        bj::object sync = co_await next_command(socket);
        const std::string id = bj::serialize(sync.at("arguments").at("id"));
        co_await say(socket, "{\"return\": \"old\"}\n{\"ret\xff{\"return\": " + id + "}\n");
        bj::object open = co_await next_command(socket);
        EXPECT_EQ(open.at("execute").as_string(), "guest-file-open");
        co_await say(socket, "{\"return\": 1000}\n");
        co_await next_command(socket);
        co_await say(socket, R"({"return": {"count": 5, "buf-b64": "aGVsbG8=", "eof": false}})"
                             "\n");
        co_await next_command(socket);
        co_await say(socket, R"({"return": {"count": 0, "buf-b64": "", "eof": true}})"
                             "\n");
        co_await next_command(socket);
        co_await say(socket, "{\"return\": {}}\n");
    };
    auto story = [](std::string path) -> asio::awaitable<void> {
        Result<std::shared_ptr<guest::Client>> client =
            co_await guest::Client::open(path, milliseconds(2000));
        EXPECT_TRUE(client) << (client ? "" : client.error().text());
        if (!client) co_return;
        Result<std::string> text =
            co_await (*client)->read_file("/proc/net/tcp", milliseconds(2000));
        EXPECT_TRUE(text);
        if (text) EXPECT_EQ(*text, "hello");
    };
    with_guest(play, story);
}

TEST(Guest, SilentOneIsLostAfterTheDeadline) {
    auto play = [](Socket& socket) -> asio::awaitable<void> {
        bj::object sync = co_await next_command(socket);
        bj::object never = co_await next_command(socket);
    };
    auto story = [](std::string path) -> asio::awaitable<void> {
        Result<std::shared_ptr<guest::Client>> client =
            co_await guest::Client::open(path, milliseconds(50));
        EXPECT_FALSE(client);
        if (!client) EXPECT_EQ(client.error().fault, Fault::Lost);
    };
    with_guest(play, story);
}

TEST(Guest, RefusalCarriesItsWords) {
    auto play = [](Socket& socket) -> asio::awaitable<void> {
        bj::object sync = co_await next_command(socket);
        co_await say(socket,
                     "\xff{\"return\": " + bj::serialize(sync.at("arguments").at("id")) + "}\n");
        co_await next_command(socket);
        co_await say(socket, R"({"error": {"class": "GenericError", "desc": "no such file"}})"
                             "\n");
    };
    auto story = [](std::string path) -> asio::awaitable<void> {
        Result<std::shared_ptr<guest::Client>> client =
            co_await guest::Client::open(path, milliseconds(2000));
        if (!client) co_return;
        Result<std::string> text = co_await (*client)->read_file("/nothing", milliseconds(2000));
        EXPECT_FALSE(text);
        if (!text) EXPECT_NE(text.error().cause.find("no such file"), std::string::npos);
    };
    with_guest(play, story);
}

}  // namespace
