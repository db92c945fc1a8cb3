// Small files that are there whole or not at all, also after a crash.
#pragma once

#include "lib/error.hpp"

#include <string>
#include <string_view>

namespace godwit {

// Writes beside the file, fsyncs, renames over it, fsyncs the folder. Mode 0600.
Result<void> replace_file(const std::string& path, std::string_view content);
// Missing when there is none.
Result<std::string> read_file(const std::string& path);
// Absent already is fine.
Result<void> remove_file(const std::string& path);

}  // namespace godwit
