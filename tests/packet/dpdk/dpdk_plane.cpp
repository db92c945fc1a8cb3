#include "tests/packet/dpdk/dpdk_plane.hpp"

#include "dataplane/dpdk/worker.hpp"

#include "dataplane/dpdk/ending.hpp"
#include "dataplane/dpdk/resets.hpp"
#include "tests/packet/dpdk/eal.hpp"

#include <algorithm>
#include <cstring>
#include <rte_mbuf.h>
#include <rte_ring.h>

namespace godwit::test {
namespace {

constexpr std::size_t kVms = 4;

std::vector<vm_record> fresh_records() {
    std::vector<vm_record> records(kVms);
    const std::uint32_t seconds[] = STEER_TIMEOUTS_DEFAULT_S;
    for (vm_record& record : records) {
        record.vm = static_cast<std::uint16_t>(&record - records.data());
        std::uint32_t ticks[8];
        for (int i = 0; i < 8; ++i) ticks[i] = seconds[i] * DpdkPlane::kTicksPerSecond;
        std::memcpy(&record.timeouts, ticks, sizeof(ticks));
    }
    return records;
}

dataplane::HostedAddress hosted_address(const std::string& text) {
    const Address a = address(text);
    return {static_cast<std::uint32_t>(a.family), a.words_be()};
}

dataplane::VmSetup setup_of(const ManagedVm& vm) {
    dataplane::VmSetup setup;
    setup.mac = vm.mac;
    setup.vlan = vm.vlan;
    for (const std::string& text : vm.addresses) setup.addresses.push_back(hosted_address(text));
    for (std::size_t slot = 0; slot < STEER_SLOTS; ++slot) {
        setup.backends[slot] = {vm.ports[slot] + 1u, vm.mac_of(slot), {}};
        if (!vm.nat[slot]) continue;
        for (const std::string& text : vm.nat[slot]->temporary)
            setup.backends[slot].temporary.push_back(hosted_address(text));
    }
    return setup;
}

struct steer_config config_of(const TableSizes& sizes) {
    struct steer_config config{};
    std::uint32_t seed = 0x9e3779b9;
    for (std::uint32_t& word : config.seed) word = seed = seed * 1664525 + 1013904223;
    for (unsigned t = 0; t < STEER_TABLES; ++t) {
        const bool sessions = steer_is_session_table(static_cast<enum steer_table>(t)) != 0;
        config.table[t] = {(sessions ? sizes.session_lines : sizes.handshake_lines) - 1,
                           sessions ? sizes.overflow_lines - 1 : 0};
    }
    return config;
}

}  // namespace

struct DpdkPlane::Stages {
    std::array<std::vector<struct steer_line>, STEER_TABLES> lines;
    std::vector<vm_record> records = fresh_records();
    std::unique_ptr<dpdk::Resets> resets = std::make_unique<dpdk::Resets>();
    dpdk::Tables tables;
    dpdk::Vms vms;
    dpdk::Directory directory;
    dpdk::Stations stations{/*seed=*/1, kTicksPerSecond};
    std::unique_ptr<dpdk::DpdkTap> tap;
    std::vector<std::unique_ptr<dpdk::Worker>> workers;
    std::vector<rte_ring*> rings;
    dpdk::Burst burst;
    // Of the frames that were sent last, in their order.
    std::vector<rte_mbuf*> sent;
    std::vector<struct steer_verdict> verdicts;

    Stages(const struct steer_config& config, unsigned count);
    ~Stages();
    void make_tables(const struct steer_config& config);
    void note_verdicts();
    void take_over(dpdk::Worker& from, dpdk::Worker& to);
    std::vector<Left> take_departures();
};

void DpdkPlane::Stages::make_tables(const struct steer_config& config) {
    tables.config = config;
    for (unsigned t = 0; t < STEER_TABLES; ++t) {
        lines[t].resize(steer_lines(static_cast<enum steer_table>(t), config.table[t]));
        tables.lines[t] = lines[t];
    }
    tables.vms = records;
    tables.resets = resets.get();
}

DpdkPlane::Stages::Stages(const struct steer_config& config, unsigned count)
    : tap(std::move(*dpdk::DpdkTap::make(/*ring_bytes=*/1 << 17, count))) {
    make_tables(config);
    for (unsigned number = 0; number < count; ++number) {
        workers.push_back(std::make_unique<dpdk::Worker>(tables, stations, kPorts, number, count));
        dpdk::Worker& worker = *workers.back();
        worker.plane.directory = &directory;
        worker.uplink = kUplink;
        worker.tap = tap.get();
        for (unsigned other = 0; other < count; ++other)
            if (other != number)
                rings.push_back(worker.to[other] = Eal::instance().ring(dpdk::kBurstMax * 2));
    }
}

DpdkPlane::Stages::~Stages() {
    for (rte_ring* ring : rings) rte_ring_free(ring);
}

void DpdkPlane::Stages::note_verdicts() {
    for (std::uint16_t i = 0; i < burst.count; ++i) {
        const auto at = std::ranges::find(sent, burst.frames[i]) - sent.begin();
        verdicts.at(static_cast<std::size_t>(at)) = burst.outcomes[i].verdict;
    }
}

void DpdkPlane::Stages::take_over(dpdk::Worker& from, dpdk::Worker& to) {
    if (&from == &to) return;
    burst.count = static_cast<std::uint16_t>(
        rte_ring_dequeue_burst(from.to[to.number], reinterpret_cast<void**>(burst.frames.data()),
                               dpdk::kBurstMax, nullptr));
    if (burst.count == 0) return;
    burst.port = burst.frames[0]->port;
    dpdk::run_own_stages(to, burst);
    note_verdicts();
}

std::vector<DpdkPlane::Left> DpdkPlane::Stages::take_departures() {
    std::vector<Left> left;
    for (std::uint16_t port = 0; port < kPorts; ++port)
        for (const auto& worker : workers) {
            dpdk::Departures& leaving = worker->departures[port];
            for (std::uint16_t i = 0; i < leaving.count; ++i)
                left.push_back({static_cast<Port>(port), bytes_of(leaving.frames[i])});
            rte_pktmbuf_free_bulk(leaving.frames.data(), leaving.count);
            leaving.count = 0;
        }
    return left;
}

DpdkPlane::DpdkPlane(TableSizes sizes, unsigned workers) : DpdkPlane(config_of(sizes), workers) {}
DpdkPlane::DpdkPlane(const struct steer_config& config, unsigned workers) {
    Eal::instance();
    stages_ = std::make_unique<Stages>(config, workers);
}
DpdkPlane::~DpdkPlane() = default;

void DpdkPlane::manage(const ManagedVm& vm) {
    stages_->vms[vm.vm] = setup_of(vm);
    stages_->directory = dpdk::Directory(stages_->vms);
    vm_record& to = record(vm.vm);
    std::memcpy(to.mac, vm.mac.data(), 6);
    to.vlan = vm.vlan;
    for (std::size_t slot = 0; slot < STEER_SLOTS; ++slot) {
        to.backend[slot].ifindex = vm.ports[slot] + 1u;
        to.backend[slot].flags = dataplane::flags_of(stages_->vms[vm.vm], slot);
        std::memcpy(to.backend[slot].mac, vm.mac_of(slot).data(), 6);
    }
}

std::vector<std::string> DpdkPlane::burst(Port from, const std::vector<Bytes>& frames) {
    dpdk::Burst& burst = stages_->burst;
    burst.port = from;
    burst.count = 0;
    stages_->sent.clear();
    stages_->verdicts.assign(frames.size(), {});
    for (const Bytes& frame : frames) {
        stages_->sent.push_back(Eal::instance().frame(frame));
        burst.frames[burst.count++] = stages_->sent.back();
    }
    dpdk::Worker& polls = *stages_->workers[from % stages_->workers.size()];
    dpdk::run_stages(polls, burst);
    stages_->note_verdicts();
    for (const auto& other : stages_->workers) stages_->take_over(polls, *other);
    left_ = stages_->take_departures();
    std::vector<std::string> whys;
    for (const struct steer_verdict& verdict : stages_->verdicts)
        whys.push_back(steer_why_name(verdict.why));
    return whys;
}

Outcome DpdkPlane::send(Port from, const Bytes& frame) {
    Outcome out;
    out.why = burst(from, {frame}).front();
    out.action = static_cast<steer_action>(stages_->verdicts.front().action);
    out.frame = left_.empty() ? frame : left_.front().frame;
    if (out.action == STEER_PASS) return out;
    for (const Left& one : left_) {
        out.to.push_back(one.port);
        out.copies.push_back(one.frame);
    }
    return out;
}

vm_record& DpdkPlane::record(std::uint16_t vm) {
    return stages_->records.at(vm);
}
std::span<struct steer_line> DpdkPlane::lines(enum steer_table table) {
    return stages_->lines[table];
}
std::uint64_t DpdkPlane::reason(steer_why why) {
    std::uint64_t sum = 0;
    for (const auto& worker : stages_->workers) sum += worker->counters.reason(why);
    return sum;
}
unsigned DpdkPlane::drained_events() {
    return stages_->tables.drained.load();
}
dataplane::Tap& DpdkPlane::tap() {
    return *stages_->tap;
}
void DpdkPlane::advance_s(std::uint32_t seconds) {
    for (const auto& worker : stages_->workers) worker->plane.tick += seconds * kTicksPerSecond;
}

steer_swept DpdkPlane::sweep() {
    steer_swept total{0, 0, 0};
    for (unsigned t = 0; t < STEER_TABLES; ++t) {
        const auto table = static_cast<enum steer_table>(t);
        const auto count = static_cast<std::uint32_t>(stages_->lines[t].size());
        const steer_swept swept = steer_sweep(&stages_->workers[0]->plane, table, 0, count);
        total.live += swept.live;
        total.closed += swept.closed;
        total.removed += swept.removed;
    }
    return total;
}

std::uint64_t DpdkPlane::end_sessions(Slot slot, std::uint16_t vm) {
    return dpdk::end_sessions(stages_->workers[0]->plane, vm, slot, dataplane::Plane::Tell::peers)
        .reset;
}

bool DpdkPlane::end_untouched(enum steer_table table, const steer_key& key, std::uint64_t stamp) {
    return dpdk::end_untouched(stages_->workers[0]->plane, table, key, stamp);
}

}  // namespace godwit::test
