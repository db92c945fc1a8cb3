#include "bench/plane_bench.hpp"

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <string>
#include <sys/random.h>
#include <time.h>

#include <bpf/bpf.h>

extern "C" {
extern const unsigned char godwit_bench_object[];
extern const size_t godwit_bench_object_bytes;
}

namespace godwit::bench {
namespace {

constexpr std::uint32_t kLoopback = 1;  // a test run without a device runs on it
constexpr std::array<std::uint8_t, 6> kVmMac{0x52, 0x54, 0, 0, 0, 1}, kPeerMac{2, 0, 0, 0, 0, 9};

[[noreturn]] void give_up(const std::string& doing) {
    throw std::runtime_error(doing + ": " + std::strerror(errno));
}

int quiet(enum libbpf_print_level, const char*, va_list) {
    return 0;
}

void store16(std::uint8_t* to, unsigned value) {
    to[0] = static_cast<std::uint8_t>(value >> 8);
    to[1] = static_cast<std::uint8_t>(value);
}

// 60 bytes: the smallest frame on a wire. Nobody on the way looks at the checksum.
std::vector<std::uint8_t> tcp_frame(bool from_vm) {
    std::vector<std::uint8_t> frame(60);
    std::memcpy(&frame[0], (from_vm ? kPeerMac : kVmMac).data(), 6);
    std::memcpy(&frame[6], (from_vm ? kVmMac : kPeerMac).data(), 6);
    store16(&frame[12], 0x0800);
    std::uint8_t* ip = &frame[14];
    const std::uint8_t vm[4] = {10, 1, 0, 1};
    ip[0] = 0x45;
    store16(ip + 2, 46);
    ip[8] = 64;
    ip[9] = 6;
    std::memcpy(ip + (from_vm ? 12 : 16), vm, 4);
    std::uint8_t* tcp = ip + 20;
    store16(tcp + (from_vm ? 0 : 2), 80);
    tcp[12] = 0x50;
    tcp[13] = 0x18;  // PSH, ACK
    return frame;
}

double processor_time_ns() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

steer_geometry geometry(std::uint32_t lines, bool overflow) {
    return {lines - 1, overflow ? lines / 8 - 1 : 0};
}

}  // namespace

PlaneBench::PlaneBench(std::uint32_t sessions, Peer peer)
    : from_peer_(tcp_frame(false)), from_vm_(tcp_frame(true)), syn_(from_peer_) {
    syn_[47] = 0x02;
    load(sessions, peer);
    fill_maps();
}

void PlaneBench::load(std::uint32_t sessions, Peer peer) {
    libbpf_set_print(quiet);
    object_.reset(bpf_object__open_mem(godwit_bench_object, godwit_bench_object_bytes, nullptr));
    if (!object_) give_up("open the bench object");
    const char* tables[STEER_TABLES] = {"sessions4", "sessions6", "handshakes4", "handshakes6",
                                        "chances4",  "chances6",  "fragments4",  "fragments6"};
    for (unsigned t = 0; t < STEER_TABLES; ++t) {
        const auto table = static_cast<steer_table>(t);
        config_.table[t] =
            geometry(t == STEER_SESSIONS4 ? sessions : 1 << 14, steer_is_session_table(table));
        bpf_map__set_max_entries(bpf_object__find_map_by_name(object_.get(), tables[t]),
                                 steer_lines(table, config_.table[t]));
    }
    if (getrandom(config_.seed, sizeof(config_.seed), 0) != sizeof(config_.seed)) give_up("seed");
    // Half more than is needed, or per-CPU free lists make the LRU evict live entries.
    bpf_map__set_max_entries(bpf_object__find_map_by_name(object_.get(), "lru"),
                             peer == Peer::lru ? sessions + sessions / 2 : 1);
    bpf_map* each = nullptr;
    bpf_object__for_each_map(
        each, object_.get()) if (std::strstr(bpf_map__name(each), ".rodata") &&
                                 bpf_map__set_initial_value(each, &config_, sizeof(config_)) != 0)
        give_up("set the plane's constants");
    if (bpf_object__load(object_.get()) != 0) give_up("load the bench object");
    int control = -1;
    bpf_object__for_each_map(each, object_.get()) if (std::strstr(bpf_map__name(each), ".bss"))
        control = bpf_map__fd(each);
    auto mapping = ebpf::Mapping::of(control, sizeof(bench_control), "control");
    if (!mapping) give_up("map the generator's control");
    control_mapping_ = std::move(*mapping);
    control_ = control_mapping_.as<bench_control>().data();
}

void PlaneBench::fill_maps() {
    auto vms = ebpf::Mapping::of(map("vms"), STEER_VMS_MAX * sizeof(vm_record), "vms");
    auto settings = ebpf::Mapping::of(map("settings"), sizeof(plane_settings), "settings");
    if (!vms || !settings) give_up("map tables");
    vms_ = std::move(*vms);
    settings_ = std::move(*settings);
    plane_settings& set = settings_.as<plane_settings>()[0];
    set.uplink = kLoopback;
    set.places_factor = 1u << 24 | 1u;
    set.places[plane_place_of(kLoopback, set.places_factor)] = {kLoopback, 1};
    vm_record& vm = record();
    std::memcpy(vm.mac, kVmMac.data(), 6);
    const std::uint32_t seconds[8] = STEER_TIMEOUTS_DEFAULT_S;
    for (unsigned i = 0; i < 8; ++i)
        reinterpret_cast<std::uint32_t*>(&vm.timeouts)[i] = seconds[i] * 250;
    for (steer_backend& backend : vm.backend) {
        backend.ifindex = kLoopback;
        std::memcpy(backend.mac, kVmMac.data(), 6);
    }
    settle();

    steer_identity_key sender{};
    sender.ifindex = kLoopback;
    std::memcpy(sender.mac, kVmMac.data(), 6);
    const steer_identity identity{};
    steer_address_key_v4 place{};
    std::memcpy(&place.address_be, &from_peer_[30], 4);
    const steer_address hosted{};
    const bpf_devmap_val out{kLoopback, {}};
    bool filled = bpf_map_update_elem(map("identities"), &sender, &identity, BPF_ANY) == 0 &&
                  bpf_map_update_elem(map("hosted4"), &place, &hosted, BPF_ANY) == 0 &&
                  bpf_map_update_elem(map("tx_ports"), &kLoopback, &out, BPF_ANY) == 0;
    const char* xdp[BENCH_TARGETS] = {"nothing_xdp", "uplink", "lru_xdp"};
    const char* tc[BENCH_TARGETS] = {"nothing_tc", "vm_port", "lru_tc"};
    for (std::uint32_t target = 0; target < BENCH_TARGETS; ++target) {
        const int to_xdp = program(xdp[target]), to_tc = program(tc[target]);
        filled = filled &&
                 bpf_map_update_elem(map("xdp_targets"), &target, &to_xdp, BPF_ANY) == 0 &&
                 bpf_map_update_elem(map("tc_targets"), &target, &to_tc, BPF_ANY) == 0;
    }
    if (!filled) give_up("fill the plane's maps");
}

int PlaneBench::program(const char* name) const {
    return bpf_program__fd(bpf_object__find_program_by_name(object_.get(), name));
}
int PlaneBench::map(const char* name) const {
    return bpf_object__find_map_fd_by_name(object_.get(), name);
}

double PlaneBench::run(const char* name, const std::vector<std::uint8_t>& frame,
                       std::uint32_t repeat) {
    std::vector<std::uint8_t> copy = frame;
    bpf_test_run_opts options{};
    options.sz = sizeof(options);
    options.data_in = copy.data();
    options.data_size_in = static_cast<__u32>(copy.size());
    options.repeat = static_cast<int>(repeat);
    // The kernel's own figure is whole nanoseconds of wall time, and a run is long enough to be interrupted
    // by whatever else the machine does: this thread's processor time is what the packets cost.
    const double begin = processor_time_ns();
    if (bpf_prog_test_run_opts(program(name), &options) != 0) give_up(std::string("run ") + name);
    return (processor_time_ns() - begin) / repeat;
}

double PlaneBench::insert(bench_target target, std::uint32_t first, std::uint32_t count) {
    control_->target = target;
    control_->mask = UINT32_MAX;
    control_->at = first;
    control_->in_order = 1;
    return run("from_vm", from_vm_, count);
}

double PlaneBench::receive(bench_target target, std::uint32_t sessions, std::uint32_t packets) {
    control_->target = target;
    control_->mask = sessions - 1;
    control_->in_order = 0;
    return run("from_peers", from_peer_, packets);
}

void PlaneBench::receive_strangers(std::uint32_t count) {
    run("from_strangers", syn_, count);
}

std::array<std::uint64_t, 2> PlaneBench::sent_by(int cpu) const {
    std::array<std::uint64_t, 2> sent{};
    std::vector<plane_backend_counters> counters(
        static_cast<std::size_t>(libbpf_num_possible_cpus()));
    for (std::uint32_t slot = 0; slot < sent.size(); ++slot) {
        if (bpf_map_lookup_elem(map("backends"), &slot, counters.data()) != 0)
            give_up("read counters");
        sent[slot] = counters[static_cast<std::size_t>(cpu)].to;
    }
    return sent;
}

std::uint64_t PlaneBench::sent_to(std::uint32_t slot) const {
    std::uint64_t sum = 0;
    for (int cpu = 0; cpu < libbpf_num_possible_cpus(); ++cpu) sum += sent_by(cpu)[slot];
    return sum;
}

std::size_t PlaneBench::table_bytes() const {
    return std::size_t{steer_lines(STEER_SESSIONS4, config_.table[STEER_SESSIONS4])} *
           sizeof(steer_line);
}

double PlaneBench::flip() {
    const std::uint64_t word = record().steer;
    const std::uint32_t owner = steer_owner(word) ^ 1u;
    const std::uint64_t next =
        steer_word_next(word, owner, /*draining=*/true, owner ^ 1u, /*hosting=*/true, 3);
    const auto begin = std::chrono::steady_clock::now();
    __atomic_store_n(&record().steer, next, __ATOMIC_SEQ_CST);
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
    return took.count();
}

void PlaneBench::settle() {
    record().steer = steer_word(1, 0, 0, STEER_VALID, 3);
}

std::uint32_t PlaneBench::owner_of_newcomer() {
    std::vector<std::uint8_t> syn = syn_;
    const std::uint8_t stranger[4] = {192, 0, 2, static_cast<std::uint8_t>(record().steer)};
    std::memcpy(&syn[26], stranger, 4);
    const std::uint64_t before = sent_to(1);
    run("uplink", syn, 1);
    return sent_to(1) != before ? 1 : 0;
}

std::uint64_t PlaneBench::count_of(steer_why why) const {
    std::vector<steer_tally> per_cpu(static_cast<std::size_t>(libbpf_num_possible_cpus()));
    std::uint64_t sum = 0;
    for (std::uint32_t number = 0; number < STEER_TALLY_PORTS; ++number) {
        if (bpf_map_lookup_elem(map("tallies"), &number, per_cpu.data()) != 0)
            give_up("read the tallies");
        for (const steer_tally& cpu : per_cpu) sum += steer_tally_of(&cpu, why);
    }
    return sum;
}

}  // namespace godwit::bench
