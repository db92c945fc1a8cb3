// What godwit-switch needs of a plane: memory it can look into and a few acts. The rules of steering are
// not here; both sides include steering/. Every plane maps its tables, so reading sessions or counters
// costs no system call per entry, and the flip is one store into a mapped record.
#pragma once

#include "lib/error.hpp"
#include "steering/slot.h"
#include "steering/tally.h"
#include "steering/types.h"

#include "dataplane/tap.hpp"
#include "dataplane/tunnel.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace godwit::dataplane {

using Mac = std::array<std::uint8_t, 6>;

// An address in network order; IPv4 uses word 0, the others are 0.
struct HostedAddress {
    std::uint32_t family = 4;  // 4 or 6
    std::array<std::uint32_t, 4> words_be{};
    auto operator<=>(const HostedAddress&) const = default;
};

// underlay: it carries tunnels, and nothing on it is steered.
enum class PortRole { uplink, vm, underlay };

struct PortSetup {
    std::string name;
    std::string interface;
    PortRole role = PortRole::uplink;
    std::optional<Tunnel> tunnel = {};
};

struct PortState {
    std::string name, interface;
    PortRole role = PortRole::uplink;
    std::uint32_t ifindex = 0;  // the plane's number of it, never 0: the kernel's, or its place + 1
    bool up = false;
    std::string program;  // "xdp", "tcx", "clsact", or the driver: "net_af_packet"
    std::uint64_t packets = 0, drops = 0;
    std::optional<Tunnel> tunnel = {};
};

struct TableSizes {  // capacity in sessions; the plane rounds up to lines
    std::uint32_t sessions_v4 = 1 << 20;
    std::uint32_t sessions_v6 = 1 << 17;
    std::uint32_t handshakes = 1 << 16;
};

// One backend of a VM as the plane sees it. ifindex 0: the slot is empty.
struct BackendSetup {
    std::uint32_t ifindex = 0;
    Mac mac{};
    // Mode nat: the temporary addresses the backend has instead of the hosted ones, one for each family
    // in which the VM has a hosted address. Empty: mode l2.
    std::vector<HostedAddress> temporary = {};
};

struct PortLimit {  // of open TCP sessions, or of UDP ones
    std::uint8_t protocol = 0;
    std::uint16_t port = 0;
    bool of_peer = false;
    std::uint32_t idle_s = 0;
};

// How long things may be idle. A VM's: 0 is the plane's own.
struct IdleLimits {
    steer_timeouts seconds{};
    std::vector<PortLimit> ports = {};
};

// How many new flows a second each VM may have, and at once when it has had none for a while. 0: as many as come.
struct NewFlows {
    std::uint32_t per_second = 0, burst = 0;
};

// Everything about a VM but its steer word.
struct VmSetup {
    Mac mac{};
    std::uint32_t vlan = 0;  // its place, steer_vlan_within of its tags; 0: untagged
    // at most STEER_ADDRESSES_PER_VM; index i has id vm * 8 + i
    std::vector<HostedAddress> addresses;
    std::array<BackendSetup, STEER_SLOTS> backends{};
    IdleLimits limits{};
};

// What must be rewritten towards `slot`, STEER_BACKEND_ in steering/types.h. In mode l2 both usually have one
// MAC; where they have not, a peer may still send to the other one's.
inline std::uint16_t flags_of(const VmSetup& setup, std::size_t slot) {
    const BackendSetup &backend = setup.backends[slot], &sibling = setup.backends[1 - slot];
    if (!backend.temporary.empty()) return STEER_BACKEND_NAT;
    return backend.ifindex != 0 && sibling.ifindex != 0 && backend.mac != sibling.mac
               ? STEER_BACKEND_MAC
               : 0;
}

// The record of `slot`: its MAC, and in mode nat its names.
inline steer_translation translation_of(std::uint16_t vm, const VmSetup& setup, std::size_t slot) {
    steer_translation names{};
    const BackendSetup& backend = setup.backends[slot];
    std::ranges::copy(backend.mac, names.mac);
    if (backend.temporary.empty()) return names;
    for (const HostedAddress& address : backend.temporary)
        if (address.family == 4)
            names.temporary4_be = address.words_be[0];
        else
            std::ranges::copy(address.words_be, names.temporary6_be);
    for (std::size_t i = 0; i < setup.addresses.size(); ++i) {
        const HostedAddress& address = setup.addresses[i];
        const auto id = static_cast<std::uint16_t>(vm * STEER_ADDRESSES_PER_VM + i);
        if (address.family == 4) {
            names.hosted4_be = address.words_be[0];
            names.address_id4 = id;
        } else {
            std::ranges::copy(address.words_be, names.hosted6_be);
            names.address_id6 = id;
        }
    }
    return names;
}

class Plane {
public:
    virtual ~Plane() = default;

    // Programs and tables of an earlier process were found running and taken over.
    virtual bool adopted() const = 0;
    virtual std::vector<PortState> ports() = 0;

    // Every VM has been told: packets may come. (A plane that was adopted has not stopped.)
    virtual Result<void> start() = 0;

    // Makes the plane's lookups (identity, hosted and temporary addresses, translations) and the record's backends, MAC and timeouts
    // equal to `setup`; entries of `vm` that setup does not name any more are removed. Does not touch the
    // steer word: the caller stores that last. Order inside: rules first, removals last.
    virtual Result<void> set_vm(std::uint16_t vm, const VmSetup& setup) = 0;
    // Clears the steer word, the lookups, the sessions and the counters of `vm`.
    virtual Result<void> clear_vm(std::uint16_t vm) = 0;

    // Mapped memory, valid while the plane lives.
    virtual vm_record& record(std::uint16_t vm) = 0;
    virtual std::span<struct steer_line> lines(enum steer_table table) = 0;
    virtual const struct steer_config& config() = 0;

    // Every program that began before this call has ended when it returns (an RCU grace period).
    virtual Result<void> grace_period() = 0;

    // Ages `lines` lines of every table from a cursor the plane keeps. A kill in the middle leaves entries
    // and counters agreeing: it does not interrupt it, or the next process counts again.
    virtual Result<steer_swept> sweep(std::uint32_t lines) = 0;

    virtual std::uint32_t tick() = 0;  // now, in the plane's unit
    virtual std::uint32_t ticks_per_second() const = 0;
    // Packets so far, all cores: a row for each port, and a last one without a name for ports that are gone.
    // They outlive the process.
    struct PortPackets {
        std::string port;
        steer_tally counted{};
    };
    virtual std::vector<PortPackets> packets() = 0;
    std::uint64_t reason(steer_why why) {
        std::uint64_t sum = 0;
        for (const PortPackets& port : packets()) sum += steer_tally_of(&port.counted, why);
        return sum;
    }
    struct BackendCounters {
        std::uint64_t packets_to = 0, packets_from = 0, fenced = 0;
    };
    virtual BackendCounters counters(std::uint16_t vm, std::uint32_t slot) = 0;

    // Which VM's previous owner reached zero sessions and handshakes, and in which epoch. `on_drained`
    // is called from poll_events(), which the caller runs when events_fd() is readable.
    struct Drained {
        std::uint16_t vm;
        std::uint32_t epoch;
    };
    virtual int events_fd() = 0;
    virtual void poll_events(const std::function<void(const Drained&)>& on_drained) = 0;

    // Ends every session and handshake of `slot`, with exact counters; of what a kill in the middle has left
    // the same holds as for sweep(), and who asks again ends the rest. Tell::peers: whatever the peer of one of its TCP sessions sends next is answered with an
    // RST made of its own numbers, so that it is accepted; counted as `reset`. The others, and with
    // Tell::nobody all, are just forgotten and counted as `dropped`.
    enum class Tell { peers, nobody };
    struct ResetCount {
        std::uint64_t reset = 0, dropped = 0;
    };
    virtual Result<ResetCount> end_sessions(std::uint16_t vm, std::uint32_t slot, Tell tell) = 0;
    // Ends one session, unless something has happened to it since it was seen with this stamp
    // (steer_session_stamp) or it has ended already. Nobody is told. Whether it did.
    virtual Result<bool> end_untouched(enum steer_table table, const steer_key& key,
                                       std::uint64_t stamp) = 0;

    // A frame of the switch's own, out of a port (PortState::ifindex).
    virtual Result<void> transmit(std::uint32_t ifindex, std::span<const std::uint8_t> frame) = 0;

    // Null: nobody can look into this plane.
    virtual Tap* tap() { return nullptr; }
};

}  // namespace godwit::dataplane
