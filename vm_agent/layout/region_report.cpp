#include "vm_agent/layout/region_report.hpp"

#include "vm_agent/layout/slot_map.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace godwit::memory {

using protocol::RegionChange;
using protocol::RegionChanges;
using protocol::RegionClass;
using protocol::RegionReport;

namespace {

constexpr std::size_t kPieceBytes = 1 << 20;

class RegionFile {
public:
    static Result<RegionFile> open(const std::string& path) {
        RegionFile file;
        file.path_ = path;
        file.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (file.fd_ < 0)
            return fail_errno(errno == ENOENT ? Fault::Missing : Fault::Rejected, "open " + path);
        struct stat status{};
        if (fstat(file.fd_, &status) != 0) return fail_errno(Fault::Rejected, "look at " + path);
        if (!S_ISREG(status.st_mode))
            return fail(Fault::Rejected, "read region " + path,
                        "it is no plain file; a device is read in its guest, by godwit_region.py");
        file.bytes_ = static_cast<std::uint64_t>(status.st_size);
        Result<void> found = file.find_data();
        if (!found) return std::unexpected(std::move(found).error());
        return file;
    }
    RegionFile(RegionFile&& other) noexcept
        : path_(std::move(other.path_)),
          fd_(std::exchange(other.fd_, -1)),
          bytes_(other.bytes_),
          start_(other.start_) {}
    RegionFile& operator=(RegionFile&&) = delete;
    ~RegionFile() {
        if (fd_ >= 0) close(fd_);
    }

    Result<void> read(std::uint64_t offset, std::span<std::byte> into) const {
        std::size_t done = 0;
        while (done < into.size()) {
            const ssize_t got = pread(fd_, into.data() + done, into.size() - done,
                                      static_cast<off_t>(offset + done));
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) return fail_errno(Fault::Rejected, "read " + path_);
            if (got == 0)
                return fail(Fault::Rejected, "read " + path_, "it was cut short meanwhile");
            done += static_cast<std::size_t>(got);
        }
        return {};
    }
    // The first lines of a slot or a record, from the start of the data.
    template <typename T>
    Result<T> read_as(std::uint64_t offset) const {
        T value{};
        Result<void> done = read(start_ + offset, std::as_writable_bytes(std::span(&value, 1)));
        if (!done) return std::unexpected(std::move(done).error());
        return value;
    }

    std::uint64_t bytes() const { return bytes_; }
    std::uint64_t start() const { return start_; }  // of the data
    std::uint64_t length() const { return bytes_ - start_; }
    const std::string& path() const { return path_; }

private:
    RegionFile() = default;
    Result<bool> has_magic(std::uint64_t at) const {
        std::uint64_t magic = 0;
        if (bytes_ < at + GODWIT_HEADER_BYTES) return false;
        Result<void> done = read(at, std::as_writable_bytes(std::span(&magic, 1)));
        if (!done) return std::unexpected(std::move(done).error());
        return magic == GODWIT_REGION_MAGIC;
    }
    // Without a header anywhere the data begins where the agent looks for it, if there is room.
    Result<void> find_data() {
        if (bytes_ < GODWIT_HEADER_BYTES)
            return fail(Fault::Rejected, "read region " + path_,
                        "it has " + std::to_string(bytes_) + " bytes, less than a header");
        Result<bool> guest = has_magic(0);
        if (!guest) return std::unexpected(std::move(guest).error());
        const bool room = bytes_ >= GODWIT_LABEL_BYTES + GODWIT_HEADER_BYTES;
        start_ = !*guest && room ? GODWIT_LABEL_BYTES : 0;
        return {};
    }

    std::string path_;
    int fd_ = -1;
    std::uint64_t bytes_ = 0, start_ = 0;
};

std::string numbered(const std::string& name, std::uint64_t index) {
    return name + "[" + std::to_string(index) + "]";
}

// Goes through the slots of one class; what it finds broken it adds to the report.
class ClassReader {
public:
    ClassReader(const RegionFile& file, const godwit_class_line& line, RegionReport& report)
        : file_(file), line_(line), report_(report) {
        shown_.name = guest_text(line.name, sizeof(line.name));
        shown_.rule = rule_name(line.rule);
        shown_.kind = kind_name(line.kind);
        shown_.offset = line.offset;
        shown_.slot_bytes = line.slot_bytes;
        shown_.slots = line.kind == GODWIT_LOG ? line.slot_count - 1 : line.slot_count;
    }

    Result<RegionClass> read() && {
        Result<void> done;
        if (line_.kind == GODWIT_ALLOCATED) done = read_slots();
        if (line_.kind == GODWIT_LOG) done = read_log();
        if (!done) return std::unexpected(std::move(done).error());
        return std::move(shown_);
    }

private:
    void complain(std::uint64_t index, const std::string& what) {
        if (report_.problems.size() < protocol::kRegionChangesMax)
            report_.problems.push_back(numbered(shown_.name, index) + " " + what);
    }

    Result<void> read_slots() {
        shown_.used = 0;
        for (std::uint64_t i = 0; i < shown_.slots; ++i) {
            Result<godwit_slot_line> slot =
                file_.read_as<godwit_slot_line>(line_.offset + i * line_.slot_bytes);
            if (!slot) return std::unexpected(std::move(slot).error());
            if (slot->state == GODWIT_SLOT_USED) ++*shown_.used;
            if (slot->state == GODWIT_SLOT_CLAIMED) ++shown_.unfinished;
            if (slot->state > GODWIT_SLOT_CLAIMED)
                complain(i, "is in state " + std::to_string(slot->state) +
                                ", which is neither free, used nor claimed");
            else if (slot->state == GODWIT_SLOT_USED && slot->born >> 8 > report_.epoch)
                complain(i, "was allocated in epoch " + std::to_string(slot->born >> 8) +
                                ", which has not been yet");
        }
        return {};
    }

    Result<void> read_log() {
        Result<godwit_log_line> log = file_.read_as<godwit_log_line>(line_.offset);
        if (!log) return std::unexpected(std::move(log).error());
        shown_.used = std::min<std::uint64_t>(log->count, shown_.slots);
        if (log->count > shown_.slots)
            report_.problems.push_back(shown_.name + " counts " + std::to_string(log->count) +
                                       " records and has room for " + std::to_string(shown_.slots));
        for (std::uint64_t i = 0; i < *shown_.used; ++i) {
            Result<godwit_slot_line> slot =
                file_.read_as<godwit_slot_line>(line_.offset + (i + 1) * line_.slot_bytes);
            if (!slot) return std::unexpected(std::move(slot).error());
            if (slot->state != GODWIT_SLOT_USED)
                ++shown_.unfinished;
            else if (slot->tag > line_.slot_bytes - GODWIT_LINE_BYTES)
                complain(i, "says it has " + std::to_string(slot->tag) + " bytes, more than fit");
        }
        return {};
    }

    const RegionFile& file_;
    const godwit_class_line& line_;
    RegionReport& report_;
    RegionClass shown_;
};

void take_role(const godwit_header_page& page, RegionReport& report) {
    const std::uint64_t role = page.role.word & 0xff;
    report.epoch = page.role.word >> 8;
    report.role = role_name(role);
    if (role > GODWIT_CLONE)
        report.problems.push_back("the role word says " + std::to_string(role) +
                                  ", which is no role");
}

// One file's line beside the other's; neighbours within a slot become one entry.
class Changes {
public:
    Changes(const SlotMap& slots, std::uint64_t start) : slots_(slots), start_(start) {}

    void add(std::uint64_t offset) {
        ++all_.lines;
        std::string slot = offset < start_ ? "label" : slots_.slot_at(offset - start_);
        if (last_slot_ == slot && offset == next_) {
            if (last_is_kept_) ++all_.changes.back().lines;
        } else {
            ++all_.slots;
            last_is_kept_ = all_.changes.size() < protocol::kRegionChangesMax;
            if (last_is_kept_) all_.changes.push_back({slot, rule_at(offset), offset, 1});
        }
        last_slot_ = std::move(slot);
        next_ = offset + GODWIT_LINE_BYTES;
    }
    RegionChanges take() && { return std::move(all_); }

private:
    std::string rule_at(std::uint64_t offset) const {
        // The label area and the role word are the host's: a merge leaves them alone.
        if (offset < start_ || offset - start_ == GODWIT_ROLE_OFFSET) return "none";
        return rule_name(slots_.rule_at(offset - start_));
    }

    const SlotMap& slots_;
    const std::uint64_t start_;
    RegionChanges all_;
    std::string last_slot_;
    std::uint64_t next_ = 0;
    bool last_is_kept_ = false;
};

void compare_piece(std::span<const std::byte> before, std::span<const std::byte> now,
                   std::uint64_t offset, Changes& changes) {
    if (std::memcmp(before.data(), now.data(), now.size()) == 0) return;
    for (std::size_t at = 0; at < now.size(); at += GODWIT_LINE_BYTES) {
        const std::size_t bytes = std::min<std::size_t>(GODWIT_LINE_BYTES, now.size() - at);
        if (std::memcmp(before.data() + at, now.data() + at, bytes) != 0) changes.add(offset + at);
    }
}

Result<SlotMap> slots_of(const RegionFile& file) {
    std::vector<std::byte> page(GODWIT_HEADER_BYTES);
    Result<void> done = file.read(file.start(), page);
    if (!done) return std::unexpected(std::move(done).error());
    Result<SlotMap> slots = SlotMap::read_page(page, file.length());
    if (!slots) return std::unexpected(std::move(slots).error().within(file.path()));
    return slots;
}

}  // namespace

Result<RegionReport> describe_region(const std::string& path, std::string name) {
    Result<RegionFile> file = RegionFile::open(path);
    if (!file) return std::unexpected(std::move(file).error());
    RegionReport report;
    report.region = std::move(name);
    report.bytes = file->bytes();
    Result<godwit_header_page> page = file->read_as<godwit_header_page>(0);
    if (!page) return std::unexpected(std::move(page).error());
    take_role(*page, report);
    if (page->head.magic == 0) return report;
    report.formatted = true;
    report.version = page->head.version;
    report.data_bytes = page->head.data_bytes;
    const char* why = "";
    if (godwit_header_check(&*page, file->length(), &why) != 0) {
        report.problems.push_back(why);
        return report;
    }
    for (std::uint32_t i = 0; i < page->head.class_count; ++i) {
        Result<RegionClass> one = ClassReader(*file, page->classes[i], report).read();
        if (!one) return std::unexpected(std::move(one).error());
        report.classes.push_back(std::move(*one));
    }
    return report;
}

Result<RegionChanges> compare_regions(const std::string& before, const std::string& now) {
    Result<RegionFile> old_file = RegionFile::open(before);
    if (!old_file) return std::unexpected(std::move(old_file).error());
    Result<RegionFile> new_file = RegionFile::open(now);
    if (!new_file) return std::unexpected(std::move(new_file).error());
    if (old_file->bytes() != new_file->bytes() || old_file->start() != new_file->start())
        return fail(Fault::Rejected, "compare " + before + " with " + now,
                    old_file->bytes() != new_file->bytes()
                        ? "they have " + std::to_string(old_file->bytes()) + " and " +
                              std::to_string(new_file->bytes()) + " bytes"
                        : "the one begins with a label area, the other with its header");
    Result<SlotMap> slots = slots_of(*old_file);
    if (!slots) return std::unexpected(std::move(slots).error());
    Changes changes(*slots, old_file->start());
    std::vector<std::byte> old_bytes(kPieceBytes), new_bytes(kPieceBytes);
    for (std::uint64_t at = 0; at < new_file->bytes(); at += kPieceBytes) {
        const std::size_t length = std::min<std::uint64_t>(kPieceBytes, new_file->bytes() - at);
        const std::span<std::byte> old_piece(old_bytes.data(), length);
        const std::span<std::byte> new_piece(new_bytes.data(), length);
        Result<void> done = old_file->read(at, old_piece);
        if (done) done = new_file->read(at, new_piece);
        if (!done) return std::unexpected(std::move(done).error());
        compare_piece(old_piece, new_piece, at, changes);
    }
    return std::move(changes).take();
}

}  // namespace godwit::memory
