// During a drain the switch waits for sessions that the guest may have lost without a word: a socket that gave up
// on a vanished peer, or left FIN-WAIT-2. Comparing the switch's list with the guest's own table finds them.
//
// Ending one wrongly could call a source drained that still serves somebody, so it takes a lot: the guest was seen
// to have the socket (what a container behind NAT in the guest holds never shows there, and is never ended); two
// looks in a row, each at the switch first and the guest then, did not find it; no packet of it passed between
// the two, nor until the switch ends it.
#pragma once

#include "controller/steps/drain.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace godwit::controller {

class GuestSockets {
public:
    // The lost ones, after a look at the switch's list and then at the guest's table.
    std::vector<protocol::LostSession> compare(const protocol::SessionList& listed,
                                               const protocol::SocketTable& guest);

    // Compares, every half minute of the drain, and has the switch end what is lost. Who
    // does not answer is asked again later.
    Task<void> look(JobRun& run, Drain drain);

private:
    // Of sessions that the guest was seen to have: the stamp with which it was missed last, or empty.
    std::map<std::string, std::string> missed_with_;
    std::int64_t next_ms_ = 0;
};

}  // namespace godwit::controller
