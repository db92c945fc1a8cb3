// What one session says to the guest's servers, and how it tells a right answer from a wrong one.
// Every protocol carries bytes that only this session can know at that point, so that an answer of
// another instance, or of another moment, is found out. See lab/guest/recordd.h for recordd's
// frames.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace godwit::load {

// begin: once, when the connection is there; exchange: data that changes state at the server;
// identity: who answers, by a value that differs on the two instances.
enum class Ask { begin, exchange, identity };

struct Reply {
    std::size_t consumed = 0;  // 0: the answer is not complete
    std::string wrong;         // empty when right; else what was wrong with it
    std::string where;         // the identity, when that was asked
};

class Protocol {
public:
    virtual ~Protocol() = default;
    virtual std::string request(Ask ask) = 0;
    virtual Reply parse(std::string_view answer) = 0;
    virtual bool is_datagram() const { return false; }
    virtual std::uint16_t port() const = 0;

    // Of the record that the server must have of this session.
    struct Expected {
        std::uint64_t bytes = 0, messages = 0, checksum = 0;
    };
    virtual std::optional<Expected> expected() const { return std::nullopt; }

    std::size_t payload_bytes = 64;  // of one exchange
};

// kind: "record", "redis", "http" or "udp"; nullptr otherwise.
std::unique_ptr<Protocol> make_protocol(std::string_view kind, std::uint64_t id);

}  // namespace godwit::load
