// What a region's file holds, for people: its classes and how full they are, what is broken, what differs
// from an earlier state. Reads the file and never maps it, so a file cut short is an error and a hole of
// a tmpfs stays one. A guest's file begins with the data; a host's has it behind the label area.
#pragma once

#include "lib/error.hpp"

#include "protocol/region_api.hpp"

#include <string>

namespace godwit::memory {

// A broken region is a report with problems. Errors: Missing no such file, Rejected no plain file.
Result<protocol::RegionReport> describe_region(const std::string& path, std::string name);
// Every 64-byte line in which the two differ, under the names and rules of `before`. Rejected: sizes
// differ, or the one begins with its data and the other with a label; Corrupt: a broken header.
Result<protocol::RegionChanges> compare_regions(const std::string& before, const std::string& now);

}  // namespace godwit::memory
