// Secrets: files that hold them, random ones, their digests, comparing without telling where they
// differ.
#pragma once

#include "lib/error.hpp"

#include <string>
#include <string_view>

namespace godwit {

// The file's one line, without the end of line. The file must be a regular one that nobody but its
// owner (this user or root; root takes anyone's) may read, of 16 to 4096 characters; errors are Rejected with the chmod.
Result<std::string> read_secret_file(const std::string& file);
// Creates the file with mode 0600 and a fresh token in it; Conflict when it exists.
Result<std::string> create_secret_file(const std::string& file);

// 256 random bits: "godwit_" and 64 hex digits.
std::string random_token();
// 64 hex digits.
std::string sha256_hex(std::string_view text);
bool equal_secrets(std::string_view a, std::string_view b);

}  // namespace godwit
