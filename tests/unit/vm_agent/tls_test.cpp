// Agents meet by mutual TLS 1.3 over real TCP: who is of the fleet and says the right name gets in,
// everybody else hears which certificate is refused and why, and no frame of his is read.
#include "lib/tls.hpp"

#include "tests/fakes/fleet_ca.hpp"
#include "tests/fakes/temporary_directory.hpp"
#include "vm_agent/memory/handshake.hpp"

#include <arpa/inet.h>
#include <csignal>
#include <optional>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>

namespace {

using namespace godwit;
using namespace godwit::memory;
using fakes::FleetCa;
using fakes::TemporaryDirectory;
using Context = std::shared_ptr<const tls::Context>;
using std::chrono::milliseconds;

constexpr milliseconds kPatience{5000};

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

struct Listener {
    Listener() : fd(socket(AF_INET, SOCK_STREAM, 0)) {
        signal(SIGPIPE, SIG_IGN);
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof(at);
        if (bind(fd.get(), reinterpret_cast<sockaddr*>(&at), size) != 0 || listen(fd.get(), 4) != 0)
            abort();
        getsockname(fd.get(), reinterpret_cast<sockaddr*>(&at), &size);
        address = "127.0.0.1:" + std::to_string(ntohs(at.sin_port));
    }
    Descriptor take() const { return Descriptor(accept(fd.get(), nullptr, nullptr)); }

    Descriptor fd;
    std::string address;
};

// What each side has to say about the other after a greeting and one frame.
struct Meeting {
    Result<Frame> here = fail(Fault::Lost, "", "");
    Result<void> there;
};

Result<void> serve(FrameChannel& channel, const Context& tls, const std::string& expected,
                   milliseconds patience) {
    Result<void> done = tls ? channel.take_tls(tls, patience) : Result<void>{};
    channel.set_deadline(kPatience);
    if (done && !expected.empty()) done = channel.check_peer(expected);
    if (done) done = channel.send_text(FrameType::challenge, "who are you?");
    if (!done) return done;
    Result<Frame> answer = channel.expect(FrameType::hello);
    return answer ? Result<void>{} : std::unexpected(answer.error());
}

Meeting meet(const Context& source, const Context& destination, const std::string& expected_here,
             const std::string& expected_there = "", milliseconds patience = kPatience) {
    Listener listener;
    Meeting both;
    std::thread there([&] {
        FrameChannel channel(listener.take());
        both.there = serve(channel, destination, expected_there, patience);
        if (!both.there) channel.abort(both.there.error());
    });
    {
        Result<std::unique_ptr<FrameChannel>> channel =
            FrameChannel::connect({listener.address, expected_here}, source, kPatience);
        if (channel) {
            both.here = (*channel)->expect(FrameType::challenge);
            if (both.here) (void)(*channel)->send_text(FrameType::hello, "I am");
        } else {
            both.here = std::unexpected(channel.error());
        }
    }
    there.join();
    return both;
}

class AgentTls : public testing::Test {
protected:
    static Context load(const tls::Files& files) {
        Result<Context> context = tls::Context::load(files);
        if (!context) throw std::runtime_error(context.error().text());
        return *context;
    }

    TemporaryDirectory folder, elsewhere;
    FleetCa fleet{folder.file(""), "Godwit fleet"}, stranger{elsewhere.file(""), "Somebody else"};
    Context a = load(fleet.issue("host-a", "DNS:host-a"));
    Context b = load(fleet.issue("host-b", "DNS:host-b,IP:127.0.0.1"));
};

TEST_F(AgentTls, TwoOfTheFleetMeetAndTheFramesAreEncrypted) {
    Meeting both = meet(a, b, "host-b", "host-a");
    ASSERT_TRUE(both.here) << both.here.error().text();
    EXPECT_EQ(both.here->text(), "who are you?");
    EXPECT_TRUE(both.there) << both.there.error().text();
    // Nobody named: then it is the address that the certificate must name.
    EXPECT_TRUE(meet(a, b, "").here);
}

TEST_F(AgentTls, ABigFrameComesThroughWhole) {
    Listener listener;
    const std::vector<std::byte> body(protocol::wire::kChunkBytes, std::byte{7});
    std::thread there([&] {
        FrameChannel channel(listener.take());
        ASSERT_TRUE(channel.take_tls(b, kPatience));
        for (int i = 0; i < 8; ++i) ASSERT_TRUE(channel.send(FrameType::base, body));
    });
    auto channel = FrameChannel::connect({listener.address, "host-b"}, a, kPatience);
    ASSERT_TRUE(channel) << channel.error().text();
    for (int i = 0; i < 8; ++i) {
        Result<Frame> frame = (*channel)->expect(FrameType::base);
        ASSERT_TRUE(frame) << frame.error().text();
        EXPECT_EQ(frame->payload, body);
    }
    there.join();
}

TEST_F(AgentTls, AWrongNameIsRefusedOnBothSides) {
    Meeting both = meet(a, b, "host-c");
    ASSERT_FALSE(both.here);
    EXPECT_EQ(both.here.error().fault, Fault::Denied);
    EXPECT_EQ(both.here.error().slug, "peer-untrusted");
    for (const char* part : {"host-b", "not for host-c", "./run certificate"})
        EXPECT_TRUE(contains(both.here.error().cause, part)) << both.here.error().text();
    both = meet(a, b, "host-b", "host-c");
    ASSERT_FALSE(both.there);
    EXPECT_EQ(both.there.error().slug, "peer-untrusted");
    ASSERT_FALSE(both.here);
    EXPECT_TRUE(contains(both.here.error().cause, "not for host-c")) << both.here.error().text();
    // "127.0.0.1" is in host-b's certificate, and not in host-a's.
    EXPECT_FALSE(meet(b, a, "").here);
}

TEST_F(AgentTls, AnotherCaIsRefusedOnBothSides) {
    const Context outsider = load(stranger.issue("host-a", "DNS:host-a"));
    Meeting both = meet(outsider, b, "host-b");
    ASSERT_FALSE(both.here);
    EXPECT_EQ(both.here.error().slug, "peer-untrusted");
    EXPECT_TRUE(contains(both.here.error().cause, "Godwit fleet")) << both.here.error().text();
    EXPECT_FALSE(both.there);

    // Trusts us, and is not trusted.
    tls::Files files = stranger.issue("host-d", "DNS:host-d");
    const Context naive = load(files);
    ASSERT_EQ(SSL_CTX_load_verify_file(naive->get(), fleet.ca_file().c_str()), 1);
    both = meet(naive, b, "host-b");
    ASSERT_FALSE(both.there);
    EXPECT_EQ(both.there.error().slug, "peer-untrusted");
    for (const char* part : {"Somebody else", "host-d", "ca.crt"})
        EXPECT_TRUE(contains(both.there.error().cause, part)) << both.there.error().text();
    ASSERT_FALSE(both.here);
    EXPECT_EQ(both.here.error().slug, "peer-untrusted");
    EXPECT_TRUE(contains(both.here.error().cause, files.certificate)) << both.here.error().text();
}

// It was good when the agent started.
Context expired_meanwhile(const Context& context, const tls::Files& expired) {
    SSL_CTX_use_certificate_file(context->get(), expired.certificate.c_str(), SSL_FILETYPE_PEM);
    SSL_CTX_use_PrivateKey_file(context->get(), expired.key.c_str(), SSL_FILETYPE_PEM);
    return context;
}

TEST_F(AgentTls, AnExpiredCertificateIsRefusedOnBothSides) {
    const tls::Files old = fleet.issue("host-e", "DNS:host-e", -60);
    const Context expired = expired_meanwhile(load(fleet.issue("host-f", "DNS:host-f")), old);
    Meeting both = meet(a, expired, "host-e");
    ASSERT_FALSE(both.here);
    EXPECT_EQ(both.here.error().slug, "peer-untrusted");
    EXPECT_TRUE(contains(both.here.error().cause, "expired")) << both.here.error().text();
    both = meet(expired, b, "host-b");
    ASSERT_FALSE(both.there);
    EXPECT_TRUE(contains(both.there.error().cause, "expired")) << both.there.error().text();
    ASSERT_FALSE(both.here);
    EXPECT_TRUE(contains(both.here.error().cause, "host-f.crt")) << both.here.error().text();
    EXPECT_TRUE(contains(both.here.error().cause, "expired")) << both.here.error().text();
}

TEST_F(AgentTls, PlainAndTlsTellEachOtherApart) {
    Meeting both = meet(nullptr, b, "host-b", "", milliseconds(100));
    ASSERT_FALSE(both.there);
    EXPECT_TRUE(contains(both.there.error().cause, "plain TCP")) << both.there.error().text();
    ASSERT_FALSE(both.here);
    EXPECT_EQ(both.here.error().slug, "peer-aborted") << "it hears why in its own words";
    EXPECT_TRUE(contains(both.here.error().cause, "TLS only")) << both.here.error().text();

    both = meet(a, nullptr, "host-b");
    ASSERT_FALSE(both.here);
    EXPECT_EQ(both.here.error().slug, "peer-untrusted");
    EXPECT_TRUE(contains(both.here.error().cause, "mode: off")) << both.here.error().text();
    ASSERT_FALSE(both.there);
    EXPECT_TRUE(contains(both.there.error().cause, "speaks TLS")) << both.there.error().text();
}

TEST_F(AgentTls, TheCutInTheHandshakeIsLostAtEveryByte) {
    for (std::size_t bytes : {0, 1, 4, 5, 100, 200}) {
        Listener listener;
        Result<void> done;
        std::thread there([&] {
            FrameChannel channel(listener.take());
            done = channel.take_tls(b, kPatience);
        });
        // A real client hello, as far as it goes.
        std::unique_ptr<SSL, decltype(&SSL_free)> ssl(SSL_new(a->get()), SSL_free);
        BIO* wire = BIO_new(BIO_s_mem());
        SSL_set_bio(ssl.get(), BIO_new(BIO_s_mem()), wire);
        (void)SSL_connect(ssl.get());
        char* hello = nullptr;
        const long length = BIO_get_mem_data(wire, &hello);
        ASSERT_GT(length, 200);
        Result<std::shared_ptr<Transport>> raw =
            Transport::dial(listener.address, std::chrono::steady_clock::now() + kPatience);
        ASSERT_TRUE(raw);
        if (bytes > 0)
            ASSERT_TRUE((*raw)->write_some(std::as_bytes(std::span(hello, bytes)),
                                           std::chrono::steady_clock::now() + kPatience));
        (*raw)->drop();
        there.join();
        ASSERT_FALSE(done) << bytes;
        EXPECT_EQ(done.error().fault, Fault::Lost) << bytes << ": " << done.error().text();
    }
}

TEST_F(AgentTls, OlderVersionsAreRefused) {
    Listener listener;
    Result<void> done;
    std::thread there([&] {
        FrameChannel channel(listener.take());
        done = channel.take_tls(b, kPatience);
    });
    std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> old(SSL_CTX_new(TLS_client_method()),
                                                          SSL_CTX_free);
    SSL_CTX_set_max_proto_version(old.get(), TLS1_2_VERSION);
    {
        Descriptor fd(socket(AF_INET, SOCK_STREAM, 0));
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_port = htons(static_cast<std::uint16_t>(std::stoi(listener.address.substr(10))));
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        ASSERT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&at), sizeof(at)), 0);
        std::unique_ptr<SSL, decltype(&SSL_free)> ssl(SSL_new(old.get()), SSL_free);
        SSL_set_fd(ssl.get(), fd.get());
        EXPECT_NE(SSL_connect(ssl.get()), 1);
    }
    there.join();
    ASSERT_FALSE(done);
    EXPECT_TRUE(contains(done.error().cause, "version") || contains(done.error().cause, "protocol"))
        << done.error().text();
}

std::string refusal_of(const tls::Files& files) {
    Result<Context> context = tls::Context::load(files);
    return context ? "loaded" : context.error().text();
}

TEST_F(AgentTls, FilesThatCannotWorkAreRefusedAtTheStart) {
    const tls::Files good = fleet.issue("host-g", "DNS:host-g");
    EXPECT_EQ(refusal_of(good), "loaded");
    tls::Files bad = good;
    bad.key = folder.file("missing");
    EXPECT_TRUE(contains(refusal_of(bad), "missing")) << refusal_of(bad);
    bad = good;
    bad.key = fleet.issue("host-h", "DNS:host-h").key;
    EXPECT_TRUE(contains(refusal_of(bad), "mismatch")) << refusal_of(bad);
    bad = good;
    bad.ca = stranger.ca_file();
    EXPECT_TRUE(contains(refusal_of(bad), "issued by CN=Godwit fleet")) << refusal_of(bad);
    bad = good;
    bad.certificate = good.key;
    EXPECT_TRUE(contains(refusal_of(bad), "host-g.key")) << refusal_of(bad);
    const tls::Files old = fleet.issue("host-i", "DNS:host-i", -60);
    EXPECT_TRUE(contains(refusal_of(old), "expired")) << refusal_of(old);
    ASSERT_EQ(chmod(good.key.c_str(), 0640), 0);
    EXPECT_TRUE(contains(refusal_of(good), "chmod 600")) << refusal_of(good);
}

}  // namespace
