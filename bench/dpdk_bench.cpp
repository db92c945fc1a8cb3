#include "bench/dpdk_bench.hpp"

#include "dataplane/table_config.hpp"
#include "tests/packet/frame.hpp"

#include <array>
#include <bit>
#include <cstring>
#include <fstream>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_mbuf.h>
#include <rte_prefetch.h>
#include <stdexcept>
#include <string>
#include <sys/mman.h>
#include <time.h>

namespace godwit::bench {
namespace {

constexpr std::uint16_t kUplink = 0, kVmPort = 1, kPorts = 3;
constexpr std::size_t kFrames = 2048;
constexpr std::uint32_t kFirstPeer = 0x14000000;  // 20.0.0.0, and the last word of 2001:db8::
constexpr std::uint32_t kScatter = 2654435761u;   // prime: visits all before it repeats
constexpr unsigned kBurstsPerTick = 32;
constexpr unsigned long kHeapMiB = 2560, kTablesMiB = 2600;

[[noreturn]] void give_up(const std::string& doing) {
    throw std::runtime_error(doing + ": " + rte_strerror(rte_errno));
}

void require(bool holds, const char* what) {
    if (!holds) throw std::runtime_error(std::string("the bench itself is wrong: ") + what);
}

void start_environment() {
    static const bool started = [] {
        std::vector<std::string> words{"dpdk_bench", large_pages() ? "--in-memory" : "--no-huge",
                                       "--no-pci",   "--no-telemetry",
                                       "-m",         std::to_string(kHeapMiB),
                                       "--lcores=0", "--log-level=error"};
        std::vector<char*> arguments;
        for (std::string& word : words) arguments.push_back(word.data());
        if (rte_eal_init(static_cast<int>(arguments.size()), arguments.data()) < 0)
            give_up("start DPDK's environment");
        return true;
    }();
    (void)started;
}

rte_hash* make_hash(std::uint32_t sessions) {
    rte_hash_parameters parameters{};
    parameters.name = "sessions";
    parameters.entries = std::bit_ceil(sessions + sessions / 4);
    parameters.key_len = 24;
    parameters.hash_func = rte_hash_crc;
    parameters.extra_flag = RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF;
    rte_hash* hash = rte_hash_create(&parameters);
    if (!hash) give_up("make the rte_hash");
    return hash;
}

// Of this thread: what others do on the machine is not counted.
double now_s() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

std::uint16_t port_of(std::uint32_t session) {
    return static_cast<std::uint16_t>(1024 + (session * kScatter >> 18));
}

}  // namespace

bool large_pages() {
    static const bool enough = [] {
        std::ifstream meminfo("/proc/meminfo");
        std::string word;
        for (unsigned long free = 0; meminfo >> word;)
            if (word == "HugePages_Free:" && meminfo >> free)
                return free * 2 >= kHeapMiB + kTablesMiB;
        return false;
    }();
    return enough;
}

Pages::Pages(std::size_t bytes) {
    constexpr std::size_t kLarge = 2 << 20;
    bytes = (bytes + kLarge - 1) / kLarge * kLarge;
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | (large_pages() ? MAP_HUGETLB : 0), -1, 0);
    if (memory == MAP_FAILED) throw std::runtime_error("no memory for the bench");
    memory_ = {static_cast<std::uint8_t*>(memory), bytes};
}
Pages::~Pages() {
    if (!memory_.empty()) munmap(memory_.data(), memory_.size());
}

DpdkBench::DpdkBench(unsigned family, std::uint32_t sessions)
    : family_(family), states_(std::size_t{sessions} * sizeof(State)), records_(1) {
    static_assert(sizeof(Key) == 24);
    start_environment();
    size_tables(sessions);
    hash_ = make_hash(sessions);
    dpdk::Vms vms;
    dataplane::VmSetup& setup = vms[0];
    setup.mac = test::kVmMac;
    setup.addresses = {{4, test::address("10.1.0.1").words_be()},
                       {6, test::address("2001:db8:1::1").words_be()}};
    setup.backends[0] = {kVmPort + 1u, test::kVmMac, {}};
    directory_ = dpdk::Directory(vms);
    vm_record& record = records_[0];
    std::memcpy(record.mac, setup.mac.data(), 6);
    record.backend[0].ifindex = kVmPort + 1;
    std::memcpy(record.backend[0].mac, setup.mac.data(), 6);
    const std::uint32_t forever[8] = {1u << 30, 1u << 30, 1u << 30, 1u << 30,
                                      1u << 30, 1u << 30, 1u << 30, 1u << 30};
    static_assert(sizeof(record.timeouts) == sizeof(forever));
    std::memcpy(&record.timeouts, forever, sizeof(forever));
    record.steer = steer_word_next(0, 0, false, 0, false, 1);
    worker_ = std::make_unique<dpdk::Worker>(tables_, stations_, kPorts);
    worker_->plane.directory = &directory_;
    worker_->uplink = kUplink;
    make_frames();
}

DpdkBench::~DpdkBench() {
    rte_hash_free(hash_);
    rte_mempool_free(pool_);
}

void DpdkBench::size_tables(std::uint32_t sessions) {
    tables_.config = dataplane::fresh_config(
        {family_ == 4 ? sessions : 1024, family_ == 4 ? 1024 : sessions, 4096});
    for (unsigned t = 0; t < STEER_TABLES; ++t) {
        const auto table = static_cast<enum steer_table>(t);
        const std::uint32_t all = steer_lines(table, tables_.config.table[t]);
        pages_.emplace_back(all * sizeof(struct steer_line));
        tables_.lines[t] = {reinterpret_cast<struct steer_line*>(pages_.back().bytes().data()),
                            all};
    }
    tables_.vms = records_;
}

// The first half comes from clients, the second from the VM.
void DpdkBench::make_frames() {
    pool_ = rte_pktmbuf_pool_create("frames", 2 * kFrames, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
                                    SOCKET_ID_ANY);
    if (!pool_) give_up("make the pool of frames");
    const bool v4 = family_ == 4;
    whole_ = test::tcp(v4 ? "20.0.0.9:4000" : "[2001:db8::9]:4000",
                       v4 ? "10.1.0.1:80" : "[2001:db8:1::1]:80")
                 .data("");
    const test::Bytes from_vm = test::udp(v4 ? "20.0.0.9:4000" : "[2001:db8::9]:4000",
                                          v4 ? "10.1.0.1:80" : "[2001:db8:1::1]:80")
                                    .reply()
                                    .datagram();
    for (std::size_t i = 0; i < 2 * kFrames; ++i) {
        const test::Bytes& bytes = i < kFrames ? whole_ : from_vm;
        rte_mbuf* frame = rte_pktmbuf_alloc(pool_);
        if (!frame) give_up("take a frame");
        std::memcpy(rte_pktmbuf_append(frame, static_cast<std::uint16_t>(bytes.size())),
                    bytes.data(), bytes.size());
        ring_.push_back(frame);
    }
}

void DpdkBench::write_session(std::uint8_t* frame, std::uint32_t session, bool from_vm) const {
    const unsigned address = family_ == 4 ? (from_vm ? 30 : 26) : (from_vm ? 50 : 34);
    const unsigned ports = family_ == 4 ? 34 : 54;
    wire_store32(frame + address, kFirstPeer + session);
    wire_store16(frame + ports + (from_vm ? 2 : 0), port_of(session));
}

DpdkBench::Key DpdkBench::key_in(const std::uint8_t* frame) const {
    Key key{};
    const bool v4 = family_ == 4;
    std::memcpy(key.peer, frame + (v4 ? 26 : 22), v4 ? 4 : 16);
    std::memcpy(&key.peer_port, frame + (v4 ? 34 : 54), 2);
    std::memcpy(&key.vm_port, frame + (v4 ? 36 : 56), 2);
    key.protocol = frame[v4 ? 23 : 20];
    return key;
}

// The next 32 of the ring, each for another session.
void DpdkBench::fill(std::uint64_t& at, std::uint32_t sessions) {
    burst_.port = kUplink;
    burst_.count = dpdk::kBurstMax;
    for (rte_mbuf*& frame : burst_.frames) {
        frame = ring_[next_++ % kFrames];
        write_session(rte_pktmbuf_mtod(frame, std::uint8_t*),
                      static_cast<std::uint32_t>(at++ * kScatter % sessions), false);
    }
}

void DpdkBench::through_plane() {
    dpdk::run_stages(*worker_, burst_);
    require(worker_->departures[kVmPort].count == burst_.count, "not every frame left to the VM");
    worker_->departures[kVmPort].count = 0;
}

void DpdkBench::through_hash() {
    std::array<Key, dpdk::kBurstMax> keys;
    std::array<const void*, dpdk::kBurstMax> where;
    std::array<void*, dpdk::kBurstMax> states;
    for (unsigned i = 0; i < dpdk::kBurstMax; ++i) {
        keys[i] = key_in(rte_pktmbuf_mtod(burst_.frames[i], const std::uint8_t*));
        where[i] = &keys[i];
    }
    std::uint64_t hits = 0;
    rte_hash_lookup_bulk_data(hash_, where.data(), dpdk::kBurstMax, &hits, states.data());
    missed_ += dpdk::kBurstMax - static_cast<unsigned>(std::popcount(hits));
    for (void* state : states) rte_prefetch0(state);
    for (unsigned i = 0; i < dpdk::kBurstMax; ++i)
        if (hits >> i & 1) static_cast<State*>(states[i])->last_tick = tick_;
}

void DpdkBench::swap_tuples() {
    const unsigned bytes = family_ == 4 ? 4 : 16, address = family_ == 4 ? 26 : 22;
    for (rte_mbuf* frame : burst_.frames) {
        auto* data = rte_pktmbuf_mtod(frame, std::uint8_t*);
        std::swap_ranges(data, data + 6, data + 6);
        std::swap_ranges(data + address, data + address + bytes, data + address + bytes);
        std::uint8_t* ports = data + address + 2 * bytes;
        std::swap_ranges(ports, ports + 2, ports + 2);
    }
}

void DpdkBench::through(Target target) {
    if (target == kPlane) return through_plane();
    if (target == kHash) return through_hash();
    if (target == kSwap) swap_tuples();
}

double DpdkBench::receive(Target target, std::uint32_t sessions, std::uint32_t packets) {
    std::uint64_t at = 0;
    const std::uint64_t hits_before = hits();
    const std::uint32_t bursts = packets / dpdk::kBurstMax;
    const double start = now_s();
    for (std::uint32_t burst = 0; burst < bursts; ++burst) {
        if (burst % kBurstsPerTick == 0) worker_->plane.tick = ++tick_;
        fill(at, sessions);
        through(target);
    }
    const double took = now_s() - start;
    if (target == kPlane)
        require(hits() - hits_before == std::uint64_t{bursts} * dpdk::kBurstMax,
                "not every packet found its session");
    require(missed_ == 0, "the rte_hash has lost sessions");
    if (target == kSwap)  // for the next target as they were
        for (std::size_t i = 0; i < kFrames; ++i)
            rte_memcpy(rte_pktmbuf_mtod(ring_[i], void*), whole_.data(), whole_.size());
    return took * 1e9 / (bursts * dpdk::kBurstMax);
}

void DpdkBench::know(std::uint32_t count) {
    const enum steer_table table = family_ == 4 ? STEER_SESSIONS4 : STEER_SESSIONS6;
    auto* states = reinterpret_cast<State*>(states_.bytes().data());
    for (; known_ < count; ++known_) {
        auto* frame = rte_pktmbuf_mtod(ring_[0], std::uint8_t*);
        write_session(frame, known_, false);
        struct steer_packet packet;
        steer_parse(&packet, frame, frame + whole_.size(),
                    static_cast<std::uint32_t>(whole_.size()));
        packet.from_backend = 0;
        const steer_address* hosted = steer_hosted(&worker_->plane, &packet, packet.destination);
        struct steer_key key;
        steer_key_of(&key, &packet, hosted->address_id);
        struct steer_fresh fresh{
            STEER_META_HEARD_VM | STEER_META_HEARD_PEER, tick_, packet.ack, packet.seq, 0, 0, 0};
        require(steer_session_pin(&worker_->plane, table, &key, &fresh) == STEER_INSERTED,
                "a session found no place");
        const Key same = key_in(frame);
        if (rte_hash_add_key_data(hash_, &same, &states[known_]) != 0)
            give_up("add to the rte_hash");
    }
}

double DpdkBench::open(Target target, std::uint32_t count) {
    auto* states = reinterpret_cast<State*>(states_.bytes().data());
    const std::uint32_t first = opened_[target];
    opened_[target] += count;
    const std::uint64_t before = worker_->counters.reason(STEER_WHY_OPENED);
    const double start = now_s();
    for (std::uint32_t session = first; session < first + count; session += dpdk::kBurstMax) {
        burst_.port = kVmPort;
        burst_.count = dpdk::kBurstMax;
        for (unsigned i = 0; i < dpdk::kBurstMax; ++i) {
            burst_.frames[i] = ring_[kFrames + next_++ % kFrames];
            write_session(rte_pktmbuf_mtod(burst_.frames[i], std::uint8_t*), session + i, true);
        }
        if (target == kPlane) {
            dpdk::run_stages(*worker_, burst_);
            worker_->departures[kUplink].count = 0;
        } else {
            for (unsigned i = 0; i < dpdk::kBurstMax; ++i) {
                Key key = key_in(rte_pktmbuf_mtod(burst_.frames[i], const std::uint8_t*));
                std::memcpy(key.peer, rte_pktmbuf_mtod_offset(burst_.frames[i], void*, 30), 4);
                if (rte_hash_add_key_data(hash_, &key, &states[session + i]) != 0)
                    give_up("add to the rte_hash");
            }
        }
    }
    const double took = now_s() - start;
    if (target == kPlane)
        require(worker_->counters.reason(STEER_WHY_OPENED) - before == count,
                "not every datagram opened a session");
    return took * 1e9 / count;
}

}  // namespace godwit::bench
