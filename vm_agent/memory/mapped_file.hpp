// A file of guest memory (a shm file, or a memfd of our own) mapped shared for the whole job.
#pragma once

#include "lib/descriptor.hpp"
#include "lib/error.hpp"

#include "vm_agent/memory/extents.hpp"

#include <cstddef>
#include <span>
#include <string>

namespace godwit::memory {

using godwit::Descriptor;

class MappedFile {
public:
    // An existing file of exactly `bytes`.
    static Result<MappedFile> open(const std::string& path, std::uint64_t bytes);
    // A new sparse file, all zero, mode 0600; one that exists is emptied first.
    static Result<MappedFile> create(const std::string& path, std::uint64_t bytes);
    // Memory without a name, sparse.
    static Result<MappedFile> anonymous(const std::string& what, std::uint64_t bytes);

    MappedFile() = default;
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&& other) noexcept;
    ~MappedFile();

    std::byte* data() const { return data_; }
    std::uint64_t size() const { return size_; }
    int fd() const { return fd_.get(); }
    std::span<std::byte> bytes() const { return {data_, size_}; }

    Result<Extents> extents() const { return data_extents(fd_.get(), size_); }
    // Page tables for what holds data, so that nothing faults while a guest is paused.
    Result<void> populate(const Extents& extents) const;
    // Turns the range back into a hole (zero bytes, no memory).
    Result<void> punch(Extent range) const;

private:
    static Result<MappedFile> map(Descriptor fd, std::uint64_t bytes, const std::string& doing);

    Descriptor fd_;
    std::byte* data_ = nullptr;
    std::uint64_t size_ = 0;
};

}  // namespace godwit::memory
