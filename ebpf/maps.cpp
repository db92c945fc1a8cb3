#include "ebpf/maps.hpp"

#include <cerrno>
#include <filesystem>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <utility>

#include <bpf/bpf.h>

namespace godwit::ebpf {

Result<Mapping> Mapping::of(int map_fd, std::size_t bytes, const std::string& name) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t whole = (bytes + page - 1) / page * page;
    void* data = mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);
    if (data == MAP_FAILED) return fail_errno(Fault::Retry, "map table " + name);
    Mapping mapping;
    mapping.data_ = data;
    mapping.bytes_ = bytes;
    return mapping;
}
Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
Mapping& Mapping::operator=(Mapping&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
}
Mapping::~Mapping() {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    if (data_) munmap(data_, (bytes_ + page - 1) / page * page);
}

Result<void> run_program(int program_fd, void* argument, std::size_t bytes,
                         const std::string& name) {
    bpf_test_run_opts options{};
    options.sz = sizeof(options);
    options.ctx_in = argument;
    options.ctx_size_in = static_cast<__u32>(bytes);
    if (bpf_prog_test_run_opts(program_fd, &options) != 0)
        return fail_errno(Fault::Retry, "run program " + name);
    return {};
}

Result<void> prepare_bpffs(const std::string& directory) {
    const std::string root = "/sys/fs/bpf";
    struct statfs kind{};
    if (directory.starts_with(root + "/") && statfs(root.c_str(), &kind) == 0 &&
        kind.f_type != BPF_FS_MAGIC && mount("bpf", root.c_str(), "bpf", 0, nullptr) != 0)
        return fail_errno(Fault::Rejected, "mount a BPF file system on " + root);
    std::error_code error;
    std::filesystem::create_directories(directory, error);
    if (error) return fail(Fault::Rejected, "bpffs " + directory, error.message());
    if (statfs(directory.c_str(), &kind) != 0 || kind.f_type != BPF_FS_MAGIC)
        return fail(
            Fault::Rejected, "bpffs " + directory,
            "is not in a BPF file system; use a folder below /sys/fs/bpf (inside `ip netns exec` "
            "that one is hidden, use `nsenter --net=...`)");
    return {};
}

}  // namespace godwit::ebpf
