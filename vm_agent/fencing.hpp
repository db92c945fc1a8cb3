// The highest fencing token this agent has seen, on disk before anything is done for its bearer.
#pragma once

#include "lib/error.hpp"

#include "protocol/fencing.hpp"

#include <string>

namespace godwit::agent {

class Fencing {
public:
    // Reads what an earlier process left; a damaged file is Corrupt (an agent that forgot its token
    // would obey a fenced controller).
    static Result<Fencing> open(std::string file);

    std::uint64_t token() const { return token_; }
    // Conflict/stale-epoch for a lower token; a higher one is fsynced first.
    Result<void> admit(std::uint64_t token);
    Result<void> admit(const protocol::Command& command);

private:
    explicit Fencing(std::string file) : file_(std::move(file)) {}
    std::string file_;
    std::uint64_t token_ = 0;
};

}  // namespace godwit::agent
