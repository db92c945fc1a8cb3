// What a migration region holds (vm_agent/region/godwit_region.h), as the agent tells it and as
// `godwit region -o json` prints it. The names of slot classes are the guest's: printable characters only.
//
//   GET /v1/vms/{vm}/regions -> RegionList     of the agent, and of the controller, which passes it on
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/describe.hpp>

namespace godwit::protocol {

struct RegionClass {
    std::string name;
    std::string rule;  // "fail", "source-wins", "destination-wins", "add-delta", "max", "append"
    std::string kind;  // "fixed", "allocated", "log"
    std::uint64_t offset = 0;           // of the first slot, from the start of the data
    std::uint64_t slot_bytes = 0;       // state line included
    std::uint64_t slots = 0;            // of a log: the records it has room for
    std::optional<std::uint64_t> used;  // of kinds allocated and log
    std::uint64_t unfinished =
        0;  // slots claimed, records begun: their writers work on them or have died
};
BOOST_DESCRIBE_STRUCT(RegionClass, (),
                      (name, rule, kind, offset, slot_bytes, slots, used, unfinished))

// Lines of 64 bytes that differ between two states of a region; neighbours in one slot are one entry.
struct RegionChange {
    std::string slot;          // "sessions[12]", "audit[count]", "header", "unassigned"
    std::string rule;          // under which a merge would look at them
    std::uint64_t offset = 0;  // of the first line, in the file
    std::uint64_t lines = 0;
};
BOOST_DESCRIBE_STRUCT(RegionChange, (), (slot, rule, offset, lines))
struct RegionChanges {
    std::uint64_t lines = 0;
    std::uint64_t slots = 0;            // entries there would be
    std::vector<RegionChange> changes;  // the first kRegionChangesMax of them
};
BOOST_DESCRIBE_STRUCT(RegionChanges, (), (lines, slots, changes))
constexpr std::size_t kRegionChangesMax = 256;

struct RegionReport {
    std::string region;  // its name, or the file's path
    std::uint64_t bytes = 0;
    bool formatted = false;  // an application has written a header
    std::uint32_t version = 0;
    std::uint64_t data_bytes = 0;  // header and slots
    std::string role = "sole";     // "sole", "source", "clone"
    std::uint64_t epoch = 0;
    std::vector<RegionClass> classes;
    std::vector<std::string> problems;     // what is broken; empty: it is sound
    std::optional<RegionChanges> changed;  // since the fork, while the agent keeps the copy of then
};
BOOST_DESCRIBE_STRUCT(RegionReport, (),
                      (region, bytes, formatted, version, data_bytes, role, epoch, classes,
                       problems, changed))

struct RegionList {
    std::vector<RegionReport> regions;
};
BOOST_DESCRIBE_STRUCT(RegionList, (), (regions))

}  // namespace godwit::protocol
