// The parts of the JSON reader that do not depend on the type being read.
#include "lib/json.hpp"

#include <algorithm>

namespace godwit::json {

std::string dashed(std::string_view name) {
    // `delete_` and `operator_` carry the '_' only because the plain word is a C++ keyword.
    if (name.ends_with('_')) name.remove_suffix(1);
    std::string text(name);
    std::ranges::replace(text, '_', '-');
    return text;
}

std::string pointer_token(std::string_view key) {
    std::string token;
    for (char c : key) {
        if (c == '~')
            token += "~0";
        else if (c == '/')
            token += "~1";
        else
            token += c;
    }
    return token;
}

std::string_view kind_name(const bj::value& value) {
    switch (value.kind()) {
        case bj::kind::null:
            return "null";
        case bj::kind::bool_:
            return "a boolean";
        case bj::kind::int64:
        case bj::kind::uint64:
        case bj::kind::double_:
            return "a number";
        case bj::kind::string:
            return "a string";
        case bj::kind::array:
            return "a list";
        case bj::kind::object:
            return "a mapping";
    }
    return "unknown";
}

namespace {

// Edit distance with one row; both words are short names.
std::size_t distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            diagonal = row[j];
            row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
        }
    }
    return row.back();
}

std::string joined(const std::vector<std::string_view>& names) {
    std::string text;
    for (std::string_view name : names) {
        if (!text.empty()) text += ", ";
        text += name;
    }
    return text;
}

std::string place_of(std::string_view text, std::size_t offset) {
    const std::string_view before = text.substr(0, std::min(offset, text.size()));
    const auto line = 1 + std::ranges::count(before, '\n');
    const std::size_t start = before.rfind('\n') == before.npos ? 0 : before.rfind('\n') + 1;
    return "line " + std::to_string(line) + " column " + std::to_string(before.size() - start + 1);
}

constexpr std::size_t kNameMax = 64;  // longer keys get no hint: the distance would cost too much

}  // namespace

std::string nearest_name(std::string_view wanted, const std::vector<std::string_view>& known) {
    if (wanted.size() > kNameMax) return {};
    std::string_view best;
    // Two letters swapped are a distance of two; of a two-letter word nothing would be left.
    const std::size_t most = std::max<std::size_t>(2, wanted.size() / 3);
    std::size_t best_distance = std::min(most + 1, wanted.size());
    for (std::string_view name : known) {
        const std::size_t d = distance(wanted, name);
        if (d < best_distance) {
            best = name;
            best_distance = d;
        }
    }
    return std::string(best);
}

void complain_unknown_key(ReadContext& context, std::string_view key,
                          const std::vector<std::string_view>& known) {
    const std::string near = nearest_name(key, known);
    std::string message = "is not a known field";
    if (!near.empty())
        message += "; did you mean \"" + near + "\"?";
    else if (!known.empty())
        message += "; known here: " + joined(known);
    context.errors.push_back({.pointer = context.pointer + "/" + pointer_token(key),
                              .message = std::move(message),
                              .at_key = true});
}

Result<bj::value> parse(std::string_view text, std::string_view doing) {
    bj::parser parser;
    bj::error_code error;
    const std::size_t used = parser.write_some(text.data(), text.size(), error);
    if (!error && used < text.size()) error = bj::error::extra_data;
    if (error)
        return fail(Fault::Rejected, std::string(doing),
                    "not valid JSON: " + error.message() + " at " + place_of(text, used),
                    "malformed-json");
    return parser.release();
}

}  // namespace godwit::json
