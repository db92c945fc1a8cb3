// The control half of the switch: commands in, the plane's records out. One thread uses it.
//
// A command is checked whole before anything changes; what it means is made durable; then the plane is
// told: identities and addresses first, the steer word last, in one store. Repeating a command changes
// nothing.
#pragma once

#include "lib/error.hpp"

#include "dataplane/plane.hpp"
#include "dataplane/state.hpp"
#include "protocol/switch_api.hpp"

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace godwit::dataplane {

class Steerings {
public:
    // `on_change` is told after every change, for the event stream: {"steering" | "drained" |
    // "undrained", status}.
    Steerings(Plane& plane, StateFile file,
              std::function<void(const std::string&, const protocol::VmSteering&)> on_change);

    // Reads the state and makes the plane agree with it (a plane that was adopted mostly does).
    Result<void> start();

    Result<protocol::Fence> raise_fence(const protocol::Fence& fence);
    Result<protocol::VmSteering> put(const std::string& vm, const protocol::Steering& wanted);
    Result<void> remove(const std::string& vm, std::uint64_t token);
    Result<protocol::ResetResult> reset(const std::string& vm,
                                        const protocol::ResetRequest& request);
    // Ends what the guest behind a backend has lost, each if nothing has happened to it since it was listed.
    Result<protocol::EndLostResult> end_lost(const std::string& vm,
                                             const protocol::EndLostRequest& request);
    // Checks the token only; the caller sends the frames (announce.hpp).
    Result<VmSetup> announcement(const std::string& vm, std::uint64_t token);

    Result<protocol::VmSteering> status(const std::string& vm) const;
    std::vector<protocol::VmSteering> all() const;
    std::uint64_t token() const { return state_.token; }
    // Names for the session list.
    const std::map<std::string, VmState>& vms() const { return state_.vms; }

    // After the grace period of `epoch`: from now on a zero counter means drained.
    void grace_over(const std::string& vm, std::uint32_t epoch);
    // Which VMs wait for a grace period: {name, epoch}.
    std::vector<std::pair<std::string, std::uint32_t>> waiting_for_grace() const;
    // Looks at the level again and tells `on_change` when it has changed.
    void look_at_drains();

private:
    struct Live {  // not stored
        std::uint32_t graced_epoch = 0;
        bool was_drained = false;
        std::uint64_t flip_ns = 0;
    };

    Result<void> check_token(std::uint64_t token);
    Result<VmState> plan(const std::string& vm, const protocol::Steering& wanted) const;
    void check_names_in_use(const std::string& vm, const protocol::Steering& wanted,
                            std::vector<FieldError>& errors) const;
    Result<VmSetup> setup_of(const VmState& state) const;
    Result<void> carry_out(const std::string& vm, const VmState& before, const VmState& after);
    void store_word(const std::string& vm, const VmState& state);
    bool is_drained(const std::string& vm, const VmState& state) const;
    protocol::VmSteering describe(const std::string& vm, const VmState& state) const;

    Plane& plane_;
    StateFile file_;
    std::function<void(const std::string&, const protocol::VmSteering&)> on_change_;
    SwitchState state_;
    // What the plane was last told of a VM whose command it has refused since: `state_` is ahead of it.
    std::map<std::string, VmState> untold_;
    std::map<std::string, Live> live_;
};

}  // namespace godwit::dataplane
