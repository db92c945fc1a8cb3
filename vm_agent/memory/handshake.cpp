#include "vm_agent/memory/handshake.hpp"

#include "lib/json.hpp"
#include "lib/secret.hpp"

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
    hello.proof = hmac_sha256_hex(secret, proof_text("source", nonce, hello));
    Result<void> sent = channel.send_text(FrameType::hello, json::to_text(hello));
    if (!sent) return std::unexpected(channel.reason_of(std::move(sent).error()));
    Result<Frame> answer = channel.expect(FrameType::welcome);
    if (!answer) return std::unexpected(std::move(answer).error());
    Result<Welcome> welcomed =
        json::from_text<Welcome>(answer->text(), "read the other agent's welcome");
    if (!welcomed) return welcomed;
    if (!equal_secrets(welcomed->proof,
                       hmac_sha256_hex(secret, proof_text("destination", nonce, hello))))
        return fail(Fault::Denied, "greet the other agent",
                    "it does not know the peer token: check peer_token_file on both hosts",
                    "unauthenticated");
    return welcomed;
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
    if (!equal_secrets(hello->proof,
                       hmac_sha256_hex(secret, proof_text("source", caller.challenge, *hello))))
        return fail(Fault::Denied, "hear an agent's hello",
                    "it does not know the peer token: check peer_token_file on both hosts",
                    "unauthenticated");
    caller.hello = std::move(*hello);
    channel.set_payload_max(protocol::wire::kPayloadMax);
    return caller;
}

Result<void> welcome(FrameChannel& channel, const Caller& caller, const std::string& host,
                     const std::string& secret) {
    const Welcome answer{
        host, hmac_sha256_hex(secret, proof_text("destination", caller.challenge, caller.hello))};
    return channel.send_text(FrameType::welcome, json::to_text(answer));
}

}  // namespace godwit::memory
