// The ring buffer and the watch of ebpf/watch.bpf.h, from user space.
#pragma once

#include "dataplane/plane.hpp"
#include "ebpf/maps.hpp"

namespace godwit::ebpf {

class EbpfTap final : public dataplane::Tap {
public:
    // `object` is loaded and outlives the tap.
    static Result<std::unique_ptr<EbpfTap>> open(const bpf_object* object);

    steer_watch& watch() override { return watch_.as<steer_watch>()[0]; }
    int readable_fd() override { return ring_buffer__epoll_fd(ring_.get()); }
    std::size_t read(std::size_t most, const OnFlow& on_flow) override;

private:
    EbpfTap() = default;
    static int take(void* tap, void* data, std::size_t bytes);

    Mapping watch_;
    Ring ring_;
    const OnFlow* on_flow_ = nullptr;  // while read() runs
    std::size_t left_ = 0;
};

}  // namespace godwit::ebpf
