// What a switch on plane ebpf has left pinned, for who goes on with another plane.
#pragma once

#include "lib/error.hpp"

#include "dataplane/left_tables.hpp"

#include <cstdint>
#include <memory>
#include <string>

namespace godwit::ebpf {

// Null: nothing is there, or it is another switch's or was never finished. Conflict: another layout ("layout-mismatch").
Result<std::unique_ptr<dataplane::LeftTables>> find_left(const std::string& bpffs,
                                                         std::uint64_t owner);

// Of what can be adopted there; 0: nothing can.
Result<std::uint64_t> generation_of(const std::string& bpffs, std::uint64_t owner);

}  // namespace godwit::ebpf
