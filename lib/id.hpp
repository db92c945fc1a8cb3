// Names that sort by the time they were made and that nobody else makes.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

namespace godwit {

// RFC 9562 §5.7: "01890a5d-ac96-774b-bcce-b302099a8057".
std::string uuid_v7(std::chrono::system_clock::time_point now);
// prefix + 48 bits of milliseconds and 80 random bits in Crockford's base 32, which has no I, L, O, U:
// new_id("j-", now) is "j-01J8ZQ3V5N7W9Y2K4M6P8R0T1X".
std::string new_id(std::string_view prefix, std::chrono::system_clock::time_point now);
// RFC 3339 in UTC with milliseconds: "2026-02-03T10:11:12.345Z".
std::string rfc3339(std::chrono::system_clock::time_point time);

}  // namespace godwit
