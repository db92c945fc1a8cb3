// The merge of a region at the end of a migration. Source: paused, compared with the copy of the
// fork, what changed is sent. Destination: paused for an instant, merged three-way, patched behind
// an undo file.
#pragma once

#include "vm_agent/memory/merge.hpp"
#include "vm_agent/operations/copy.hpp"

namespace godwit::agent {

// The outcome is in machine->record().merge, saved. The source stays paused on success, on
// conflicts, and when it is unknown whether the destination patched; else it goes on.
boost::asio::awaitable<void> run_merge(std::shared_ptr<Machine> machine,
                                       protocol::MergeRequest request,
                                       memory::Credentials credentials);

// What came in MERGE frames, one list of records per region.
struct IncomingMerge {
    std::vector<std::vector<std::byte>> records;
    protocol::wire::MergeEnd end;
};
// Blocking. A region's records are at most its lines once: more is refused.
Result<IncomingMerge> receive_merge(memory::FrameChannel& channel, const Machine& machine);
// On the destination. A job that was merged before gets the outcome of then, and nothing is
// touched.
Task<protocol::wire::MergeOutcome> merge_into(std::shared_ptr<Machine> machine, std::string job,
                                              std::shared_ptr<IncomingMerge> incoming);
// After a crash in the middle of a patch: the old lines back, then the guest goes on.
Result<void> recover_merge(Machine& machine);

}  // namespace godwit::agent
