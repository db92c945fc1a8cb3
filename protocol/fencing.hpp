// The fencing token every command carries. A device persists the highest token it has seen before
// it acts, and refuses a lower one with 409 `stale-epoch`; a repeated (job, step) with the same token
// is answered with its outcome, not done twice.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <boost/describe.hpp>

namespace godwit::protocol {

struct Command {
    std::uint64_t token = 0;  // grows with every controller start (leadership), never reused
    std::string job;          // "j-01J..." ; objects made for a job are owned by it
    std::string step;         // "preflight", "copying", ...
    static constexpr std::string_view kRequired[] = {"token", "job", "step"};
};
BOOST_DESCRIBE_STRUCT(Command, (), (token, job, step))

// PUT /v1/fence: raise the token before anything else (a new controller's first act).
struct Fence {
    std::uint64_t token = 0;
    static constexpr std::string_view kRequired[] = {"token"};
};
BOOST_DESCRIBE_STRUCT(Fence, (), (token))

}  // namespace godwit::protocol
