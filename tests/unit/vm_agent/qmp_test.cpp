// The QMP client against a socket that plays QEMU: one that answers, refuses, says nothing, talks
// nonsense, or goes away in the middle. Real sockets, one thread.
#include "tests/fakes/temporary_directory.hpp"
#include "vm_agent/qmp/client.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <gtest/gtest.h>

namespace {

using namespace godwit;
using fakes::TemporaryDirectory;
namespace asio = boost::asio;
namespace bj = json::bj;
using Socket = asio::local::stream_protocol::socket;
using std::chrono::milliseconds;

constexpr std::string_view kGreeting =
    R"({"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}}, "capabilities": []}})"
    "\r\n";

// Plays QEMU: greets, and gives each command to `answer`, which says what goes back; "" is silence
// and nothing ends the connection.
class FakeQemu {
public:
    using Answer = std::function<std::optional<std::string>(const bj::object& command)>;

    explicit FakeQemu(Answer answer, std::string greeting = std::string(kGreeting))
        : answer_(std::move(answer)), greeting_(std::move(greeting)), acceptor_(context, path()) {
        asio::co_spawn(context, serve(), asio::detached);
    }
    std::string path() const { return folder_.file("qmp"); }

    // Runs a conversation of the client to its end.
    template <typename Conversation>
    void talk(Conversation conversation) {
        asio::co_spawn(context, conversation(*this), [&](std::exception_ptr broken) {
            context.stop();
            if (broken) std::rethrow_exception(broken);
        });
        context.run();
    }
    static std::string answered(const bj::object& command, const std::string& rest) {
        return R"({"id": )" + bj::serialize(command.at("id")) + ", " + rest + "}\r\n";
    }

    asio::io_context context{1};
    std::vector<std::string> commands;
    int passed_fd = -1;

private:
    asio::awaitable<void> serve() {
        Socket socket = co_await acceptor_.async_accept(asio::use_awaitable);
        co_await asio::async_write(socket, asio::buffer(greeting_), asio::use_awaitable);
        while (true) {
            std::string line = co_await receive(socket);
            if (line.empty()) co_return;
            const bj::object command = bj::parse(line).as_object();
            commands.emplace_back(command.at("execute").as_string());
            std::optional<std::string> text = command.at("execute") == "qmp_capabilities"
                                                  ? answered(command, R"("return": {})")
                                                  : answer_(command);
            if (!text) co_return;
            boost::system::error_code error;
            co_await asio::async_write(socket, asio::buffer(*text),
                                       asio::redirect_error(asio::use_awaitable, error));
        }
    }
    // recvmsg, to see a descriptor that comes along.
    asio::awaitable<std::string> receive(Socket& socket) {
        boost::system::error_code error;
        co_await socket.async_wait(Socket::wait_read,
                                   asio::redirect_error(asio::use_awaitable, error));
        std::string line(4096, '\0');
        iovec part{line.data(), line.size()};
        alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control;
        message.msg_controllen = sizeof(control);
        const ssize_t got = recvmsg(socket.native_handle(), &message, MSG_DONTWAIT);
        if (const cmsghdr* head = CMSG_FIRSTHDR(&message); got > 0 && head)
            std::memcpy(&passed_fd, CMSG_DATA(head), sizeof(int));
        line.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
        co_return line;
    }

    TemporaryDirectory folder_;
    Answer answer_;
    std::string greeting_;
    asio::local::stream_protocol::acceptor acceptor_;
};

TEST(Qmp, CommandGetsItsAnswerAndEventsGetTheirSink) {
    FakeQemu qemu([](const bj::object& command) {
        return R"({"event": "STOP", "data": {"reason": "asked"}})"
               "\r\n" +
               FakeQemu::answered(command, R"("return": {"status": "paused"})");
    });
    std::string event;
    auto story = [&](FakeQemu& fake) -> asio::awaitable<void> {
        Result<std::shared_ptr<qmp::Client>> client = co_await qmp::Client::connect(fake.path());
        EXPECT_TRUE(client) << (client ? "" : client.error().text());
        if (!client) co_return;
        EXPECT_EQ((*client)->qemu_version(), "7.2.22");
        (*client)->on_event([&](const std::string& name, const bj::object&) { event = name; });
        Result<bj::value> answer = co_await (*client)->execute("query-status");
        EXPECT_TRUE(answer);
        if (answer) EXPECT_EQ(answer->at("status").as_string(), "paused");
    };
    qemu.talk(story);
    EXPECT_EQ(event, "STOP");
    EXPECT_EQ(qemu.commands, (std::vector<std::string>{"qmp_capabilities", "query-status"}));
}

// What `execute` says when QEMU does this.
Error error_of(FakeQemu::Answer answer) {
    FakeQemu qemu(std::move(answer));
    Error error;
    auto story = [&](FakeQemu& fake) -> asio::awaitable<void> {
        Result<std::shared_ptr<qmp::Client>> client = co_await qmp::Client::connect(fake.path());
        if (!client) co_return;
        Result<bj::value> value = co_await (*client)->execute("cont", {}, milliseconds(100));
        if (!value) error = value.error();
        // A connection that is gone says so at once from then on.
        if (!value && !(*client)->is_open()) {
            value = co_await (*client)->execute("cont", {}, milliseconds(60'000));
            EXPECT_FALSE(value);
        }
    };
    qemu.talk(story);
    return error;
}

TEST(Qmp, RefusalCarriesQemusWords) {
    const Error error = error_of([](const bj::object& command) {
        return FakeQemu::answered(command,
                                  R"("error": {"class": "GenericError", "desc": "not finalized"})");
    });
    EXPECT_EQ(error.fault, Fault::Rejected);
    EXPECT_EQ(error.slug, "qemu-failed");
    EXPECT_EQ(error.cause, "GenericError: not finalized");
    EXPECT_NE(error.doing.find("QMP cont"), std::string::npos);
}

TEST(Qmp, SilenceIsLostAfterTheDeadline) {
    const Error error = error_of([](const bj::object&) { return std::string(); });
    EXPECT_EQ(error.fault, Fault::Lost);
    EXPECT_NE(error.cause.find("did not answer"), std::string::npos);
}

TEST(Qmp, AnswerToAnotherQuestionIsNotTaken) {
    const Error error = error_of(
        [](const bj::object&) { return std::string("{\"id\": 4711, \"return\": {}}\r\n"); });
    EXPECT_EQ(error.fault, Fault::Lost);
}

TEST(Qmp, NonsenseEndsTheConnection) {
    EXPECT_EQ(error_of([](const bj::object&) { return std::string("{]\r\n"); }).fault,
              Fault::Corrupt);
    EXPECT_EQ(error_of([](const bj::object&) { return std::string("[1]\r\n"); }).fault,
              Fault::Corrupt);
}

TEST(Qmp, GoneInTheMiddleIsLost) {
    const Error error = error_of([](const bj::object&) { return std::optional<std::string>(); });
    EXPECT_EQ(error.fault, Fault::Lost);
    EXPECT_NE(error.cause.find("closed"), std::string::npos);
}

TEST(Qmp, ErrorWithoutWordsIsStillAnError) {
    const Error error = error_of(
        [](const bj::object& command) { return FakeQemu::answered(command, R"("error": 7)"); });
    EXPECT_EQ(error.fault, Fault::Rejected);
}

Error connect_error(const std::string& greeting) {
    FakeQemu qemu([](const bj::object&) { return std::string(); }, greeting);
    Error error;
    auto story = [&](FakeQemu& fake) -> asio::awaitable<void> {
        Result<std::shared_ptr<qmp::Client>> client =
            co_await qmp::Client::connect(fake.path(), milliseconds(100));
        EXPECT_FALSE(client);
        if (!client) error = client.error();
    };
    qemu.talk(story);
    return error;
}

TEST(Qmp, WhoDoesNotGreetIsNotQemu) {
    EXPECT_EQ(connect_error("").fault, Fault::Lost);
    EXPECT_EQ(connect_error("HTTP/1.1 400 Bad Request\r\n").fault, Fault::Corrupt);
    EXPECT_EQ(connect_error("{\"hello\": 1}\r\n").fault, Fault::Corrupt);
}

TEST(Qmp, NobodyListeningIsLost) {
    asio::io_context context{1};
    Error error;
    auto story = [&]() -> asio::awaitable<void> {
        Result<std::shared_ptr<qmp::Client>> client =
            co_await qmp::Client::connect("/nonexistent/qmp");
        if (!client) error = client.error();
    };
    asio::co_spawn(context, story(), asio::detached);
    context.run();
    EXPECT_EQ(error.fault, Fault::Lost);
    EXPECT_NE(error.doing.find("/nonexistent/qmp"), std::string::npos);
}

TEST(Qmp, DescriptorsArePassedAlong) {
    FakeQemu qemu(
        [](const bj::object& command) { return FakeQemu::answered(command, R"("return": {})"); });
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    auto story = [&](FakeQemu& fake) -> asio::awaitable<void> {
        Result<std::shared_ptr<qmp::Client>> client = co_await qmp::Client::connect(fake.path());
        if (!client) co_return;
        Result<void> passed = co_await (*client)->pass_fd("dev", ends[1]);
        EXPECT_TRUE(passed);
    };
    qemu.talk(story);
    ASSERT_GE(qemu.passed_fd, 0);
    // What is written into the copy comes out of our pipe: it is the same one.
    ASSERT_EQ(write(qemu.passed_fd, "x", 1), 1);
    char byte = 0;
    EXPECT_EQ(read(ends[0], &byte, 1), 1);
    EXPECT_EQ(byte, 'x');
    for (int fd : {qemu.passed_fd, ends[0], ends[1]}) close(fd);
}

}  // namespace
