// Descriptors, mappings and system calls of BPF with an owner.
#pragma once

#include "lib/descriptor.hpp"
#include "lib/error.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include <bpf/libbpf.h>

namespace godwit::ebpf {

using Fd = Descriptor;

// A shared mapping of an array map (BPF_F_MMAPABLE); unmaps itself. Lives without the descriptor.
class Mapping {
public:
    Mapping() = default;
    static Result<Mapping> of(int map_fd, std::size_t bytes, const std::string& name);
    Mapping(Mapping&& other) noexcept;
    Mapping& operator=(Mapping&& other) noexcept;
    ~Mapping();
    template <typename T>
    std::span<T> as() const {
        return {static_cast<T*>(data_), bytes_ / sizeof(T)};
    }

private:
    void* data_ = nullptr;
    std::size_t bytes_ = 0;
};

struct ObjectCloser {
    void operator()(bpf_object* object) const { bpf_object__close(object); }
};
using Object = std::unique_ptr<bpf_object, ObjectCloser>;

struct RingCloser {
    void operator()(ring_buffer* ring) const { ring_buffer__free(ring); }
};
using Ring = std::unique_ptr<ring_buffer, RingCloser>;

// Runs a SEC("syscall") program with `argument` in and out.
Result<void> run_program(int program_fd, void* argument, std::size_t bytes,
                         const std::string& name);

// `directory` exists below a mounted BPF file system; mounts one on /sys/fs/bpf when none is there.
Result<void> prepare_bpffs(const std::string& directory);

}  // namespace godwit::ebpf
