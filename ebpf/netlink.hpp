// As much of rtnetlink(7) as devices need: a request with nested attributes, its acknowledgement, one link read.
#pragma once

#include "lib/error.hpp"

#include <cstdint>
#include <cstring>
#include <linux/rtnetlink.h>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace godwit::ebpf {

class LinkRequest {
public:
    LinkRequest(std::uint16_t type, std::uint16_t flags, const ifinfomsg& link);
    void add(std::uint16_t type, std::span<const std::uint8_t> bytes);
    template <typename T>
    void add_number(std::uint16_t type, const T& number) {
        std::uint8_t bytes[sizeof(T)];
        std::memcpy(bytes, &number, sizeof(T));
        add(type, bytes);
    }
    void add_text(std::uint16_t type, const std::string& text);  // with its terminating zero
    std::size_t begin_nest(std::uint16_t type);
    void end_nest(std::size_t begun);

    // The kernel's answer; errno says why not.
    Result<void> send(const std::string& doing);
    // Of a request without NLM_F_ACK: the message that comes back.
    Result<std::vector<std::uint8_t>> ask(const std::string& doing);

private:
    Result<std::vector<std::uint8_t>> exchange(const std::string& doing);
    std::vector<std::uint8_t> bytes_;
};

// The attribute of this type in a row of them.
std::optional<std::span<const std::uint8_t>> attribute(std::span<const std::uint8_t> row,
                                                       std::uint16_t type);
template <typename T>
T number_of(const std::optional<std::span<const std::uint8_t>>& bytes) {
    T number{};
    if (bytes && bytes->size() >= sizeof(T)) std::memcpy(&number, bytes->data(), sizeof(T));
    return number;
}

struct LinkRow {
    ifinfomsg about{};
    std::vector<std::uint8_t> attributes;  // for attribute()
};
// What the kernel says of one interface; `name` is for the error.
Result<LinkRow> read_link(std::uint32_t ifindex, const std::string& name);
// The bridge that an interface of the caller's network namespace is a port of; 0: of none.
Result<std::uint32_t> master_of(const std::string& interface);

}  // namespace godwit::ebpf
