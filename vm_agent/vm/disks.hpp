// The disks of one VM: a read-only base, and overlays of which exactly one, the last, is written by exactly
// one VM. At a fork the source goes on in a new overlay, so the one before is still, and the clone has an
// overlay of its own on it. The overlays lie in `disk_dir`, which both hosts see.
#pragma once

#include "lib/error.hpp"

#include "vm_agent/vm/record.hpp"

#include <functional>
#include <string>
#include <vector>

namespace godwit::agent {

// The chain of overlays of disk `index`, oldest first; empty: none was made yet.
std::vector<std::string> overlays_of(const VmRecord& record, std::size_t index);
// What the VM writes, or would if it were started: its last overlay, or a writable image itself.
std::string top_of(const VmRecord& record, std::size_t index);
// The description as a destination needs it: each disk with the overlays it has by now.
protocol::VmSpec with_overlays(const VmRecord& record);

// A name nobody has used: the host is in it, so that two agents in one folder never meet.
std::string new_overlay(const std::string& disk_dir, const std::string& host, const std::string& vm,
                        std::size_t index);
// Names an overlay for each disk that has none to write, on what the description says the source has. Only
// the record changes: it is saved before a file is made. Rejected: no disk_dir.
Result<void> plan_overlays(VmRecord& record, const std::string& disk_dir, const std::string& host);
// Makes the planned files and says so in the record, to be saved. `run` runs qemu-img with these words to its end. Rejected/disk-unseen: a file
// they build on is not there, which on a destination means that the folder is not shared.
using RunCommand = std::function<Result<void>(const std::vector<std::string>&)>;
Result<void> make_overlays(VmRecord& record, const RunCommand& run);

// Rejected/shared-disk: a disk is writable itself, so two VMs would write it.
Result<void> check_disks_can_move(const protocol::VmSpec& spec);
// Another host's word: an overlay that is none of this VM's, directly in `disk_dir`, is Rejected/foreign-overlay. What
// is taken over is deleted with the VM.
Result<void> check_overlays_are_ours(const protocol::VmSpec& spec, const std::string& disk_dir);

// What is written from now on is another's to build on; nothing of it is deleted with this VM.
void share_overlays(VmRecord& record);
// Nobody builds on them (any more): they go when the VM goes. One that was only named is forgotten.
void reclaim_overlays(VmRecord& record);
// The files only this VM uses.
std::vector<std::string> own_overlays(const VmRecord& record);

}  // namespace godwit::agent
