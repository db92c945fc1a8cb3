// What the exit status of `godwit` means; scripts rely on it.
#pragma once

#include "lib/error.hpp"

#include "protocol/controller_api.hpp"

namespace godwit::cli {

enum ExitCode : int {
    kOk = 0,
    kError = 1,
    kUsage = 2,
    kNotFound = 3,
    kConflict = 4,
    kAuth = 5,
    kWaitTimeout = 6,
    kRolledBack = 7,
    kNeedsAttention = 8,
    kUnreachable = 9,
    kDetached = 130,  // ^C while waiting, as shells count signals
};

int exit_code_of(const Error& error);
// Of a job that has ended or needs attention. A failed job that had nothing to undo is kError, one
// that was rolled back is kRolledBack.
int exit_code_of(const protocol::Job& job);

}  // namespace godwit::cli
