// The tables of another plane into fresh maps. Nobody runs on these before the layout is written.
#include "lib/log.hpp"

#include "ebpf/state.hpp"

#include <algorithm>

#include <bpf/bpf.h>

namespace godwit::ebpf {
namespace {

using dataplane::TableImage;

// The sums are kept, by one core; the others begin at 0.
template <typename Value>
Result<void> put_sum(int map, std::uint32_t index, const Value& sum, int cpus,
                     const std::string& name) {
    std::vector<Value> per_cpu(static_cast<std::size_t>(cpus));
    per_cpu.front() = sum;
    if (bpf_map_update_elem(map, &index, per_cpu.data(), BPF_ANY) != 0)
        return fail_errno(Fault::Retry, "write " + name);
    return {};
}

Result<void> put_counters(EbpfPlane::State& state, const TableImage& image) {
    Result<void> put;
    std::ranges::copy(image.port_names, state.set().port_names);
    for (std::uint32_t number = 0; put && number < image.tallies.size(); ++number)
        put = put_sum(state.map_fd("tallies"), number, image.tallies[number], state.cpus,
                      "the tallies");
    for (const TableImage::Backend& one : image.backends) {
        const auto& sum = one.counters;
        const plane_backend_counters counters{sum.packets_to, sum.packets_from, sum.fenced};
        if (put)
            put = put_sum(state.map_fd("backends"), one.index, counters, state.cpus,
                          "the counters of backends");
    }
    return put;
}

Result<void> put_resets(EbpfPlane::State& state, const TableImage& image) {
    const int map = state.map_fd("resets");
    const std::uint64_t now = image.clock.tick;
    for (const steer_key& key : image.resets)
        if (bpf_map_update_elem(map, &key, &now, BPF_ANY) != 0)
            return fail_errno(Fault::Retry, "write the sessions that were reset");
    if (!image.resets.empty()) state.set().resets = 1;
    return {};
}

}  // namespace

Result<void> take_over(EbpfPlane::State& state) {
    Result<TableImage> image = state.options.left->stop();
    if (!image) return std::unexpected(std::move(image).error().within("take the tables over"));
    std::uint64_t tick = 0;
    Result<void> done = run_program(state.programs["read_tick"], &tick, sizeof(tick), "read_tick");
    if (!done) return done;
    const dataplane::TableClock clock{static_cast<std::uint32_t>(tick),
                                      state.set().ticks_per_second};
    for (unsigned t = 0; t < STEER_TABLES; ++t)
        dataplane::carry_over(*image, static_cast<enum steer_table>(t),
                              state.tables[t].as<struct steer_line>(), clock);
    dataplane::carry_over(*image, state.vms.as<vm_record>(), clock);
    done = put_counters(state, *image);
    if (done) done = put_resets(state, *image);
    if (done) state.set().generation = state.options.left->generation() + 1;
    return done;
}

}  // namespace godwit::ebpf
