#include "ebpf/plane.hpp"

#include "ebpf/attach.hpp"
#include "ebpf/state.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <ifaddrs.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/membarrier.h>
#include <net/if.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/bpf.h>

namespace godwit::ebpf {

using dataplane::HostedAddress;
using dataplane::PortState;
using dataplane::VmSetup;

EbpfPlane::EbpfPlane(std::unique_ptr<State> state) : state_(std::move(state)) {}
EbpfPlane::~EbpfPlane() = default;

bool EbpfPlane::adopted() const {
    return state_->adopted;
}
vm_record& EbpfPlane::record(std::uint16_t vm) {
    return state_->vms.as<vm_record>()[vm];
}
std::span<steer_line> EbpfPlane::lines(steer_table table) {
    return state_->tables[table].as<steer_line>();
}
const steer_config& EbpfPlane::config() {
    return state_->set().steer;
}
std::uint32_t EbpfPlane::ticks_per_second() const {
    return state_->set().ticks_per_second;
}
int EbpfPlane::events_fd() {
    return ring_buffer__epoll_fd(state_->ring.get());
}
int EbpfPlane::program_fd(const std::string& name) const {
    auto found = state_->programs.find(name);
    return found == state_->programs.end() ? -1 : found->second;
}

std::uint32_t EbpfPlane::tick() {
    std::uint64_t tick = 0;
    Result<void> ran = run_program(program_fd("read_tick"), &tick, sizeof(tick), "read_tick");
    return ran ? static_cast<std::uint32_t>(tick) : 0;
}

// Not from /sys: a process that has entered another network namespace sees its old one there.
std::vector<PortState> EbpfPlane::ports() {
    std::vector<PortState> ports = state_->ports;
    ifaddrs* all = nullptr;
    if (getifaddrs(&all) != 0) return ports;
    for (const ifaddrs* one = all; one; one = one->ifa_next) {
        if (!one->ifa_addr || one->ifa_addr->sa_family != AF_PACKET || !one->ifa_data) continue;
        const auto* stats = static_cast<const rtnl_link_stats*>(one->ifa_data);
        for (PortState& port : ports) {
            if (port.interface != one->ifa_name) continue;
            port.up = (one->ifa_flags & IFF_UP) && (one->ifa_flags & IFF_RUNNING);
            port.packets = stats->rx_packets;
            port.drops = stats->rx_dropped;
        }
    }
    freeifaddrs(all);
    for (PortState& port : ports) {  // a tunnel is no better than what carries it
        if (!port.tunnel) continue;
        const auto under = std::ranges::find(ports, port.tunnel->underlay, &PortState::name);
        port.up = port.up && under != ports.end() && under->up;
    }
    return ports;
}

// membarrier's global command is synchronize_rcu() in the kernel: programs run inside RCU sections.
Result<void> EbpfPlane::grace_period() {
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) != 0)
        return fail_errno(Fault::Retry, "wait out a grace period");
    return {};
}

Result<steer_swept> EbpfPlane::sweep(std::uint32_t lines) {
    plane_sweep& argument = state_->sweep;
    argument.lines = lines;
    Result<void> ran = run_program(program_fd("sweep"), &argument, sizeof(argument), "sweep");
    if (!ran) return std::unexpected(std::move(ran).error());
    return steer_swept{argument.live, argument.closed, argument.removed};
}

std::vector<dataplane::Plane::PortPackets> EbpfPlane::packets() {
    std::vector<PortPackets> all;
    std::vector<steer_tally> per_cpu(static_cast<std::size_t>(state_->cpus));
    const int tallies = state_->map_fd("tallies");
    const auto add = [&](const std::string& port, std::uint32_t number) {
        PortPackets& one = all.emplace_back(port);
        if (bpf_map_lookup_elem(tallies, &number, per_cpu.data()) != 0) return;
        for (const steer_tally& cpu : per_cpu)
            for (std::size_t cell = 0; cell < std::size(cpu.packets); ++cell)
                one.counted.packets[cell] += cpu.packets[cell];
    };
    for (std::size_t i = 0; i < state_->ports.size(); ++i)
        add(state_->ports[i].name, state_->port_numbers[i]);
    add("", 0);
    return all;
}

dataplane::Plane::BackendCounters EbpfPlane::counters(std::uint16_t vm, std::uint32_t slot) {
    std::vector<plane_backend_counters> per_cpu(static_cast<std::size_t>(state_->cpus));
    const std::uint32_t index = vm * STEER_SLOTS + slot;
    BackendCounters sum;
    if (bpf_map_lookup_elem(state_->map_fd("backends"), &index, per_cpu.data()) != 0) return sum;
    for (const plane_backend_counters& cpu : per_cpu) {
        sum.packets_to += cpu.to;
        sum.packets_from += cpu.from;
        sum.fenced += cpu.fenced;
    }
    return sum;
}

void EbpfPlane::poll_events(const std::function<void(const Drained&)>& on_drained) {
    ring_buffer__consume(state_->ring.get());
    for (const Drained& event : state_->drained) on_drained(event);
    state_->drained.clear();
}

Result<dataplane::Plane::ResetCount> EbpfPlane::end_sessions(std::uint16_t vm, std::uint32_t slot,
                                                             Tell tell) {
    plane_end argument{vm, slot, tell == Tell::peers ? 1u : 0u, 0, 0};
    Result<void> ran =
        run_program(program_fd("end_sessions"), &argument, sizeof(argument), "end_sessions");
    if (!ran) return std::unexpected(std::move(ran).error());
    return ResetCount{argument.reset, argument.dropped};
}

Result<bool> EbpfPlane::end_untouched(enum steer_table table, const steer_key& key,
                                      std::uint64_t stamp) {
    plane_untouched argument{stamp, key, steer_is_v6_table(table), 0};
    Result<void> ran =
        run_program(program_fd("end_untouched"), &argument, sizeof(argument), "end_untouched");
    if (!ran) return std::unexpected(std::move(ran).error());
    return argument.ended != 0;
}

// A socket each time: announcements are rare.
Result<void> EbpfPlane::transmit(std::uint32_t ifindex, std::span<const std::uint8_t> frame) {
    const Fd socket(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
    if (!socket) return fail_errno(Fault::Retry, "open a packet socket");
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    to.sll_ifindex = static_cast<int>(ifindex);
    to.sll_halen = 6;
    std::memcpy(to.sll_addr, frame.data(), 6);
    if (sendto(socket.get(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&to),
               sizeof(to)) < 0)
        return fail_errno(Fault::Retry, "send a frame");
    return {};
}

dataplane::Tap* EbpfPlane::tap() {
    return state_->tap.get();
}

void EbpfPlane::uninstall() {
    for (const PortState& port : state_->ports) detach_tc_filter(port.ifindex);
    std::error_code error;
    std::filesystem::remove_all(state_->options.bpffs + "/links", error);
    std::filesystem::remove_all(state_->options.bpffs + "/maps", error);
    std::filesystem::remove(state_->options.bpffs, error);
}

}  // namespace godwit::ebpf
