#include "vm_agent/memory/image.hpp"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <unistd.h>

namespace godwit::memory {

Result<Image> Image::open(const std::vector<BlockFile>& blocks) {
    Image image;
    for (const BlockFile& one : blocks) {
        Result<MappedFile> file = MappedFile::open(one.path, one.block.bytes);
        if (!file) return std::unexpected(std::move(file).error());
        image.blocks_.push_back(std::move(*file));
    }
    return image;
}

Result<Image> Image::blank(const Image& like) {
    Image image;
    for (const MappedFile& one : like.blocks_) {
        Result<MappedFile> file = MappedFile::anonymous("godwit-base", one.size());
        if (!file) return std::unexpected(std::move(file).error());
        image.blocks_.push_back(std::move(*file));
    }
    return image;
}

Result<std::uint64_t> Image::resident_bytes() const {
    std::uint64_t sum = 0;
    for (const MappedFile& block : blocks_) {
        Result<Extents> extents = block.extents();
        if (!extents) return std::unexpected(std::move(extents).error());
        sum += total_bytes(*extents);
    }
    return sum;
}

Result<void> Image::populate() const {
    for (const MappedFile& block : blocks_) {
        Result<Extents> extents = block.extents();
        if (!extents) return std::unexpected(std::move(extents).error());
        Result<void> populated = block.populate(*extents);
        if (!populated) return populated;
    }
    return {};
}

Result<Root> Image::root() const {
    std::vector<const MappedFile*> pointers;
    for (const MappedFile& block : blocks_) pointers.push_back(&block);
    return root_of(pointers);
}

Result<void> copy_to_file(const MappedFile& from, const std::string& path) {
    Result<MappedFile> to = MappedFile::create(path, from.size());
    if (!to) return std::unexpected(std::move(to).error());
    Result<Extents> extents = from.extents();
    if (!extents) return std::unexpected(std::move(extents).error());
    for (const Extent& extent : *extents) {
        for (std::uint64_t at = extent.offset; at < extent.end();) {
            const ssize_t written =
                pwrite(to->fd(), from.data() + at, extent.end() - at, static_cast<off_t>(at));
            if (written < 0 && errno == EINTR) continue;
            if (written <= 0) return fail_errno(Fault::Lost, "write " + path);
            at += static_cast<std::uint64_t>(written);
        }
    }
    return {};
}

std::uint64_t meminfo_bytes(std::string_view field) {
    std::ifstream file("/proc/meminfo");
    std::string name, unit;
    std::uint64_t kib = 0;
    while (file >> name >> kib && std::getline(file, unit))
        if (name.substr(0, name.size() - 1) == field) return kib * 1024;
    return 0;
}

}  // namespace godwit::memory
