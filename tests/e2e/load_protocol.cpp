#include "tests/e2e/load_protocol.hpp"

#include "lab/guest/recordd.h"

#include <cstring>

namespace godwit::load {
namespace {

// splitmix64: the bytes of a session follow from its id and its position.
std::string bytes_of(std::uint64_t& state, std::size_t count) {
    std::string bytes;
    while (bytes.size() < count) {
        state += 0x9e3779b97f4a7c15ull;
        std::uint64_t word = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9ull;
        word = (word ^ (word >> 27)) * 0x94d049bb133111ebull;
        bytes.append(reinterpret_cast<const char*>(&word), sizeof(word));
    }
    bytes.resize(count);
    return bytes;
}

std::string hex(std::string_view bytes) {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string text;
    for (unsigned char byte : bytes) {
        text += kDigits[byte >> 4];
        text += kDigits[byte & 15];
    }
    return text;
}

std::string role_name(std::uint64_t role) {
    static constexpr const char* kNames[] = {"sole", "source", "clone"};
    return role < 3 ? kNames[role] : "unknown role";
}

class Record : public Protocol {
public:
    explicit Record(std::uint64_t id) : id_(id), state_(id) {}
    std::uint16_t port() const override { return RECORDD_TCP_PORT; }

    std::string request(Ask ask) override {
        if (ask == Ask::begin)
            return frame('H', {reinterpret_cast<const char*>(&id_), sizeof(id_)});
        if (ask == Ask::identity) return frame('I', {});
        sent_ = bytes_of(state_, payload_bytes);
        return frame('D', sent_);
    }

    Reply parse(std::string_view answer) override {
        if (answer.size() < RECORDD_HEADER_BYTES) return {};
        const std::size_t length =
            static_cast<std::uint8_t>(answer[2]) * 256u + static_cast<std::uint8_t>(answer[3]);
        if (answer.size() < RECORDD_HEADER_BYTES + length) return {};
        Reply reply{RECORDD_HEADER_BYTES + length, "", ""};
        const std::string_view payload = answer.substr(RECORDD_HEADER_BYTES, length);
        if (answer[0] == 'W' && length == sizeof(recordd_identity))
            reply.where = identity(payload);
        else if (answer[0] != 'D' || payload != sent_)
            reply.wrong = "recordd's echo differs from what was sent";
        else
            count(payload);
        return reply;
    }

    std::optional<Expected> expected() const override { return expected_; }

private:
    static std::string frame(char type, std::string_view payload) {
        std::string text{type, '\0', static_cast<char>(payload.size() >> 8),
                         static_cast<char>(payload.size())};
        return text.append(payload);
    }
    static std::string identity(std::string_view payload) {
        recordd_identity self;
        std::memcpy(&self, payload.data(), sizeof(self));
        return role_name(self.role);
    }
    void count(std::string_view payload) {
        expected_.bytes += payload.size();
        expected_.messages += 1;
        expected_.checksum = recordd_checksum(expected_.checksum, payload.data(), payload.size());
    }

    std::uint64_t id_, state_;
    std::string sent_;
    Expected expected_{0, 0, RECORDD_CHECKSUM_START};
};

// INCR must count on from what this session left, ECHO must bring the bytes back.
class Redis : public Protocol {
public:
    explicit Redis(std::uint64_t id) : id_(id), state_(id) {}
    std::uint16_t port() const override { return 6379; }

    std::string request(Ask ask) override {
        if (ask == Ask::begin) return expect("PING\r\n", "+PONG\r\n");
        if (ask == Ask::identity) {
            expected_.clear();
            return "GET identity\r\n";
        }
        const std::string payload = hex(bytes_of(state_, payload_bytes / 2));
        return expect("INCR load:" + std::to_string(id_) + "\r\nECHO " + payload + "\r\n",
                      ":" + std::to_string(++counter_) + "\r\n$" + std::to_string(payload.size()) +
                          "\r\n" + payload + "\r\n");
    }

    Reply parse(std::string_view answer) override {
        if (expected_.empty()) return parse_identity(answer);
        if (answer.size() < expected_.size()) {
            if (expected_.starts_with(answer)) return {};
            return {answer.size(), "redis answered " + std::string(answer), ""};
        }
        if (!answer.starts_with(expected_))
            return {answer.size(), "redis answered " + std::string(answer), ""};
        return {expected_.size(), "", ""};
    }

private:
    std::string expect(std::string request, std::string answer) {
        expected_ = std::move(answer);
        return request;
    }
    static Reply parse_identity(std::string_view answer) {
        if (answer.starts_with("$-1\r\n")) return {5, "", "none"};
        const std::size_t head = answer.find("\r\n");
        if (head == answer.npos) return {};
        const std::size_t end = answer.find("\r\n", head + 2);
        if (end == answer.npos) return {};
        return {end + 2, "", std::string(answer.substr(head + 2, end - head - 2))};
    }

    std::uint64_t id_, state_, counter_ = 0;
    std::string expected_;
};

class Http : public Protocol {
public:
    std::uint16_t port() const override { return 80; }

    std::string request(Ask ask) override {
        asked_ = ask;
        const std::string path = ask == Ask::identity ? "/identity" : "/index.html";
        return "GET " + path + " HTTP/1.1\r\nHost: web-1\r\n\r\n";
    }

    Reply parse(std::string_view answer) override {
        const std::size_t head = answer.find("\r\n\r\n");
        if (head == answer.npos) return {};
        const std::size_t at = answer.find("Content-Length: ");
        if (at > head) return {answer.size(), "nginx gave no length", ""};
        const std::size_t length = std::stoul(std::string(answer.substr(at + 16, 10)));
        if (answer.size() < head + 4 + length) return {};
        Reply reply{head + 4 + length, "", ""};
        const std::string_view body = answer.substr(head + 4, length);
        if (asked_ == Ask::identity)
            reply.where = answer.starts_with("HTTP/1.1 200")
                              ? std::string(body.substr(0, body.find('\n')))
                              : "none";
        else if (!answer.starts_with("HTTP/1.1 200") || body != "Godwit lab guest\n")
            reply.wrong = "nginx answered another page";
        return reply;
    }

private:
    Ask asked_ = Ask::begin;
};

// Each answer says who gave it, so every exchange is an identity as well.
class Udp : public Protocol {
public:
    explicit Udp(std::uint64_t id) : state_(id) {}
    std::uint16_t port() const override { return RECORDD_UDP_PORT; }
    bool is_datagram() const override { return true; }

    std::string request(Ask) override { return sent_ = bytes_of(state_, payload_bytes); }

    Reply parse(std::string_view answer) override {
        recordd_identity self;
        Reply reply{answer.size(), "", ""};
        if (answer.size() != sizeof(self) + sent_.size() || answer.substr(sizeof(self)) != sent_)
            return {0, "", ""};  // the answer to an earlier datagram
        std::memcpy(&self, answer.data(), sizeof(self));
        reply.where = role_name(self.role);
        return reply;
    }

private:
    std::uint64_t state_;
    std::string sent_;
};

}  // namespace

std::unique_ptr<Protocol> make_protocol(std::string_view kind, std::uint64_t id) {
    if (kind == "record") return std::make_unique<Record>(id);
    if (kind == "redis") return std::make_unique<Redis>(id);
    if (kind == "http") return std::make_unique<Http>();
    if (kind == "udp") return std::make_unique<Udp>(id);
    return nullptr;
}

}  // namespace godwit::load
