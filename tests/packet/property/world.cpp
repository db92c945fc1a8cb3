#include "tests/packet/property/world.hpp"

#include <algorithm>
#include <stdexcept>

namespace godwit::test {
namespace {

constexpr std::size_t kFlyingMax = 120;
// Four sets of handshakes only, so that floods do push records out.
constexpr TableSizes kSizes{64, 8, 16};

Slot other(Slot slot) {
    return slot == kSource ? kDestination : kSource;
}
Port port_of(Slot slot) {
    return slot == kSource ? kSourcePort : kDestinationPort;
}

}  // namespace

void World::require(bool holds, const std::string& promise) {
    if (!holds) throw std::logic_error(promise);
}

World::World(Hazard hazard) : hazard_(hazard), plane_(kSizes) {
    clients_.assign(kTuples, TcpEnd(/*listens=*/false));
    for (auto& hosts : servers_) hosts.assign(kTuples, TcpEnd(/*listens=*/true));
    plane_.manage({});
    plane_.steer(steady(kSource));
}

Tcp World::tuple(int i) const {
    std::string n = std::to_string(10 + i);
    return i % 2 ? tcp("[2001:db8::" + n + "]:4000", "[2001:db8:1::1]:80")
                 : tcp("10.0.0." + n + ":4000", "10.1.0.1:80");
}

// ---- wires ------------------------------------------------------------------------------------------

void World::emit(const std::optional<Seg>& seg, int i, Port from) {
    if (seg) flying_.push_back({*seg, i, from});
}

void World::deliver(std::size_t index) {
    if (flying_.empty()) return;
    index %= flying_.size();
    // A VM's wire keeps the order of a flow, in both directions; the network need not.
    auto same_wire = [&, chosen = flying_[index]](const Flying& f) {
        return f.tuple == chosen.tuple && f.from == chosen.from && f.to == chosen.to;
    };
    if (flying_[index].to.value_or(flying_[index].from) != kUplink)
        index =
            static_cast<std::size_t>(std::ranges::find_if(flying_, same_wire) - flying_.begin());
    Flying frame = flying_[index];
    flying_.erase(flying_.begin() + static_cast<std::ptrdiff_t>(index));
    if (!frame.to)
        through_switch(frame);
    else if (*frame.to == kUplink)
        to_client(frame);
    else
        to_server(frame, *frame.to == kSourcePort ? kSource : kDestination);
}

// Anywhere but between a VM and its switch: what both ends say unheard (two lost RSTs), only the idle limit
// can tell.
void World::lose(std::size_t index) {
    if (flying_.empty()) return;
    index %= flying_.size();
    bool from_vm = !flying_[index].to && flying_[index].from != kUplink;
    if (!from_vm) flying_.erase(flying_.begin() + static_cast<std::ptrdiff_t>(index));
}

// A SYN that nothing is remembered of belongs to the default owner of this moment, a remembered one to
// whom it was given. One that is repeated across flips may have been given to both.
void World::note_syn(const Flying& frame, const Outcome& out) {
    if (frame.seg.flags != kSyn) return;
    Slot given = out.to.at(0) == kSourcePort ? kSource : kDestination;
    bool begins = out.why == "new-owner" || out.why == "reopened";
    require(begins || out.why == "handshake" || out.why == "session", "a SYN has four ways");
    if (begins) require(given == owner_, "a newcomer goes to the default owner");
    connections_[frame.seg.connection].given_to[given] = true;
}

void World::through_switch(Flying frame) {
    Tcp side = tuple(frame.tuple);
    if (frame.from != kUplink) side = side.reply();
    if (frame.seg.connection == 0 && frame.seg.has(kSyn) && client(frame.tuple).socket &&
        !plane_.pinned_to(side))
        return;  // the exclusion that world.hpp explains
    Segment wire{frame.seg.flags, frame.seg.seq, frame.seg.ack, std::string(frame.seg.length, 'x')};
    Outcome out = plane_.send(frame.from, side.segment(wire));
    require(out.action != STEER_BOTH && out.action != STEER_ANSWER,
            "a TCP segment has one destination");
    if (frame.from == kUplink) {
        require(out.action == STEER_FORWARD, "a client's segment is never dropped");
        note_syn(frame, out);
    }
    if (out.action == STEER_DROP) return;
    if (out.action == STEER_REFUSE) {
        frame.to = frame.from;
        frame.seg = {kRst, frame.seg.ack, 0, 0, frame.seg.connection};
    } else {
        frame.to = frame.from == kUplink ? out.to.at(0) : kUplink;
    }
    flying_.push_back(frame);
}

// ---- endpoints ------------------------------------------------------------------------------------------

void World::to_client(const Flying& frame) {
    TcpEnd& end = client(frame.tuple);
    std::uint32_t connection = end.socket ? end.socket->connection : 0;
    bool closing = end.socket && (end.socket->fin_sent || end.socket->fin_received);
    Effect effect = end.receive(frame.seg, fresh_iss());
    if (effect.reset && !closing)
        require(connections_[connection].server_aborted, "no RST reaches an honest peer");
    if (effect.accepted)
        require(frame.seg.connection == connection,
                "a client takes only its own connection's data");
    for (const Seg& reply : effect.replies) emit(reply, frame.tuple, kUplink);
}

bool World::is_alive(const Socket& held) const {
    const int tuple = connections_.at(held.connection).tuple;
    const std::optional<Socket>& end = clients_.at(static_cast<std::size_t>(tuple)).socket;
    return end && end->connection == held.connection;
}

void World::to_server(const Flying& frame, Slot slot) {
    TcpEnd& end = server(slot, frame.tuple);
    std::optional<Socket> before = end.socket;
    Effect effect = end.receive(frame.seg, fresh_iss());
    if (effect.reset && frame.from != kUplink)
        require(before->copied || before->state == State::SynReceived || !is_alive(*before),
                "the switch's own RST ends a copy or a connection whose client is gone");
    if (effect.accepted || effect.established) {
        require(before && !before->copied,
                "no old session's segment is accepted by the destination");
        require(before->connection == frame.seg.connection,
                "a socket takes only its own connection's data");
        Connection& truth = connections_[before->connection];
        if (!truth.home) truth.home = slot;
        require(*truth.home == slot, "a connection stays with one backend for life");
        require(truth.given_to[slot], "a session begins where its SYN was given");
    }
    for (const Seg& reply : effect.replies) emit(reply, frame.tuple, port_of(slot));
}

bool World::holds_dead_connection(int i) {
    return std::ranges::any_of(std::array{kSource, kDestination}, [&](Slot slot) {
        const std::optional<Socket>& held = server(slot, i).socket;
        return held && held->state != State::SynReceived && !held->copied;
    });
}

void World::connect(int i) {
    if (client(i).socket && client(i).socket->state != State::TimeWait) return;
    if (hazard_ == Hazard::Floods && holds_dead_connection(i)) return;
    std::uint32_t connection = ++next_connection_;
    connections_[connection].tuple = i;
    // The last attempt's half-open socket has been given up by the VM (63 s in Linux).
    for (Slot slot : {kSource, kDestination})
        if (server(slot, i).socket && server(slot, i).socket->state == State::SynReceived)
            server(slot, i).socket.reset();
    emit(client(i).connect(connection, fresh_iss()), i, kUplink);
}

void World::abort_server(Slot slot, int i) {
    TcpEnd& end = server(slot, i);
    if (end.socket && end.socket->state == State::Established && !end.socket->copied)
        connections_[end.socket->connection].server_aborted = true;
    emit(end.abort(), i, port_of(slot));
}

void World::advance(std::uint32_t ticks) {
    plane_.advance_ticks(ticks);
    for (int i = 0; i < kTuples; ++i) {
        client(i).tick();
        server(kSource, i).tick();
        server(kDestination, i).tick();
    }
}

// ---- the migration ------------------------------------------------------------------------------------------

void World::fork_and_host() {
    if (phase_ != Phase::Steady || forked_) return;
    plane_.steer(hosted(kSource));
    phase_ = Phase::Hosted;
    forked_ = true;
    servers_[kDestination] = servers_[kSource];
    // A copied half-open socket has no application behind it yet: whoever completes it may serve it.
    for (TcpEnd& end : servers_[kDestination])
        if (end.socket && end.socket->state != State::SynReceived) end.socket->copied = true;
}

// From hosted to draining, and from then on forth and back: every flip is followed by its own drain.
void World::flip() {
    if (phase_ == Phase::Steady) return;
    plane_.steer(flipped(owner_, other(owner_)));
    owner_ = other(owner_);
    phase_ = Phase::Draining;
}

// ---- the attacker: off the path, so it guesses sequence numbers and misses ----------------------------

void World::flood(std::uint8_t kind, std::uint8_t amount) {
    if (hazard_ != Hazard::Floods) return;
    for (unsigned n = 0; n < amount % 64u; ++n) {
        Tcp forged =
            tcp("10.66." + std::to_string(random_() % 256) + "." + std::to_string(random_() % 256) +
                    ":" + std::to_string(1 + random_() % 60000),
                "10.1.0.1:80");
        Bytes frame =
            kind % 2 ? forged.syn() : forged.ack_of(static_cast<std::uint32_t>(random_()));
        Outcome out = plane_.send(kUplink, frame);
        // A real VM answers; what it says to nobody must make no entry either.
        Tcp vm = forged.reply();
        plane_.send(out.to.at(0), kind % 2 ? vm.syn_ack() : vm.segment({kRst, vm.isn, 0, {}}));
    }
}

void World::forge(std::uint8_t kind, int i) {
    std::uint32_t near = fresh_iss();  // no connection's window: every one has its own range
    const Seg kinds[] = {{kSyn, near, 0, 0, 0},
                         {kAck, near, near + 99, 0, 0},
                         {kAck, near, near + 99, 4, 0},
                         {kRst, near, 0, 0, 0},
                         {kRst | kAck, near, near + 1, 0, 0},
                         {kFin | kAck, near, near + 7, 0, 0}};
    emit(kinds[kind % std::size(kinds)], i, kUplink);
}

// ---- the script --------------------------------------------------------------------------------------------

void World::step(const Command& command) {
    int i = command.who % kTuples;
    Slot slot = command.who / kTuples % 2 ? kDestination : kSource;
    TcpEnd& host = server(slot, i);
    switch (command.op % 32) {
        case 0:
            connect(i);
            break;
        case 1:
            emit(client(i).send_data(), i, kUplink);
            break;
        case 2:
            emit(client(i).send_again(), i, kUplink);
            break;
        case 3:
            emit(client(i).close(), i, kUplink);
            break;
        case 4:
            if (command.amount % 4 == 0) emit(client(i).abort(), i, kUplink);
            break;
        case 5:
            emit(host.send_data(), i, port_of(slot));
            break;
        case 6:
            emit(host.send_again(), i, port_of(slot));
            break;
        case 7:
            emit(host.close(), i, port_of(slot));
            break;
        case 8:
            if (command.amount % 4 == 0) abort_server(slot, i);
            break;
        case 9:
            fork_and_host();
            break;
        case 10:
            if (command.amount % 2 == 0) flip();
            break;
        case 11:
            flood(command.who, command.amount);
            break;
        case 12:
            forge(command.who / 8, i);
            break;
        case 13:
            advance(1 + command.amount % 4 * ModelPlane::kTicksPerSecond);
            break;
        case 14:
            plane_.sweep();
            break;
        case 15:
        case 16:
            lose(command.amount);
            break;
        default:
            deliver(command.amount % 2 ? 0 : command.amount);
    }
    while (flying_.size() > kFlyingMax) deliver(0);
}

void World::run(const std::vector<Command>& script) {
    for (const Command& command : script) {
        step(command);
        check_counters();
        check_pins();
    }
}

// ---- promises -----------------------------------------------------------------------------------------------

void World::check_counters() {
    std::array<std::uint32_t, 4> counted = plane_.audit();
    require(counted[0] == plane_.sessions(kSource) && counted[1] == plane_.sessions(kDestination),
            "sessions are counted exactly");
    require(
        counted[2] == plane_.handshakes(kSource) && counted[3] == plane_.handshakes(kDestination),
        "handshakes are counted exactly");
    bool empty = counted[other(owner_)] == 0 && counted[2 + other(owner_)] == 0;
    require(plane_.is_drained() == (is_draining() && empty),
            "drained is announced exactly when it is true");
}

// A session that both ends hold and that was pinned once stays pinned, to its home: else a drain would
// be announced while somebody is still connected to the source.
void World::check_pins() {
    for (int i = 0; i < kTuples; ++i) {
        const std::optional<Socket>& mine = client(i).socket;
        if (!mine || mine->state != State::Established || mine->fin_sent || mine->fin_received)
            continue;
        Connection& truth = connections_[mine->connection];
        if (!truth.home) continue;
        const std::optional<Socket>& its = server(*truth.home, i).socket;
        bool alive = its && its->connection == mine->connection &&
                     its->state == State::Established && !its->fin_sent && !its->fin_received;
        if (!alive) continue;
        std::optional<Slot> pinned = plane_.pinned_to(tuple(i));
        if (pinned) require(*pinned == *truth.home, "a live session is pinned to its home");
        if (truth.pinned_once) require(pinned.has_value(), "a live session is not forgotten");
        truth.pinned_once = truth.pinned_once || pinned.has_value();
    }
}

// ---- the end of the story ----------------------------------------------------------------------------------

void World::deliver_all() {
    for (int budget = 4000; !flying_.empty(); --budget) {
        require(budget > 0, "endpoints come to rest");
        deliver(0);
        check_counters();
        check_pins();
    }
}

// The client says one thing more and is heard, within a few retransmissions.
void World::exchange(int i) {
    for (int round = 0; round < 12; ++round) {
        const std::optional<Socket>& mine = client(i).socket;
        if (!mine || mine->fin_sent || mine->fin_received || mine->state == State::TimeWait) return;
        if (connections_[mine->connection].server_aborted) return;
        bool idle = mine->state == State::Established && mine->snd_una == mine->snd_nxt;
        std::uint32_t acknowledged = mine->snd_una, connection = mine->connection;
        emit(idle ? client(i).send_data() : client(i).send_again(), i, kUplink);
        deliver_all();
        advance(ModelPlane::kTicksPerSecond);
        if (!mine || mine->connection != connection) return;
        if (idle && mine->snd_una != acknowledged) return;
    }
    require(false, "every connection still works");
}

void World::end_everything() {
    for (int round = 0; round < 8; ++round, advance(1))
        for (int i = 0; i < kTuples; ++i) {
            emit(client(i).close(), i, kUplink);
            emit(client(i).send_again(), i, kUplink);
            deliver_all();
            for (Slot slot : {kSource, kDestination}) {
                emit(server(slot, i).close(), i, port_of(slot));
                emit(server(slot, i).send_again(), i, port_of(slot));
                deliver_all();
            }
        }
    for (Slot slot : {kSource, kDestination})
        for (int i = 0; i < kTuples; ++i) {
            if (server(slot, i).socket && server(slot, i).socket->state == State::Established &&
                !server(slot, i).socket->copied)
                abort_server(slot, i);
        }
    deliver_all();
}

void World::settle() {
    deliver_all();
    for (int i = 0; i < kTuples; ++i) exchange(i);
    // What a forged SYN opened is given up by the VM after its last SYN-ACK.
    for (auto& hosts : servers_)
        for (TcpEnd& end : hosts)
            if (end.socket && end.socket->state == State::SynReceived &&
                end.socket->connection == 0)
                end.socket.reset();
    end_everything();
    plane_.advance_s(31);
    plane_.sweep();
    check_counters();
    // Where a RST and the VM's last word crossed, or a FIN passed before there was an entry, the switch
    // waits for the short idle limit; nothing that has ended may wait for the long one.
    std::uint32_t unended = 0;
    constexpr std::uint32_t kEnding = STEER_META_ENDING;
    for (steer_table table : {STEER_SESSIONS4, STEER_SESSIONS6})
        for (const steer_line& line : plane_.lines(table))
            for (const steer_slot& slot : std::span(line.slot, steer_is_v6_table(table) ? 1 : 2))
                unended += steer_meta_life(slot.meta) == STEER_LIVE && !(slot.meta & kEnding);
    require(unended == 0, "ended sessions are seen to end");
    plane_.advance_s(240);
    plane_.sweep();
    require(plane_.sessions(kSource) + plane_.sessions(kDestination) == 0,
            "ended sessions are not counted");
    if (is_draining()) require(plane_.is_drained(), "a drain comes to its end");
}

}  // namespace godwit::test
