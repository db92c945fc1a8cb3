// Frames as a network might bring them, whole, truncated, padded and mutated, of every kind and from every port,
// and what is decided meanwhile: for comparing planes. A fuzzer's input makes every choice.
#pragma once

#include "tests/packet/plane.hpp"

#include <cstdint>
#include <span>

#include <gtest/gtest.h>

namespace godwit::test {

// Bytes of an input, in turn; zeros when they are used up.
class Choices {
public:
    explicit Choices(std::span<const std::uint8_t> input) : rest_(input) {}
    unsigned below(unsigned limit);  // 0 .. limit - 1
    bool is_used_up() const { return rest_.empty(); }

private:
    std::span<const std::uint8_t> rest_;
};

struct Sent {
    Port from;
    Bytes frame;
    bool operator==(const Sent&) const = default;
};

class Traffic {
public:
    explicit Traffic(Choices& choices) : choices_(choices) {}

    Sent next();     // mostly what could happen, sometimes anything from anywhere
    ManagedVm vm();  // how the VM of one world is reached; frames are its own from then on
    Plan plan();
    unsigned below(unsigned limit) { return choices_.below(limit); }

private:
    Sent renamed(Sent sent);
    Port backend() { return below(2) ? kSourcePort : kDestinationPort; }
    Sent whole();
    Tcp client();
    Sent segments();
    Sent connectionless();
    Sent quic();
    Sent piece_or_extended(Port from, const Udp& side);
    Sent icmp_error_about(Port from);
    Sent neighbours();
    void flip_bits(Bytes& frame, unsigned count);
    void overwrite(Bytes& frame);
    void cut(Sent& sent);

    Choices& choices_;
    ManagedVm vm_;
};

// Whether `real` did with `sent` what the model did: action, port, reason and bytes. What went in by the wire and
// was left to the kernel's bridge is not seen again, nor is an RST that went back.
testing::AssertionResult agree(const Sent& sent, const Outcome& real, const Outcome& model,
                               bool on_the_wire = false);

}  // namespace godwit::test
