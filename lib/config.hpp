// Strict YAML: one versioned document into a described struct. Size (1 MiB), depth (32) capped;
// aliases, anchors, merge keys, custom tags, duplicate and unknown keys refused. All errors are
// reported at once as file:line:column with the fix.
#pragma once

#include "lib/json.hpp"

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace godwit::config {

// A YAML document as JSON, plus the place of every node by JSON pointer ("" is the root).
struct Document {
    json::bj::value value;
    // Pointer -> line, column (1-based): of each node's value, and of each mapping's keys.
    std::map<std::string, std::pair<int, int>> places;
    std::map<std::string, std::pair<int, int>> key_places;
};

Result<Document> parse_yaml(std::string_view text, const std::string& file);
Result<Document> load_yaml(const std::string& file);
// Gives each field error its line and column: the place of its pointer, or of the nearest parent.
void place_errors(std::vector<FieldError>& errors, const Document& document);

// Reads and checks one file. `check` adds semantic errors (cross references, ranges, addresses) with
// pointers; it runs only on a structurally good document. The returned error's text() has one
// "file:line:column: /pointer message" line per error.
template <typename T>
Result<T> load(const std::string& file,
               const std::function<void(const T&, std::vector<FieldError>&)>& check = {}) {
    Result<Document> document = load_yaml(file);
    if (!document) return std::unexpected(std::move(document).error());
    T to{};
    json::ReadContext context;
    json::read(document->value, to, context);
    if (context.errors.empty() && check) check(to, context.errors);
    if (context.errors.empty()) return to;
    place_errors(context.errors, *document);
    Error error{Fault::Rejected, file, "the configuration has errors", "invalid-config"};
    error.fields = std::move(context.errors);
    return std::unexpected(std::move(error));
}

}  // namespace godwit::config
