// Where the command line writes: results on stdout, everything said to a person on stderr.
#pragma once

#include "lib/error.hpp"
#include "lib/json.hpp"

#include "protocol/controller_api.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace godwit::cli {

enum class Format { table, json, yaml };

struct Table {
    std::vector<std::string> head;
    std::vector<std::vector<std::string>> rows;
};

class Console {
public:
    Console(Format format, bool quiet, bool color);

    Format format() const { return format_; }
    bool is_terminal() const { return terminal_; }  // stderr, where progress goes
    int width() const;

    // Results. value() prints JSON or YAML; for Format::table the caller prints with table() or
    // line().
    void value(const json::bj::value& value) const;
    void table(const Table& table) const;
    void line(std::string_view text) const;

    // Said to a person; nothing of it with --quiet, errors excepted.
    void note(std::string_view text) const;
    void status_line(const std::string& text) const;  // redrawn in place, terminals only
    void end_status_line() const;
    void error(const Error& error) const;
    void error(std::string_view detail, const std::vector<std::string>& next_actions) const;

    std::string bold(std::string_view text) const;  // on stderr

private:
    Format format_;
    bool quiet_;
    bool terminal_;
    bool color_;
    mutable bool status_shown_ = false;
};

// "1.0 GiB", "512 KiB", "12 B".
std::string bytes_text(std::uint64_t bytes);
// "1h 2m", "3m 4s", "5s".
std::string duration_text(std::uint64_t seconds);
// Plain scalars only where YAML 1.2 reads them back as the same string.
std::string yaml_text(const json::bj::value& value);
// Control characters of server texts must not reach a terminal.
std::string printable(std::string_view text);

}  // namespace godwit::cli
