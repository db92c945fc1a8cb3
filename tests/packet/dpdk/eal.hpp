// DPDK's environment for tests: no hugepages, no devices but two loops (net_ring), nothing left behind, no
// root needed. One per process; throws std::runtime_error.
#pragma once

#include "tests/packet/frame.hpp"

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

struct rte_mbuf;
struct rte_mempool;
struct rte_ring;

namespace godwit::test {

class Eal {
public:
    static Eal& instance();
    // The caller's. A long frame comes in several segments.
    rte_mbuf* frame(const Bytes& bytes);
    rte_mempool* pool() { return pool_; }  // of all frames, also of the loops'
    std::uint32_t frames_out() const;      // not given back yet
    rte_mempool* pool(unsigned number);    // of a thread's own, without a cache
    rte_ring* ring(unsigned frames);       // of one writer and one reader; the caller's
    // An ethdev, started and empty, that gives back what it is sent.
    std::uint16_t loop(unsigned number);
    // An ethdev, started and empty, whose far end are two rings: what is put into `in` is received by it, and what it
    // is sent is in `out`. One writes and one reads.
    struct Wire {
        std::uint16_t ethdev = 0;
        rte_ring *in = nullptr, *out = nullptr;
    };
    Wire wire(unsigned number);

private:
    Eal();
    rte_mbuf* piece(std::span<const std::uint8_t> bytes);
    rte_mempool* pool_;
    unsigned rings_ = 0;
    std::uint16_t started(std::uint16_t ethdev);
    std::set<unsigned> loops_;
    std::map<unsigned, Wire> wires_;
    std::array<rte_mempool*, 2> pools_;
};

Bytes bytes_of(const rte_mbuf* frame);

}  // namespace godwit::test
