#include "tests/packet/golden/trace.hpp"

#include "lib/pcapng.hpp"

#include <cstring>
#include <fstream>
#include <iterator>
#include <span>
#include <sstream>
#include <stdexcept>

namespace godwit::test {
namespace {

using namespace pcapng;

// The last one is what ordinary switching gets.
constexpr const char* kInterfaces[] = {"uplink", "source", "destination", "other-vm", "bridge"};
constexpr std::uint32_t kBridge = 4;
constexpr const char* kVerdicts[] = {"pass", "drop", "forward", "both", "answer", "refuse"};
constexpr steer_action kActions[] = {STEER_PASS, STEER_DROP,   STEER_FORWARD,
                                     STEER_BOTH, STEER_ANSWER, STEER_REFUSE};

struct Packet {
    std::uint32_t interface = 0, direction = 0;
    Bytes frame;
    std::string comment;
};

class Writer {
public:
    explicit Writer(const std::string& path) : file_(path, std::ios::binary) {
        Block begin = section();
        write(begin);
        for (const char* name : kInterfaces) {
            Block interface(kInterface);
            interface.number(kEthernet);
            interface.number(std::uint16_t{0});
            interface.number(std::uint32_t{0});
            interface.option(kInterfaceName, name);
            write(interface);
        }
    }
    void packet(const Packet& packet) {
        const auto length = static_cast<std::uint32_t>(packet.frame.size());
        Block block(kPacket);
        block.number(packet.interface);
        block.number(std::uint32_t{0});
        block.number(time_us_ += 1000);
        block.number(length);
        block.number(length);
        block.padded(packet.frame);
        if (!packet.comment.empty()) block.option(kComment, packet.comment);
        const auto* flags = reinterpret_cast<const std::uint8_t*>(&packet.direction);
        block.option(kPacketFlags, std::span(flags, sizeof(packet.direction)));
        write(block);
    }
    bool is_good() { return static_cast<bool>(file_.flush()); }

private:
    void write(Block& block) {
        const std::span<const std::uint8_t> bytes = block.done();
        file_.write(reinterpret_cast<const char*>(bytes.data()),
                    static_cast<std::streamsize>(bytes.size()));
    }

    std::ofstream file_;
    std::uint32_t time_us_ = 0;
};

// Reads what Writer wrote, and what Wireshark saves of it: other blocks and options are skipped.
class Reader {
public:
    explicit Reader(std::span<const char> rest) : rest_(rest) {}
    std::optional<Packet> next() {
        while (!rest_.empty()) {
            const auto type = number(0), length = number(4);
            if (length < 12 || length % 4 != 0 || length > rest_.size())
                throw std::runtime_error("a block's length is wrong");
            const std::span<const char> body = rest_.subspan(8, length - 12);
            if (type == kSection && number(8) != kByteOrder)
                throw std::runtime_error("not in the byte order of this machine");
            rest_ = rest_.subspan(length);
            if (type == kPacket) return packet_of(body);
        }
        return std::nullopt;
    }

private:
    std::uint32_t number(std::size_t at) const { return number_in(rest_, at); }
    static std::uint32_t number_in(std::span<const char> bytes, std::size_t at) {
        std::uint32_t value;
        if (at + sizeof(value) > bytes.size()) throw std::runtime_error("cut off");
        std::memcpy(&value, &bytes[at], sizeof(value));
        return value;
    }
    static Packet packet_of(std::span<const char> body) {
        Packet packet;
        packet.interface = number_in(body, 0);
        const std::size_t length = number_in(body, 12);
        if (20 + length > body.size()) throw std::runtime_error("a packet is cut off");
        packet.frame.assign(body.begin() + 20,
                            body.begin() + 20 + static_cast<std::ptrdiff_t>(length));
        for (std::size_t at = 20 + (length + 3) / 4 * 4; at + 4 <= body.size();) {
            const std::uint32_t head = number_in(body, at);
            const std::uint32_t code = head & 0xffff, size = head >> 16;
            if (code == kEndOfOptions) break;
            if (at + 4 + size > body.size()) throw std::runtime_error("an option is cut off");
            if (code == kComment) packet.comment.assign(&body[at + 4], size);
            if (code == kPacketFlags) packet.direction = number_in(body, at + 4) & 3;
            at += 4 + (size + 3) / 4 * 4;
        }
        return packet;
    }

    std::span<const char> rest_;
};

std::string verdict_of(const Outcome& outcome) {
    for (std::size_t i = 0; i < std::size(kActions); ++i)
        if (kActions[i] == outcome.action) return std::string(kVerdicts[i]) + ": " + outcome.why;
    throw std::runtime_error("an unknown action");
}

void read_verdict(const std::string& line, Outcome& outcome) {
    const std::size_t colon = line.find(": ");
    for (std::size_t i = 0; i < std::size(kActions); ++i)
        if (line.substr(0, colon) == kVerdicts[i]) {
            outcome.action = kActions[i];
            outcome.why = line.substr(colon + 2);
            return;
        }
    throw std::runtime_error("no verdict: " + line);
}

Step step_of(const Packet& packet) {
    if (packet.direction != kInbound || packet.interface >= kPorts)
        throw std::runtime_error("a packet left before one came");
    Step step{{}, static_cast<Port>(packet.interface), packet.frame, {}};
    std::istringstream lines(packet.comment);
    for (std::string line; std::getline(lines, line);) step.commands.push_back(line);
    if (step.commands.empty()) throw std::runtime_error("a packet without a verdict");
    read_verdict(step.commands.back(), step.outcome);
    step.commands.pop_back();
    return step;
}

void add_what_left(Outcome& outcome, const Packet& packet) {
    if (packet.interface > kBridge) throw std::runtime_error("left by an unknown port");
    outcome.frame = packet.frame;
    if (packet.interface == kBridge) return;
    outcome.to.push_back(static_cast<Port>(packet.interface));
    if (outcome.action == STEER_BOTH) outcome.copies.push_back(packet.frame);
}

void write_step(Writer& writer, const Step& step) {
    std::string comment;
    for (const std::string& line : step.commands) comment += line + "\n";
    const Outcome& out = step.outcome;
    writer.packet({step.from, kInbound, step.frame, comment + verdict_of(out)});
    if (out.action == STEER_PASS) writer.packet({kBridge, kOutbound, out.frame, ""});
    for (std::size_t i = 0; i < out.to.size(); ++i)
        writer.packet({static_cast<std::uint32_t>(out.to[i]), kOutbound,
                       out.action == STEER_BOTH ? out.copies.at(i) : out.frame, ""});
}

Trace trace_of(std::span<const char> bytes) {
    Reader reader(bytes);
    Trace trace;
    while (const std::optional<Packet> packet = reader.next()) {
        if (packet->direction == kOutbound && !trace.empty())
            add_what_left(trace.back().outcome, *packet);
        else
            trace.push_back(step_of(*packet));
    }
    if (trace.empty()) throw std::runtime_error("no packets");
    return trace;
}

}  // namespace

void write_trace(const std::string& path, const Trace& trace) {
    Writer writer(path);
    for (const Step& step : trace) write_step(writer, step);
    if (!writer.is_good()) throw std::runtime_error(path + " cannot be written");
}

Trace read_trace(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    try {
        return trace_of(bytes);
    } catch (const std::runtime_error& error) {
        throw std::runtime_error(path + ": " + error.what());
    }
}

}  // namespace godwit::test
