// A trace: what came to a switch, what was decided meanwhile, and what left, as one pcapng file
// (draft-ietf-opsawg-pcapng) that Wireshark reads and any switch can be held against. An interface per port;
// the packet flags say inbound or outbound. The comment of an inbound packet has the commands before it, a line each,
// and "verdict: reason" as its last line; what left because of it follows as outbound packets.
//   manage l2 | nat | vlan N [M]     how the VM is reached (worlds.cpp); once, first
//   steady | hosted SLOT             SLOT: source, destination
//   flipped SLOT SLOT                from, to
//   advance SECONDS                  time passes, and what is too old is swept
#pragma once

#include "tests/packet/plane.hpp"

#include <optional>
#include <string>
#include <vector>

namespace godwit::test {

struct Step {
    std::vector<std::string> commands;
    Port from;
    Bytes frame;
    Outcome outcome;
};
using Trace = std::vector<Step>;

// Carries out one command. Throws std::runtime_error that names it when there is no such.
void command(Plane& plane, const std::string& line);

// Throws std::runtime_error that names the file and what is wrong with it.
void write_trace(const std::string& path, const Trace& trace);
Trace read_trace(const std::string& path);

}  // namespace godwit::test
