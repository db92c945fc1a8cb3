// The stories on the stages of the DPDK plane: real frames through parse, steer and rewrite, with the test
// in the place of rx and tx. Needs no root and no hugepages.
#pragma once

#include "dataplane/tap.hpp"
#include "tests/packet/plane.hpp"

#include <memory>
#include <vector>

namespace godwit::test {

class DpdkPlane : public Plane {
public:
    explicit DpdkPlane(TableSizes sizes = {}, unsigned workers = 1);
    // With the geometry and the hash of another plane, so that both keep everything at the same place.
    explicit DpdkPlane(const struct steer_config& config, unsigned workers = 1);
    ~DpdkPlane() override;

    void manage(const ManagedVm& vm) override;
    Outcome send(Port from, const Bytes& frame) override;
    vm_record& record(std::uint16_t vm) override;
    std::span<steer_line> lines(steer_table table) override;
    std::uint64_t reason(steer_why why) override;
    steer_swept sweep() override;
    unsigned drained_events() override;
    std::uint32_t ticks_per_s() const override { return kTicksPerSecond; }
    void advance_s(std::uint32_t seconds) override;
    std::uint64_t end_sessions(Slot slot, std::uint16_t vm = kVm) override;
    bool end_untouched(steer_table table, const steer_key& key, std::uint64_t stamp) override;

    // All of them in one burst, at most 32; the reasons in their order. What leaves is in left() afterwards.
    std::vector<std::string> burst(Port from, const std::vector<Bytes>& frames);
    struct Left {
        Port port;
        Bytes frame;
        bool operator==(const Left&) const = default;
    };
    const std::vector<Left>& left() const { return left_; }

    dataplane::Tap& tap();
    Port port_of(std::uint32_t ifindex) const {
        return static_cast<Port>(ifindex == 0 ? kPorts : ifindex - 1);
    }

    static constexpr std::uint32_t kTicksPerSecond = 1000;
    struct Stages;
    Stages& stages() { return *stages_; }

private:
    std::unique_ptr<Stages> stages_;
    std::vector<Left> left_;
};

// Two workers: of each port one of them takes the frames in, and the other one's it hands over.
class TwoWorkersPlane final : public DpdkPlane {
public:
    explicit TwoWorkersPlane(TableSizes sizes = {}) : DpdkPlane(sizes, 2) {}
};

}  // namespace godwit::test
