#include "cli/console.hpp"

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <sys/ioctl.h>
#include <unistd.h>

namespace godwit::cli {

namespace bj = json::bj;

namespace {

constexpr int kWidthDefault = 80;

// Continuation bytes of UTF-8 take no column.
std::size_t columns_of(std::string_view text) {
    return static_cast<std::size_t>(
        std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; }));
}

void pretty(std::ostream& out, const bj::value& value, const std::string& indent) {
    const std::string deeper = indent + "  ";
    if (value.is_object() && !value.get_object().empty()) {
        const char* before = "{\n";
        for (const auto& pair : value.get_object()) {
            out << before << deeper << bj::serialize(pair.key()) << ": ";
            pretty(out, pair.value(), deeper);
            before = ",\n";
        }
        out << "\n" << indent << "}";
    } else if (value.is_array() && !value.get_array().empty()) {
        const char* before = "[\n";
        for (const bj::value& item : value.get_array()) {
            out << before << deeper;
            pretty(out, item, deeper);
            before = ",\n";
        }
        out << "\n" << indent << "]";
    } else {
        out << bj::serialize(value);
    }
}

bool is_plain(std::string_view text) {
    constexpr std::string_view kInner =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./";
    if (text.empty() || text.find_first_not_of(kInner) != text.npos) return false;
    const char first = text.front();
    if (!((first >= 'a' && first <= 'z') || (first >= 'A' && first <= 'Z') || first == '/'))
        return false;
    std::string lower(text);
    for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    // The words of YAML 1.1 too: other readers still know them.
    for (const char* word : {"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
        if (lower == word) return false;
    return true;
}

std::string yaml_scalar(const bj::value& value) {
    // JSON's escapes are YAML's in double quotes.
    if (value.is_string() && is_plain(value.get_string())) return std::string(value.get_string());
    return bj::serialize(value);
}

void yaml(std::string& out, const bj::value& value, std::size_t indent, bool after_dash) {
    const std::string margin(indent, ' ');
    bool first = after_dash;
    auto begin_line = [&] {
        if (!first) out += margin;
        first = false;
    };
    auto nested = [&](const bj::value& item, std::size_t deeper) {
        const bool filled = (item.is_object() && !item.get_object().empty()) ||
                            (item.is_array() && !item.get_array().empty());
        if (filled) {
            out += "\n";
            yaml(out, item, deeper, false);
        } else {
            out += " " + yaml_scalar(item) + "\n";
        }
    };
    if (value.is_object() && !value.get_object().empty()) {
        for (const auto& pair : value.get_object()) {
            begin_line();
            out += yaml_scalar(bj::value(pair.key())) + ":";
            nested(pair.value(), indent + 2);
        }
    } else if (value.is_array() && !value.get_array().empty()) {
        for (const bj::value& item : value.get_array()) {
            begin_line();
            const bool filled = item.is_object() && !item.get_object().empty();
            out += "-";
            if (filled) {
                out += " ";
                yaml(out, item, indent + 2, true);
            } else {
                nested(item, indent + 2);
            }
        }
    } else {
        out += yaml_scalar(value) + "\n";
    }
}

}  // namespace

Console::Console(Format format, bool quiet, bool color)
    : format_(format),
      quiet_(quiet),
      terminal_(isatty(STDERR_FILENO) == 1),
      color_(color && terminal_) {}

int Console::width() const {
    winsize size{};
    const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return known ? size.ws_col : kWidthDefault;
}

void Console::value(const bj::value& value) const {
    if (format_ == Format::yaml) {
        std::cout << yaml_text(value) << std::flush;
        return;
    }
    pretty(std::cout, value, "");
    std::cout << std::endl;
}

void Console::table(const Table& table) const {
    std::vector<std::size_t> widths;
    for (const std::string& cell : table.head) widths.push_back(columns_of(cell));
    for (const auto& row : table.rows) {
        widths.resize(std::max(widths.size(), row.size()));
        for (std::size_t i = 0; i < row.size(); ++i)
            widths[i] = std::max(widths[i], columns_of(row[i]));
    }
    auto print = [&](const std::vector<std::string>& row) {
        std::string text;
        for (std::size_t i = 0; i < row.size(); ++i) {
            text += printable(row[i]);
            if (i + 1 < row.size())
                text.append(widths[i] - std::min(widths[i], columns_of(row[i])) + 2, ' ');
        }
        text.resize(text.find_last_not_of(' ') + 1);
        std::cout << text << "\n";
    };
    if (!table.head.empty()) print(table.head);
    for (const auto& row : table.rows) print(row);
    std::cout << std::flush;
}

void Console::line(std::string_view text) const {
    std::cout << printable(text) << std::endl;
}

void Console::note(std::string_view text) const {
    if (quiet_) return;
    end_status_line();
    std::cerr << printable(text) << std::endl;
}

void Console::status_line(const std::string& text) const {
    if (quiet_ || !terminal_) return;
    // Back to the margin, the text, and away with what is left of the longer one before.
    std::cerr << "\r" << text << "\033[K" << std::flush;
    status_shown_ = true;
}

void Console::end_status_line() const {
    if (status_shown_) std::cerr << "\n";
    status_shown_ = false;
}

void Console::error(const Error& error) const {
    // A problem the server described says itself what was being done.
    std::string detail = error.slug.empty() ? error.doing : "";
    if (!detail.empty() && !error.cause.empty()) detail += ": ";
    detail += error.cause;
    for (const FieldError& field : error.fields) {
        detail += "\n  " + (field.pointer.empty() ? "/" : field.pointer) + " ";
        detail += field.message;
    }
    this->error(detail, error.next_actions);
}

void Console::error(std::string_view detail, const std::vector<std::string>& next_actions) const {
    end_status_line();
    std::cerr << "error: " << printable(detail) << "\n";
    for (const std::string& action : next_actions) std::cerr << "  " << printable(action) << "\n";
    std::cerr << std::flush;
}

std::string Console::bold(std::string_view text) const {
    return color_ ? "\033[1m" + std::string(text) + "\033[0m" : std::string(text);
}

std::string bytes_text(std::uint64_t bytes) {
    constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB"};
    if (bytes < 1024) return std::to_string(bytes) + " B";
    double amount = static_cast<double>(bytes) / 1024;
    std::size_t unit = 0;
    for (; amount >= 1024 && unit < 3; ++unit) amount /= 1024;
    char text[32];
    std::snprintf(text, sizeof(text), "%.1f %s", amount, kUnits[unit]);
    return text;
}

std::string duration_text(std::uint64_t seconds) {
    const std::uint64_t minutes = seconds / 60;
    if (minutes >= 60)
        return std::to_string(minutes / 60) + "h " + std::to_string(minutes % 60) + "m";
    if (minutes > 0) return std::to_string(minutes) + "m " + std::to_string(seconds % 60) + "s";
    return std::to_string(seconds) + "s";
}

std::string yaml_text(const bj::value& value) {
    std::string out;
    yaml(out, value, 0, false);
    return out;
}

std::string printable(std::string_view text) {
    std::string out;
    for (char c : text)
        if (static_cast<unsigned char>(c) >= 0x20 || c == '\n') out += c == 0x7f ? '?' : c;
    return out;
}

}  // namespace godwit::cli
