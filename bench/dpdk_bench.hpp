// One worker of the DPDK plane, an rte_hash of the same sessions, and a feed that writes the next session's
// peer into frames that are used again and again, as a NIC does with its ring.
#pragma once

#include "dataplane/dpdk/worker.hpp"

#include "tests/packet/frame.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

struct rte_hash;
struct rte_mempool;

namespace godwit::bench {

enum Target : unsigned { kFeed, kPlane, kHash, kSwap, kTargets };

// Whether there are enough free huge pages (2 MiB) for everything that is compared; if not, all of it is in small
// ones. Reserve them with: sysctl vm.nr_hugepages=2600
bool large_pages();

// Memory of one kind of page; given back at the end.
class Pages {
public:
    explicit Pages(std::size_t bytes);
    ~Pages();
    Pages(const Pages&) = delete;
    Pages& operator=(const Pages&) = delete;
    Pages(Pages&& other) noexcept : memory_(std::exchange(other.memory_, {})) {}
    std::span<std::uint8_t> bytes() const { return memory_; }

private:
    std::span<std::uint8_t> memory_;
};

class DpdkBench {
public:
    // Room for `sessions` as the plane sizes its tables: two to a line. Throws std::runtime_error.
    DpdkBench(unsigned family, std::uint32_t sessions);
    ~DpdkBench();

    // Sessions 0..count-1 exist, in the plane and in the hash.
    void know(std::uint32_t count);
    // `packets` of clients to sessions 0..sessions-1 in scattered order; ns for each.
    double receive(Target target, std::uint32_t sessions, std::uint32_t packets);
    // The VM opens `count` UDP sessions that nobody has opened before; ns for each.
    double open(Target target, std::uint32_t count);

private:
    struct Key {
        std::uint32_t peer[4];
        std::uint16_t peer_port, vm_port;
        std::uint8_t protocol, reserved[3];
    };
    struct alignas(64) State {
        std::uint32_t owner, last_tick, vm_edge, peer_edge;
    };

    void size_tables(std::uint32_t sessions);
    void make_frames();
    void write_session(std::uint8_t* frame, std::uint32_t session, bool from_vm) const;
    void fill(std::uint64_t& at, std::uint32_t sessions);
    void through(Target target);
    void through_plane();
    void through_hash();
    void swap_tuples();
    Key key_in(const std::uint8_t* frame) const;
    std::uint64_t hits() const { return worker_->counters.reason(STEER_WHY_SESSION); }

    unsigned family_;
    std::uint32_t known_ = 0, opened_[kTargets] = {};
    std::vector<Pages> pages_;
    Pages states_;
    dpdk::Tables tables_;
    std::vector<vm_record> records_;
    dpdk::Directory directory_;
    dpdk::Stations stations_{1, 1000};
    std::unique_ptr<dpdk::Worker> worker_;
    dpdk::Burst burst_;
    rte_mempool* pool_ = nullptr;
    rte_hash* hash_ = nullptr;
    std::vector<rte_mbuf*> ring_;
    test::Bytes whole_;  // a client's frame
    std::size_t next_ = 0;
    std::uint64_t missed_ = 0;
    std::uint32_t tick_ = 0;
};

}  // namespace godwit::bench
