#include "tests/packet/property/tcp_end.hpp"

namespace godwit::test {
namespace {

constexpr std::uint32_t kWindow = 64240;
constexpr std::uint32_t kDataBytes = 4;

}  // namespace

Seg TcpEnd::make(std::uint8_t flags, std::uint32_t seq, std::uint32_t length) const {
    return {flags, seq, socket->rcv_nxt, length, socket->connection};
}

Seg TcpEnd::connect(std::uint32_t connection, std::uint32_t iss) {
    socket = Socket{State::SynSent, connection, iss, iss, iss + 1};
    return {kSyn, iss, 0, 0, connection};
}

Effect TcpEnd::without_socket(const Seg& seg, std::uint32_t fresh_iss) {
    Effect effect;
    if (seg.has(kRst)) return effect;
    if (listens_ && seg.has(kSyn) && !seg.has(kAck)) {
        socket = Socket{State::SynReceived, seg.connection, fresh_iss,
                        fresh_iss,          fresh_iss + 1,  seg.seq + 1};
        effect.replies.push_back(make(kSyn | kAck, fresh_iss));
        return effect;
    }
    std::uint32_t used = seg.length + (seg.has(kSyn) ? 1 : 0) + (seg.has(kFin) ? 1 : 0);
    if (seg.has(kAck))
        effect.replies.push_back({kRst, seg.ack, 0, 0, seg.connection});
    else
        effect.replies.push_back({kRst | kAck, 0, seg.seq + used, 0, seg.connection});
    return effect;
}

Effect TcpEnd::in_syn_sent(const Seg& seg) {
    Effect effect;
    if (seg.has(kAck) && seg.ack != socket->snd_nxt) {
        if (!seg.has(kRst)) effect.replies.push_back({kRst, seg.ack, 0, 0, socket->connection});
        return effect;
    }
    if (seg.has(kRst)) {
        effect.reset = seg.has(kAck);
        if (effect.reset) socket.reset();
        return effect;
    }
    if (!seg.has(kSyn | kAck)) return effect;
    socket->state = State::Established;
    socket->rcv_nxt = seg.seq + 1;
    socket->snd_una = seg.ack;
    effect.replies.push_back(plain_ack());
    return effect;
}

Effect TcpEnd::in_syn_received(const Seg& seg) {
    Effect effect;
    if (seg.has(kRst)) {
        effect.reset = seg.seq == socket->rcv_nxt;
        if (effect.reset) socket.reset();
        return effect;
    }
    if (seg.has(kSyn)) {
        bool repeated = seg.seq + 1 == socket->rcv_nxt;
        if (repeated)
            effect.replies.push_back(make(kSyn | kAck, socket->iss));
        else
            answer_misfit(seg, effect);
        return effect;
    }
    if (seg.seq - socket->rcv_nxt > kWindow) {
        answer_misfit(seg, effect);
        return effect;
    }
    if (seg.ack != socket->snd_nxt) {
        effect.replies.push_back({kRst, seg.ack, 0, 0, socket->connection});
        return effect;
    }
    socket->state = State::Established;
    socket->snd_una = seg.ack;
    effect.established = true;
    take(seg, effect);
    return effect;
}

void TcpEnd::answer_misfit(const Seg& seg, Effect& effect) {
    if (seg.length == 0 && socket->acks_left-- <= 0) return;
    effect.replies.push_back(plain_ack());
}

void TcpEnd::take(const Seg& seg, Effect& effect) {
    if (seg.length == 0 && !seg.has(kFin)) return;
    if (seg.seq == socket->rcv_nxt && !socket->fin_received) {
        socket->rcv_nxt += seg.length + (seg.has(kFin) ? 1 : 0);
        socket->fin_received = seg.has(kFin);
        effect.accepted = true;
    }
    effect.replies.push_back(plain_ack());
}

Effect TcpEnd::in_established(const Seg& seg) {
    Effect effect;
    bool in_window = seg.seq - socket->rcv_nxt <= kWindow;
    if (seg.has(kRst)) {
        effect.reset = seg.seq == socket->rcv_nxt;
        if (!effect.reset && in_window) answer_misfit(seg, effect);
        if (effect.reset) socket.reset();
        return effect;
    }
    bool future_ack = static_cast<std::int32_t>(seg.ack - socket->snd_nxt) > 0;
    if (seg.has(kSyn) || !in_window || future_ack) {
        answer_misfit(seg, effect);
        return effect;
    }
    if (static_cast<std::int32_t>(seg.ack - socket->snd_una) > 0) socket->snd_una = seg.ack;
    take(seg, effect);
    if (socket->fin_sent && socket->snd_una == socket->snd_nxt && socket->fin_received) {
        if (socket->active_close)
            socket->state = State::TimeWait;
        else
            socket.reset();
    }
    return effect;
}

Effect TcpEnd::receive(const Seg& seg, std::uint32_t fresh_iss) {
    if (!socket) return without_socket(seg, fresh_iss);
    switch (socket->state) {
        case State::SynSent:
            return in_syn_sent(seg);
        case State::SynReceived:
            return in_syn_received(seg);
        case State::Established:
            return in_established(seg);
        case State::TimeWait:
            break;
    }
    if (seg.has(kRst)) return {};
    if (seg.has(kSyn) && !seg.has(kAck) && listens_) {
        socket.reset();
        return without_socket(seg, fresh_iss);
    }
    Effect effect;
    answer_misfit(seg, effect);
    return effect;
}

std::optional<Seg> TcpEnd::send_data() {
    if (!socket || socket->state != State::Established || socket->fin_sent ||
        socket->snd_una != socket->snd_nxt)
        return std::nullopt;
    Seg seg = make(kAck, socket->snd_nxt, kDataBytes);
    socket->snd_nxt += kDataBytes;
    return seg;
}

std::optional<Seg> TcpEnd::close() {
    if (!socket || socket->state != State::Established || socket->fin_sent ||
        socket->snd_una != socket->snd_nxt)
        return std::nullopt;
    Seg seg = make(kFin | kAck, socket->snd_nxt);
    socket->snd_nxt += 1;
    socket->fin_sent = true;
    socket->active_close = !socket->fin_received;
    return seg;
}

std::optional<Seg> TcpEnd::abort() {
    if (!socket || socket->state != State::Established) return std::nullopt;
    Seg seg = make(kRst | kAck, socket->snd_nxt);
    socket.reset();
    return seg;
}

std::optional<Seg> TcpEnd::send_again() {
    if (!socket) return std::nullopt;
    switch (socket->state) {
        case State::SynSent:
            return Seg{kSyn, socket->iss, 0, 0, socket->connection};
        case State::SynReceived:
            return make(kSyn | kAck, socket->iss);
        case State::TimeWait:
            return std::nullopt;
        case State::Established:
            break;
    }
    if (socket->snd_una == socket->snd_nxt) return make(kAck, socket->snd_nxt - 1);
    if (socket->fin_sent) return make(kFin | kAck, socket->snd_nxt - 1);
    return make(kAck, socket->snd_una, socket->snd_nxt - socket->snd_una);
}

}  // namespace godwit::test
