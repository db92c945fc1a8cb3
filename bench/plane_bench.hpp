// The plane's programs and a kernel LRU hash side by side, loaded without ports: a test run needs none.
#pragma once

#include "bench/generator.h"
#include "ebpf/layout.h"
#include "ebpf/maps.hpp"

#include <cstdint>
#include <vector>

#include <bpf/libbpf.h>

namespace godwit::bench {

class PlaneBench {
public:
    // Room for `sessions` (a power of two), as godwit-switch makes it; throws std::runtime_error.
    explicit PlaneBench(std::uint32_t sessions);

    // Makes sessions [first, first + count) known to `target`, as the VM's own segments do; ns for each.
    double insert(bench_target target, std::uint32_t first, std::uint32_t count);
    // `packets` of established sessions 0..sessions-1 in pseudo-random order; ns for each.
    double receive(bench_target target, std::uint32_t sessions, std::uint32_t packets);
    // One store; ns of it, clock included.
    double flip();
    // Back to slot 0, and nothing drains.
    void settle();
    // The slot that a connection from a new client goes to.
    std::uint32_t owner_of_newcomer();

    std::uint32_t live_sessions() const { return record().sessions[0] + record().sessions[1]; }
    std::uint64_t count_of(steer_why why) const;
    std::uint64_t misses() const { return control_->misses; }

private:
    void load(std::uint32_t sessions);
    void fill_maps();
    vm_record& record() const { return vms_.as<vm_record>()[0]; }
    int program(const char* name) const;
    int map(const char* name) const;
    double run(const char* name, const std::vector<std::uint8_t>& frame, std::uint32_t repeat);

    ebpf::Object object_;
    ebpf::Mapping vms_, settings_, control_mapping_;
    steer_config config_{};
    bench_control* control_ = nullptr;
    std::vector<std::uint8_t> from_peer_, from_vm_;
};

}  // namespace godwit::bench
