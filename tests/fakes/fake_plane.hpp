// A plane of plain memory that writes down in which order it is told things.
#pragma once

#include "dataplane/plane.hpp"
#include "tests/fakes/fake_tap.hpp"

#include <map>
#include <string>
#include <unistd.h>
#include <vector>

namespace godwit::test {

class FakePlane final : public dataplane::Plane {
public:
    FakePlane() : records_(16), lines_(8) {}

    bool adopted() const override { return false; }
    std::vector<dataplane::PortState> ports() override { return ports_; }
    Result<void> start() override { return {}; }
    Result<void> set_vm(std::uint16_t vm, const dataplane::VmSetup& setup) override {
        if (refuse_) return fail(Fault::Retry, "tell the plane", "refused");
        order.push_back("set_vm " + std::to_string(vm) + " word " +
                        std::to_string(records_[vm].steer != 0));
        setups[vm] = setup;
        return {};
    }
    Result<void> clear_vm(std::uint16_t vm) override {
        records_[vm] = {};
        setups.erase(vm);
        return {};
    }
    vm_record& record(std::uint16_t vm) override { return records_[vm]; }
    std::span<steer_line> lines(steer_table) override { return lines_; }
    const steer_config& config() override { return config_; }
    Result<void> grace_period() override { return {}; }
    Result<steer_swept> sweep(std::uint32_t) override { return steer_swept{0, 0, 0}; }
    std::uint32_t tick() override { return 100; }
    std::uint32_t ticks_per_second() const override { return 100; }
    std::vector<PortPackets> packets() override { return counted; }
    BackendCounters counters(std::uint16_t, std::uint32_t) override { return {}; }
    int events_fd() override { return -1; }
    void poll_events(const std::function<void(const Drained&)>&) override {}
    Result<ResetCount> end_sessions(std::uint16_t vm, std::uint32_t slot, Tell tell) override {
        order.push_back(std::string("end ") + (tell == Tell::peers ? "tell " : "") +
                        std::to_string(slot));
        ResetCount count{records_[vm].sessions[slot], 0};
        records_[vm].sessions[slot] = 0;
        return count;
    }

    Result<bool> end_untouched(enum steer_table table, const steer_key& key,
                               std::uint64_t stamp) override {
        order.push_back("end " + std::to_string(key.peer_port) + " of table " +
                        std::to_string(table));
        for (steer_line& line : lines_)
            for (steer_slot& slot : line.slot)
                if (slot.peer_port == key.peer_port && stamp == steer_session_stamp(&slot)) {
                    slot = {};
                    return true;
                }
        return false;
    }
    Result<void> transmit(std::uint32_t ifindex, std::span<const std::uint8_t> frame) override {
        sent.emplace_back(ifindex, std::vector(frame.begin(), frame.end()));
        return {};
    }
    dataplane::Tap* tap() override { return tap_there ? &fake_tap : nullptr; }

    void refuse(bool refuse) { refuse_ = refuse; }

    bool tap_there = true;
    FakeTap fake_tap;
    std::vector<PortPackets> counted;
    std::vector<std::string> order;
    std::vector<std::pair<std::uint32_t, std::vector<std::uint8_t>>> sent;
    std::map<std::uint16_t, dataplane::VmSetup> setups;

private:
    std::vector<dataplane::PortState> ports_ = {
        {"uplink", "eth0", dataplane::PortRole::uplink, 2, true, "xdp", 0, 0},
        {"host-a", "eth1", dataplane::PortRole::vm, 3, true, "tcx", 0, 0},
        {"host-b", "eth2", dataplane::PortRole::vm, 4, true, "tcx", 0, 0},
        {"host-c", "eth3", dataplane::PortRole::vm, 5, true, "tcx", 0, 0},
    };
    std::vector<vm_record> records_;
    std::vector<steer_line> lines_;
    steer_config config_{};
    bool refuse_ = false;
};

}  // namespace godwit::test
