// Which packets a reader of flows wants, from the query of its request (protocol/flow_api.hpp).
#pragma once

#include "lib/error.hpp"

#include "dataplane/plane.hpp"
#include "protocol/flow_api.hpp"

#include <map>
#include <string>
#include <vector>

namespace godwit::dataplane {

// An address and its first bits that count.
struct Prefix {
    HostedAddress address;
    std::uint32_t bits = 32;
};

class FlowFilter {
public:
    // Reads the filters of `query` and leaves the other names alone. Rejected, `invalid-document`, with every wrong
    // value at once and what is known.
    static Result<FlowFilter> parse(const std::map<std::string, std::string>& query);

    bool matches(const steer_flow& record, const protocol::FlowRow& row) const;

private:
    // One side of it: what must be, or what must not be. An empty list says nothing.
    struct Wanted {
        std::map<std::string, std::vector<std::string>> words;  // by field, compared with the row's
        std::vector<Prefix> prefixes;
        std::vector<std::uint16_t> ports;
    };
    static void read(const std::string& field, const std::string& key, const std::string& list,
                     Wanted& into, std::vector<FieldError>& errors);

    Wanted with_, without_;
};

}  // namespace godwit::dataplane
