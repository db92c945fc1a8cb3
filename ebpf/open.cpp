// Loading or adopting: object, tables, settings, ports, in this order; packets meet the new programs only
// when everything they look into is there.
#include "lib/log.hpp"

#include "dataplane/port_numbers.hpp"
#include "dataplane/table_config.hpp"
#include "ebpf/pins.hpp"
#include "ebpf/ports.hpp"
#include "ebpf/state.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <set>
#include <sys/resource.h>
#include <unistd.h>

#include <bpf/bpf.h>

extern "C" {
extern const unsigned char godwit_steer_object[];
extern const size_t godwit_steer_object_bytes;
}

namespace godwit::ebpf {
namespace {

// All but tx_ports and piece_ports, which belong together: the kernel adds a flag to device maps, so libbpf finds that
// the pinned one differs. They are filled anew from the configuration anyway.
constexpr const char* kPinned[] = {
    "sessions4", "sessions6", "handshakes4", "handshakes6",  "chances4",   "chances6",  "vms",
    "settings",  "hosted4",   "hosted6",     "identities",   "tallies",    "backends",  "drained",
    "resets",    "stations",  "direct",      "translations", "fragments4", "fragments6"};

int quiet(enum libbpf_print_level level, const char* format, va_list arguments) {
    if (level == LIBBPF_DEBUG || !log::is_on(log::Level::debug)) return 0;
    return vfprintf(stderr, format, arguments);
}

// Tables to adopt. Others that lie there are removed: of a process that was killed while it started, which may have
// wanted another size, or older than those that are taken over.
Result<bool> read_settings(const PlaneOptions& options, plane_settings& settings) {
    Result<bool> whole = look_at_settings(options.bpffs, settings);
    if (!whole) return whole;
    if (*whole && !options.left) return true;
    std::error_code error;
    std::filesystem::remove_all(options.bpffs + "/links", error);
    std::filesystem::remove_all(options.bpffs + "/maps", error);
    Result<void> ready = prepare_bpffs(options.bpffs + "/maps");
    if (ready) ready = prepare_bpffs(options.bpffs + "/links");
    if (!ready) return std::unexpected(std::move(ready).error());
    return false;
}

Result<Object> load(const std::string& directory, const steer_config& config) {
    libbpf_set_print(quiet);
    // Kernels before 5.11 charge maps to RLIMIT_MEMLOCK; without the right to raise it they say so.
    const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_MEMLOCK, &unlimited);
    bpf_object_open_opts options{};
    options.sz = sizeof(options);
    options.object_name = "godwit";
    Object object(bpf_object__open_mem(godwit_steer_object, godwit_steer_object_bytes, &options));
    if (!object) return fail_errno(Fault::Rejected, "open the BPF object");
    for (unsigned t = 0; t < STEER_TABLES; ++t) {
        const auto table = static_cast<steer_table>(t);
        bpf_map* map = bpf_object__find_map_by_name(object.get(), kTableNames[t]);
        bpf_map__set_max_entries(map, steer_lines(table, config.table[t]));
    }
    bpf_map* fixed = bpf_object__find_map_by_name(object.get(), "godwit.rodata");
    if (!fixed) fixed = bpf_object__find_map_by_name(object.get(), ".rodata");
    if (!fixed || bpf_map__set_initial_value(fixed, &config, sizeof(config)) != 0)
        return fail(Fault::Corrupt, "open the BPF object",
                    "its constants are not those of this build");
    for (const char* name : kPinned) {
        const std::string pin = directory + "/maps/" + name;
        bpf_map__set_pin_path(bpf_object__find_map_by_name(object.get(), name), pin.c_str());
    }
    if (bpf_object__load(object.get()) != 0)
        return fail_errno(Fault::Rejected,
                          "load the eBPF plane (log level debug shows the verifier)");
    return object;
}

// Jiffies per second, which no system call tells: counted against the monotonic clock from edge to edge.
Result<std::uint32_t> measure_hz(int program) {
    constexpr unsigned kTicks = 12;
    const auto now = [] { return std::chrono::steady_clock::now(); };
    std::uint64_t first = 0, tick = 0;
    Result<void> ran = run_program(program, &first, sizeof(first), "read_tick");
    if (!ran) return std::unexpected(std::move(ran).error());
    const auto after = [&](std::uint64_t from) {
        do ran = run_program(program, &tick, sizeof(tick), "read_tick");
        while (ran && tick == from);
        return now();
    };
    const auto begin = after(first);
    const std::uint64_t begin_tick = tick;
    auto end = begin;
    while (ran && tick - begin_tick < kTicks) end = after(tick);
    if (!ran) return std::unexpected(std::move(ran).error());
    const double hz =
        static_cast<double>(tick - begin_tick) / std::chrono::duration<double>(end - begin).count();
    std::uint32_t best = 100;
    for (std::uint32_t known : {100u, 250u, 300u, 1000u})
        if (std::abs(std::log(hz / known)) < std::abs(std::log(hz / best))) best = known;
    return best;
}

// What came by a port that is gone is counted with the others that are.
void give_up_number(int tallies, std::size_t cpus, std::uint32_t number) {
    const std::uint32_t gone = 0;
    std::vector<steer_tally> of_port(cpus), of_gone(cpus);
    if (bpf_map_lookup_elem(tallies, &number, of_port.data()) != 0 ||
        bpf_map_lookup_elem(tallies, &gone, of_gone.data()) != 0)
        return;
    for (std::size_t cpu = 0; cpu < cpus; ++cpu)
        for (std::size_t cell = 0; cell < std::size(of_port[cpu].packets); ++cell)
            of_gone[cpu].packets[cell] += of_port[cpu].packets[cell];
    bpf_map_update_elem(tallies, &gone, of_gone.data(), BPF_ANY);
    std::ranges::fill(of_port, steer_tally{});
    bpf_map_update_elem(tallies, &number, of_port.data(), BPF_ANY);
}

// A factor that gives each port a place of its own: every seventh or so does, with 32 ports.
std::uint32_t factor_for(const std::vector<dataplane::PortState>& ports) {
    for (std::uint32_t factor = 0x9e3779b1u;; factor = factor * 1664525u + 1013904222u) {
        std::set<std::uint32_t> places;
        for (const dataplane::PortState& port : ports)
            places.insert(plane_place_of(port.ifindex, factor | 1));
        if (places.size() == ports.size()) return factor | 1;
    }
}

// A packet that the programs of an earlier process count meanwhile may be counted for another port.
std::vector<std::uint32_t> number_ports(plane_settings& set, int tallies, std::size_t cpus,
                                        const std::vector<dataplane::PortState>& ports) {
    std::vector<std::string> names;
    for (const dataplane::PortState& port : ports) names.push_back(port.name);
    const std::vector<std::uint32_t> numbers = dataplane::number_ports(
        std::span(set.port_names), names,
        [&](std::uint32_t number) { give_up_number(tallies, cpus, number); });
    set.places_factor = factor_for(ports);
    std::ranges::fill(set.places, plane_port_place{});
    for (std::size_t i = 0; i < ports.size(); ++i)
        set.places[plane_place_of(ports[i].ifindex, set.places_factor)] = {ports[i].ifindex,
                                                                           numbers[i]};
    return numbers;
}

Result<void> map_tables(const bpf_object* object, const steer_config& config,
                        std::array<Mapping, STEER_TABLES>& tables) {
    for (unsigned t = 0; t < STEER_TABLES; ++t) {
        const std::size_t lines = steer_lines(static_cast<steer_table>(t), config.table[t]);
        const int fd = bpf_object__find_map_fd_by_name(object, kTableNames[t]);
        Result<Mapping> mapping = Mapping::of(fd, lines * sizeof(steer_line), kTableNames[t]);
        if (!mapping) return std::unexpected(std::move(mapping).error());
        tables[t] = std::move(*mapping);
    }
    return {};
}

int note_drained(void* drained, void* data, std::size_t bytes) {
    if (bytes < sizeof(plane_drained)) return 0;
    const auto* event = static_cast<const plane_drained*>(data);
    static_cast<std::vector<dataplane::Plane::Drained>*>(drained)->push_back(
        {static_cast<std::uint16_t>(event->vm), event->epoch});
    return 0;
}

}  // namespace

Result<std::unique_ptr<dataplane::Plane>> EbpfPlane::open(const PlaneOptions& options) {
    auto state = std::make_unique<EbpfPlane::State>();
    state->options = options;
    for (const char* folder : {"/maps", "/links"}) {
        Result<void> ready = prepare_bpffs(options.bpffs + folder);
        if (!ready) return std::unexpected(std::move(ready).error());
    }
    Result<std::vector<dataplane::PortState>> ports = find_ports(options.ports);
    if (!ports) return std::unexpected(std::move(ports).error());
    state->ports = std::move(*ports);

    plane_settings earlier{};
    Result<bool> adopts = read_settings(options, earlier);
    if (!adopts) return std::unexpected(std::move(adopts).error());
    state->adopted = *adopts || options.left;
    const steer_config config = *adopts        ? earlier.steer
                                : options.left ? options.left->config()
                                               : dataplane::fresh_config(options.sizes);
    Result<Object> object = load(options.bpffs, config);
    if (!object) return std::unexpected(std::move(object).error());
    state->object = std::move(*object);
    bpf_program* program = nullptr;
    bpf_object__for_each_program(program, state->object.get())
        state->programs[bpf_program__name(program)] = bpf_program__fd(program);

    Result<void> mapped = map_tables(state->object.get(), config, state->tables);
    if (!mapped) return std::unexpected(std::move(mapped).error());
    Result<Mapping> vms =
        Mapping::of(state->map_fd("vms"), STEER_VMS_MAX * sizeof(vm_record), "vms");
    if (!vms) return std::unexpected(std::move(vms).error());
    state->vms = std::move(*vms);
    Result<Mapping> settings =
        Mapping::of(state->map_fd("settings"), sizeof(plane_settings), "settings");
    if (!settings) return std::unexpected(std::move(settings).error());
    state->settings = std::move(*settings);
    Result<std::uint32_t> hz = measure_hz(state->programs["read_tick"]);
    if (!hz) return std::unexpected(std::move(hz).error());

    plane_settings& set = state->set();
    set.steer = config;
    set.ticks_per_second = *hz;
    fill_settings(set, state->ports);
    state->cpus = libbpf_num_possible_cpus();
    set.owner = options.owner;
    set.generation = std::max<std::uint64_t>(earlier.generation, 1);
    if (options.left) {
        Result<void> taken = take_over(*state);
        if (!taken) return std::unexpected(std::move(taken).error());
    }
    state->port_numbers = number_ports(set, state->map_fd("tallies"),
                                       static_cast<std::size_t>(state->cpus), state->ports);
    set.layout = GODWIT_LAYOUT;
    state->ring.reset(
        ring_buffer__new(state->map_fd("drained"), note_drained, &state->drained, nullptr));
    if (!state->ring) return fail_errno(Fault::Retry, "read the ring buffer of events");

    Result<std::unique_ptr<EbpfTap>> tap = EbpfTap::open(state->object.get());
    if (!tap) return std::unexpected(std::move(tap).error());
    state->tap = std::move(*tap);

    std::unique_ptr<EbpfPlane> plane(new EbpfPlane(std::move(state)));
    if (options.left) options.left->remove();
    Result<void> attached = plane->attach_ports(Which::running);
    if (!attached) return std::unexpected(std::move(attached).error());
    return plane;
}

}  // namespace godwit::ebpf
