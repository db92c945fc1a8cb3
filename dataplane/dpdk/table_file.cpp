#include "dataplane/dpdk/table_file.hpp"

#include "lib/descriptor.hpp"
#include "steering/layout.h"

#include "dataplane/dpdk/resets.hpp"
#include "dataplane/dpdk/shard.hpp"
#include "dataplane/table_config.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>
#include <utility>

namespace godwit::dpdk {

// Changing this or Resets changes GODWIT_LAYOUT.
struct TableFile::Header {
    std::array<char, 8> magic;
    std::uint32_t layout;  // written last: 0 is a file whose maker was killed
    std::uint32_t beat;    // tick of the worker's last burst
    std::array<char, 40> boot;
    std::uint64_t bytes;
    struct steer_config config;
    std::array<std::uint64_t, STEER_TALLY_PORTS> port_names;
    std::uint64_t owner;       // hash of the switch's id
    std::uint64_t generation;  // dataplane/left_tables.hpp
};

namespace {

constexpr std::array<char, 8> kMagic{'g', 'o', 'd', 'w', 'i', 't', 'd', 'p'};
constexpr std::size_t kHeaderBytes = 4096;
constexpr std::size_t kTallyBytes = STEER_TALLY_PORTS * sizeof(struct steer_tally);
constexpr std::size_t kBackends = std::size_t{STEER_VMS_MAX} * STEER_SLOTS;
constexpr std::size_t kBackendBytes = kBackends * sizeof(BackendCounters);
// Of all workers that there can be, so that the next process may have more or fewer.
constexpr std::size_t kCounterBytes = kWorkersMax * (kTallyBytes + kBackendBytes);
constexpr std::size_t kVmBytes = std::size_t{STEER_VMS_MAX} * sizeof(vm_record);

std::array<char, 40> boot_id() {
    std::array<char, 40> id{};
    std::ifstream("/proc/sys/kernel/random/boot_id").getline(id.data(), id.size());
    return id;
}

std::size_t bytes_of(const struct steer_config& config) {
    std::size_t bytes = kHeaderBytes + kVmBytes + sizeof(Resets) + kCounterBytes;
    for (unsigned t = 0; t < STEER_TABLES; ++t) {
        const auto table = static_cast<enum steer_table>(t);
        bytes += std::size_t{steer_lines(table, config.table[t])} * sizeof(struct steer_line);
    }
    return bytes;
}

Result<int> open_alone(const std::string& path) {
    Descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file) return fail_errno(Fault::Rejected, "open the session table " + path);
    if (flock(file.get(), LOCK_EX | LOCK_NB) != 0)
        return fail(
            Fault::Conflict, "open the session table " + path,
            "another godwit-switch uses it; give each an id or a dpdk.table_dir of its own");
    return file.release();
}

// The pages of the file's memory in bytes; hugetlbfs has files of whole ones only.
Result<std::size_t> page_of(int fd, const std::string& path) {
    struct statfs about{};
    if (fstatfs(fd, &about) != 0) return fail_errno(Fault::Rejected, "look at " + path);
    const auto kind = static_cast<unsigned long>(about.f_type);
    if (kind == HUGETLBFS_MAGIC || kind == TMPFS_MAGIC || kind == RAMFS_MAGIC)
        return static_cast<std::size_t>(about.f_bsize);
    return fail(Fault::Rejected, "open the session table " + path,
                "the place is on a disk, and every packet would be written back to it; set "
                "dpdk.table_dir to a "
                "directory on tmpfs, such as one in /dev/shm, or on hugetlbfs");
}

std::size_t whole_pages(std::size_t bytes, std::size_t page) {
    return (bytes + page - 1) / page * page;
}

// Space now, or an error now: a store into a page that the file system has no room for is a SIGBUS later.
Result<void> make_room(int fd, std::size_t bytes, const std::string& path) {
    if (ftruncate(fd, 0) != 0) return fail_errno(Fault::Rejected, "empty " + path);
    errno = posix_fallocate(fd, 0, static_cast<off_t>(bytes));
    if (errno != 0)
        return fail_errno(Fault::Rejected, "make room for the session table " + path + " (" +
                                               std::to_string(bytes >> 20) + " MiB)");
    return {};
}

std::unexpected<Error> another_layout(const std::string& path) {
    return fail(Fault::Conflict, "adopt " + path,
                "the tables there have another layout than this version (" +
                    std::to_string(GODWIT_LAYOUT) +
                    "); finish or cancel the running migrations, then remove the file",
                "layout-mismatch");
}

}  // namespace

bool is_own(const std::filesystem::path& path, mode_t kind) {
    struct stat about{};
    return lstat(path.c_str(), &about) == 0 && (about.st_mode & S_IFMT) == kind &&
           about.st_uid == geteuid() && (about.st_mode & 022) == 0;
}

std::uint32_t tick_now() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    constexpr long kTick_ns = 1'000'000'000 / kTicksPerSecond;
    return static_cast<std::uint32_t>(static_cast<std::uint64_t>(now.tv_sec) * kTicksPerSecond +
                                      static_cast<std::uint64_t>(now.tv_nsec / kTick_ns));
}

TableFile::TableFile(int fd, std::byte* memory, std::size_t bytes)
    : fd_(fd), memory_(memory), bytes_(bytes) {}

TableFile::~TableFile() {
    munmap(memory_, bytes_);
    close(fd_);
}

// The header that is there; with layout 0 one to be written, because there is nothing to take over.
Result<TableFile::Header> TableFile::prepare(int fd, const std::string& path, std::size_t page,
                                             const struct steer_config& config, std::uint64_t owner,
                                             bool anew) {
    Header known{};
    const ssize_t got = pread(fd, &known, sizeof(known), 0);
    if (got < 0) return fail_errno(Fault::Rejected, "read " + path);
    if (anew || got == 0 || known.layout == 0 || known.boot != boot_id()) {
        Header fresh{kMagic, 0, 0, boot_id(), 0, config, {}, owner, 1};
        fresh.bytes = bytes_of(fresh.config);
        Result<void> room = make_room(fd, whole_pages(fresh.bytes, page), path);
        if (!room) return std::unexpected(std::move(room).error());
        return fresh;
    }
    struct stat about{};
    const bool whole = got == ssize_t{sizeof(known)} && known.magic == kMagic &&
                       known.layout == GODWIT_LAYOUT && known.bytes == bytes_of(known.config) &&
                       fstat(fd, &about) == 0 &&
                       static_cast<std::uint64_t>(about.st_size) == whole_pages(known.bytes, page);
    if (!whole) return another_layout(path);
    return known;
}

Result<std::unique_ptr<TableFile>> TableFile::open(const std::string& path,
                                                   const dataplane::TableSizes& sizes,
                                                   std::uint64_t owner) {
    Result<std::unique_ptr<TableFile>> table =
        open(path, dataplane::fresh_config(sizes), owner, /*anew=*/false);
    if (table) table->get()->commit();
    return table;
}

Result<std::unique_ptr<TableFile>> TableFile::make(const std::string& path,
                                                   const struct steer_config& config,
                                                   std::uint64_t owner) {
    return open(path, config, owner, /*anew=*/true);
}

Result<std::unique_ptr<TableFile>> TableFile::open(const std::string& path,
                                                   const struct steer_config& config,
                                                   std::uint64_t owner, bool anew) {
    Result<int> fd = open_alone(path);
    if (!fd) return std::unexpected(std::move(fd).error());
    Descriptor file(*fd);
    Result<std::size_t> page = page_of(file.get(), path);
    if (!page) {
        struct stat about{};
        const bool ours = fstat(file.get(), &about) == 0 && about.st_size == 0;  // just made
        if (ours) unlink(path.c_str());
        return std::unexpected(std::move(page).error());
    }
    Result<Header> header = prepare(file.get(), path, *page, config, owner, anew);
    if (!header) return std::unexpected(std::move(header).error());
    const std::size_t bytes = whole_pages(header->bytes, *page);
    // Populated: a first touch in the middle of a burst would cost microseconds.
    void* memory =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file.get(), 0);
    if (memory == MAP_FAILED) return fail_errno(Fault::Rejected, "map " + path);
    std::unique_ptr<TableFile> table(
        new TableFile(file.release(), static_cast<std::byte*>(memory), bytes));
    table->adopted_ = header->layout != 0;
    if (!table->adopted_) *reinterpret_cast<Header*>(memory) = *header;
    reinterpret_cast<Header*>(memory)->owner = owner;
    table->lay_out();
    if (table->adopted_) table->repaired_ = repair(table->tables_);
    return table;
}

// From here on the tables count.
void TableFile::commit() {
    __atomic_store_n(&reinterpret_cast<Header*>(memory_)->layout, GODWIT_LAYOUT, __ATOMIC_RELEASE);
}

void TableFile::fill(const dataplane::TableImage& image, std::uint64_t generation) {
    auto& header = *reinterpret_cast<Header*>(memory_);
    const dataplane::TableClock clock{tick_now(), kTicksPerSecond};
    for (unsigned t = 0; t < STEER_TABLES; ++t)
        dataplane::carry_over(image, static_cast<enum steer_table>(t), tables_.lines[t], clock);
    dataplane::carry_over(image, tables_.vms, clock);
    for (const steer_key& key : image.resets) tables_.resets->add(key);
    const CounterSet& counters = tables_.counters.front();  // the sums are the first worker's
    std::ranges::copy(image.tallies, counters.tallies.begin());
    header.port_names = image.port_names;
    for (const dataplane::TableImage::Backend& one : image.backends)
        counters.backends[one.index] = {one.counters.packets_to, one.counters.packets_from,
                                        one.counters.fenced};
    repaired_ = repair(tables_);
    adopted_ = true;
    header.beat = clock.tick;
    header.generation = generation;
    commit();
}

std::uint64_t TableFile::generation() const {
    return reinterpret_cast<const Header*>(memory_)->generation;
}

Result<std::uint64_t> TableFile::generation_of(const std::string& path, std::uint64_t owner) {
    // Looked at by who never made the place: what anybody could have put there is nobody's.
    if (!is_own(std::filesystem::path(path).parent_path(), S_IFDIR) || !is_own(path, S_IFREG))
        return 0;
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    Header known{};
    if (!file || pread(file.get(), &known, sizeof(known), 0) != ssize_t{sizeof(known)}) return 0;
    if (known.magic != kMagic || known.layout == 0 || known.boot != boot_id()) return 0;
    if (known.layout != GODWIT_LAYOUT) return another_layout(path);
    return known.owner == owner ? known.generation : 0;
}

void TableFile::lay_out() {
    tables_.config = reinterpret_cast<const Header*>(memory_)->config;
    std::byte* at = memory_ + kHeaderBytes;
    tables_.vms = {reinterpret_cast<vm_record*>(at), STEER_VMS_MAX};
    at += kVmBytes;
    tables_.resets = reinterpret_cast<Resets*>(at);
    at += sizeof(Resets);
    for (unsigned worker = 0; worker < kWorkersMax; ++worker) {
        tables_.counters.push_back(
            {{reinterpret_cast<struct steer_tally*>(at), STEER_TALLY_PORTS},
             {reinterpret_cast<BackendCounters*>(at + kTallyBytes), kBackends}});
        at += kTallyBytes + kBackendBytes;
    }
    for (unsigned t = 0; t < STEER_TABLES; ++t) {
        const std::size_t lines =
            steer_lines(static_cast<enum steer_table>(t), tables_.config.table[t]);
        tables_.lines[t] = {reinterpret_cast<struct steer_line*>(at), lines};
        at += lines * sizeof(struct steer_line);
    }
}

std::span<std::uint64_t, STEER_TALLY_PORTS> TableFile::port_names() const {
    return reinterpret_cast<Header*>(memory_)->port_names;
}

void TableFile::beat(std::uint32_t tick) {
    __atomic_store_n(&reinterpret_cast<Header*>(memory_)->beat, tick, __ATOMIC_RELAXED);
}

std::chrono::milliseconds TableFile::silent_for() const {
    const std::uint32_t last =
        __atomic_load_n(&reinterpret_cast<const Header*>(memory_)->beat, __ATOMIC_RELAXED);
    if (!adopted_ || last == 0) return std::chrono::milliseconds(0);
    return std::chrono::milliseconds(std::uint64_t{tick_now() - last} * 1000 / kTicksPerSecond);
}

}  // namespace godwit::dpdk
