// Clients, a source, a clone of it and a switch between them, driven by a script of small commands. The world
// loses, delays and reorders every frame it is told to, forges what an off-path attacker could, and
// after each step checks what Godwit promises. A broken promise is an exception that says which.
// Excluded, because nothing is left to tell them apart by: a SYN forged for exactly a client's ports while
// the client is connected and its record has been pushed out. It costs that client a delay of up to 30 s.
#pragma once

#include "tests/packet/model_plane.hpp"
#include "tests/packet/property/tcp_end.hpp"

#include <array>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace godwit::test {

// What a script is made of: an operation, and whom it concerns.
struct Command {
    std::uint8_t op = 0, who = 0, amount = 0;
};

// Floods push records out; stale ports bring a client back on ports of which a VM still holds the client's
// last connection, dead or in TIME-WAIT. Both at once, on the same ports within one round trip, can cost
// that client a reset: nothing is left then that tells the dead connection's words from the new one's.
enum class Hazard { Floods, StalePorts };

class World {
public:
    explicit World(Hazard hazard);
    void run(const std::vector<Command>& script);
    // No more loss and no more attacks: every connection must still work, then all of them end, and the
    // drain must be over.
    void settle();

    static constexpr int kTuples = 5;

private:
    struct Connection {  // the truth about one
        int tuple = 0;
        std::optional<Slot> home;  // whose socket became established
        bool given_to[2] = {};     // who was handed its SYN
        bool server_aborted = false;
        bool pinned_once = false;
    };
    struct Flying {  // a frame on a wire
        Seg seg;
        int tuple = 0;
        Port from = kUplink;          // towards the switch
        std::optional<Port> to = {};  // towards an endpoint, once it is behind the switch
    };

    Tcp tuple(int i) const;
    TcpEnd& server(Slot slot, int i) { return servers_[slot][static_cast<std::size_t>(i)]; }
    TcpEnd& client(int i) { return clients_[static_cast<std::size_t>(i)]; }
    std::uint32_t fresh_iss() { return next_iss_ += 1u << 21; }

    void step(const Command& command);
    void emit(const std::optional<Seg>& seg, int tuple, Port from);
    void deliver(std::size_t index);
    void lose(std::size_t index);
    void through_switch(Flying frame);
    void to_client(const Flying& frame);
    void to_server(const Flying& frame, Slot slot);
    bool is_alive(const Socket& held) const;  // its client still holds the same connection
    void note_syn(const Flying& frame, const Outcome& out);
    void connect(int i);
    bool holds_dead_connection(int i);
    void advance(std::uint32_t ticks);
    void abort_server(Slot slot, int i);
    void fork_and_host();
    void flip();
    void flood(std::uint8_t kind, std::uint8_t amount);
    void forge(std::uint8_t kind, int i);
    void deliver_all();
    void exchange(int i);
    void end_everything();

    void check_counters();
    void check_pins();
    bool is_draining() const { return phase_ == Phase::Draining; }
    static void require(bool holds, const std::string& promise);

    enum class Phase { Steady, Hosted, Draining };
    Hazard hazard_;
    ModelPlane plane_;
    std::vector<TcpEnd> clients_, servers_[2];
    std::map<std::uint32_t, Connection> connections_;
    std::vector<Flying> flying_;
    Phase phase_ = Phase::Steady;
    Slot owner_ = kSource;
    bool forked_ = false;
    std::uint32_t next_connection_ = 0, next_iss_ = 0;
    std::mt19937 random_{11};
};

}  // namespace godwit::test
