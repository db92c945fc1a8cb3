#include "cli/exit_code.hpp"

namespace godwit::cli {

int exit_code_of(const Error& error) {
    switch (error.fault) {
        case Fault::Missing:
            return kNotFound;
        case Fault::Conflict:
            return kConflict;
        case Fault::Denied:
            return kAuth;
        case Fault::Lost:
            return kUnreachable;
        // Without a slug no server has spoken: the connection was cut, or nothing came in time.
        case Fault::Retry:
            return error.slug.empty() ? kUnreachable : kError;
        case Fault::Rejected:
        case Fault::Corrupt:
            return kError;
    }
    return kError;
}

int exit_code_of(const protocol::Job& job) {
    if (job.state == "succeeded") return kOk;
    if (job.state == "needs-attention") return kNeedsAttention;
    if (job.state == "cancelled") return kRolledBack;
    return job.timestamps.contains("rolling-back") ? kRolledBack : kError;
}

}  // namespace godwit::cli
