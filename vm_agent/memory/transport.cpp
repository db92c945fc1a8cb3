#include "vm_agent/memory/transport.hpp"

#include "lib/http/address.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <openssl/err.h>

namespace godwit::memory {

using std::chrono::steady_clock;

namespace {

// A link that swallows everything is noticed by then; Linux retries for 15 minutes otherwise.
constexpr unsigned kSilenceMs = 10'000;
constexpr int kKeepaliveIdleS = 4, kKeepaliveEveryS = 2, kKeepaliveCount = 3;
constexpr const char* kRefused = "peer-refused";
constexpr std::byte kTlsHandshakeRecord{22};  // RFC 8446 §5.1

int ms_until(Deadline deadline) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - steady_clock::now());
    return static_cast<int>(std::max<std::int64_t>(left.count(), 0));
}

std::unexpected<Error> lost(std::string doing, std::string cause) {
    return fail(Fault::Lost, std::move(doing), std::move(cause), "peer-unreachable");
}

std::unexpected<Error> untrusted(std::string cause) {
    return fail(Fault::Denied, "greet the other agent", std::move(cause), "peer-untrusted");
}

// A connected, non-blocking socket, or why not.
Result<Descriptor> connect_to(const addrinfo& where, Deadline deadline) {
    Descriptor socket(
        ::socket(where.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, where.ai_protocol));
    if (!socket) return fail_errno(Fault::Retry, "make a socket");
    if (::connect(socket.get(), where.ai_addr, where.ai_addrlen) == 0) return socket;
    if (errno != EINPROGRESS) return fail_errno(Fault::Lost, "connect");
    pollfd waiting{socket.get(), POLLOUT, 0};
    const int ready = poll(&waiting, 1, ms_until(deadline));
    if (ready == 0) return fail(Fault::Lost, "connect", "no answer before the deadline");
    int error = 0;
    socklen_t length = sizeof(error);
    getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    errno = error;
    if (ready < 0 || error != 0) {
        auto failed = fail_errno(Fault::Lost, "connect");
        if (error == ECONNREFUSED) failed.error().slug = kRefused;
        return failed;
    }
    return socket;
}

// Keeps what is wrong with the peer's certificate: OpenSSL forgets it with the handshake.
int note_refusal(int good, X509_STORE_CTX* check) {
    if (good == 1) return 1;
    auto* ssl =
        static_cast<SSL*>(X509_STORE_CTX_get_ex_data(check, SSL_get_ex_data_X509_STORE_CTX_idx()));
    auto* refused = static_cast<std::string*>(SSL_get_app_data(ssl));
    // The peer's own, also when it is the issuer that is not known.
    X509* certificate = X509_STORE_CTX_get0_cert(check);
    *refused = (certificate != nullptr ? tls::describe(certificate) : "none") + ": " +
               X509_verify_cert_error_string(X509_STORE_CTX_get_error(check));
    return 0;
}

}  // namespace

Transport::Transport(Descriptor socket) : socket_(std::move(socket)) {
    const int flags = fcntl(socket_.get(), F_GETFL);
    fcntl(socket_.get(), F_SETFL, flags | O_NONBLOCK);
    const int on = 1;
    setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(socket_.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &kSilenceMs, sizeof(kSilenceMs));
    // And while only the other side would speak.
    setsockopt(socket_.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    setsockopt(socket_.get(), IPPROTO_TCP, TCP_KEEPIDLE, &kKeepaliveIdleS, sizeof(int));
    setsockopt(socket_.get(), IPPROTO_TCP, TCP_KEEPINTVL, &kKeepaliveEveryS, sizeof(int));
    setsockopt(socket_.get(), IPPROTO_TCP, TCP_KEEPCNT, &kKeepaliveCount, sizeof(int));
}

Result<std::shared_ptr<Transport>> Transport::dial(const std::string& address, Deadline deadline) {
    const std::string doing = "connect to agent " + address;
    Result<http::Address> parsed = http::parse_address(address);
    if (!parsed) return std::unexpected(std::move(parsed).error().within(doing));
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV;
    addrinfo* found = nullptr;
    const int error =
        getaddrinfo(parsed->host.c_str(), std::to_string(parsed->port).c_str(), &hints, &found);
    if (error != 0) return lost(doing, gai_strerror(error));
    Result<Descriptor> socket = connect_to(*found, deadline);
    freeaddrinfo(found);
    if (!socket) {
        if (socket.error().slug.empty()) socket.error().slug = "peer-unreachable";
        return std::unexpected(std::move(socket).error().within(doing));
    }
    return std::make_shared<Transport>(std::move(*socket));
}

void Transport::drop() {
    ::shutdown(socket_.get(), SHUT_RDWR);
}

Result<void> Transport::wait_for(short events, Deadline deadline) {
    pollfd waiting{socket_.get(), events, 0};
    const int ready = poll(&waiting, 1, ms_until(deadline));
    if (ready < 0 && errno != EINTR) return fail_errno(Fault::Lost, "wait for the other agent");
    if (ready == 0 && steady_clock::now() >= deadline)
        return fail(Fault::Lost, "wait for the other agent", "nothing came before the deadline",
                    "peer-silent");
    return {};
}

// Who waits for our challenge says nothing, and who speaks without TLS says something else.
Result<void> Transport::expect_client_hello(Deadline deadline) {
    std::byte first{};
    ssize_t got = 0;
    while ((got = ::recv(socket_.get(), &first, 1, MSG_PEEK)) < 0) {
        if (errno != EAGAIN && errno != EINTR) return lost("greet the other agent", "it hung up");
        Result<void> ready = wait_for(POLLIN, deadline);
        if (!ready && ready.error().slug == "peer-silent")
            return untrusted(
                "it speaks plain TCP and this agent takes TLS only: name certificate, "
                "key and ca under tls in its agent.yaml");
        if (!ready) return ready;
    }
    if (got == 0) return lost("greet the other agent", "it hung up");
    if (first == kTlsHandshakeRecord) return {};
    return untrusted(
        "what it says is not TLS, and this agent takes nothing else: name certificate, "
        "key and ca under tls in its agent.yaml");
}

Result<void> Transport::secure(std::shared_ptr<const tls::Context> context, Side side,
                               Deadline deadline) {
    Result<void> spoken = side == Side::server ? expect_client_hello(deadline) : Result<void>{};
    if (!spoken) return spoken;
    context_ = std::move(context);
    std::unique_ptr<SSL, SslFree> ssl(SSL_new(context_->get()));
    if (!ssl || SSL_set_fd(ssl.get(), socket_.get()) != 1)
        return fail(Fault::Retry, "set TLS up", tls::last_error());
    SSL_set_app_data(ssl.get(), &refused_);
    SSL_set_verify(ssl.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, note_refusal);
    is_broken_ = true;
    while (true) {
        ERR_clear_error();
        const int done = side == Side::client ? SSL_connect(ssl.get()) : SSL_accept(ssl.get());
        if (done == 1) break;
        const int error = SSL_get_error(ssl.get(), done);
        if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
            return handshake_error(side, error);
        Result<void> ready = wait_for(error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, deadline);
        if (!ready)
            return std::unexpected(std::move(ready).error().within("greet the other agent"));
    }
    is_broken_ = false;
    ssl_ = std::move(ssl);
    return {};
}

std::unexpected<Error> Transport::handshake_error(Side side, int ssl_error) {
    if (!refused_.empty()) {
        ERR_clear_error();
        return untrusted("its certificate " + refused_ + "; " + context_->files().ca +
                         " is the CA here; " + tls::how_to_make("HOST"));
    }
    const int reason = ERR_GET_REASON(ERR_peek_last_error());
    if (side == Side::client && reason == SSL_R_WRONG_VERSION_NUMBER) {
        ERR_clear_error();
        return untrusted(
            "it speaks plain TCP, its agent.yaml says tls: {mode: off}, and this agent "
            "connects by TLS only");
    }
    if (side == Side::server && reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
        ERR_clear_error();
        return untrusted("it shows no certificate; " + tls::how_to_make("HOST"));
    }
    return tls_error(ssl_error, "greet the other agent");
}

std::unexpected<Error> Transport::tls_error(int ssl_error, const std::string& doing) {
    const int system_error = errno;
    const unsigned long code = ERR_peek_last_error();
    const int reason = ERR_GET_REASON(code);
    const std::string words = tls::last_error();
    if (ssl_error == SSL_ERROR_ZERO_RETURN || reason == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return lost(doing, "the connection was closed");
    if (ssl_error == SSL_ERROR_SYSCALL)
        return lost(doing, system_error == 0 ? "the connection was closed"
                                             : std::generic_category().message(system_error));
    // An alert that the peer sent (RFC 8446 §6.2): of a refused certificate it comes after our own
    // handshake is over.
    if (reason > SSL_AD_REASON_OFFSET)
        return untrusted("it refuses this host's certificate " + context_->files().certificate +
                         ": " + words + "; its log says more; " + tls::how_to_make("HOST"));
    return fail(Fault::Corrupt, doing, words, "malformed-frame");
}

Result<void> Transport::check_peer(const std::string& host) const {
    if (!ssl_) return {};
    std::unique_ptr<X509, decltype(&X509_free)> peer(SSL_get1_peer_certificate(ssl_.get()),
                                                     X509_free);
    if (peer && tls::is_for(peer.get(), host)) return {};
    return untrusted("its certificate " + (peer ? tls::describe(peer.get()) : "none") +
                     ": it is not for " + host + ", no name in it says so; " +
                     tls::how_to_make(host));
}

// What came of one SSL_read or SSL_write: bytes moved, or 0 after waiting for what it needs.
Result<std::size_t> Transport::secure_step(int done, std::size_t moved, const std::string& doing,
                                           Deadline deadline) {
    if (done == 1) return moved;
    const int error = SSL_get_error(ssl_.get(), done);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
        return tls_error(error, doing);
    Result<void> ready = wait_for(error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, deadline);
    if (!ready) return std::unexpected(std::move(ready).error());
    return std::size_t{0};
}

Result<std::size_t> Transport::write_some(std::span<const std::byte> bytes, Deadline deadline) {
    const std::string doing = "send to the other agent";
    if (is_broken_) return lost(doing, "the connection is not secured");
    while (ssl_) {
        std::size_t moved = 0;
        ERR_clear_error();
        const int done = SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &moved);
        Result<std::size_t> step = secure_step(done, moved, doing, deadline);
        if (!step || *step > 0) return step;
    }
    while (true) {
        const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent > 0) return static_cast<std::size_t>(sent);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            auto error = fail_errno(Fault::Lost, doing);
            error.error().slug = "peer-unreachable";
            return error;
        }
        Result<void> ready = wait_for(POLLOUT, deadline);
        if (!ready) return std::unexpected(std::move(ready).error());
    }
}

Result<std::size_t> Transport::read_some(std::span<std::byte> into, Deadline deadline) {
    const std::string doing = "hear from the other agent";
    if (is_broken_) return lost(doing, "the connection is not secured");
    while (ssl_) {
        std::size_t moved = 0;
        ERR_clear_error();
        const int done = SSL_read_ex(ssl_.get(), into.data(), into.size(), &moved);
        Result<std::size_t> step = secure_step(done, moved, doing, deadline);
        if (!step || *step > 0) return step;
    }
    while (true) {
        const ssize_t got = ::recv(socket_.get(), into.data(), into.size(), 0);
        if (got > 0) return static_cast<std::size_t>(got);
        if (got == 0 || (errno != EAGAIN && errno != EINTR))
            return lost(doing, "the connection was closed");
        Result<void> ready = wait_for(POLLIN, deadline);
        if (!ready) return std::unexpected(std::move(ready).error());
    }
}

void Transport::finish() {
    if (ssl_) {
        ERR_clear_error();
        SSL_shutdown(ssl_.get());
        ERR_clear_error();
    }
    ::shutdown(socket_.get(), SHUT_WR);
}

}  // namespace godwit::memory
