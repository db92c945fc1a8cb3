#include "dataplane/dpdk/plane.hpp"

#include "dataplane/dpdk/workers.hpp"

#include "lib/log.hpp"

#include "dataplane/dpdk/ending.hpp"
#include "dataplane/dpdk/environment.hpp"
#include "dataplane/dpdk/tunnel_ports.hpp"
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
    std::unique_ptr<const Directory> directory = std::make_unique<Directory>();
    std::atomic<const Directory*> published{directory.get()};
    std::unique_ptr<DpdkTap> tap;
    PortDevices devices;
    std::unique_ptr<Tunnels> tunnels;
    std::vector<std::unique_ptr<Worker>> workers;
    int events_fd = -1;
    std::unique_ptr<Workers> loops;

    Vms vms;              // what the directory was built of
    steer_plane control;  // the control thread's own view of the tables
    Sweeper sweeper;

    ~State() {
        loops.reset();
        if (events_fd >= 0) close(events_fd);
    }
    Result<void> open_tunnels();
    void make_workers();
    steer_plane& at_this_tick() {
        control.tick = tick_now();
        return control;
    }
};

namespace {

std::uint64_t counted(const std::uint64_t& counter) {
    return __atomic_load_n(&counter, __ATOMIC_RELAXED);
}

std::shared_ptr<Outlet> outlet_of(const dataplane::Device& device, unsigned queues,
                                  unsigned workers) {
    const bool waits = device.kind == dataplane::Device::Kind::vhost_user;
    if (!waits && queues >= workers) return nullptr;
    auto outlet = std::make_shared<Outlet>();
    outlet->is_shared = queues < workers;
    if (waits) outlet->waiting = std::make_unique<Waiting>(kTicksPerSecond);
    return outlet;
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

bool sends_pieces(std::uint16_t ethdev) {
    rte_eth_dev_info about{};
    return rte_eth_dev_info_get(ethdev, &about) == 0 &&
           (about.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) != 0;
}

EnvironmentOptions environment_of(const PlaneOptions& options) {
    EnvironmentOptions environment{{},
                                   options.workers,
                                   options.lcores,
                                   options.memory_mb,
                                   options.hugepages,
                                   options.file_prefix};
    for (const PlaneOptions::Port& port : options.ports)
        if (!port.tunnel) environment.devices.push_back(port.device);
    environment.ports = options.ports.size();
    return environment;
}

void write_record(vm_record& to, std::uint16_t vm, const VmSetup& setup,
                  const PlaneOptions& options) {
    to.vm = vm;
    to.vlan = setup.vlan;
    std::memcpy(to.mac, setup.mac.data(), 6);
    dataplane::write_limits(to, setup.limits, options.limits, kTicksPerSecond);
    dataplane::write_new_flows(to, options.new_flows, kTicksPerSecond);
    for (std::uint32_t slot = 0; slot < STEER_SLOTS; ++slot) {
        steer_backend backend{};
        backend.ifindex = setup.backends[slot].ifindex;
        std::memcpy(backend.mac, setup.backends[slot].mac.data(), 6);
        backend.flags = dataplane::flags_of(setup, slot);
        to.backend[slot] = backend;
    }
}

// What came by a port that is gone is counted with the others that are.
std::vector<std::uint32_t> numbers_of(TableFile& file,
                                      const std::vector<PlaneOptions::Port>& ports) {
    std::vector<std::string> names;
    for (const PlaneOptions::Port& port : ports) names.push_back(port.name);
    return dataplane::number_ports(file.port_names(), names, [&](std::uint32_t number) {
        for (const CounterSet& set : file.tables().counters) {
            for (std::size_t cell = 0; cell < std::size(set.tallies[0].packets); ++cell)
                set.tallies[0].packets[cell] += set.tallies[number].packets[cell];
            set.tallies[number] = {};
        }
    });
}

// Frames that the other plane has forwarded already, while the ports were being opened.
void throw_away_what_has_come(const Environment& environment) {
    constexpr int kBurstsMax = 4096;  // more than any queue holds
    std::array<rte_mbuf*, kBurstMax> frames;
    const auto empty = [&](std::uint16_t ethdev, std::uint16_t queue) {
        for (int i = 0; i < kBurstsMax; ++i) {
            const std::uint16_t count = rte_eth_rx_burst(ethdev, queue, frames.data(), kBurstMax);
            if (count == 0) return;
            rte_pktmbuf_free_bulk(frames.data(), count);
        }
    };
    for (std::size_t port = 0; port < environment.ethdevs().size(); ++port)
        for (std::uint16_t queue = 0; queue < environment.queues()[port]; ++queue)
            empty(environment.ethdevs()[port], queue);
}

Result<void> take_over(dataplane::LeftTables& left, TableFile& file, Environment& environment) {
    Result<dataplane::TableImage> image = left.stop();
    if (!image) return std::unexpected(std::move(image).error().within("take the tables over"));
    throw_away_what_has_come(environment);
    file.fill(*image, left.generation() + 1);
    left.remove();
    return {};
}

bool is_written(const vm_record& record, std::uint16_t vm, const VmSetup& setup,
                const PlaneOptions& options) {
    vm_record wanted{};
    write_record(wanted, vm, setup, options);
    return record.vm == wanted.vm && record.vlan == wanted.vlan &&
           std::memcmp(record.mac, wanted.mac, sizeof(wanted.mac)) == 0 &&
           std::memcmp(record.backend, wanted.backend, sizeof(wanted.backend)) == 0 &&
           std::memcmp(&record.timeouts, &wanted.timeouts, sizeof(wanted.timeouts)) == 0 &&
           std::memcmp(record.port_limits, wanted.port_limits, sizeof(wanted.port_limits)) == 0;
}

// In /dev/shm anybody could have made it first, and would own the sessions.
Result<void> make_place(const std::string& folder) {
    const std::filesystem::path place = std::filesystem::path(folder + "/.").parent_path();
    std::error_code none;
    std::filesystem::create_directories(place.parent_path(), none);
    if (mkdir(place.c_str(), 0700) != 0 && errno != EEXIST)
        return fail_errno(Fault::Rejected, "make " + place.string());
    if (is_own(place, S_IFDIR)) return {};
    return fail(Fault::Rejected, "keep the session table in " + place.string(),
                "others may write there: it must be a directory of the switch's own user, not "
                "writable by others; remove it or set dpdk.table_dir");
}

}  // namespace

Result<void> DpdkPlane::State::open_tunnels() {
    devices = devices_of(options.ports, environment->ethdevs(), environment->queues());
    Result<std::vector<TunnelEnd>> ends = tunnel_ends(options.ports, devices);
    if (!ends) return std::unexpected(std::move(ends).error());
    if (!ends->empty())
        tunnels = std::make_unique<Tunnels>(*ends, environment->frames(), kTicksPerSecond);
    return {};
}

void DpdkPlane::State::make_workers() {
    const auto ports = static_cast<std::uint16_t>(options.ports.size());
    std::array<std::shared_ptr<Outlet>, kPortsMax> outlets;
    for (std::uint16_t port = 0; port < ports; ++port)
        if (!options.ports[port].tunnel)
            outlets[port] =
                outlet_of(options.ports[port].device, devices.queues[port], options.workers);
    for (std::uint16_t port = 0; port < ports; ++port)
        outlets[port] = outlets[carrier_of(options.ports, port)];
    const std::vector<std::uint32_t> numbers = numbers_of(*file, options.ports);
    for (unsigned number = 0; number < options.workers; ++number) {
        workers.push_back(
            std::make_unique<Worker>(file->tables(), *stations, ports, number, options.workers));
        Worker& worker = *workers.back();
        worker.tap = tap.get();
        worker.tunnels = tunnels.get();
        worker.uplink = sole_uplink(options.ports);
        worker.relays = tunnels && worker.uplink < ports && tunnels->is_tunnel(worker.uplink);
        worker.published = &published;
        worker.outlets = outlets;
        worker.device = devices.ethdev;
        for (std::uint16_t port = 0; port < ports; ++port)
            worker.whole_only[port] = !sends_pieces(worker.device[port]);
        worker.queues = devices.queues;
        std::ranges::copy(numbers, worker.counters.number_of_port.begin());
    }
}

DpdkPlane::DpdkPlane(std::unique_ptr<State> state) : state_(std::move(state)) {}
DpdkPlane::~DpdkPlane() = default;

Result<std::unique_ptr<dataplane::Plane>> DpdkPlane::open(const PlaneOptions& options) {
    auto state = std::make_unique<State>();
    state->options = options;
    Result<void> place = make_place(options.table_dir);
    if (!place) return std::unexpected(std::move(place).error());
    const std::string path = options.table_dir + "/dpdk-sessions";
    Result<std::unique_ptr<TableFile>> file =
        options.left ? TableFile::make(path, options.left->config(), options.owner)
                     : TableFile::open(path, options.sizes, options.owner);
    if (!file) return std::unexpected(std::move(file).error());
    state->file = std::move(*file);
    Result<std::unique_ptr<Environment>> environment = Environment::start(environment_of(options));
    if (!environment) return std::unexpected(std::move(environment).error());
    state->environment = std::move(*environment);

    Result<std::unique_ptr<DpdkTap>> tap = DpdkTap::make(DpdkTap::kRingBytes, options.workers);
    if (!tap) return std::unexpected(std::move(tap).error());
    state->tap = std::move(*tap);
    Result<void> opened = state->open_tunnels();
    if (!opened) return std::unexpected(std::move(opened).error());
    state->events_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (state->events_fd < 0) return fail_errno(Fault::Retry, "make an eventfd");

    // With everything open, because until then it may fail and the other plane had better forward.
    if (options.left) {
        Result<void> taken = take_over(*options.left, *state->file, *state->environment);
        if (!taken) return std::unexpected(std::move(taken).error());
    }
    Tables& tables = state->file->tables();
    state->stations = std::make_unique<Stations>(rte_rand(), kTicksPerSecond);
    state->make_workers();
    state->control.tables = &tables;
    std::vector<Worker*> workers;
    for (const auto& worker : state->workers) workers.push_back(worker.get());
    Result<std::unique_ptr<Workers>> loops =
        Workers::make(std::move(workers), *state->file, state->events_fd);
    if (!loops) return std::unexpected(std::move(loops).error());
    state->loops = std::move(*loops);
    return std::unique_ptr<dataplane::Plane>(new DpdkPlane(std::move(state)));
}

Result<void> DpdkPlane::start() {
    if (adopted())
        log::info("dpdk", "took over " + std::to_string(state_->file->repaired().sessions) +
                              " sessions; nothing was forwarded for " +
                              std::to_string(state_->file->silent_for().count()) + " ms");
    return state_->loops->start();
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
        const std::uint16_t ethdev = state_->devices.ethdev[number];
        rte_eth_stats stats{};
        rte_eth_link link{};
        rte_eth_dev_info about{};
        rte_eth_stats_get(ethdev, &stats);
        rte_eth_link_get_nowait(ethdev, &link);
        const bool known = rte_eth_dev_info_get(ethdev, &about) == 0;
        if (port.tunnel) {
            const Tunnels::Seen seen = state_->tunnels->seen(number);
            ports.push_back({port.name, port.name, port.role, number + 1u,
                             seen.reachable && link.link_status == RTE_ETH_LINK_UP, "vxlan",
                             seen.packets, seen.drops, port.tunnel});
            continue;
        }
        ports.push_back({port.name, port.device.where, port.role, number + 1u,
                         link.link_status == RTE_ETH_LINK_UP, known ? about.driver_name : "",
                         stats.ipackets, stats.imissed + stats.ierrors + stats.rx_nombuf});
    }
    return ports;
}

// ---- configuration --------------------------------------------------------------------------------

// The directory is built aside, published, and the old one goes when no worker can be looking at it any more. A record
// is where the counters are, so it cannot be exchanged like that: one that workers may be reading is written while
// all of them stand still, and no packet meets it without its directory. nullptr: the VM is not managed any more.
void DpdkPlane::change(std::uint16_t vm, const VmSetup* setup) {
    const PlaneOptions& options = state_->options;
    const bool is_read = state_->vms.contains(vm);
    if (setup)
        state_->vms[vm] = *setup;
    else
        state_->vms.erase(vm);
    auto directory = std::make_unique<const Directory>(state_->vms);
    if (setup && is_read && !is_written(record(vm), vm, *setup, options)) {
        const Quiet::Pause pause(state_->loops->quiet());
        state_->published.store(directory.get(), std::memory_order_release);
        write_record(record(vm), vm, *setup, options);
    } else {
        if (setup && !is_read) write_record(record(vm), vm, *setup, options);
        state_->published.store(directory.get(), std::memory_order_release);
        state_->loops->quiet().wait();
    }
    state_->directory = std::move(directory);
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
    state_->loops->quiet().wait();
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

// A worker says that some VM may be drained; whose counters are zero says which.
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

// ---- counters: of all workers, also those that only an earlier process had ----------------------

std::vector<dataplane::Plane::PortPackets> DpdkPlane::packets() {
    std::vector<PortPackets> all;
    const auto add = [&](const std::string& port, std::uint32_t number) {
        PortPackets& one = all.emplace_back(port);
        for (const CounterSet& set : state_->file->tables().counters)
            for (std::size_t cell = 0; cell < std::size(one.counted.packets); ++cell)
                one.counted.packets[cell] += counted(set.tallies[number].packets[cell]);
    };
    for (std::size_t port = 0; port < state_->options.ports.size(); ++port)
        add(state_->options.ports[port].name, state_->workers[0]->counters.number_of_port[port]);
    add("", 0);
    return all;
}

dataplane::Plane::BackendCounters DpdkPlane::counters(std::uint16_t vm, std::uint32_t slot) {
    BackendCounters sum{};
    for (const CounterSet& set : state_->file->tables().counters) {
        const auto& of = set.backends[vm * STEER_SLOTS + slot];
        sum.packets_to += counted(of.to);
        sum.packets_from += counted(of.from);
        sum.fenced += counted(of.fenced);
    }
    return sum;
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
    if (!state_->loops->hand_over(copy, static_cast<std::uint16_t>(ifindex - 1)))
        return fail(Fault::Retry, "send a frame", "too many are waiting already");
    return {};
}

}  // namespace godwit::dpdk
