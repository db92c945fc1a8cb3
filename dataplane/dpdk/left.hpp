// What a switch on plane dpdk has left in its file, for who goes on with another plane.
#pragma once

#include "lib/error.hpp"

#include "dataplane/left_tables.hpp"

#include <cstdint>
#include <memory>
#include <string>

namespace godwit::dpdk {

// Null: nothing is there that could be adopted, or it is another switch's. Conflict: a process runs on it, or another
// layout wrote it ("layout-mismatch").
Result<std::unique_ptr<dataplane::LeftTables>> find_left(const std::string& path,
                                                         std::uint64_t owner);

// Of what can be adopted there; 0: nothing can.
Result<std::uint64_t> generation_of(const std::string& path, std::uint64_t owner);

}  // namespace godwit::dpdk
