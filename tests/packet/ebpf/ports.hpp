// A network namespace of the test's own with one veth per port, and an ear at each: what the kernel sends
// out of a port (bpf_clone_redirect does, also in a test run) is heard before the sender returns.
#pragma once

#include "tests/packet/plane.hpp"

#include <array>
#include <string>
#include <vector>

namespace godwit::test {

class Ports {
public:
    // Enters a new namespace with the whole process; it goes when the process goes. Throws
    // std::runtime_error. One per process.
    static Ports& instance();

    std::string interface(Port port) const;
    unsigned ifindex(Port port) const { return ifindex_[port]; }
    // The port with this ifindex, or kPorts.
    Port port_of(std::uint64_t ifindex) const;
    // Sends from the other end of the port's cable.
    void inject(Port port, const Bytes& frame);
    // Frames that left the port since the last call.
    std::vector<Bytes> heard(Port port);

private:
    Ports();
    std::array<unsigned, kPorts> ifindex_{};
    std::array<int, kPorts> ears_{}, mouths_{};
};

}  // namespace godwit::test
