// godwit-switch's REST API: what the controller says to a switch, and what it hears.
//
//   PUT    /v1/fence                      Fence -> Fence (the highest token now known)
//   GET    /v1/switch                     -> SwitchStatus
//   GET    /v1/vms                        -> [VmSteering]
//   PUT    /v1/vms/{vm}/steering          Steering -> VmSteering. Desired state; putting the same twice
//                                         changes nothing. The flip is this call with another `owner`.
//   GET    /v1/vms/{vm}/steering          -> VmSteering
//   DELETE /v1/vms/{vm}/steering?token=   the VM is no longer managed; its sessions are dropped
//   POST   /v1/vms/{vm}:reset             ResetRequest -> ResetResult: RST to every TCP session left
//   POST   /v1/vms/{vm}:end-lost          EndLostRequest -> EndLostResult: TCP sessions that the guest has lost
//   POST   /v1/vms/{vm}:announce          Fence -> {}: GARP / unsolicited NA x3 on every uplink
//   GET    /v1/sessions?vm=&owner=&limit= -> SessionList, read from the mapped table
//   GET    /v1/ports                      -> [PortStatus]
//   GET    /v1/stats                      -> SwitchStats (every drop and pass reason by name)
//   GET    /v1/events                     SSE: `drained`, `undrained`, `steering`, data = VmSteering
//   /v1/flows  /v1/sampling  /v1/captures  protocol/flow_api.hpp
//   GET    /livez /readyz /metrics
//
// Errors are RFC 9457 problems: stale-epoch (409), unknown-port, duplicate-address,
// same-port (l2 needs source and destination on different ports), same-mac and temporary-address (what
// mode nat needs), not-hosting, mode-in-use, table-full, unknown-vm.
#pragma once

#include "protocol/fencing.hpp"
#include "protocol/idle_limits.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/describe.hpp>

namespace godwit::protocol {

// How a backend is reached. l2: it has the hosted addresses; two of them stand behind different ports. nat:
// it has a MAC and temporary addresses of its own, and the switch rewrites (CN102932409A [0050], [0075]).
enum class SteeringMode { l2, nat };
BOOST_DESCRIBE_ENUM(SteeringMode, l2, nat)

// A VM instance that can receive. Its identity at the switch is (port, MAC).
struct Backend {
    std::string name;  // the host's id, "host-a"; unique within a VM
    std::string port;  // a port of the switch's configuration
    std::string mac;   // "52:54:00:00:00:01"
    SteeringMode mode = SteeringMode::l2;
    // Mode nat: one for each family in which the VM has a hosted address, of which it then has one.
    std::vector<std::string> temporary_addresses = {};
    static constexpr std::string_view kRequired[] = {"name", "port", "mac"};
};
BOOST_DESCRIBE_STRUCT(Backend, (), (name, port, mac, mode, temporary_addresses))

struct Steering {
    Command command;
    std::vector<std::string> addresses;  // hosted IPs, v4 and v6
    std::vector<Backend> backends;       // one, or two during a migration
    std::string owner;                   // backend that gets new sessions (the default owner)
    // While draining: the backend that had them before the flip and is the authority on old
    // sessions. Absent: only `owner` may send, every other backend is fenced.
    std::optional<std::string> previous;
    // The switch itself answers ARP and ND for the addresses. Needed while the owner is in mode nat:
    // nobody else has them.
    bool hosting = false;
    // The backend whose place `owner` takes: every session and handshake of it becomes the owner's
    // with the one write that turns its port. For a VM that has moved as a whole; the backend named
    // here keeps nothing and is fenced. Without effect once it has happened.
    std::optional<std::string> takes_over;
    // The VLAN that the VM is in: its tag, or two, the outer one first (QinQ). Its frames have them on both
    // sides of the switch. Empty: untagged.
    std::vector<std::uint16_t> vlans = {};
    IdleLimits idle_limits = {};
    static constexpr std::string_view kRequired[] = {"command", "addresses", "backends", "owner"};
};
BOOST_DESCRIBE_STRUCT(Steering, (),
                      (command, addresses, backends, owner, previous, hosting, takes_over, vlans,
                       idle_limits))

struct BackendSteering {
    std::string name, port, mac;
    std::uint64_t sessions = 0;    // live entries owned (closed ones that linger not counted)
    std::uint64_t handshakes = 0;  // given to it and still open
    std::uint64_t packets_to = 0, packets_from = 0;
    std::uint64_t fenced = 0;  // frames it sent that were not its to send
    SteeringMode mode = SteeringMode::l2;
    std::vector<std::string> temporary_addresses = {};
};
BOOST_DESCRIBE_STRUCT(BackendSteering, (),
                      (name, port, mac, sessions, handshakes, packets_to, packets_from, fenced,
                       mode, temporary_addresses))

struct VmSteering {
    std::string vm;
    std::vector<std::string> addresses;
    std::vector<BackendSteering> backends;
    std::string owner;
    std::optional<std::string> previous;
    bool hosting = false;
    std::uint32_t epoch = 0;  // grows at each flip
    // previous exists, the grace period after the flip is over, and it has 0 sessions and 0
    // handshakes. Level, not edge: a backend that opens something new is undrained again.
    bool drained = false;
    std::uint64_t untracked = 0;       // newcomers that found the table full
    std::uint32_t longest_gap_ms = 0;  // longest wait of a peer for any answer, since hosting began
    std::uint64_t flip_ns = 0;  // inside the switch: the write that made the last flip visible
    std::vector<std::uint16_t> vlans = {};
    IdleLimits idle_limits = {};
};
BOOST_DESCRIBE_STRUCT(VmSteering, (),
                      (vm, addresses, backends, owner, previous, hosting, epoch, drained, untracked,
                       longest_gap_ms, flip_ns, vlans, idle_limits))

struct ResetRequest {
    Command command;
    std::string backend;  // whose sessions
    static constexpr std::string_view kRequired[] = {"command", "backend"};
};
BOOST_DESCRIBE_STRUCT(ResetRequest, (), (command, backend))
struct ResetResult {
    std::uint64_t reset = 0;    // TCP sessions whose peer is being told by RST
    std::uint64_t dropped = 0;  // sessions of other protocols, forgotten
};
BOOST_DESCRIBE_STRUCT(ResetResult, (), (reset, dropped))

struct SessionRow {
    std::string vm, owner, protocol, address, peer,
        state;               // peer "10.0.0.9:4000", state "established"
    std::uint16_t port = 0;  // the VM's
    std::uint32_t idle_s = 0;
    std::string stamp;  // another one as soon as a packet of the session has passed
};
BOOST_DESCRIBE_STRUCT(SessionRow, (),
                      (vm, owner, protocol, address, peer, state, port, idle_s, stamp))

// A row of the session list, as it was.
struct LostSession {
    std::string address, peer, stamp;
    std::uint16_t port = 0;
    bool operator==(const LostSession&) const = default;
    static constexpr std::string_view kRequired[] = {"address", "peer", "stamp", "port"};
};
BOOST_DESCRIBE_STRUCT(LostSession, (), (address, peer, stamp, port))
struct EndLostRequest {
    Command command;
    std::string backend;  // whose they are
    std::vector<LostSession> sessions;
    static constexpr std::string_view kRequired[] = {"command", "backend", "sessions"};
};
BOOST_DESCRIBE_STRUCT(EndLostRequest, (), (command, backend, sessions))
struct EndLostResult {
    std::uint64_t ended = 0;
    std::uint64_t kept =
        0;  // something has happened to them since, or they have ended by themselves
};
BOOST_DESCRIBE_STRUCT(EndLostResult, (), (ended, kept))
struct SessionList {
    std::vector<SessionRow> sessions;
    std::uint64_t total = 0;  // matching, `sessions` may be cut at the limit
};
BOOST_DESCRIBE_STRUCT(SessionList, (), (sessions, total))

// A port that is a tunnel to another switch (RFC 7348).
struct TunnelStatus {
    std::string local, remote;
    std::uint32_t vni = 0, udp_port = 0, mtu = 0;
};
BOOST_DESCRIBE_STRUCT(TunnelStatus, (), (local, remote, vni, udp_port, mtu))

struct PortStatus {
    std::string name, interface, role;
    bool up = false;
    std::string program;  // "xdp", "tcx", "clsact"
    std::uint64_t packets = 0, drops = 0;
    std::optional<TunnelStatus> vxlan = {};
};
BOOST_DESCRIBE_STRUCT(PortStatus, (), (name, interface, role, up, program, packets, drops, vxlan))

// Packets that came in by a port, by what was done with them and why. `port` is empty for ports that are gone.
struct PacketCount {
    std::string port;
    std::string verdict;  // "pass", "forward", "both", "answer", "drop", "refuse"
    std::string reason;
    std::uint64_t packets = 0;
};
BOOST_DESCRIBE_STRUCT(PacketCount, (), (port, verdict, reason, packets))

// The counters outlive the process.
struct SwitchStats {
    std::map<std::string, std::uint64_t> reasons;  // packets by verdict reason, all ports
    std::uint64_t table_capacity = 0, table_used = 0, table_used_v6 = 0, table_capacity_v6 = 0;
    std::vector<PacketCount> packets = {};  // the same, one by one; those that are 0 are left out
};
BOOST_DESCRIBE_STRUCT(SwitchStats, (),
                      (reasons, table_capacity, table_used, table_used_v6, table_capacity_v6,
                       packets))

struct SwitchStatus {
    std::string id, plane, version;
    std::uint64_t token = 0;  // highest seen
    bool adopted = false;     // this process took over running programs and tables
    std::vector<PortStatus> ports;
    SwitchStats stats;
};
BOOST_DESCRIBE_STRUCT(SwitchStatus, (), (id, plane, version, token, adopted, ports, stats))

}  // namespace godwit::protocol
