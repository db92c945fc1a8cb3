#include "vm_agent/memory/mapped_file.hpp"

#include <algorithm>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace godwit::memory {

MappedFile::MappedFile(MappedFile&& other) noexcept
    : fd_(std::move(other.fd_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
    if (this != &other) {
        if (data_) munmap(data_, size_);
        fd_ = std::move(other.fd_);
        data_ = std::exchange(other.data_, nullptr);
        size_ = std::exchange(other.size_, 0);
    }
    return *this;
}

MappedFile::~MappedFile() {
    if (data_) munmap(data_, size_);
}

Result<MappedFile> MappedFile::map(Descriptor fd, std::uint64_t bytes, const std::string& doing) {
    void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (at == MAP_FAILED) return fail_errno(Fault::Retry, "map " + doing);
    MappedFile file;
    file.fd_ = std::move(fd);
    file.data_ = static_cast<std::byte*>(at);
    file.size_ = bytes;
    return file;
}

Result<MappedFile> MappedFile::open(const std::string& path, std::uint64_t bytes) {
    Descriptor fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd) return fail_errno(errno == ENOENT ? Fault::Missing : Fault::Retry, "open " + path);
    struct stat status{};
    if (fstat(fd.get(), &status) != 0) return fail_errno(Fault::Retry, "look at " + path);
    if (static_cast<std::uint64_t>(status.st_size) != bytes)
        return fail(
            Fault::Corrupt, "open " + path,
            "has " + std::to_string(status.st_size) + " bytes instead of " + std::to_string(bytes));
    return map(std::move(fd), bytes, path);
}

Result<MappedFile> MappedFile::create(const std::string& path, std::uint64_t bytes) {
    Descriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!fd) return fail_errno(Fault::Retry, "create " + path);
    if (ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0)
        return fail_errno(Fault::Retry, "size " + path);
    return map(std::move(fd), bytes, path);
}

Result<MappedFile> MappedFile::anonymous(const std::string& what, std::uint64_t bytes) {
    Descriptor fd(memfd_create(what.c_str(), MFD_CLOEXEC));
    if (!fd) return fail_errno(Fault::Retry, "make memory for " + what);
    if (ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0)
        return fail_errno(Fault::Retry, "size memory for " + what);
    return map(std::move(fd), bytes, what);
}

Result<void> MappedFile::populate(const Extents& extents) const {
    for (const Extent& extent : extents) {
        const std::uint64_t end = std::min(extent.end(), size_);
        if (madvise(data_ + extent.offset, end - extent.offset, MADV_POPULATE_READ) != 0)
            return fail_errno(Fault::Retry, "populate a memory map");
    }
    return {};
}

Result<void> MappedFile::punch(Extent range) const {
    if (fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  static_cast<off_t>(range.offset), static_cast<off_t>(range.length)) != 0)
        return fail_errno(Fault::Retry, "empty a range of memory");
    return {};
}

}  // namespace godwit::memory
