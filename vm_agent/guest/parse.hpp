// What the guest's agent answers, taken apart. Pure; the guest may answer anything.
#pragma once

#include "lib/json.hpp"

#include "vm_agent/guest/client.hpp"

#include <optional>
#include <string>

namespace godwit::guest {

// The bytes of one guest-file-read answer; empty at the end of the file.
Result<std::string> piece_of(const Result<json::bj::value>& answer);
// Of guest-exec-status: nothing while the program runs; -1 for a program killed by a signal.
std::optional<int> exit_code_of(const json::bj::value& status);

}  // namespace godwit::guest
