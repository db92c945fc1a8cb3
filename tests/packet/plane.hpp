// What a story needs of a plane: frames in; action, ports, bytes and reason out; and the mapped memory
// (records, lines), which every plane has, for looking at sessions and for letting time pass.
// Implementations: ModelPlane (plain memory), EbpfPlane (BPF_PROG_TEST_RUN). planes.hpp lists them.
#pragma once

#include "steering/slot.h"
#include "steering/types.h"

#include "tests/packet/frame.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace godwit::test {

enum Port { kUplink = 0, kSourcePort = 1, kDestinationPort = 2, kOtherVmPort = 3, kPorts = 4 };
enum Slot : std::uint32_t { kSource = 0, kDestination = 1 };
enum class Role { VmPort, Uplink };

inline constexpr std::uint16_t kVm = 0, kOtherVm = 1;

// A VM with its two backends on kSourcePort and kDestinationPort, both with kVmMac.
struct ManagedVm {
    std::uint16_t vm = kVm;
    std::vector<std::string> addresses{"10.1.0.1", "2001:db8:1::1"};
    Port ports[2] = {kSourcePort, kDestinationPort};
    Mac mac = kVmMac;
    std::uint32_t vlan = 0;  // steer_vlan_within
    // Mode nat: the backend's own MAC, and its temporary addresses instead of the hosted ones.
    struct Nat {
        Mac mac{};
        std::vector<std::string> temporary;
    };
    std::optional<Nat> nat[2] = {};
    Mac mac_of(std::size_t slot) const { return nat[slot] ? nat[slot]->mac : mac; }
};

// Steering as a story says it; the epoch is the plane's business and grows at every call.
struct Plan {
    Slot owner = kSource;
    std::optional<Slot> previous;
    bool hosting = false;
    bool destination_present = true;
};
inline Plan steady(Slot owner) {
    return {owner, std::nullopt, false, true};
}
inline Plan hosted(Slot owner) {
    return {owner, std::nullopt, true, true};
}
inline Plan flipped(Slot from, Slot to) {
    return {to, from, true, true};
}

struct Outcome {
    steer_action action = STEER_DROP;
    // FORWARD, BOTH, ANSWER, REFUSE: where it went. PASS: empty, ordinary switching
    std::vector<Port> to;
    Bytes frame;                // as it left (ANSWER: the answer, REFUSE: the RST)
    std::vector<Bytes> copies;  // BOTH: what each of `to` got
    std::string why;
};

// Small on purpose, so that filling is quick; stories that fill a table name their own size.
struct TableSizes {
    std::uint32_t session_lines = 1024, overflow_lines = 128, handshake_lines = 256;
};

class Plane {
public:
    virtual ~Plane() = default;

    virtual void manage(const ManagedVm& vm) = 0;
    virtual Outcome send(Port from, const Bytes& frame) = 0;
    virtual vm_record& record(std::uint16_t vm) = 0;
    virtual std::span<struct steer_line> lines(steer_table table) = 0;
    virtual std::uint64_t reason(steer_why why) = 0;
    virtual steer_swept sweep() = 0;        // every table once
    virtual unsigned drained_events() = 0;  // announced so far
    virtual std::uint32_t ticks_per_s() const = 0;
    // Time passes for everything that is remembered. A plane whose clock is the kernel's makes every
    // entry older instead.
    virtual void advance_s(std::uint32_t seconds) = 0;
    // Everything `slot` owns is over, and TCP peers are told when they speak. How many will be.
    virtual std::uint64_t end_sessions(Slot slot, std::uint16_t vm = kVm) = 0;
    // One session, unless something has happened since it had this stamp.
    virtual bool end_untouched(steer_table table, const steer_key& key, std::uint64_t stamp) = 0;

    // The one write.
    void steer(const Plan& plan, std::uint16_t vm = kVm);
    std::uint32_t sessions(Slot slot, std::uint16_t vm = kVm) { return record(vm).sessions[slot]; }
    std::uint32_t handshakes(Slot slot, std::uint16_t vm = kVm) {
        return record(vm).handshakes[slot];
    }
    bool is_drained(std::uint16_t vm = kVm);  // the level, as user space computes it

    std::optional<Slot> pinned_to(const Tcp& client, std::uint16_t vm = kVm);
    std::optional<Slot> pinned_to(const Udp& client, std::uint16_t vm = kVm);
    std::optional<Slot> pinned_to(const Echo& asker, std::uint16_t vm = kVm);
    std::optional<Slot> handshake_of(const Tcp& client,
                                     std::uint16_t vm = kVm);  // or second chance
    std::uint32_t entries(
        std::initializer_list<steer_table> tables);  // live slots, closed ones too
    std::uint32_t session_entries() { return entries({STEER_SESSIONS4, STEER_SESSIONS6}); }
    // The exact counters, recomputed from the tables: {sessions 0, 1, handshakes 0, 1}.
    std::array<std::uint32_t, 4> audit(std::uint16_t vm = kVm);

protected:
    void make_older(std::uint32_t ticks);

private:
    struct Wanted {
        Address peer;
        std::uint16_t peer_port, vm_port;
        std::uint8_t protocol;
        std::uint16_t vm;
    };
    std::optional<Slot> owner_of(steer_table table_v4, const Wanted& wanted);
};

}  // namespace godwit::test
