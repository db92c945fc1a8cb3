// One line per happening on stderr: "2026-02-03T10:11:12.345Z warning steering: text". The
// process's log is the one thing that is not passed by constructor: it exists before main's objects
// and after them.
#pragma once

#include "lib/error.hpp"

#include <string>
#include <string_view>

namespace godwit::log {

enum class Level { trace, debug, info, warning, error, off };

// "info", "debug", ...; Rejected with the list of names otherwise.
Result<Level> parse_level(std::string_view name);
// What set_level has not changed is GODWIT_LOG_LEVEL, else info.
void set_level(Level level);
bool is_on(Level level);

// `part` is the folder's word: "steering", "http", "journal". Line breaks in `text` are written as
// "\n    " so that every line without a time belongs to the one above.
void write(Level level, std::string_view part, std::string_view text);

inline void debug(std::string_view part, std::string_view text) {
    write(Level::debug, part, text);
}
inline void info(std::string_view part, std::string_view text) {
    write(Level::info, part, text);
}
inline void warning(std::string_view part, std::string_view text) {
    write(Level::warning, part, text);
}
inline void error(std::string_view part, std::string_view text) {
    write(Level::error, part, text);
}

}  // namespace godwit::log
