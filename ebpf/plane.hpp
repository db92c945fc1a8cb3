// The eBPF plane: loads or adopts the programs and tables, and lets godwit-switch work on them.
//
// Everything is pinned under `bpffs`: `maps/`, and a link per port in `links/`. A process that dies leaves the
// packets flowing; the next one finds the tables by their pins, checks that it was built for the same
// layout, and puts its own programs in place of the running ones without a gap.
#pragma once

#include "lib/error.hpp"

#include "dataplane/left_tables.hpp"
#include "dataplane/plane.hpp"

#include <memory>
#include <string>
#include <vector>

namespace godwit::ebpf {

struct PlaneOptions {
    std::string bpffs;  // below /sys/fs/bpf
    std::vector<dataplane::PortSetup> ports;
    dataplane::TableSizes sizes;  // for new tables; adopted ones keep theirs
    dataplane::IdleLimits limits{STEER_TIMEOUTS_DEFAULT_S};
    dataplane::NewFlows new_flows = {};
    std::uint64_t owner = 0;  // hash of the switch's id
    // What another plane has left: taken over, in place of whatever is pinned.
    dataplane::LeftTables* left = nullptr;
};

class EbpfPlane final : public dataplane::Plane {
public:
    // Errors name the interface, the pin or the table. Needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, or root.
    static Result<std::unique_ptr<dataplane::Plane>> open(const PlaneOptions& options);
    ~EbpfPlane() override;

    bool adopted() const override;
    std::vector<dataplane::PortState> ports() override;
    Result<void> start() override;  // on ports where nothing has run
    Result<void> set_vm(std::uint16_t vm, const dataplane::VmSetup& setup) override;
    Result<void> clear_vm(std::uint16_t vm) override;
    vm_record& record(std::uint16_t vm) override;
    std::span<steer_line> lines(steer_table table) override;
    const steer_config& config() override;
    Result<void> grace_period() override;
    Result<steer_swept> sweep(std::uint32_t lines) override;
    std::uint32_t tick() override;
    std::uint32_t ticks_per_second() const override;
    std::vector<PortPackets> packets() override;
    BackendCounters counters(std::uint16_t vm, std::uint32_t slot) override;
    int events_fd() override;
    void poll_events(const std::function<void(const Drained&)>& on_drained) override;
    Result<ResetCount> end_sessions(std::uint16_t vm, std::uint32_t slot, Tell tell) override;
    Result<bool> end_untouched(enum steer_table table, const steer_key& key,
                               std::uint64_t stamp) override;
    Result<void> transmit(std::uint32_t ifindex, std::span<const std::uint8_t> frame) override;
    dataplane::Tap* tap() override;

    // Takes programs off the ports and removes every pin: the opposite of open(). Sessions are forgotten.
    void uninstall();

    // For who drives the programs itself (tests by BPF_PROG_TEST_RUN, bench): "uplink", "vm_port", ...
    // -1: there is no such program.
    int program_fd(const std::string& name) const;

    struct State;  // ebpf/state.hpp

private:
    explicit EbpfPlane(std::unique_ptr<State> state);
    enum class Which { running, rest };
    Result<void> attach_ports(Which which);
    std::unique_ptr<State> state_;
};

}  // namespace godwit::ebpf
