#include "dataplane/dpdk/plane.hpp"

#include "lib/log.hpp"

#include "dataplane/dpdk/ending.hpp"
#include "dataplane/dpdk/environment.hpp"
#include "dataplane/dpdk/loop.hpp"
#include "dataplane/port_numbers.hpp"
#include "dataplane/table_config.hpp"

#include <atomic>
#include <cstring>
#include <filesystem>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_random.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

namespace godwit::dpdk {

using dataplane::PortRole;
using dataplane::PortState;
using dataplane::VmSetup;

// In the order of making: what comes later uses what comes before.
struct DpdkPlane::State {
    PlaneOptions options;
    std::unique_ptr<TableFile> file;
    std::unique_ptr<Environment> environment;
    std::unique_ptr<Stations> stations;
    std::unique_ptr<Directory> directory = std::make_unique<Directory>();
    std::unique_ptr<DpdkTap> tap;
    std::unique_ptr<Worker> worker;
    int events_fd = -1;
    std::unique_ptr<WorkerLoop> loop;

    Vms vms;              // what the directory was built of
    steer_plane control;  // the control thread's own view of the tables
    Sweeper sweeper;

    ~State() {
        loop.reset();
        if (events_fd >= 0) close(events_fd);
    }
    steer_plane& at_this_tick() {
        control.tick = tick_now();
        return control;
    }
};

namespace {

std::uint64_t counted(const std::uint64_t& counter) {
    return __atomic_load_n(&counter, __ATOMIC_RELAXED);
}

// The one uplink, when there is exactly one.
std::uint16_t sole_uplink(const std::vector<PlaneOptions::Port>& ports) {
    std::uint16_t uplink = kPortsMax;
    for (std::uint16_t port = 0; port < ports.size(); ++port) {
        if (ports[port].role != PortRole::uplink) continue;
        if (uplink != kPortsMax) return kPortsMax;
        uplink = port;
    }
    return uplink;
}

EnvironmentOptions environment_of(const PlaneOptions& options) {
    EnvironmentOptions environment{
        {}, options.lcores, options.memory_mb, options.hugepages, options.file_prefix};
    for (const PlaneOptions::Port& port : options.ports) environment.devices.push_back(port.device);
    return environment;
}

void write_record(vm_record& to, std::uint16_t vm, const VmSetup& setup,
                  const dataplane::IdleLimits& limits) {
    to.vm = vm;
    to.vlan = setup.vlan;
    std::memcpy(to.mac, setup.mac.data(), 6);
    dataplane::write_limits(to, setup.limits, limits, kTicksPerSecond);
    for (std::uint32_t slot = 0; slot < STEER_SLOTS; ++slot) {
        steer_backend backend{};
        backend.ifindex = setup.backends[slot].ifindex;
        std::memcpy(backend.mac, setup.backends[slot].mac.data(), 6);
        backend.flags = dataplane::flags_of(setup, slot);
        to.backend[slot] = backend;
    }
}

// What came by a port that is gone is counted with the others that are.
void number_ports(TableFile& file, const std::vector<PlaneOptions::Port>& ports,
                  Counters& counters) {
    const std::span<struct steer_tally> tallies = file.tables().tallies;
    std::vector<std::string> names;
    for (const PlaneOptions::Port& port : ports) names.push_back(port.name);
    const auto numbers =
        dataplane::number_ports(file.port_names(), names, [&](std::uint32_t number) {
            for (std::size_t cell = 0; cell < std::size(tallies[0].packets); ++cell)
                tallies[0].packets[cell] += tallies[number].packets[cell];
            tallies[number] = {};
        });
    for (std::size_t port = 0; port < numbers.size(); ++port)
        counters.number_of_port[port] = static_cast<std::uint8_t>(numbers[port]);
}

// In /dev/shm anybody could have made it first, and would own the sessions.
Result<void> make_place(const std::string& folder) {
    const std::filesystem::path place = std::filesystem::path(folder + "/.").parent_path();
    std::error_code none;
    std::filesystem::create_directories(place.parent_path(), none);
    if (mkdir(place.c_str(), 0700) != 0 && errno != EEXIST)
        return fail_errno(Fault::Rejected, "make " + place.string());
    struct stat about{};
    if (lstat(place.c_str(), &about) != 0)
        return fail_errno(Fault::Rejected, "look at " + place.string());
    if (S_ISDIR(about.st_mode) && about.st_uid == geteuid() && (about.st_mode & 022) == 0)
        return {};
    return fail(Fault::Rejected, "keep the session table in " + place.string(),
                "others may write there: it must be a directory of the switch's own user, not "
                "writable by others; remove it or set dpdk.table_dir");
}

}  // namespace

DpdkPlane::DpdkPlane(std::unique_ptr<State> state) : state_(std::move(state)) {}
DpdkPlane::~DpdkPlane() = default;

Result<std::unique_ptr<dataplane::Plane>> DpdkPlane::open(const PlaneOptions& options) {
    auto state = std::make_unique<State>();
    state->options = options;
    Result<void> place = make_place(options.table_dir);
    if (!place) return std::unexpected(std::move(place).error());
    Result<std::unique_ptr<TableFile>> file =
        TableFile::open(options.table_dir + "/dpdk-sessions", options.sizes);
    if (!file) return std::unexpected(std::move(file).error());
    state->file = std::move(*file);
    Result<std::unique_ptr<Environment>> environment = Environment::start(environment_of(options));
    if (!environment) return std::unexpected(std::move(environment).error());
    state->environment = std::move(*environment);

    Tables& tables = state->file->tables();
    const auto ports = static_cast<std::uint16_t>(options.ports.size());
    state->stations = std::make_unique<Stations>(rte_rand(), kTicksPerSecond);
    state->worker = std::make_unique<Worker>(tables, *state->stations, ports);
    Result<std::unique_ptr<DpdkTap>> tap = DpdkTap::make();
    if (!tap) return std::unexpected(std::move(tap).error());
    state->tap = std::move(*tap);
    state->worker->tap = state->tap.get();
    state->worker->uplink = sole_uplink(options.ports);
    number_ports(*state->file, options.ports, state->worker->counters);
    state->worker->plane.directory = state->directory.get();
    std::ranges::copy(state->environment->ethdevs(), state->worker->device.begin());
    for (std::size_t port = 0; port < options.ports.size(); ++port)
        if (options.ports[port].device.kind == dataplane::Device::Kind::vhost_user)
            state->worker->waiting[port] = std::make_unique<Waiting>(kTicksPerSecond);
    state->control.tables = &tables;

    state->events_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (state->events_fd < 0) return fail_errno(Fault::Retry, "make an eventfd");
    Result<std::unique_ptr<WorkerLoop>> loop =
        WorkerLoop::make(*state->worker, *state->file, state->events_fd);
    if (!loop) return std::unexpected(std::move(loop).error());
    state->loop = std::move(*loop);
    return std::unique_ptr<dataplane::Plane>(new DpdkPlane(std::move(state)));
}

Result<void> DpdkPlane::start() {
    if (adopted())
        log::info("dpdk", "took over " + std::to_string(state_->file->repaired().sessions) +
                              " sessions; nothing was forwarded for " +
                              std::to_string(state_->file->silent_for().count()) + " ms");
    return state_->loop->start();
}

bool DpdkPlane::adopted() const {
    return state_->file->adopted();
}
vm_record& DpdkPlane::record(std::uint16_t vm) {
    return state_->file->tables().vms[vm];
}
std::span<struct steer_line> DpdkPlane::lines(enum steer_table table) {
    return state_->file->tables().lines[table];
}
const struct steer_config& DpdkPlane::config() {
    return state_->file->tables().config;
}
std::uint32_t DpdkPlane::tick() {
    return tick_now();
}
std::uint32_t DpdkPlane::ticks_per_second() const {
    return kTicksPerSecond;
}
dataplane::Tap* DpdkPlane::tap() {
    return state_->tap.get();
}
int DpdkPlane::events_fd() {
    return state_->events_fd;
}

std::vector<PortState> DpdkPlane::ports() {
    std::vector<PortState> ports;
    for (std::uint16_t number = 0; number < state_->options.ports.size(); ++number) {
        const PlaneOptions::Port& port = state_->options.ports[number];
        const std::uint16_t ethdev = state_->environment->ethdevs()[number];
        rte_eth_stats stats{};
        rte_eth_link link{};
        rte_eth_dev_info about{};
        rte_eth_stats_get(ethdev, &stats);
        rte_eth_link_get_nowait(ethdev, &link);
        const bool known = rte_eth_dev_info_get(ethdev, &about) == 0;
        ports.push_back({port.name, port.device.where, port.role, number + 1u,
                         link.link_status == RTE_ETH_LINK_UP, known ? about.driver_name : "",
                         stats.ipackets, stats.imissed + stats.ierrors + stats.rx_nombuf});
    }
    return ports;
}

// ---- configuration --------------------------------------------------------------------------------

// The directory is built aside. It and the record change places with the old ones between two bursts, so no
// packet meets one without the other. nullptr: the VM is not managed any more.
void DpdkPlane::change(std::uint16_t vm, const VmSetup* setup) {
    if (setup)
        state_->vms[vm] = *setup;
    else
        state_->vms.erase(vm);
    auto directory = std::make_unique<Directory>(state_->vms);
    const WorkerLoop::Pause pause(*state_->loop);
    std::swap(state_->directory, directory);
    state_->worker->plane.directory = state_->directory.get();
    if (setup) write_record(record(vm), vm, *setup, state_->options.limits);
}

Result<void> DpdkPlane::set_vm(std::uint16_t vm, const VmSetup& setup) {
    change(vm, &setup);
    return {};
}

Result<void> DpdkPlane::clear_vm(std::uint16_t vm) {
    vm_record& gone = record(vm);
    __atomic_store_n(&gone.steer, 0, __ATOMIC_SEQ_CST);
    change(vm, nullptr);  // who still pins has read the word before: over when it returns
    for (std::uint32_t slot = 0; slot < STEER_SLOTS; ++slot) {
        Result<ResetCount> ended = end_sessions(vm, slot, Tell::nobody);
        if (!ended) return std::unexpected(std::move(ended).error());
    }
    gone = {};
    return {};
}

Result<void> DpdkPlane::grace_period() {
    state_->loop->wait_for_quiet();
    return {};
}

// ---- sessions -------------------------------------------------------------------------------------

Result<steer_swept> DpdkPlane::sweep(std::uint32_t lines) {
    return state_->sweeper.sweep(state_->at_this_tick(), lines);
}

Result<dataplane::Plane::ResetCount> DpdkPlane::end_sessions(std::uint16_t vm, std::uint32_t slot,
                                                             Tell tell) {
    return dpdk::end_sessions(state_->at_this_tick(), vm, slot, tell);
}

Result<bool> DpdkPlane::end_untouched(enum steer_table table, const steer_key& key,
                                      std::uint64_t stamp) {
    return dpdk::end_untouched(state_->at_this_tick(), table, key, stamp);
}

// The worker says that some VM may be drained; whose counters are zero says which.
void DpdkPlane::poll_events(const std::function<void(const Drained&)>& on_drained) {
    eventfd_t raised = 0;
    if (eventfd_read(state_->events_fd, &raised) != 0) return;
    for (const auto& [vm, setup] : state_->vms) {
        const vm_record& one = record(vm);
        const std::uint64_t word = steer_load64(&one.steer);
        const std::uint32_t slot = steer_previous(word);
        if (steer_is_draining(word) && steer_load32(&one.sessions[slot]) == 0 &&
            steer_load32(&one.handshakes[slot]) == 0)
            on_drained({vm, steer_epoch(word)});
    }
}

// ---- counters -------------------------------------------------------------------------------------

std::vector<dataplane::Plane::PortPackets> DpdkPlane::packets() {
    std::vector<PortPackets> all;
    const Counters& counters = state_->worker->counters;
    const auto add = [&](const std::string& port, std::uint32_t number) {
        PortPackets& one = all.emplace_back(port);
        for (std::size_t cell = 0; cell < std::size(one.counted.packets); ++cell)
            one.counted.packets[cell] = counted(counters.tallies[number].packets[cell]);
    };
    for (std::size_t port = 0; port < state_->options.ports.size(); ++port)
        add(state_->options.ports[port].name, counters.number_of_port[port]);
    add("", 0);
    return all;
}

dataplane::Plane::BackendCounters DpdkPlane::counters(std::uint16_t vm, std::uint32_t slot) {
    const auto& of = state_->worker->counters.backends[vm * STEER_SLOTS + slot];
    return {counted(of.to), counted(of.from), counted(of.fenced)};
}

// ---- frames of the switch's own -------------------------------------------------------------------

Result<void> DpdkPlane::transmit(std::uint32_t ifindex, std::span<const std::uint8_t> frame) {
    rte_mbuf* copy = rte_pktmbuf_alloc(state_->environment->frames());
    char* to = copy ? rte_pktmbuf_append(copy, static_cast<std::uint16_t>(frame.size())) : nullptr;
    if (!to) {
        rte_pktmbuf_free(copy);
        return fail(Fault::Retry, "send a frame", "no buffer is free");
    }
    std::memcpy(to, frame.data(), frame.size());
    if (!state_->loop->hand_over(copy, static_cast<std::uint16_t>(ifindex - 1)))
        return fail(Fault::Retry, "send a frame", "too many are waiting already");
    return {};
}

}  // namespace godwit::dpdk
