// godwit-agent's REST API, one agent per hypervisor host.
//
//   PUT    /v1/fence                        Fence -> Fence
//   GET    /v1/host                         -> HostStatus
//   GET    /v1/vms                          -> [AgentVm]
//   GET    /v1/vms/{vm}                     -> AgentVm (404 unknown-vm: the agent knows nothing of it)
//   PUT    /v1/vms/{vm}                     VmSpec: define (idempotent)
//   POST   /v1/vms/{vm}:start  :stop        -> AgentVm (:stop asks ACPI/QGA first, then kills)
//   DELETE /v1/vms/{vm}?token=&job=&step=   stop and forget; with job=, only if the job owns it
//   PUT    /v1/reservations/{job}           Reservation -> Reservation (409 no-memory)
//   DELETE /v1/reservations/{job}?token=
//   PUT    /v1/vms/{vm}/incoming            IncomingRequest -> AgentVm (destination: QEMU -incoming, owner = job)
//   PUT    /v1/vms/{vm}/copy                CopyRequest -> CopyStatus (source: starts it; 202 while running)
//   GET    /v1/vms/{vm}/copy?job=           -> CopyStatus (404 unknown-job after an agent restart without trace)
//   PUT    /v1/vms/{vm}/bandwidth           LimitRequest -> CopyStatus (source, while the copy runs)
//   DELETE /v1/vms/{vm}/copy?job=&token=    abort: source goes on untouched, base copy freed
//   PUT    /v1/vms/{vm}/freeze              FreezeRequest -> CopyStatus (source, method whole, stage "ready": stops the
//                                           guest, answers when the destination is proven equal and loaded, or when the
//                                           guest runs again. Done: it stands still until DELETE copy or retirement)
//   PUT    /v1/vms/{vm}/activation          ActivationRequest -> AgentVm (destination: role word, link up, cont)
//   GET    /v1/vms/{vm}/addresses           -> AddressList, observed in the guest through QGA
//   PUT    /v1/vms/{vm}/addresses           AddressRequest -> AddressList: what the guest has afterwards (destination,
//                                           mode nat; through QGA, the first and the second time the same)
//   GET    /v1/vms/{vm}/sockets             -> SocketTable, the guest's own view through QGA
//   GET    /v1/vms/{vm}/regions             -> RegionList (region_api.hpp)
//   PUT    /v1/vms/{vm}/quiescence          QuiesceRequest -> QuiesceStatus (source; poll by PUT again)
//   PUT    /v1/vms/{vm}/merge               MergeRequest -> MergeStatus (source: pause, compare, send)
//   GET    /v1/vms/{vm}/merge?job=          -> MergeStatus
//   PUT    /v1/vms/{vm}/retirement          RetireRequest -> AgentVm or {} (source, after commit)
//   PUT    /v1/vms/{vm}/adoption            AdoptRequest -> AgentVm (destination: no longer owned by the job)
//   GET    /livez /readyz /metrics
//
// Problems: stale-epoch 409, unknown-vm 404, unknown-job 404, no-memory 409, not-owner 409,
// wrong-state 409 (names the state and what would be legal), qemu-failed 502, peer-unreachable 502,
// disk-unseen 422 (an overlay's base is not visible there), no-disk-dir 422,
// peer-refused 502 (nobody listens there), peer-silent 502 (it listens and does not answer),
// peer-untrusted 403 (a certificate was refused: which and why).
#pragma once

#include "protocol/fencing.hpp"
#include "protocol/idle_limits.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/describe.hpp>

namespace godwit::protocol {

enum class VmState { unknown, defined, starting, running, paused, incoming, stopped };
BOOST_DESCRIBE_ENUM(VmState, unknown, defined, starting, running, paused, incoming, stopped)

struct DiskSpec {
    std::string base;            // read-only image, at the same path on every host
    std::string format = "raw";  // of the base: "raw" or "qcow2"
    // The guest writes the image itself. Such a VM runs, and cannot be moved: two would write it.
    bool writable = false;
    // Told by the agent, never written in YAML: the overlays on the base, oldest first. A clone's own
    // one is put on the last of them.
    std::vector<std::string> overlays = {};
    static constexpr std::string_view kRequired[] = {"base"};
};
BOOST_DESCRIBE_STRUCT(DiskSpec, (), (base, format, writable, overlays))

struct RegionSpec {
    std::string name;             // "sessions"
    std::uint32_t size_mib = 16;  // whole file, 2 MiB label area included
    static constexpr std::string_view kRequired[] = {"name"};
};
BOOST_DESCRIBE_STRUCT(RegionSpec, (), (name, size_mib))

enum class NetworkKind { tap, vhost_user };
BOOST_DESCRIBE_ENUM(NetworkKind, tap, vhost_user)

// How the VM's network device meets the host. tap: an interface of the agent's making. vhost-user: QEMU listens
// on a unix socket, and a switch on plane dpdk, whose port names it, comes to it.
struct NetworkSpec {
    NetworkKind kind = NetworkKind::tap;
    std::string socket;  // vhost-user only; empty: <run_dir>/<id>.vhost of the agent
};
BOOST_DESCRIBE_STRUCT(NetworkSpec, (), (kind, socket))

// A VM as its YAML describes it. Paths are on the agent's host and the same on every host.
struct VmSpec {
    std::string id;
    std::string machine = "q35";
    std::string cpu = "max";
    std::uint32_t vcpus = 1;
    std::uint32_t memory_mib = 256;
    std::string kernel, initrd, append;  // direct boot; or disks
    std::vector<DiskSpec> disks;
    std::string mac;
    std::vector<std::string> addresses;  // hosted IPs the guest configures
    // Steering mode nat: what the guest has instead of `addresses`, one for each family in which it has one of
    // those, with prefix length ("10.9.1.31/24"). The switch rewrites. Empty: mode l2.
    std::vector<std::string> temporary_addresses = {};
    // The VLAN the guest is in: its tag, or two, the outer one first (QinQ). The guest tags its frames itself.
    std::vector<std::uint16_t> vlans = {};
    IdleLimits idle_limits = {};  // at the switch; absent: the switch's own
    std::vector<RegionSpec> regions;
    bool guest_agent = true;  // qemu-ga on virtio-serial
    NetworkSpec network;
    static constexpr std::string_view kRequired[] = {"id", "mac", "addresses"};
};
BOOST_DESCRIBE_STRUCT(VmSpec, (),
                      (id, machine, cpu, vcpus, memory_mib, kernel, initrd, append, disks, mac,
                       addresses, temporary_addresses, vlans, idle_limits, regions, guest_agent,
                       network))

struct AgentVm {
    std::string vm;
    VmState state = VmState::unknown;
    std::optional<std::string> owner_job;  // objects made for a job, until adopted
    std::optional<VmSpec> spec;
    std::optional<std::string> role;  // "source", "clone", "sole"
    std::int64_t pid = 0;
    bool link_up = false;
    // Of a VM that came from another host: it was let run here, or that was about to be done. False:
    // it has not executed one instruction here, whatever became of its QEMU.
    bool let_run = false;
    std::string detail;  // last error or what it is doing, for people
};
BOOST_DESCRIBE_STRUCT(AgentVm, (),
                      (vm, state, owner_job, spec, role, pid, link_up, let_run, detail))

struct HostStatus {
    std::string host, version, qemu_version, accelerator;  // "tcg" or "kvm"
    std::uint64_t token = 0;
    std::uint64_t memory_total_bytes = 0, memory_available_bytes = 0;  // after reservations
    // where this agent takes memory from other agents, "10.9.0.2:7010"
    std::string transfer_address;
    std::vector<AgentVm> vms;
};
BOOST_DESCRIBE_STRUCT(HostStatus, (),
                      (host, version, qemu_version, accelerator, token, memory_total_bytes,
                       memory_available_bytes, transfer_address, vms))

struct Reservation {
    Command command;
    std::string vm;
    std::uint64_t memory_bytes = 0;
    static constexpr std::string_view kRequired[] = {"command", "vm", "memory_bytes"};
};
BOOST_DESCRIBE_STRUCT(Reservation, (), (command, vm, memory_bytes))

struct IncomingRequest {
    Command command;
    VmSpec spec;
    // "boot": no QEMU is started before the regions have come; activation starts it.
    std::string method = "fork";
    // The host whose memory is taken: its certificate must name it. Empty: any host of the fleet.
    std::string source_host = {};
    static constexpr std::string_view kRequired[] = {"command", "spec"};
};
BOOST_DESCRIBE_STRUCT(IncomingRequest, (), (command, spec, method, source_host))

enum class OperationState { running, done, failed };
BOOST_DESCRIBE_ENUM(OperationState, running, done, failed)

// automatic: each piece as it goes fastest, by what was measured of the link and of the codecs.
enum class Compression { automatic, off, lz4, zstd };
BOOST_DESCRIBE_ENUM(Compression, automatic, off, lz4, zstd)

struct CopyRequest {
    Command command;
    std::string method = "fork";
    std::string destination;  // transfer_address of the destination's agent
    // Method whole. Compares made and sent while the guest runs, after the copy: with a budget at
    // most so many, without one exactly so many.
    std::uint32_t rounds = 0;
    // The guest is not stopped when the pause would be longer, and runs again when it has become
    // longer: failed, problem "pause-budget". 0: no budget.
    std::uint32_t pause_budget_ms = 0;
    // The destination's certificate must name it. Empty: the host part of its address.
    std::string destination_host = {};
    // What this copy may send; 0: no limit; absent: what agent.yaml says. It holds in the pause too.
    std::optional<std::uint32_t> bandwidth_mib_s = {};
    Compression compression = Compression::automatic;
    static constexpr std::string_view kRequired[] = {"command", "destination"};
};
BOOST_DESCRIBE_STRUCT(CopyRequest, (),
                      (command, method, destination, rounds, pause_budget_ms, destination_host,
                       bandwidth_mib_s, compression))
struct LimitRequest {
    Command command;
    std::uint32_t bandwidth_mib_s = 0;
    static constexpr std::string_view kRequired[] = {"command", "bandwidth_mib_s"};
};
BOOST_DESCRIBE_STRUCT(LimitRequest, (), (command, bandwidth_mib_s))
struct FreezeRequest {
    Command command;
    static constexpr std::string_view kRequired[] = {"command"};
};
BOOST_DESCRIBE_STRUCT(FreezeRequest, (), (command))
struct CopyStatus {
    std::string job;
    OperationState state = OperationState::running;
    // "base", "fork", "diff", "devstate", "loaded"; whole: "base", "round", "ready", "freeze",
    // "loaded"
    std::string stage;
    std::uint64_t bytes_total = 0;  // resident bytes to copy
    std::uint64_t bytes_copied = 0;
    std::uint64_t bytes_compared = 0;  // at the fork instant
    std::uint64_t bytes_diff = 0;      // sent after the fork instant
    std::uint64_t bytes_on_wire = 0;
    std::uint64_t bytes_zero = 0;        // of bytes_copied: zero, and therefore never sent
    std::uint64_t bytes_compressed = 0;  // of bytes_copied: sent compressed
    std::uint64_t bytes_per_s = 0;       // of bytes_copied, over the last seconds
    std::uint32_t bandwidth_mib_s = 0;   // the limit that holds now; 0: none
    std::uint64_t resumes = 0;           // how often the connection was cut and taken up again
    std::uint64_t bytes_resent = 0;      // of bytes_on_wire, for that
    bool reconnecting = false;           // it is cut right now
    std::uint64_t rounds = 0;            // compares sent while the guest ran
    // Of the source: at the fork instant; of method whole, how long it has stood still until now.
    double pause_ms = 0;
    double expected_pause_ms = 0;  // method whole: as reckoned before the guest was stopped
    double duration_ms = 0;
    std::string root;            // root hash both sides agree on, hex
    std::string error, problem;  // what failed, and its slug
};
BOOST_DESCRIBE_STRUCT(CopyStatus, (),
                      (job, state, stage, bytes_total, bytes_copied, bytes_compared, bytes_diff,
                       bytes_on_wire, bytes_zero, bytes_compressed, bytes_per_s, bandwidth_mib_s,
                       resumes, bytes_resent, reconnecting, rounds, pause_ms, expected_pause_ms,
                       duration_ms, root, error, problem))

struct ActivationRequest {
    Command command;
    // "clone" is written into every region before the first instruction; "sole" (method whole): the
    // very VM goes on here, and nothing of its memory is touched.
    std::string role = "clone";
    static constexpr std::string_view kRequired[] = {"command"};
};
BOOST_DESCRIBE_STRUCT(ActivationRequest, (), (command, role))

struct AddressList {
    std::vector<std::string> addresses;
};
BOOST_DESCRIBE_STRUCT(AddressList, (), (addresses))

// On the interface with the VM's MAC. First what is to be there is added, then the rest removed, so that the guest
// is never without; a second address of a network takes the first one's place when that goes.
struct AddressRequest {
    Command command;
    std::vector<std::string> present;  // with prefix length
    std::vector<std::string> absent;   // without
    static constexpr std::string_view kRequired[] = {"command", "present", "absent"};
};
BOOST_DESCRIBE_STRUCT(AddressRequest, (), (command, present, absent))

struct TcpSocket {
    std::string address, peer;  // peer "10.0.0.9:4000"
    std::uint16_t port = 0;     // the guest's
};
BOOST_DESCRIBE_STRUCT(TcpSocket, (), (address, peer, port))
struct SocketTable {
    std::uint64_t tcp_established = 0;         // on the hosted addresses
    std::vector<std::string> peers;            // "10.0.0.9:4000" of each
    std::vector<std::uint16_t> tcp_listening;  // ports on a hosted or on any address, ascending
    // Every connection on the hosted addresses, in whatever state: opening, closing and TIME-WAIT too.
    std::vector<TcpSocket> tcp;
};
BOOST_DESCRIBE_STRUCT(SocketTable, (), (tcp_established, peers, tcp_listening, tcp))

struct QuiesceRequest {
    Command command;
    std::uint32_t window_ms = 500;  // unchanged for this long is quiet
    static constexpr std::string_view kRequired[] = {"command"};
};
BOOST_DESCRIBE_STRUCT(QuiesceRequest, (), (command, window_ms))
struct QuiesceStatus {
    // Two compares in a row, window_ms apart, found no change; or every region's guest says so.
    bool quiet = false;
    bool said_by_guest = false;
    std::uint64_t lines_changed = 0;  // 64-byte lines, in the last compare that found some
};
BOOST_DESCRIBE_STRUCT(QuiesceStatus, (), (quiet, said_by_guest, lines_changed))

enum class OnConflict { fail, source_wins, destination_wins };
BOOST_DESCRIBE_ENUM(OnConflict, fail, source_wins, destination_wins)

struct MergeRequest {
    Command command;
    std::string destination;                    // transfer_address
    OnConflict on_conflict = OnConflict::fail;  // for slots whose own rule is `fail`
    std::string destination_host = {};          // as in CopyRequest
    static constexpr std::string_view kRequired[] = {"command", "destination"};
};
BOOST_DESCRIBE_STRUCT(MergeRequest, (), (command, destination, on_conflict, destination_host))
struct Conflict {
    std::string region;
    std::uint64_t offset = 0;               // of a 64-byte line
    std::string slot;                       // name or number of the slot it lies in
    std::string base, source, destination;  // 128 hex digits each
};
BOOST_DESCRIBE_STRUCT(Conflict, (), (region, offset, slot, base, source, destination))
struct MergeStatus {
    std::string job;
    OperationState state = OperationState::running;
    std::uint64_t bytes_compared = 0;             // region bytes, source now against the copy
    std::uint64_t bytes_changed = 0;              // really changed on the source, in 64-byte lines
    std::uint64_t bytes_patched = 0;              // written on the destination
    std::uint64_t resumes = 0, bytes_resent = 0;  // as in CopyStatus
    double pause_ms = 0;                          // of the destination
    // state failed with any left under `fail`; nothing patched then
    std::vector<Conflict> conflicts;
    std::string error;
};
BOOST_DESCRIBE_STRUCT(MergeStatus, (),
                      (job, state, bytes_compared, bytes_changed, bytes_patched, resumes,
                       bytes_resent, pause_ms, conflicts, error))

enum class SourceAfter { delete_, stop, keep };  // written "delete"
BOOST_DESCRIBE_ENUM(SourceAfter, delete_, stop, keep)

struct RetireRequest {
    Command command;
    SourceAfter source_after = SourceAfter::delete_;
    static constexpr std::string_view kRequired[] = {"command"};
};
BOOST_DESCRIBE_STRUCT(RetireRequest, (), (command, source_after))

struct AdoptRequest {
    Command command;
    static constexpr std::string_view kRequired[] = {"command"};
};
BOOST_DESCRIBE_STRUCT(AdoptRequest, (), (command))

}  // namespace godwit::protocol
