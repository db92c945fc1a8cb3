// The stories on the programs that run in production: loaded by the production loader onto veths, run by
// BPF_PROG_TEST_RUN. A test run says "redirect" and not whereto: that comes from the programs' own counters
// here, and from real frames in tests/netns. Needs root.
#pragma once

#include "dataplane/tap.hpp"
#include "tests/packet/plane.hpp"

#include <memory>

namespace godwit::test {

class EbpfPlane final : public Plane {
public:
    explicit EbpfPlane(TableSizes sizes = {});
    ~EbpfPlane() override;

    void manage(const ManagedVm& vm) override;
    // A frame is at least an Ethernet header long, as on every wire.
    Outcome send(Port from, const Bytes& frame) override;
    vm_record& record(std::uint16_t vm) override;
    std::span<steer_line> lines(steer_table table) override;
    std::uint64_t reason(steer_why why) override;
    steer_swept sweep() override;
    unsigned drained_events() override;
    std::uint32_t ticks_per_s() const override;
    void advance_s(std::uint32_t seconds) override;
    std::uint64_t end_sessions(Slot slot, std::uint16_t vm = kVm) override;
    bool end_untouched(steer_table table, const steer_key& key, std::uint64_t stamp) override;

    // Ports that got a copy of the last frame: what a story does not see of a flood.
    const std::vector<Port>& left_by() const { return left_by_; }
    // The last frame was too short for a test run.
    bool went_by_wire() const { return by_wire_; }
    // The same hash and the same geometry, so that a model can be given the same table.
    const steer_config& config();
    // Off again with every new story.
    dataplane::Tap& tap();
    Port port_of(std::uint32_t ifindex) const;  // of a record; none of ours: not one of Port's
    struct Kernel;

private:
    Outcome send_to_uplink(const Bytes& frame);
    Outcome send_to_vm_port(Port from, const Bytes& frame);
    Outcome send_on_the_wire(Port from, const Bytes& frame);
    void hear_copies(const Bytes& frame);
    void name_copies(Outcome& out);
    std::string reason_since();

    Kernel* kernel_;  // kept between stories; one EbpfPlane uses it at a time
    std::vector<Port> left_by_;
    std::vector<Bytes> copies_;  // what left there
    bool by_wire_ = false;
    unsigned drained_events_ = 0;
};

}  // namespace godwit::test
