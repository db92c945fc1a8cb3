#include "tests/packet/dpdk/eal.hpp"

#include <algorithm>
#include <cstring>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <stdexcept>
#include <unistd.h>

namespace godwit::test {
namespace {

[[noreturn]] void give_up(const std::string& doing) {
    throw std::runtime_error(doing + ": " + rte_strerror(rte_errno));
}

}  // namespace

Eal& Eal::instance() {
    static Eal eal;
    return eal;
}

Eal::Eal() {
    // Two workers beside the test, on two CPUs where there are so many.
    const bool two = sysconf(_SC_NPROCESSORS_ONLN) > 1;
    const std::string lcores = two ? "--lcores=(0-2)@(0,1)" : "--lcores=(0-2)@0";
    std::vector<std::string> words{
        "tests", "--no-huge", "--no-pci",         "--no-shconf",      "--no-telemetry",   "-m",
        "96",    lcores,      "--vdev=net_ring0", "--vdev=net_ring1", "--log-level=error"};
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    if (rte_eal_init(static_cast<int>(arguments.size()), arguments.data()) < 0)
        give_up("start DPDK's environment");
    pool_ = rte_pktmbuf_pool_create("frames", 8191, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    for (unsigned number = 0; number < pools_.size(); ++number) {
        const std::string name = "frames-" + std::to_string(number);
        pools_[number] = rte_pktmbuf_pool_create(name.c_str(), 127, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
                                                 SOCKET_ID_ANY);
        if (!pools_[number]) give_up("make the pool " + name);
    }
    if (!pool_) give_up("make the pool of frames");
}

rte_mbuf* Eal::piece(std::span<const std::uint8_t> bytes) {
    rte_mbuf* frame = rte_pktmbuf_alloc(pool_);
    if (!frame) give_up("take a frame from the pool");
    std::memcpy(rte_pktmbuf_append(frame, static_cast<std::uint16_t>(bytes.size())), bytes.data(),
                bytes.size());
    return frame;
}

rte_mbuf* Eal::frame(const Bytes& bytes) {
    const std::size_t room = RTE_MBUF_DEFAULT_DATAROOM;
    rte_mbuf* frame = piece(std::span(bytes).first(std::min(bytes.size(), room)));
    for (std::size_t at = room; at < bytes.size(); at += room)
        if (rte_pktmbuf_chain(
                frame, piece(std::span(bytes).subspan(at, std::min(bytes.size() - at, room)))) != 0)
            give_up("chain a frame");
    return frame;
}

std::uint32_t Eal::frames_out() const {
    return rte_mempool_in_use_count(pool_);
}

rte_mempool* Eal::pool(unsigned number) {
    return pools_.at(number);
}

rte_ring* Eal::ring(unsigned frames) {
    const std::string name = "test-" + std::to_string(rings_++);
    rte_ring* ring =
        rte_ring_create(name.c_str(), frames, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
    if (!ring) give_up("make a ring");
    return ring;
}

std::uint16_t Eal::loop(unsigned number) {
    std::uint16_t port = 0;
    const std::string name = "net_ring" + std::to_string(number);
    if (rte_eth_dev_get_port_by_name(name.c_str(), &port) != 0) give_up("find " + name);
    if (loops_.contains(number)) {
        rte_mbuf* left = nullptr;  // by the test before
        while (rte_eth_rx_burst(port, 0, &left, 1) == 1) rte_pktmbuf_free(left);
        return port;
    }
    loops_.insert(number);
    return started(port);
}

std::uint16_t Eal::started(std::uint16_t ethdev) {
    const rte_eth_conf plain{};
    const unsigned socket = static_cast<unsigned>(SOCKET_ID_ANY);
    if (rte_eth_dev_configure(ethdev, 1, 1, &plain) != 0 ||
        rte_eth_rx_queue_setup(ethdev, 0, 64, socket, nullptr, pool_) != 0 ||
        rte_eth_tx_queue_setup(ethdev, 0, 64, socket, nullptr) != 0 ||
        rte_eth_dev_start(ethdev) != 0)
        give_up("start ethdev " + std::to_string(ethdev));
    return ethdev;
}

Eal::Wire Eal::wire(unsigned number) {
    Wire& wire = wires_[number];
    if (!wire.in) {
        wire.in = ring(1024);
        wire.out = ring(1024);
        const std::string name = "wire" + std::to_string(number);
        const int ethdev = rte_eth_from_rings(name.c_str(), &wire.in, 1, &wire.out, 1, 0);
        if (ethdev < 0) give_up("make " + name);
        wire.ethdev = started(static_cast<std::uint16_t>(ethdev));
    }
    void* left = nullptr;  // by the test before
    for (rte_ring* ring : {wire.in, wire.out})
        while (rte_ring_dequeue(ring, &left) == 0) rte_pktmbuf_free(static_cast<rte_mbuf*>(left));
    return wire;
}

Bytes bytes_of(const rte_mbuf* frame) {
    Bytes bytes;
    for (const rte_mbuf* part = frame; part; part = part->next) {
        const auto* data = rte_pktmbuf_mtod(part, const std::uint8_t*);
        bytes.insert(bytes.end(), data, data + part->data_len);
    }
    return bytes;
}

}  // namespace godwit::test
