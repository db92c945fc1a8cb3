// What the agent must still know about a VM after kill -9: one JSON file per VM, replaced whole.
#pragma once

#include "protocol/agent_api.hpp"

namespace godwit::agent {

enum class Origin { boot, incoming };
BOOST_DESCRIBE_ENUM(Origin, boot, incoming)

// Who holds the VM paused, so that a restarted agent knows whether to let it run again. `handover`:
// the destination has everything (method whole) and may already run.
enum class PausedFor { nobody, copy, merge_source, merge_destination, handover };
BOOST_DESCRIBE_ENUM(PausedFor, nobody, copy, merge_source, merge_destination, handover)

// The overlays on one disk's base, oldest first. `shared`: others build on them, they are read only.
// `own`: nobody else's; the last one is what the guest writes.
struct DiskState {
    std::vector<std::string> shared, own;
    bool made = false;  // the last one; until then it is only a name
};
BOOST_DESCRIBE_STRUCT(DiskState, (), (shared, own, made))

struct VmRecord {
    protocol::VmSpec spec;
    std::optional<std::string> owner_job;
    std::string source_host;  // incoming: whose memory is taken, empty: any host of the fleet
    Origin origin = Origin::boot;
    std::string role = "sole";   // "sole", "source", "clone"
    std::uint64_t epoch = 0;     // of the last fork it took part in
    bool started = false;        // a QEMU was asked for, and nobody asked it to go
    bool loaded = false;         // incoming: memory and device state are in place
    bool let_run = false;        // incoming: it is about to be let run, or was
    bool activated = false;      // incoming: it runs, its QEMU said so
    bool holds_regions = false;  // method boot: the source's regions came, this VM starts from them
    bool retired = false;        // gone on purpose: a file of vm_dir does not bring it back
    std::string aborted_job;     // the last that let it go on: what it still says is late
    PausedFor paused_for = PausedFor::nobody;
    std::int64_t paused_at_ms = 0;               // unix time of the last pause
    std::vector<DiskState> disks;                // one for each of spec.disks, once it was started
    std::optional<protocol::CopyStatus> copy;    // source
    std::optional<protocol::MergeStatus> merge;  // source
    static constexpr std::string_view kRequired[] = {"spec"};
};
BOOST_DESCRIBE_STRUCT(VmRecord, (),
                      (spec, owner_job, source_host, origin, role, epoch, started, loaded, let_run,
                       activated, retired, aborted_job, paused_for, paused_at_ms, holds_regions,
                       disks, copy, merge))

}  // namespace godwit::agent
