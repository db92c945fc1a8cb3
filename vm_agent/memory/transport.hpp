// One connection's bytes: a non-blocking TCP socket with deadlines, plain or in TLS 1.3. One thread
// uses it; drop() may come from any other. OpenSSL works on the descriptor itself, because a copy
// is blocking work on a worker thread, outside of Asio.
#pragma once

#include "lib/error.hpp"
#include "lib/tls.hpp"

#include "vm_agent/memory/link_rate.hpp"
#include "vm_agent/memory/mapped_file.hpp"

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace godwit::memory {

using Deadline = std::chrono::steady_clock::time_point;

// Another agent: where it takes memory, "10.9.0.2:7010" or "[::1]:7010", and the host its certificate
// must name; empty: the host part of the address.
struct Peer {
    std::string address, host;
};

class Transport {
public:
    enum class Side { client, server };

    explicit Transport(Descriptor socket);
    // Lost/peer-unreachable when nothing answers there in time, Lost/peer-refused when nobody listens.
    static Result<std::shared_ptr<Transport>> dial(const std::string& address, Deadline deadline);

    // Both sides prove who they are. Denied/peer-untrusted says which certificate is refused and why;
    // a peer that speaks no TLS is told apart from one that is not trusted.
    Result<void> secure(std::shared_ptr<const tls::Context> context, Side side, Deadline deadline);
    bool is_secure() const { return ssl_ != nullptr; }
    // The peer's certificate names this host; without TLS there is nothing to check. Denied.
    Result<void> check_peer(const std::string& host) const;

    // At least one byte, or Lost. write_some of an empty span is an error of the caller.
    Result<std::size_t> write_some(std::span<const std::byte> bytes, Deadline deadline);
    Result<std::size_t> read_some(std::span<std::byte> into, Deadline deadline);
    double bytes_per_s() const { return delivery_rate(socket_.get()); }  // link_rate.hpp
    void finish();  // nothing more will be written
    void drop();    // both directions end now, from any thread: whoever waits finds the peer lost

private:
    struct SslFree {
        void operator()(SSL* ssl) const { SSL_free(ssl); }
    };
    Result<void> wait_for(short events, Deadline deadline);
    Result<void> expect_client_hello(Deadline deadline);
    std::unexpected<Error> tls_error(int ssl_error, const std::string& doing);
    std::unexpected<Error> handshake_error(Side side, int ssl_error);
    Result<std::size_t> secure_step(int done, std::size_t moved, const std::string& doing,
                                    Deadline deadline);

    Descriptor socket_;
    std::shared_ptr<const tls::Context> context_;
    std::unique_ptr<SSL, SslFree> ssl_;
    std::string refused_;     // the peer's certificate, when it is not good, and why
    bool is_broken_ = false;  // a handshake failed: nothing plain may follow
};

}  // namespace godwit::memory
