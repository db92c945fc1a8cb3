// Looks into the mapped session table: no system call per entry, no lock; a slot that changes while it
// is read is skipped or shown as it was.
#pragma once

#include "dataplane/plane.hpp"
#include "dataplane/state.hpp"
#include "protocol/switch_api.hpp"

#include <string>

namespace godwit::dataplane {

struct SessionFilter {
    std::string vm, owner;  // empty: every
    std::size_t limit = 1000;
};

protocol::SessionList list_sessions(Plane& plane, const std::map<std::string, VmState>& vms,
                                    const SessionFilter& filter);
// Ends those of `slot`'s TCP sessions that are listed and unchanged. How many.
Result<std::uint64_t> end_lost(Plane& plane, const std::pair<const std::string, VmState>& vm,
                               std::uint32_t slot,
                               const std::vector<protocol::LostSession>& sessions);
// Live and lingering entries of one table.
std::uint64_t used_slots(Plane& plane, steer_table table);
std::uint64_t capacity(Plane& plane, steer_table table);

}  // namespace godwit::dataplane
