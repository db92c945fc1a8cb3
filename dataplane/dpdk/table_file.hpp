// The plane's memory as a file that every godwit-switch of one switch maps, one at a time: a process that dies leaves
// the sessions to the next one. The file is memory (tmpfs or hugetlbfs): on a disk the kernel would write back what
// every packet changes. It belongs to one boot of the machine, because its ticks do.
#pragma once

#include "dataplane/dpdk/hooks.hpp"

#include "lib/error.hpp"

#include "dataplane/dpdk/repair.hpp"
#include "dataplane/left_tables.hpp"

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <sys/types.h>

namespace godwit::dpdk {

// The plane's clock: CLOCK_MONOTONIC, which goes on while no process runs.
inline constexpr std::uint32_t kTicksPerSecond = 500;
std::uint32_t tick_now();

// A file or folder (S_IFREG, S_IFDIR) of this user, and nobody else may write there.
bool is_own(const std::filesystem::path& path, mode_t kind);

class TableFile {
public:
    // Makes `path`, or takes over what an earlier process has left there, repaired. Conflict: another process
    // has it, or another layout wrote it ("layout-mismatch"); Rejected: `path` is not in memory, or has no room.
    static Result<std::unique_ptr<TableFile>> open(const std::string& path,
                                                   const dataplane::TableSizes& sizes,
                                                   std::uint64_t owner = 0);
    // Makes `path` anew, in place of whatever lies there, for tables of this geometry that fill() brings. Until then
    // it is nobody's.
    static Result<std::unique_ptr<TableFile>> make(const std::string& path,
                                                   const struct steer_config& config,
                                                   std::uint64_t owner);
    void fill(const dataplane::TableImage& image, std::uint64_t generation);
    // Of what can be adopted there: 0 when nothing can. Conflict as for open().
    static Result<std::uint64_t> generation_of(const std::string& path, std::uint64_t owner);
    ~TableFile();
    TableFile(const TableFile&) = delete;
    TableFile& operator=(const TableFile&) = delete;

    Tables& tables() { return tables_; }
    // dataplane/port_numbers.hpp, of CounterSet::tallies.
    std::span<std::uint64_t, STEER_TALLY_PORTS> port_names() const;
    std::uint64_t generation() const;
    // Also when another plane's tables fill it.
    bool adopted() const { return adopted_; }
    // What was found; all 0 unless adopted.
    const Repaired& repaired() const { return repaired_; }
    // The worker says that it lives; the next process learns how long packets were not forwarded.
    void beat(std::uint32_t tick);
    // Since the last beat of an earlier process; 0 when there is none.
    std::chrono::milliseconds silent_for() const;

private:
    struct Header;
    TableFile(int fd, std::byte* memory, std::size_t bytes);
    static Result<Header> prepare(int fd, const std::string& path, std::size_t page,
                                  const struct steer_config& config, std::uint64_t owner,
                                  bool anew);
    static Result<std::unique_ptr<TableFile>> open(const std::string& path,
                                                   const struct steer_config& config,
                                                   std::uint64_t owner, bool anew);
    void lay_out();
    void commit();

    int fd_;  // its lock keeps others out
    std::byte* memory_;
    std::size_t bytes_;
    bool adopted_ = false;
    Repaired repaired_;
    Tables tables_;
};

}  // namespace godwit::dpdk
