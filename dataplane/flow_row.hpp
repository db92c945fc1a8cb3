// A plane's record in the words people use.
#pragma once

#include "dataplane/plane.hpp"
#include "dataplane/state.hpp"
#include "protocol/flow_api.hpp"

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace godwit::dataplane {

// Names of what a record has numbers for, as they are when it is made.
class FlowNames {
public:
    FlowNames(std::string switch_id, std::vector<PortState> ports,
              const std::map<std::string, VmState>& vms);

    protocol::FlowRow row(const steer_flow& record, std::uint64_t time_ns) const;

private:
    const PortState* port(std::uint32_t ifindex) const;
    std::string owner(const VmState& vm, const steer_flow& record) const;

    std::string switch_id_;
    std::vector<PortState> ports_;
    std::vector<const std::pair<const std::string, VmState>*> vms_;  // by index; lives with `vms`
};

const char* verdict_name(std::uint8_t action);
extern const std::vector<std::string> kVerdictNames;
std::optional<steer_why> reason_of(const std::string& name);
// "a, b, c": every reason there is, for who wrote another one.
std::string known_reasons();
std::string tcp_flags_text(std::uint8_t flags);
// "2026-02-03T10:11:12.345678901Z"
std::string time_text(std::uint64_t time_ns);
// What the wall clock is ahead of the plane's.
std::uint64_t wall_minus_monotonic_ns();

}  // namespace godwit::dataplane
