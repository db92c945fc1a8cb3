// A small TCP (RFC 9293, 5961, 1337) for the property test: one connection per tuple, one outstanding
// segment, no timers of its own: the script decides when something is sent again.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace godwit::test {

enum Flags : std::uint8_t { kFin = 1, kSyn = 2, kRst = 4, kAck = 16 };

struct Seg {
    std::uint8_t flags = 0;
    std::uint32_t seq = 0, ack = 0, length = 0;  // length: payload bytes
    std::uint32_t connection = 0;                // whose it truly is; 0: forged
    bool has(std::uint8_t f) const { return (flags & f) == f; }
};

enum class State { SynSent, SynReceived, Established, TimeWait };

struct Socket {
    State state = State::SynSent;
    std::uint32_t connection = 0;  // the identity both ends and the checks agree on
    std::uint32_t iss = 0, snd_una = 0, snd_nxt = 0, rcv_nxt = 0;
    bool fin_sent = false, fin_received = false, active_close = false;
    bool copied = false;  // of a clone: stands for a session that is not its own
    int acks_left =
        kAcksPerTick;  // answers to segments without data that do not fit: two TCPs would
                       // else answer each other for ever (Linux: invalid_ratelimit)
    static constexpr int kAcksPerTick = 2;
};

// What receiving a segment did, besides the replies.
struct Effect {
    std::vector<Seg> replies;
    bool accepted = false;     // took payload or a FIN
    bool established = false;  // a server's socket became established
    bool reset = false;        // the peer's RST ended it
};

class TcpEnd {
public:
    explicit TcpEnd(bool listens) : listens_(listens) {}
    std::optional<Socket> socket;

    Seg connect(std::uint32_t connection, std::uint32_t iss);
    Effect receive(const Seg& seg, std::uint32_t fresh_iss);
    std::optional<Seg> send_data();
    std::optional<Seg> close();
    std::optional<Seg> abort();
    void tick() {
        if (socket) socket->acks_left = Socket::kAcksPerTick;
    }
    std::optional<Seg> send_again();  // retransmission, or a keepalive when nothing is outstanding

private:
    Effect without_socket(const Seg& seg, std::uint32_t fresh_iss);
    Effect in_syn_sent(const Seg& seg);
    Effect in_syn_received(const Seg& seg);
    Effect in_established(const Seg& seg);
    void take(const Seg& seg, Effect& effect);
    void answer_misfit(const Seg& seg, Effect& effect);
    Seg make(std::uint8_t flags, std::uint32_t seq, std::uint32_t length = 0) const;
    Seg plain_ack() const { return make(kAck, socket->snd_nxt); }

    bool listens_;
};

}  // namespace godwit::test
