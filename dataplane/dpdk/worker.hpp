// What one worker has, and what a burst is on its way: rx -> parse -> (spread) -> steer -> rewrite -> tx. Everything
// between rx and tx works on frames alone, without ports: the packet stories run on it as it is.
#pragma once

#include "dataplane/dpdk/hooks.hpp"

#include "steering/steer.h"
#include "steering/types.h"

#include "dataplane/dpdk/outlet.hpp"
#include "dataplane/dpdk/shard.hpp"
#include "dataplane/dpdk/stations.hpp"
#include "dataplane/dpdk/tap.hpp"

#include <array>
#include <atomic>
#include <bitset>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

struct rte_mbuf;
struct rte_ring;

namespace godwit::dpdk {

inline constexpr std::uint16_t kBurstMax = 32;
inline constexpr std::uint16_t kPortsMax = 32;
// A burst sends at most one copy of each frame out of a port, or two when both backends of a VM are
// behind the same one.
inline constexpr std::uint16_t kDeparturesMax = 2 * kBurstMax;

class Tunnels;

// Frames of one port; the burst owns them until a stage hands them on or frees them.
struct Burst {
    std::uint16_t port = 0;
    std::uint16_t count = 0;
    std::array<rte_mbuf*, kBurstMax> frames;
    std::array<struct steer_packet, kBurstMax> parsed;
    std::array<struct steer_outcome, kBurstMax> outcomes;
};

// Frames that leave, by port; owned until tx sends them.
struct Departures {
    std::uint16_t count = 0;
    std::array<rte_mbuf*, kDeparturesMax> frames;
};

// One worker writes, anybody may read: a set for each worker. In the plane's memory where that has room for them.
struct Counters {
    Counters(const Tables& memory, unsigned worker);
    Counters(const Counters&) = delete;
    Counters& operator=(const Counters&) = delete;

    std::span<struct steer_tally> tallies;               // by the port's number
    std::array<std::uint8_t, kPortsMax> number_of_port;  // at first its place + 1
    std::span<BackendCounters> backends;                 // of vm * STEER_SLOTS + slot
    std::uint64_t unsent = 0;  // frames that found no buffer or no room in a port

    std::uint64_t reason(enum steer_why why) const;

private:
    std::vector<struct steer_tally> own_tallies_;
    std::vector<BackendCounters> own_backends_;
};

struct Worker {
    Worker(Tables& memory, Stations& learnt, std::uint16_t ports, unsigned number = 0,
           unsigned workers = 1);

    unsigned number, workers;  // which of how many
    steer_plane plane;
    // What the loop puts into plane.directory between two bursts; who exchanges it waits for Quiet::wait() before the
    // old one goes. None: plane.directory is not exchanged.
    const std::atomic<const Directory*>* published = nullptr;
    Stations& stations;
    std::uint16_t ports;                            // numbered from 0
    std::uint16_t uplink = kPortsMax;               // when there is exactly one, else kPortsMax
    std::array<std::uint16_t, kPortsMax> device{};  // the ethdev of a port
    std::array<std::uint16_t, kPortsMax> queues;    // which it has, of each kind; 1 unless told
    std::bitset<kPortsMax> whole_only;              // ports whose device takes no frame in pieces
    Counters counters;
    DpdkTap* tap = nullptr;      // none: nobody ever watches
    Tunnels* tunnels = nullptr;  // none: no port is one
    bool relays = false;         // the uplink is a tunnel: nothing is learnt of who is behind it
    std::array<Departures, kPortsMax> departures{};
    // Of ports whose far end is waited for, or whose queues several workers share. None: nothing of it.
    std::array<std::shared_ptr<Outlet>, kPortsMax> outlets;
    std::array<rte_ring*, kWorkersMax> to{};  // the others' rings from this worker
};

// Fills the burst from a queue of the port's device; false when nothing has come.
bool rx_stage(Worker& worker, std::uint16_t port, Burst& burst, std::uint16_t queue = 0);
void parse_stage(Burst& burst);
// What another worker decides about leaves the burst, to that one. Nothing to do for a worker that is alone.
void spread_stage(Worker& worker, Burst& burst);
void steer_stage(Worker& worker, Burst& burst);
// Carries the verdicts out: every frame is in the departures or freed afterwards, and every reason counted.
void rewrite_stage(Worker& worker, Burst& burst);
// Sends everything that leaves; what a port does not take waits where it may, else it is dropped and counted.
void tx_stage(Worker& worker);

// A burst that has come from a device, up to its departures. Between rx and tx.
void run_burst(Worker& worker, Burst& burst);
// Of a port that is no underlay.
void run_stages(Worker& worker, Burst& burst);
// The same for one that another worker has handed over.
void run_own_stages(Worker& worker, Burst& burst);

}  // namespace godwit::dpdk
