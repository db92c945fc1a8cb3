// A VM's migratable memory as its blocks: RAM first, then each region in the order of the VmSpec.
// Both hosts make the same list from the same spec.
#pragma once

#include "protocol/agent_wire.hpp"
#include "vm_agent/memory/mapped_file.hpp"
#include "vm_agent/memory/root.hpp"

#include <string>
#include <vector>

namespace godwit::memory {

struct BlockFile {
    protocol::wire::Block block;
    std::string path;
};

class Image {
public:
    static Result<Image> open(const std::vector<BlockFile>& blocks);
    // As large as `like`, without names, all holes.
    static Result<Image> blank(const Image& like);

    std::vector<MappedFile>& blocks() { return blocks_; }
    const std::vector<MappedFile>& blocks() const { return blocks_; }
    Result<std::uint64_t> resident_bytes() const;
    Result<void> populate() const;
    Result<Root> root() const;

private:
    std::vector<MappedFile> blocks_;
};

// Writes a copy of `from` to `path`, holes kept; what is there is replaced.
Result<void> copy_to_file(const MappedFile& from, const std::string& path);
// MemAvailable of /proc/meminfo, in bytes; MemTotal likewise.
std::uint64_t meminfo_bytes(std::string_view field);

}  // namespace godwit::memory
