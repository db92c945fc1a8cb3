#include "dataplane/flow_filter.hpp"

#include "dataplane/flow_row.hpp"
#include "dataplane/names.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <charconv>

namespace godwit::dataplane {
namespace {

template <typename T>
bool read_number(const std::string& text, T& into) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), into);
    return error == std::errc{} && end == text.data() + text.size();
}

std::optional<Prefix> parse_prefix(const std::string& text) {
    const std::size_t slash = text.find('/');
    Result<HostedAddress> address = parse_any_address(text.substr(0, slash));
    if (!address) return std::nullopt;
    const std::uint32_t all = address->family == 4 ? 32 : 128;
    Prefix prefix{*address, all};
    if (slash != text.npos &&
        (!read_number(text.substr(slash + 1), prefix.bits) || prefix.bits > all))
        return std::nullopt;
    return prefix;
}

bool is_in(const Prefix& prefix, std::uint32_t family, const std::uint32_t* words) {
    if (family != prefix.address.family) return false;
    for (std::uint32_t i = 0; i < 4 && i * 32 < prefix.bits; ++i) {
        const std::uint32_t bits = std::min(prefix.bits - i * 32, 32u);
        const std::uint32_t differs = ntohl(words[i] ^ prefix.address.words_be[i]);
        if (differs >> (32 - bits) != 0) return false;
    }
    return true;
}

std::vector<std::string> items_of(const std::string& list) {
    std::vector<std::string> items;
    for (std::size_t at = 0; at <= list.size();) {
        const std::size_t end = std::min(list.find(',', at), list.size());
        items.push_back(list.substr(at, end - at));
        at = end + 1;
    }
    return items;
}

// What is wrong with a word, or nothing.
std::string complaint(const std::string& field, const std::string& word) {
    static const std::vector<std::string> kMore = {"arp", "vlan", "ethernet", "unknown"};
    const std::string quoted = "\"" + word + "\" ";
    if (word.empty()) return "has an empty value";
    if (field == "reason" && !reason_of(word))
        return quoted + "is no reason; known are " + known_reasons();
    if (field == "verdict" && !std::ranges::count(kVerdictNames, word))
        return quoted + "is no verdict; known are pass, forward, both, answer, drop, refuse";
    if (field == "protocol" && !protocol_number(word) && !std::ranges::count(kMore, word))
        return quoted +
               "is no protocol; known are tcp, udp, icmp, icmpv6, sctp, arp, vlan, ethernet, "
               "unknown and "
               "the numbers 0 to 255";
    return {};
}

const std::string& word_of(const protocol::FlowRow& row, const std::string& field) {
    if (field == "vm") return row.vm;
    if (field == "owner") return row.owner;
    if (field == "verdict") return row.verdict;
    return field == "reason" ? row.reason : row.protocol;
}

// Numbers that have a name are known by it.
std::string usual_word(const std::string& field, const std::string& word) {
    const auto number = field == "protocol" ? protocol_number(word) : std::nullopt;
    return number ? protocol_name(*number) : word;
}

}  // namespace

void FlowFilter::read(const std::string& field, const std::string& key, const std::string& list,
                      Wanted& into, std::vector<FieldError>& errors) {
    for (const std::string& word : items_of(list)) {
        std::uint16_t port = 0;
        if (field == "ip") {
            std::optional<Prefix> prefix = parse_prefix(word);
            if (prefix)
                into.prefixes.push_back(*prefix);
            else
                errors.push_back(
                    {"/" + key, "\"" + word +
                                    "\" is neither an address nor a prefix; write one like "
                                    "10.0.0.9, 10.0.0.0/8 or fd00::/64"});
        } else if (field == "port") {
            if (read_number(word, port) && port > 0)
                into.ports.push_back(port);
            else
                errors.push_back({"/" + key, "\"" + word + "\" is no port; expected 1 to 65535"});
        } else if (const std::string wrong = complaint(field, word); !wrong.empty()) {
            errors.push_back({"/" + key, wrong});
        } else {
            into.words[field].push_back(usual_word(field, word));
        }
    }
}

Result<FlowFilter> FlowFilter::parse(const std::map<std::string, std::string>& query) {
    FlowFilter filter;
    Error error{Fault::Rejected, "read the filter of flows", "", "invalid-document"};
    for (const char* field : protocol::kFlowFilters)
        for (const bool negated : {false, true}) {
            const std::string key = (negated ? "not_" : "") + std::string(field);
            if (auto given = query.find(key); given != query.end())
                read(field, key, given->second, negated ? filter.without_ : filter.with_,
                     error.fields);
        }
    if (error.fields.empty()) return filter;
    error.cause = error.fields.front().message;
    return std::unexpected(std::move(error));
}

bool FlowFilter::matches(const steer_flow& record, const protocol::FlowRow& row) const {
    const auto has_word = [&](const auto& field) {
        return std::ranges::count(field.second, word_of(row, field.first)) > 0;
    };
    const auto has_end = [&](const Prefix& prefix) {
        return is_in(prefix, record.family, record.source) ||
               is_in(prefix, record.family, record.destination);
    };
    const auto has_port = [&](std::uint16_t port) {
        return row.source_port == port || row.destination_port == port;
    };
    return std::ranges::all_of(with_.words, has_word) &&
           (with_.prefixes.empty() || std::ranges::any_of(with_.prefixes, has_end)) &&
           (with_.ports.empty() || std::ranges::any_of(with_.ports, has_port)) &&
           std::ranges::none_of(without_.words, has_word) &&
           std::ranges::none_of(without_.prefixes, has_end) &&
           std::ranges::none_of(without_.ports, has_port);
}

}  // namespace godwit::dataplane
