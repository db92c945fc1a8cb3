// The plane's programs and a kernel LRU hash side by side, loaded without ports: a test run needs none.
#pragma once

#include "bench/generator.h"
#include "ebpf/layout.h"
#include "ebpf/maps.hpp"

#include <array>
#include <cstdint>
#include <vector>

#include <bpf/libbpf.h>

namespace godwit::bench {

class PlaneBench {
public:
    // Room for `sessions` (a power of two), as godwit-switch makes it, and for as many in the LRU hash or for none;
    // throws std::runtime_error.
    enum class Peer { lru, none };
    explicit PlaneBench(std::uint32_t sessions, Peer peer = Peer::lru);

    // Makes sessions [first, first + count) known to `target`, as the VM's own segments do; ns for each.
    double insert(bench_target target, std::uint32_t first, std::uint32_t count);
    // `packets` of established sessions 0..sessions-1 in pseudo-random order; ns for each.
    double receive(bench_target target, std::uint32_t sessions, std::uint32_t packets);
    // SYNs of so many strangers. One thread.
    void receive_strangers(std::uint32_t count);
    // To slots 0 and 1 by the packets that this CPU has run.
    std::array<std::uint64_t, 2> sent_by(int cpu) const;
    std::uint64_t sent_to(std::uint32_t slot) const;  // by all of them
    std::uint64_t word() const { return __atomic_load_n(&record().steer, __ATOMIC_SEQ_CST); }
    std::size_t table_bytes() const;
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
    void load(std::uint32_t sessions, Peer peer);
    void fill_maps();
    vm_record& record() const { return vms_.as<vm_record>()[0]; }
    int program(const char* name) const;
    int map(const char* name) const;
    double run(const char* name, const std::vector<std::uint8_t>& frame, std::uint32_t repeat);

    ebpf::Object object_;
    ebpf::Mapping vms_, settings_, control_mapping_;
    steer_config config_{};
    bench_control* control_ = nullptr;
    std::vector<std::uint8_t> from_peer_, from_vm_, syn_;
};

}  // namespace godwit::bench
