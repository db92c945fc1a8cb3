// The DPDK plane: ports as ethdevs, workers that forward, and tables in a file. A process that dies stops
// forwarding; the next one goes on with its sessions.
#pragma once

#include "lib/error.hpp"

#include "dataplane/device.hpp"
#include "dataplane/left_tables.hpp"
#include "dataplane/plane.hpp"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace godwit::dpdk {

struct PlaneOptions {
    struct Port {
        std::string name;
        dataplane::PortRole role = dataplane::PortRole::uplink;
        dataplane::Device device;  // of a tunnel none
        std::uint32_t mtu = 1500;
        std::optional<dataplane::Tunnel> tunnel = {};
    };
    std::vector<Port> ports;  // at most kPortsMax
    std::string table_dir;    // exists or can be made, on tmpfs or hugetlbfs; "dpdk-sessions" in it
    dataplane::TableSizes sizes;  // for a new table
    std::uint64_t owner = 0;      // hash of the switch's id
    // What another plane has left: taken over, in place of whatever lies in table_dir.
    dataplane::LeftTables* left = nullptr;
    dataplane::IdleLimits limits{STEER_TIMEOUTS_DEFAULT_S};
    dataplane::NewFlows new_flows = {};
    std::uint32_t workers = 1;
    std::vector<std::uint32_t> lcores;  // as in EnvironmentOptions
    std::uint32_t memory_mb = 128;
    bool hugepages = false;
    std::string file_prefix;
};

// One thread commands it; grace_period() is for any.
class DpdkPlane final : public dataplane::Plane {
public:
    // Once per process. Errors name the device, the file or what DPDK says.
    static Result<std::unique_ptr<dataplane::Plane>> open(const PlaneOptions& options);
    ~DpdkPlane() override;

    bool adopted() const override;
    std::vector<dataplane::PortState> ports() override;
    Result<void> start() override;
    Result<void> set_vm(std::uint16_t vm, const dataplane::VmSetup& setup) override;
    Result<void> clear_vm(std::uint16_t vm) override;
    vm_record& record(std::uint16_t vm) override;
    std::span<struct steer_line> lines(enum steer_table table) override;
    const struct steer_config& config() override;
    Result<void> grace_period() override;
    Result<steer_swept> sweep(std::uint32_t lines) override;
    std::uint32_t tick() override;
    std::uint32_t ticks_per_second() const override;
    std::vector<PortPackets> packets() override;
    BackendCounters counters(std::uint16_t vm, std::uint32_t slot) override;
    int events_fd() override;
    void poll_events(const std::function<void(const Drained&)>& on_drained) override;
    dataplane::Tap* tap() override;
    Result<ResetCount> end_sessions(std::uint16_t vm, std::uint32_t slot, Tell tell) override;
    Result<bool> end_untouched(enum steer_table table, const steer_key& key,
                               std::uint64_t stamp) override;
    Result<void> transmit(std::uint32_t ifindex, std::span<const std::uint8_t> frame) override;

private:
    struct State;
    explicit DpdkPlane(std::unique_ptr<State> state);
    void change(std::uint16_t vm, const dataplane::VmSetup* setup);
    std::unique_ptr<State> state_;
};

}  // namespace godwit::dpdk
