// Who is at the other end: a certificate of the fleet where TLS is on, and HMAC proofs over both
// sides' nonces with the shared peer token.
#pragma once

#include "vm_agent/memory/frame.hpp"

#include <string>

namespace godwit::memory {

struct Credentials {
    std::string secret;                       // the peer token
    std::shared_ptr<const tls::Context> tls;  // none: plain TCP
};

std::string random_nonce();  // 64 hex digits
std::string hmac_sha256_hex(std::string_view key, std::string_view text);

// The source's side: waits for the challenge, sends `hello` with nonce and proof filled in, checks
// the destination's own proof. Denied when it has none.
Result<protocol::wire::Welcome> say_hello(FrameChannel& channel, protocol::wire::Hello hello,
                                          const std::string& secret);
// The same with a session of its own, which then survives the channel's connections.
Result<void> begin_session(FrameChannel& channel, const Peer& peer, const Credentials& credentials,
                           protocol::wire::Hello hello);
// The destination's side, up to and without WELCOME: the caller looks at the hello and then answers
// with welcome() or FrameChannel::abort(). Denied without a right proof; nothing about the
// VM is looked at before that.
struct Caller {
    protocol::wire::Hello hello;
    std::string challenge;
};
Result<Caller> hear_hello(FrameChannel& channel, const std::string& secret);
// `received`: frames of the session that are here.
Result<void> welcome(FrameChannel& channel, const Caller& caller, const std::string& host,
                     const std::string& secret, std::uint32_t received = 0);

}  // namespace godwit::memory
