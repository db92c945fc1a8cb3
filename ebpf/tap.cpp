#include "ebpf/tap.hpp"

#include <cerrno>

namespace godwit::ebpf {

Result<std::unique_ptr<EbpfTap>> EbpfTap::open(const bpf_object* object) {
    std::unique_ptr<EbpfTap> tap(new EbpfTap());
    Result<Mapping> watch = Mapping::of(bpf_object__find_map_fd_by_name(object, ".data.watch"),
                                        sizeof(steer_watch), "watch");
    if (!watch) return std::unexpected(std::move(watch).error());
    tap->watch_ = std::move(*watch);
    const int ring = bpf_object__find_map_fd_by_name(object, "flows");
    tap->ring_.reset(ring_buffer__new(ring, take, tap.get(), nullptr));
    if (!tap->ring_) return fail_errno(Fault::Retry, "read the ring buffer of flows");
    return tap;
}

// libbpf goes on until the ring is empty, which it may never be: a negative answer stops it, and this record
// counts as taken.
int EbpfTap::take(void* tap, void* data, std::size_t bytes) {
    auto* self = static_cast<EbpfTap*>(tap);
    const auto* record = static_cast<const steer_flow*>(data);
    --self->left_;
    if (bytes >= sizeof(steer_flow) && record->captured <= bytes - sizeof(steer_flow))
        (*self->on_flow_)(
            *record, {static_cast<const std::uint8_t*>(data) + sizeof(*record), record->captured});
    return self->left_ == 0 ? -ECANCELED : 0;
}

std::size_t EbpfTap::read(std::size_t most, const OnFlow& on_flow) {
    if (most == 0) return 0;
    left_ = most;
    on_flow_ = &on_flow;
    ring_buffer__consume(ring_.get());
    on_flow_ = nullptr;
    return most - left_;
}

}  // namespace godwit::ebpf
