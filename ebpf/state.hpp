// What an EbpfPlane holds; private to this folder.
#pragma once

#include "dataplane/plane.hpp"
#include "ebpf/layout.h"
#include "ebpf/maps.hpp"
#include "ebpf/plane.hpp"
#include "ebpf/tap.hpp"

#include <array>
#include <map>
#include <string>
#include <vector>

namespace godwit::ebpf {

// Fills the fresh tables of `state` with what PlaneOptions::left has (ebpf/take_over.cpp).
Result<void> take_over(EbpfPlane::State& state);

struct EbpfPlane::State {
    PlaneOptions options;
    bool adopted = false;
    Object object;
    std::array<Mapping, STEER_TABLES> tables;
    Mapping vms, settings;
    std::vector<dataplane::PortState> ports;
    std::vector<std::uint32_t> port_numbers;  // in `tallies`
    std::map<std::string, int> programs;
    Ring ring;
    std::unique_ptr<EbpfTap> tap;
    std::vector<dataplane::Plane::Drained> drained;
    plane_sweep sweep{};
    int cpus = 1;

    plane_settings& set() const { return settings.as<plane_settings>()[0]; }
    int map_fd(const char* name) const {
        return bpf_object__find_map_fd_by_name(object.get(), name);
    }
};

}  // namespace godwit::ebpf
