#include "ebpf/pins.hpp"

#include "ebpf/maps.hpp"

#include <bpf/bpf.h>

namespace godwit::ebpf {

Result<bool> look_at_settings(const std::string& bpffs, plane_settings& settings) {
    const std::string pin = bpffs + "/maps/settings";
    const Fd map(bpf_obj_get(pin.c_str()));
    if (!map) return false;
    bpf_map_info info{};
    __u32 bytes = sizeof(info);
    std::uint32_t zero = 0;
    const bool same_size = bpf_obj_get_info_by_fd(map.get(), &info, &bytes) == 0 &&
                           info.value_size == sizeof(plane_settings);
    const bool readable = same_size && bpf_map_lookup_elem(map.get(), &zero, &settings) == 0;
    if (readable && settings.layout == 0) return false;
    if (!readable || settings.layout != GODWIT_LAYOUT)
        return fail(Fault::Conflict, "adopt " + pin,
                    "the tables there have another layout than this version (" +
                        std::to_string(GODWIT_LAYOUT) +
                        "); finish or cancel the running migrations, then remove " + bpffs,
                    "layout-mismatch");
    return true;
}

}  // namespace godwit::ebpf
