#include "tests/packet/golden/trace.hpp"

#include <cstring>
#include <fstream>
#include <iterator>
#include <span>
#include <sstream>
#include <stdexcept>

namespace godwit::test {
namespace {

enum : std::uint32_t { kSection = 0x0a0d0d0a, kMagic = 0x1a2b3c4d, kInterface = 1, kPacket = 6 };
enum : std::uint16_t { kEndOfOptions = 0, kComment = 1, kName = 2, kFlags = 2 };
enum : std::uint32_t { kInbound = 1, kOutbound = 2 };

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
        begin(kSection);
        number(kMagic);
        number(std::uint32_t{1});  // version 1.0
        number(std::int64_t{-1});
        end();
        for (const char* name : kInterfaces) {
            begin(kInterface);
            number(std::uint32_t{1});  // LINKTYPE_ETHERNET
            number(std::uint32_t{0});
            option(kName, name);
            end();
        }
    }
    void packet(const Packet& packet) {
        begin(kPacket);
        number(packet.interface);
        number(std::uint32_t{0});
        number(time_us_ += 1000);
        number(static_cast<std::uint32_t>(packet.frame.size()));
        number(static_cast<std::uint32_t>(packet.frame.size()));
        block_.append(packet.frame.begin(), packet.frame.end());
        pad();
        if (!packet.comment.empty()) option(kComment, packet.comment);
        const auto* flags = reinterpret_cast<const char*>(&packet.direction);
        option(kFlags, std::string(flags, sizeof(packet.direction)));
        end();
    }
    bool is_good() { return static_cast<bool>(file_.flush()); }

private:
    template <typename T>
    void number(T value) {
        block_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    }
    void pad() { block_.resize((block_.size() + 3) / 4 * 4); }
    void begin(std::uint32_t type) {
        block_.clear();
        number(type);
        number(std::uint32_t{0});
    }
    void option(std::uint16_t code, const std::string& value) {
        number(code);
        number(static_cast<std::uint16_t>(value.size()));
        block_ += value;
        pad();
    }
    void end() {
        number(std::uint32_t{kEndOfOptions});  // and its length, 0
        const auto length = static_cast<std::uint32_t>(block_.size() + 4);
        std::memcpy(&block_[4], &length, sizeof(length));
        number(length);
        file_.write(block_.data(), static_cast<std::streamsize>(block_.size()));
    }

    std::ofstream file_;
    std::string block_;
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
            if (type == kSection && number(8) != kMagic)
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
            if (code == kFlags) packet.direction = number_in(body, at + 4) & 3;
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
