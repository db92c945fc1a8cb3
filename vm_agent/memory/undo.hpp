// What a merge is about to overwrite, written beside the memory it protects and as durable as it:
// an agent that dies between the first and the last patched line finds the file and puts the old
// lines back.
#pragma once

#include "vm_agent/memory/merge.hpp"

#include <string>
#include <vector>

namespace godwit::memory {

struct UndoLine {
    std::uint32_t region = 0;  // index into the VM's regions
    std::uint64_t offset = 0;  // in the region's file
    Line bytes{};
};

std::vector<UndoLine> undo_of(std::uint32_t region, const MergePlan& plan,
                              std::span<const std::byte> destination);
// The file appears whole or not at all.
Result<void> write_undo(const std::string& path, const std::vector<UndoLine>& lines);
// Missing when there is no such file; Corrupt when it is not what write_undo wrote.
Result<std::vector<UndoLine>> read_undo(const std::string& path);

}  // namespace godwit::memory
