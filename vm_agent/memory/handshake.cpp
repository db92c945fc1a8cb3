#include "vm_agent/memory/handshake.hpp"

#include "lib/json.hpp"
#include "lib/secret.hpp"

#include <algorithm>

#include <openssl/evp.h>
#include <openssl/hmac.h>

namespace godwit::memory {

using protocol::wire::Hello;
using protocol::wire::proof_text;
using protocol::wire::Welcome;

std::string random_nonce() {
    return sha256_hex(random_token());
}

std::string hmac_sha256_hex(std::string_view key, std::string_view text) {
    static constexpr char kDigits[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
         reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest, &length);
    std::string hex;
    for (unsigned i = 0; i < length; ++i) {
        hex.push_back(kDigits[digest[i] >> 4]);
        hex.push_back(kDigits[digest[i] & 15]);
    }
    return hex;
}

Result<Welcome> say_hello(FrameChannel& channel, Hello hello, const std::string& secret) {
    Result<Frame> challenge = channel.expect(FrameType::challenge);
    if (!challenge) return std::unexpected(std::move(challenge).error());
    const std::string nonce(challenge->text());
    hello.nonce = random_nonce();
    hello.proof = hmac_sha256_hex(secret, proof_text("source", nonce, hello, hello.received));
    Result<void> sent = channel.send_text(FrameType::hello, json::to_text(hello));
    if (!sent) return std::unexpected(channel.reason_of(std::move(sent).error()));
    Result<Frame> answer = channel.expect(FrameType::welcome);
    if (!answer) return std::unexpected(std::move(answer).error());
    Result<Welcome> welcomed =
        json::from_text<Welcome>(answer->text(), "read the other agent's welcome");
    if (!welcomed) return welcomed;
    if (!equal_secrets(
            welcomed->proof,
            hmac_sha256_hex(secret, proof_text("destination", nonce, hello, welcomed->received))))
        return fail(Fault::Denied, "greet the other agent",
                    "it does not know the peer token: check peer_token_file on both hosts",
                    "unauthenticated");
    return welcomed;
}

namespace {

constexpr std::chrono::milliseconds kAgainDeadline{2000};  // to connect, and to be answered

Result<Rejoined> come_back(const Peer& peer, const Credentials& credentials, const Hello& hello,
                           Deadline deadline) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    const auto each = std::clamp(left, std::chrono::milliseconds(1), kAgainDeadline);
    Result<std::unique_ptr<FrameChannel>> channel =
        FrameChannel::connect(peer, credentials.tls, each);
    if (!channel) return std::unexpected(std::move(channel).error());
    // It may still be at work on what came before the cut.
    (*channel)->set_deadline(2 * each);
    Result<Welcome> welcomed = say_hello(**channel, hello, credentials.secret);
    if (welcomed) return Rejoined{(*channel)->transport(), welcomed->received};
    // Whoever begins anew may succeed.
    if (welcomed.error().slug == "peer-aborted") {
        welcomed.error().fault = Fault::Lost;
        welcomed.error().slug = "session-gone";
    }
    return std::unexpected(std::move(welcomed).error());
}

}  // namespace

Result<void> begin_session(FrameChannel& channel, const Peer& peer, const Credentials& credentials,
                           Hello hello) {
    hello.session = random_nonce();
    Result<Welcome> welcomed = say_hello(channel, hello, credentials.secret);
    if (!welcomed) return std::unexpected(std::move(welcomed).error());
    hello.resume = true;
    channel.begin_session([=](std::uint32_t received, Deadline deadline) mutable {
        hello.received = received;
        return come_back(peer, credentials, hello, deadline);
    });
    return {};
}

Result<Caller> hear_hello(FrameChannel& channel, const std::string& secret) {
    channel.set_payload_max(protocol::wire::kHelloMax);
    Caller caller;
    caller.challenge = random_nonce();
    Result<void> sent = channel.send_text(FrameType::challenge, caller.challenge);
    if (!sent) return std::unexpected(std::move(sent).error());
    Result<Frame> frame = channel.expect(FrameType::hello);
    if (!frame) return std::unexpected(std::move(frame).error());
    Result<Hello> hello = json::from_text<Hello>(frame->text(), "read the other agent's hello");
    if (!hello) return std::unexpected(std::move(hello).error());
    if (!equal_secrets(hello->proof, hmac_sha256_hex(secret, proof_text("source", caller.challenge,
                                                                        *hello, hello->received))))
        return fail(Fault::Denied, "hear an agent's hello",
                    "it does not know the peer token: check peer_token_file on both hosts",
                    "unauthenticated");
    caller.hello = std::move(*hello);
    channel.set_payload_max(protocol::wire::kPayloadMax);
    return caller;
}

Result<void> welcome(FrameChannel& channel, const Caller& caller, const std::string& host,
                     const std::string& secret, std::uint32_t received) {
    const std::string text = proof_text("destination", caller.challenge, caller.hello, received);
    const Welcome answer{host, hmac_sha256_hex(secret, text), received};
    return channel.send_text(FrameType::welcome, json::to_text(answer));
}

}  // namespace godwit::memory
