#include "ebpf/left.hpp"

#include "ebpf/attach.hpp"
#include "ebpf/layout.h"
#include "ebpf/maps.hpp"
#include "ebpf/pins.hpp"

#include <chrono>
#include <filesystem>
#include <linux/bpf.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

namespace godwit::ebpf {
namespace {

using dataplane::TableImage;

// The programs of the process that is gone have no pins, and what they count by is not to be had otherwise.
Result<std::uint64_t> jiffies() {
    const bpf_insn program[] = {
        {BPF_ALU64 | BPF_MOV | BPF_X, 6, 1, 0, 0},
        {BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_jiffies64},
        {BPF_STX | BPF_MEM | BPF_DW, 6, 0, 0, 0},
        {BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0},
        {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
    };
    bpf_prog_load_opts options{};
    options.sz = sizeof(options);
    options.prog_flags = BPF_F_SLEEPABLE;
    const Fd loaded(bpf_prog_load(BPF_PROG_TYPE_SYSCALL, "godwit_tick", "GPL", program,
                                  std::size(program), &options));
    if (!loaded) return fail_errno(Fault::Retry, "load the program that reads the clock");
    std::uint64_t now = 0;
    Result<void> ran = run_program(loaded.get(), &now, sizeof(now), "read the clock");
    if (!ran) return std::unexpected(std::move(ran).error());
    return now;
}

class LeftByEbpf final : public dataplane::LeftTables {
public:
    LeftByEbpf(std::string bpffs, const plane_settings& settings)
        : bpffs_(std::move(bpffs)), settings_(settings) {}

    std::uint64_t generation() const override { return settings_.generation; }
    const struct steer_config& config() const override { return settings_.steer; }

    Result<TableImage> stop() override {
        TableImage image;
        image.config = settings_.steer;
        image.clock.hz = settings_.ticks_per_second;
        std::ranges::copy(settings_.port_names, image.port_names.begin());
        Result<void> mapped = map_all(image);  // while they still forward, because it can fail
        if (!mapped) return std::unexpected(std::move(mapped).error());
        Result<std::uint64_t> now = jiffies();
        if (!now) return std::unexpected(std::move(now).error());
        image.clock.tick = static_cast<std::uint32_t>(*now);
        detach();
        Result<void> counted = read_counters(image);
        if (!counted) return std::unexpected(std::move(counted).error());
        return image;
    }

    // Also after a take-over that was cut short in the middle of this: what is not there any more is no matter.
    void remove() override {
        detach();
        std::error_code error;
        // Settings last: whoever is interrupted before finds them, and goes on here.
        for (const auto& pin : std::filesystem::directory_iterator(bpffs_ + "/maps", error))
            if (pin.path().filename() != "settings") std::filesystem::remove(pin.path(), error);
        std::filesystem::remove_all(bpffs_ + "/maps", error);
    }

private:
    Fd pinned(const std::string& name) const {
        return Fd(bpf_obj_get((bpffs_ + "/maps/" + name).c_str()));
    }

    Result<void> map_all(TableImage& image) {
        for (unsigned t = 0; t < STEER_TABLES; ++t) {
            const auto table = static_cast<enum steer_table>(t);
            const std::size_t lines = steer_lines(table, settings_.steer.table[t]);
            Result<Mapping> mapping = Mapping::of(pinned(kTableNames[t]).get(),
                                                  lines * sizeof(steer_line), kTableNames[t]);
            if (!mapping) return std::unexpected(std::move(mapping).error());
            tables_[t] = std::move(*mapping);
            image.lines[t] = tables_[t].as<const struct steer_line>();
        }
        Result<Mapping> vms =
            Mapping::of(pinned("vms").get(), STEER_VMS_MAX * sizeof(vm_record), "vms");
        if (!vms) return std::unexpected(std::move(vms).error());
        vms_ = std::move(*vms);
        image.vms = vms_.as<const vm_record>();
        return {};
    }

    // Programs that run have ended when it returns.
    void detach() {
        std::error_code error;
        // A pin that goes frees its link some time later; detached it is at once.
        for (const auto& pin : std::filesystem::directory_iterator(bpffs_ + "/links", error)) {
            const Fd link(bpf_obj_get(pin.path().c_str()));
            if (link) bpf_link_detach(link.get());
        }
        std::filesystem::remove_all(bpffs_ + "/links", error);
        for (std::uint32_t i = 0; i < settings_.attached_count && i < PLANE_PORTS_MAX; ++i)
            detach_tc_filter(settings_.attached[i]);
        syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
    }

    Result<void> read_counters(TableImage& image) {
        const auto cpus = static_cast<std::size_t>(libbpf_num_possible_cpus());
        const Fd tallies = pinned("tallies"), backends = pinned("backends"),
                 resets = pinned("resets");
        std::vector<steer_tally> of_port(cpus);
        for (std::uint32_t number = 0; number < STEER_TALLY_PORTS; ++number) {
            if (bpf_map_lookup_elem(tallies.get(), &number, of_port.data()) != 0)
                return fail_errno(Fault::Retry, "read the tallies");
            steer_tally& sum = image.tallies.emplace_back();
            for (const steer_tally& cpu : of_port)
                for (std::size_t cell = 0; cell < std::size(cpu.packets); ++cell)
                    sum.packets[cell] += cpu.packets[cell];
        }
        std::vector<plane_backend_counters> of_backend(cpus);
        for (std::uint32_t i = 0; i < STEER_VMS_MAX * STEER_SLOTS; ++i) {
            if (!(image.vms[i / STEER_SLOTS].steer & STEER_VALID)) continue;
            if (bpf_map_lookup_elem(backends.get(), &i, of_backend.data()) != 0)
                return fail_errno(Fault::Retry, "read the counters of backends");
            auto& sum = image.backends.emplace_back(i).counters;
            for (const plane_backend_counters& cpu : of_backend) {
                sum.packets_to += cpu.to;
                sum.packets_from += cpu.from;
                sum.fenced += cpu.fenced;
            }
        }
        steer_key key{};
        for (bool more = bpf_map_get_next_key(resets.get(), nullptr, &key) == 0; more;
             more = bpf_map_get_next_key(resets.get(), &key, &key) == 0)
            image.resets.push_back(key);
        return {};
    }

    std::string bpffs_;
    plane_settings settings_;
    std::array<Mapping, STEER_TABLES> tables_;
    Mapping vms_;
};

}  // namespace

Result<std::uint64_t> generation_of(const std::string& bpffs, std::uint64_t owner) {
    plane_settings settings{};
    Result<bool> there = look_at_settings(bpffs, settings);
    if (!there) return std::unexpected(std::move(there).error());
    return *there && settings.owner == owner ? settings.generation : 0;
}

Result<std::unique_ptr<dataplane::LeftTables>> find_left(const std::string& bpffs,
                                                         std::uint64_t owner) {
    plane_settings settings{};
    Result<bool> there = look_at_settings(bpffs, settings);
    if (!there) return std::unexpected(std::move(there).error());
    if (!*there || settings.owner != owner) return nullptr;
    return std::make_unique<LeftByEbpf>(bpffs, settings);
}

}  // namespace godwit::ebpf
