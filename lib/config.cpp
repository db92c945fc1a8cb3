// YAML by yaml-cpp's events into JSON values. Everything that makes YAML surprising is refused
// here, with its place, and reading goes on so that all errors are told at once.
#include "lib/config.hpp"

#include <cmath>
#include <fstream>
#include <optional>
#include <sstream>
#include <tuple>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

namespace godwit::config {

namespace bj = json::bj;

namespace {

constexpr std::size_t kBytesMax = 1 << 20;
constexpr std::size_t kDepthMax = 32;
constexpr std::size_t kErrorsMax = 100;  // a file with more has another problem

bool all_digits(std::string_view text, std::string_view digits) {
    return !text.empty() && text.find_first_not_of(digits) == text.npos;
}

// [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?   (YAML 1.2 §10.3.2)
bool is_float(std::string_view text) {
    constexpr std::string_view kDecimal = "0123456789";
    if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
    const std::size_t exponent = text.find_first_of("eE");
    if (exponent != text.npos) {
        std::string_view power = text.substr(exponent + 1);
        if (power.starts_with('-') || power.starts_with('+')) power.remove_prefix(1);
        if (!all_digits(power, kDecimal)) return false;
        text = text.substr(0, exponent);
    }
    const std::size_t dot = text.find('.');
    const std::string_view whole = text.substr(0, dot);
    const std::string_view part = dot == text.npos ? "" : text.substr(dot + 1);
    if (whole.empty()) return all_digits(part, kDecimal);
    return all_digits(whole, kDecimal) && (part.empty() || all_digits(part, kDecimal));
}

// A whole number in base 8, 10 or 16; nullopt when the text is none or needs more than 64 bits.
std::optional<bj::value> whole_number(std::string_view text) {
    const bool negative = text.starts_with('-');
    std::string_view digits = text;
    int base = 10;
    if (text.starts_with("0x") || text.starts_with("0o")) {
        base = text[1] == 'x' ? 16 : 8;
        digits.remove_prefix(2);
    } else if (negative || text.starts_with('+')) {
        digits.remove_prefix(1);
    }
    std::uint64_t value = 0;
    const char* end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, value, base);
    if (digits.empty() || error != std::errc{} || stop != end) return std::nullopt;
    if (!negative)
        return value <= INT64_MAX ? bj::value(static_cast<std::int64_t>(value)) : bj::value(value);
    if (value > static_cast<std::uint64_t>(INT64_MAX)) return std::nullopt;
    return bj::value(-static_cast<std::int64_t>(value));
}

// The core schema (YAML 1.2 §10.3): what a scalar without quotes means. "no", "on" and 12:30 are
// strings, unlike in YAML 1.1.
bj::value typed(const std::string& text) {
    if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL")
        return nullptr;
    if (text == "true" || text == "True" || text == "TRUE") return true;
    if (text == "false" || text == "False" || text == "FALSE") return false;
    if (std::optional<bj::value> number = whole_number(text)) return *number;
    if (is_float(text)) {
        const double value = std::strtod(text.c_str(), nullptr);
        if (std::isfinite(value)) return value;
    }
    return bj::value(text);
}

// Builds the value and remembers every node's place. yaml-cpp expands no alias when it only reports
// events, so a bomb of aliases costs nothing before it is refused.
class Builder final : public YAML::EventHandler {
public:
    explicit Builder(Document& document) : document_(document) {}

    void OnDocumentStart(const YAML::Mark&) override {}
    void OnDocumentEnd() override {}

    void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
        refuse_extras(mark, "", anchor);
        scalar(mark, "", /*plain=*/true);
    }
    void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
        complain(mark, "aliases are refused; write the value out");
        scalar(mark, "", /*plain=*/true);
    }
    void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  const std::string& value) override {
        refuse_extras(mark, tag, anchor);
        scalar(mark, value, /*plain=*/tag != "!");
    }
    void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                         YAML::EmitterStyle::value) override {
        refuse_extras(mark, tag, anchor);
        open(mark, bj::array());
    }
    void OnSequenceEnd() override { close(); }
    void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                    YAML::EmitterStyle::value) override {
        refuse_extras(mark, tag, anchor);
        open(mark, bj::object());
    }
    void OnMapEnd() override { close(); }

    std::vector<FieldError> errors;

private:
    struct Frame {
        bj::value value;
        std::string pointer;
        std::optional<std::string> key = {};  // a mapping's key that waits for its value
    };

    static std::pair<int, int> place(const YAML::Mark& mark) {
        return {mark.line + 1, mark.column + 1};
    }

    void complain(const YAML::Mark& mark, std::string message) {
        if (errors.size() >= kErrorsMax) return;
        const auto [line, column] = place(mark);
        errors.push_back({child_pointer(), std::move(message), line, column});
    }

    // yaml-cpp says "?" for a plain node without a tag and "!" for a quoted one.
    void refuse_extras(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
        if (anchor != 0)
            complain(mark, "anchors are refused; write the value out where it is used");
        if (!tag.empty() && tag != "?" && tag != "!")
            complain(mark,
                     "the tag \"" + tag + "\" is refused; quote the value to make it a string");
    }

    bool awaits_key() const {
        return !stack_.empty() && stack_.back().value.is_object() && !stack_.back().key;
    }

    std::string child_pointer() const {
        if (stack_.empty()) return "";
        const Frame& frame = stack_.back();
        if (frame.value.is_array())
            return frame.pointer + "/" + std::to_string(frame.value.get_array().size());
        if (!frame.key) return frame.pointer;
        return frame.pointer + "/" + json::pointer_token(*frame.key);
    }

    void take_key(const YAML::Mark& mark, const std::string& key) {
        Frame& frame = stack_.back();
        frame.key = key;
        const std::string pointer = child_pointer();
        if (key == "<<") complain(mark, "merge keys are refused; write the fields out");
        if (document_.key_places.contains(pointer))
            complain(mark, "is there twice; the first is in line " +
                               std::to_string(document_.key_places[pointer].first));
        else
            document_.key_places[pointer] = place(mark);
    }

    void scalar(const YAML::Mark& mark, const std::string& text, bool plain) {
        if (awaits_key()) return take_key(mark, text);
        document_.places.try_emplace(child_pointer(), place(mark));
        put(plain ? typed(text) : bj::value(text));
    }

    void put(bj::value value) {
        if (stack_.empty()) {
            document_.value = std::move(value);
            return;
        }
        Frame& frame = stack_.back();
        if (frame.value.is_array()) {
            frame.value.get_array().push_back(std::move(value));
        } else if (frame.key) {
            frame.value.get_object()[*frame.key] = std::move(value);
            frame.key.reset();
        }
    }

    void open(const YAML::Mark& mark, bj::value empty) {
        if (stack_.size() >= kDepthMax) {
            complain(mark, "is nested deeper than " + std::to_string(kDepthMax) + " levels");
            throw YAML::ParserException(mark, kTooDeep);
        }
        if (awaits_key()) {
            complain(mark, "a key must be one word, not a list or a mapping");
            throw YAML::ParserException(mark, kNoKey);
        }
        document_.places.try_emplace(child_pointer(), place(mark));
        stack_.push_back({std::move(empty), child_pointer()});
    }

    void close() {
        bj::value done = std::move(stack_.back().value);
        stack_.pop_back();
        put(std::move(done));
    }

public:
    static constexpr const char* kTooDeep = "too deep";
    static constexpr const char* kNoKey = "no key";

private:
    Document& document_;
    std::vector<Frame> stack_;
};

std::string nearest_parent(std::string pointer, const Document& document) {
    while (!document.places.contains(pointer)) {
        const std::size_t cut = pointer.rfind('/');
        if (cut == pointer.npos) return "";
        pointer.resize(cut);
    }
    return pointer;
}

void run_parser(std::string_view text, Builder& builder) {
    try {
        std::istringstream in{std::string(text)};
        YAML::Parser parser(in);
        if (!parser.HandleNextDocument(builder)) return;
        Document extra;
        Builder rest(extra);
        if (parser.HandleNextDocument(rest))
            builder.errors.push_back({"", "the file has a second document; remove it", 1, 1});
    } catch (const YAML::ParserException& error) {
        // The builder's own stops have already said what is wrong.
        if (error.msg == Builder::kTooDeep || error.msg == Builder::kNoKey) return;
        builder.errors.push_back(
            {"", "is not YAML: " + error.msg, error.mark.line + 1, error.mark.column + 1});
    }
}

}  // namespace

Result<Document> parse_yaml(std::string_view text, const std::string& file) {
    if (text.size() > kBytesMax)
        return fail(Fault::Rejected, file, "is larger than 1 MiB", "invalid-config");
    Document document;
    Builder builder(document);
    run_parser(text, builder);
    // An empty file has no node; as an empty mapping it gets the better errors.
    if (document.places.try_emplace("", 1, 1).second) document.value = bj::object();
    if (builder.errors.empty()) return document;
    Error error{Fault::Rejected, file, "the configuration has errors", "invalid-config"};
    error.fields = std::move(builder.errors);
    return std::unexpected(std::move(error));
}

Result<Document> load_yaml(const std::string& file) {
    std::ifstream in(file, std::ios::binary);
    if (!in) return fail_errno(Fault::Rejected, file);
    std::string text(kBytesMax + 1, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    if (in.bad()) return fail(Fault::Rejected, file, "cannot be read");
    text.resize(static_cast<std::size_t>(in.gcount()));
    return parse_yaml(text, file);
}

void place_errors(std::vector<FieldError>& errors, const Document& document) {
    for (FieldError& error : errors) {
        const auto key = document.key_places.find(error.pointer);
        const auto& where = error.at_key && key != document.key_places.end()
                                ? key->second
                                : document.places.at(nearest_parent(error.pointer, document));
        std::tie(error.line, error.column) = where;
    }
}

}  // namespace godwit::config
