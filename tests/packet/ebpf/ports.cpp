#include "tests/packet/ebpf/ports.hpp"

#include <arpa/inet.h>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <stdexcept>
#include <sys/socket.h>
#include <unistd.h>

namespace godwit::test {
namespace {

constexpr const char* kNames[kPorts] = {"uplink", "source", "destination", "other"};

[[noreturn]] void give_up(const std::string& doing) {
    throw std::runtime_error(doing + ": " + std::strerror(errno));
}

void shell(const std::string& command) {
    if (std::system(command.c_str()) != 0) throw std::runtime_error("failed: " + command);
}

int listen_at(unsigned ifindex) {
    int ear = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));
    sockaddr_ll at{};
    at.sll_family = AF_PACKET;
    at.sll_protocol = htons(ETH_P_ALL);
    at.sll_ifindex = static_cast<int>(ifindex);
    if (ear < 0 || bind(ear, reinterpret_cast<sockaddr*>(&at), sizeof(at)) != 0)
        give_up("listen at a port");
    return ear;
}

}  // namespace

Ports& Ports::instance() {
    static Ports ports;
    return ports;
}

std::string Ports::interface(Port port) const {
    return std::string("gwt-") + kNames[port];
}

Ports::Ports() {
    if (unshare(CLONE_NEWNET) != 0) give_up("enter a network namespace");
    // An interface that comes up with IPv6 talks by itself.
    shell("f=/proc/sys/net/ipv6/conf/default/disable_ipv6; [ ! -e $f ] || echo 1 > $f");
    for (int port = 0; port < kPorts; ++port) {
        const std::string name = interface(static_cast<Port>(port));
        const std::string peer = "p-" + std::string(kNames[port]);
        shell("ip link add " + name + " type veth peer name " + peer);
        shell("ip link set " + name + " mtu 9000 up && ip link set " + peer + " mtu 9000 up");
        // What XDP redirects into a veth is taken when the far end has GRO, frames in pieces too.
        if (port == kSourcePort) shell("ethtool -K " + peer + " gro on");
        ifindex_[static_cast<std::size_t>(port)] = if_nametoindex(name.c_str());
        ears_[static_cast<std::size_t>(port)] = listen_at(ifindex_[static_cast<std::size_t>(port)]);
        mouths_[static_cast<std::size_t>(port)] = listen_at(if_nametoindex(peer.c_str()));
    }
}

Port Ports::port_of(std::uint64_t ifindex) const {
    for (int port = 0; port < kPorts; ++port)
        if (ifindex_[static_cast<std::size_t>(port)] == ifindex) return static_cast<Port>(port);
    return kPorts;
}

void Ports::inject(Port port, const Bytes& frame) {
    if (send(mouths_[port], frame.data(), frame.size(), 0) < 0) give_up("inject a frame");
}

std::vector<Bytes> Ports::heard(Port port) {
    std::vector<Bytes> frames;
    Bytes buffer(16384);
    for (;;) {
        sockaddr_ll from{};
        socklen_t bytes = sizeof(from);
        ssize_t length = recvfrom(ears_[port], buffer.data(), buffer.size(), 0,
                                  reinterpret_cast<sockaddr*>(&from), &bytes);
        if (length < 0 && errno == EAGAIN) return frames;
        if (length < 0) give_up("hear a port");
        if (from.sll_pkttype == PACKET_OUTGOING)
            frames.emplace_back(buffer.begin(), buffer.begin() + length);
    }
}

}  // namespace godwit::test
