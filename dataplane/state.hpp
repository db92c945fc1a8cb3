// What a switch must still know after a restart: the highest token, which name has which index and
// slot, and the steering it was told last. Written before the plane is touched, so a restart between the
// two finishes what was meant. Sessions and counters are not here: the plane's tables are the truth.
#pragma once

#include "lib/descriptor.hpp"
#include "lib/error.hpp"
#include "lib/json.hpp"

#include "protocol/switch_api.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <boost/describe.hpp>

namespace godwit::dataplane {

struct ResetOutcome {  // of the last :reset, for who asks again
    std::string job, step;
    protocol::ResetResult result;
};
BOOST_DESCRIBE_STRUCT(ResetOutcome, (), (job, step, result))

struct SlotState {
    std::string name, port, mac;  // empty name: the slot is free
    protocol::SteeringMode mode = protocol::SteeringMode::l2;
    std::vector<std::string> temporary_addresses = {};
};
BOOST_DESCRIBE_STRUCT(SlotState, (), (name, port, mac, mode, temporary_addresses))

struct VmState {
    std::uint16_t index = 0;
    std::vector<std::string> addresses;
    std::vector<SlotState> slots;  // always STEER_SLOTS of them
    std::uint32_t owner = 0;
    std::optional<std::uint32_t> previous;
    std::uint32_t original = 0;  // while draining: the slot that is no clone, also after a rollback
    bool hosting = false;
    std::uint32_t epoch = 0;
    std::optional<ResetOutcome> reset;
    std::vector<std::uint16_t> vlans = {};  // outermost first
    protocol::IdleLimits idle_limits = {};
};
BOOST_DESCRIBE_STRUCT(VmState, (),
                      (index, addresses, slots, owner, previous, original, hosting, epoch, reset,
                       vlans, idle_limits))

struct SwitchState {
    std::uint64_t token = 0;
    std::map<std::string, VmState> vms;
};
BOOST_DESCRIBE_STRUCT(SwitchState, (), (token, vms))

// One JSON file, replaced by rename after fsync of file and folder.
class StateFile {
public:
    explicit StateFile(std::string directory) : directory_(std::move(directory)) {}
    // An absent file is an empty state; one that does not read is Corrupt.
    Result<SwitchState> load() const;
    Result<void> save(const SwitchState& state) const;
    // Held as long as the process lives. Conflict: another switch has this directory, and its plane with it.
    Result<Descriptor> lock() const;

private:
    std::string directory_;
};

}  // namespace godwit::dataplane
