// DPDK's environment for tests: no hugepages, no devices but two loops (net_ring), nothing left behind, no
// root needed. One per process; throws std::runtime_error.
#pragma once

#include "tests/packet/frame.hpp"

#include <cstdint>
#include <set>
#include <string>
#include <vector>

struct rte_mbuf;
struct rte_mempool;

namespace godwit::test {

class Eal {
public:
    static Eal& instance();
    rte_mbuf* frame(const Bytes& bytes);  // the caller's
    std::uint32_t frames_out() const;     // not given back yet
    // An ethdev, started and empty, that gives back what it is sent.
    std::uint16_t loop(unsigned number);

private:
    Eal();
    rte_mempool* pool_;
    std::set<unsigned> loops_;
};

Bytes bytes_of(const rte_mbuf* frame);

}  // namespace godwit::test
