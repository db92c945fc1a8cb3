// Tunnels on plane dpdk: ports without a device of their own, whose frames come and leave by an underlay port's with
// an outer header (RFC 7348). The switch itself is the tunnel's end there: it answers ARP for it, and asks who the
// other end is. Shared by the workers.
#pragma once

#include "dataplane/dpdk/worker.hpp"

#include "steering/tunnel.h"

#include "dataplane/dpdk/neighbour.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

struct rte_mempool;

namespace godwit::dpdk {

struct TunnelEnd {
    dataplane::Tunnel tunnel;
    std::uint16_t port = 0, underlay = 0;  // their numbers
    std::uint32_t underlay_mtu = 0;
    dataplane::Mac mac{};  // the underlay device's
};

class Tunnels {
public:
    // `frames`: where questions are made from.
    Tunnels(const std::vector<TunnelEnd>& ends, rte_mempool* frames, std::uint32_t ticks_per_s);

    bool is_tunnel(std::uint16_t port) const { return of_port_[port] != kNone; }
    bool is_underlay(std::uint16_t port) const { return is_underlay_[port]; }

    // stages/unwrap.cpp. What has come over an underlay: the frames of tunnels that end here go through the stages,
    // without their outer headers, as a burst of their tunnel's port; the rest is answered or dropped.
    void unwrap(Worker& worker, const Burst& outer);
    // stages/wrap.cpp. Outer headers for what leaves by a tunnel; what cannot is freed and counted.
    void wrap(Worker& worker, std::uint16_t port, Departures& leaving);
    // One worker's, in every round: who the other ends are is asked when it is time. The questions, each to leave by
    // the port that it names; at most so many as fit into `questions`.
    std::size_t ask(std::uint32_t tick, std::span<void*> questions);

    struct Seen {
        bool reachable = false;
        std::uint64_t packets = 0, drops = 0;
    };
    Seen seen(std::uint16_t port) const;  // any thread

private:
    static constexpr std::uint8_t kNone = 0xff;
    struct Place {
        Place(const TunnelEnd& its, std::uint32_t ticks_per_s);
        TunnelEnd end;
        steer_tunnel match;
        Neighbour neighbour;
        std::atomic<std::uint64_t> packets{0}, drops{0};
    };
    std::uint8_t sort(Worker& worker, std::uint16_t underlay, rte_mbuf* frame);
    void hear_arp(Worker& worker, std::uint16_t underlay, rte_mbuf* frame);
    enum steer_why put_header(const Place& place, rte_mbuf* frame);

    std::deque<Place> places_;
    std::array<std::uint8_t, kPortsMax> of_port_;
    std::array<bool, kPortsMax> is_underlay_{};
    rte_mempool* frames_;
    std::uint32_t asked_at_ = 0;
};

}  // namespace godwit::dpdk
