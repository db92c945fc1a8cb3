// The steering text over plain memory with a stepped clock: the plane that the property test and the
// unit tests drive, and the reference for the others.
#pragma once

#include "tests/packet/plane.hpp"

#include <memory>

struct steer_plane;

namespace godwit::test {

class ModelPlane final : public Plane {
public:
    explicit ModelPlane(TableSizes sizes = {}, std::uint32_t seed = 1);
    // With the geometry and the hash of another plane, so that both keep everything at the same place.
    explicit ModelPlane(const struct steer_config& config);
    ~ModelPlane() override;

    void manage(const ManagedVm& vm) override;
    Outcome send(Port from, const Bytes& frame) override;
    vm_record& record(std::uint16_t vm) override;
    std::span<struct steer_line> lines(steer_table table) override;
    std::uint64_t reason(steer_why why) override;
    steer_swept sweep() override;
    unsigned drained_events() override;
    std::uint32_t ticks_per_s() const override { return kTicksPerSecond; }
    void advance_s(std::uint32_t seconds) override;
    std::uint64_t end_sessions(Slot slot, std::uint16_t vm = kVm) override;
    bool end_untouched(steer_table table, const steer_key& key, std::uint64_t stamp) override;
    void advance_ticks(std::uint32_t ticks);

    static constexpr std::uint32_t kTicksPerSecond = 250;

private:
    void forget(std::uint16_t vm);
    static bool rewrite(Bytes& frame, const struct steer_translation* names, bool back);
    std::optional<Bytes> frame_for(const vm_record& vm, unsigned slot, Bytes frame);
    void carry_out(Outcome& out, const vm_record& vm, unsigned slot);
    std::unique_ptr<steer_plane> memory_;
};

}  // namespace godwit::test
