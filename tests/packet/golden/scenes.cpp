// Makes the golden traces: golden_write DIR. What is written is what the model does today; the tests hold every plane
// against the files, so a change of behaviour shows up as a change of a file, and is looked at in review.
#include "tests/packet/golden/trace.hpp"
#include "tests/packet/model_plane.hpp"

#include <cstdio>
#include <exception>
#include <map>

namespace godwit::test {
namespace {

const std::string kLong(200, 'x');

class Scene {
public:
    explicit Scene(const std::string& manage) {
        say(manage);
        say("hosted source");
    }
    void say(const std::string& line) {
        command(plane_, line);
        commands_.push_back(line);
    }
    void send(Port from, const Bytes& frame) {
        trace_.push_back({std::move(commands_), from, frame, plane_.send(from, frame)});
        commands_.clear();
    }
    void client(const Bytes& frame) { send(kUplink, frame); }
    void establish(const Tcp& side, Port server) {
        client(side.syn());
        send(server, side.reply().syn_ack());
        client(side.ack());
    }
    // A word each way.
    void talk(const Tcp& side, Port server) {
        client(side.data("hello"));
        send(server, side.reply().data("world"));
    }
    const Trace& trace() const { return trace_; }

private:
    ModelPlane plane_;
    std::vector<std::string> commands_;
    Trace trace_;
};

std::vector<Tcp> clients(std::uint16_t port) {
    const std::string text = std::to_string(port);
    return {tcp("10.0.0.9:" + text, "10.1.0.1:80"),
            tcp("[2001:db8::9]:" + text, "[2001:db8:1::1]:80")};
}
std::vector<Udp> askers(std::uint16_t port) {
    const std::string text = std::to_string(port);
    return {udp("10.0.0.9:" + text, "10.1.0.1:53"),
            udp("[2001:db8::9]:" + text, "[2001:db8:1::1]:53")};
}

Trace tcp_over_the_flip() {
    Scene scene("manage l2");
    for (const Tcp& old : clients(4000)) scene.establish(old, kSourcePort);
    for (const Tcp& half : clients(4001)) scene.client(half.syn());
    scene.say("flipped source destination");
    for (const Tcp& half : clients(4001)) {
        scene.send(kSourcePort, half.reply().syn_ack());
        scene.client(half.ack());
    }
    for (const Tcp& young : clients(4002)) scene.establish(young, kDestinationPort);
    for (const Tcp& old : clients(4000)) scene.talk(old, kSourcePort);
    for (const Tcp& young : clients(4002)) scene.talk(young, kDestinationPort);
    return scene.trace();
}

Trace tcp_ends() {
    Scene scene("manage l2");
    for (std::uint16_t port : std::initializer_list<std::uint16_t>{4000, 4001})
        for (const Tcp& old : clients(port)) scene.establish(old, kSourcePort);
    scene.say("flipped source destination");
    for (const Tcp& old : clients(4000)) {
        scene.client(old.fin());
        scene.send(kSourcePort, old.reply().fin(0, 1));
        scene.client(old.fin_acked());
    }
    for (const Tcp& old : clients(4001)) scene.send(kSourcePort, old.reply().rst());
    scene.say("advance 130");
    for (std::uint16_t port : std::initializer_list<std::uint16_t>{4000, 4001})
        for (const Tcp& old : clients(port))
            scene.establish(old.restarted(700000), kDestinationPort);
    return scene.trace();
}

Trace clone_fenced() {
    Scene scene("manage l2");
    for (const Tcp& old : clients(4000)) scene.establish(old, kSourcePort);
    scene.say("flipped source destination");
    for (const Tcp& old : clients(4000)) {
        scene.send(kDestinationPort, old.reply().data("from the copy of the socket"));
        scene.send(kDestinationPort, old.reply().fin());
        scene.talk(old, kSourcePort);
    }
    scene.send(kDestinationPort, gratuitous_arp("10.1.0.1"));
    scene.send(kDestinationPort, rarp());
    return scene.trace();
}

Trace udp_and_echo() {
    Scene scene("manage l2");
    auto exchange = [&](std::uint16_t port, Port server) {
        for (const Udp& flow : askers(port)) {
            scene.client(flow.datagram());
            scene.send(server, flow.reply().datagram());
        }
        for (const Echo& ping :
             {echo("10.0.0.9", "10.1.0.1", port), echo("2001:db8::9", "2001:db8:1::1", port)}) {
            scene.client(ping.request());
            scene.send(server, ping.reply());
        }
    };
    exchange(5000, kSourcePort);
    scene.say("flipped source destination");
    exchange(5000, kSourcePort);
    exchange(5001, kDestinationPort);
    scene.say("advance 400");
    exchange(5000, kDestinationPort);
    return scene.trace();
}

Trace fragments() {
    Scene scene("manage l2");
    for (const Udp& flow : askers(5000)) {
        scene.client(flow.datagram());
        scene.send(kSourcePort, flow.reply().datagram());
    }
    scene.say("flipped source destination");
    std::uint32_t identification = 7;
    for (std::uint16_t port : std::initializer_list<std::uint16_t>{5000, 5001})
        for (const Udp& flow : askers(port)) {
            const std::vector<Bytes> pieces = pieces_of(flow.datagram(kLong), identification++, 48);
            for (const Bytes& piece : pieces) scene.client(piece);
            scene.client(pieces.back());
        }
    const std::vector<Bytes> late = pieces_of(askers(5000)[0].datagram(kLong), identification, 48);
    scene.client(late[1]);
    scene.client(late[0]);
    scene.client(late[1]);
    return scene.trace();
}

Trace icmp_errors() {
    Scene scene("manage l2");
    for (const Tcp& old : clients(4000)) scene.establish(old, kSourcePort);
    scene.say("flipped source destination");
    for (const Tcp& young : clients(4001)) scene.establish(young, kDestinationPort);
    for (std::uint16_t port : std::initializer_list<std::uint16_t>{4000, 4001, 4002})
        for (const Tcp& side : clients(port)) {
            const bool v4 = side.to.ip.family == 4;
            scene.client(
                icmp_error({side.reply().data(kLong), v4 ? "10.0.7.1" : "2001:db8:7::1", 0, 8}));
        }
    return scene.trace();
}

Trace neighbours() {
    Scene scene("manage l2");
    scene.say("flipped source destination");
    scene.client(arp_request("10.1.0.9", "10.1.0.1"));
    scene.client(neighbour_solicit("2001:db8::9", "2001:db8:1::1"));
    scene.client(duplicate_probe("2001:db8:1::1", kClientMac));
    scene.client(gratuitous_arp("10.1.0.1", kClientMac));
    scene.send(kSourcePort, arp_request_from_vm("10.1.0.1", "10.1.0.9"));
    scene.client(arp_reply_to_vm("10.1.0.9", "10.1.0.1"));
    scene.send(kOtherVmPort, gratuitous_arp("10.1.0.1", kOtherVmMac));
    return scene.trace();
}

Trace options_and_extensions() {
    Scene scene("manage l2");
    const Tcp v4 = clients(4000)[0], v6 = clients(4000)[1];
    scene.establish(v4, kSourcePort);
    scene.establish(v6, kSourcePort);
    scene.say("flipped source destination");
    scene.client(with_extensions(v6.data("x"), {0, 60, 43}));
    scene.client(with_extensions(v4.data("x"), {51}));
    scene.client(with_extensions(clients(4001)[1].syn(), {60}));
    scene.client(with_extensions(v6.data("x"), std::vector<std::uint8_t>(9, 60)));
    return scene.trace();
}

Trace tagged(const std::string& manage, const std::vector<std::uint16_t>& tags) {
    Scene scene(manage);
    auto in = [&](Bytes frame) {
        for (auto tag = tags.rbegin(); tag != tags.rend(); ++tag) frame = vlan_tagged(frame, *tag);
        return frame;
    };
    auto establish = [&](const Tcp& side, Port server) {
        scene.client(in(side.syn()));
        scene.send(server, in(side.reply().syn_ack()));
        scene.client(in(side.ack()));
    };
    for (const Tcp& old : clients(4000)) establish(old, kSourcePort);
    scene.say("flipped source destination");
    for (const Tcp& old : clients(4000)) scene.client(in(old.data("hello")));
    for (const Tcp& young : clients(4001)) establish(young, kDestinationPort);
    scene.client(in(arp_request("10.1.0.9", "10.1.0.1")));
    scene.client(clients(4002)[0].syn());
    return scene.trace();
}

Trace nat() {
    Scene scene("manage nat");
    const Mac macs[] = {{0x52, 0x54, 0, 0, 0, 0x30}, {0x52, 0x54, 0, 0, 0, 0x31}};
    auto converse = [&](std::uint16_t port, Slot slot) {
        const char* temporary[2][2] = {{"10.9.1.30", "2001:db8:9::30"},
                                       {"10.9.1.31", "2001:db8:9::31"}};
        const std::string text = std::to_string(port);
        for (int six : {0, 1}) {
            const Tcp outside = six ? tcp("[2001:db8::9]:" + text, "[2001:db8:9::10]:80")
                                    : tcp("10.0.0.9:" + text, "10.9.1.10:80");
            Tcp inside = outside;
            inside.to.ip = address(temporary[slot][six]);
            inside.to.mac = macs[slot];
            const Port port_of = slot == kSource ? kSourcePort : kDestinationPort;
            scene.client(outside.syn());
            scene.send(port_of, inside.reply().syn_ack());
            scene.client(outside.ack());
            scene.client(outside.data("hello"));
            scene.send(port_of, inside.reply().data("world"));
            scene.client(error_about(address(six ? "2001:db8:7::1" : "10.0.7.1"), outside.to,
                                     outside.reply().data(kLong)));
        }
    };
    converse(4000, kSource);
    scene.say("flipped source destination");
    converse(4001, kDestination);
    scene.client(arp_request("10.9.1.99", "10.9.1.10"));
    return scene.trace();
}

}  // namespace
}  // namespace godwit::test

int main(int argc, char** argv) {
    using namespace godwit::test;
    if (argc != 2) {
        std::fprintf(stderr, "usage: golden_write DIR\n");
        return 2;
    }
    const std::map<std::string, Trace> scenes = {
        {"tcp-over-the-flip", tcp_over_the_flip()},
        {"tcp-ends", tcp_ends()},
        {"clone-fenced", clone_fenced()},
        {"udp-and-echo", udp_and_echo()},
        {"fragments", fragments()},
        {"icmp-errors", icmp_errors()},
        {"neighbours", neighbours()},
        {"options-and-extensions", options_and_extensions()},
        {"vlan", tagged("manage vlan 5", {5})},
        {"qinq", tagged("manage vlan 100 5", {100, 5})},
        {"nat", nat()},
    };
    try {
        for (const auto& [name, trace] : scenes)
            write_trace(std::string(argv[1]) + "/" + name + ".pcapng", trace);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "golden_write: %s\n", error.what());
        return 1;
    }
    return 0;
}
