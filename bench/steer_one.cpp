// Nanoseconds per packet of steering alone, in user space over plain memory: parse, look up, decide, track.
// No driver, no BPF: what a change of steering/ costs by itself. The whole program beside its peer is
// bench/dataplane.cpp. Sessions live in the table in random order; the clock stands still.
#include "tests/packet/model_memory.hpp"

#include "steering/steer.h"

#include "tests/packet/frame.hpp"
#include "tests/packet/model_plane.hpp"

#include <numeric>
#include <random>

#include <benchmark/benchmark.h>

namespace godwit::test {
namespace {

constexpr std::uint32_t kIfindex = 10;

// A plane with one VM and `count` established sessions, and a frame of each.
struct Established {
    explicit Established(std::uint32_t count) {
        std::uint32_t lines = 1024;
        while (lines < count) lines *= 2;
        size_tables(plane, {lines, lines / 8, 1024, 1}, 1, 250);
        plane.ifindex = kIfindex;
        plane.vms[0].steer = steer_word_next(0, 0, false, 0, false, 1);
        std::memcpy(plane.vms[0].mac, kVmMac.data(), 6);
        plane.hosted[{4, address("10.1.0.1").words_be()[0], 0, 0, 0}] = {0, 0};
        frame = tcp("10.0.0.1:4000", "10.1.0.1:80").data("");
        for (std::uint32_t i = 0; i < count; ++i) pin(i);
        order.resize(count);
        std::iota(order.begin(), order.end(), 0u);
        std::shuffle(order.begin(), order.end(), std::mt19937(7));
    }
    static std::uint32_t peer_of(std::uint32_t i) { return 0x0a000001u + i / 50000 * 0x100u; }

    void pin(std::uint32_t i) {
        struct steer_key key{};
        key.peer_be = __builtin_bswap32(peer_of(i));
        key.peer_port = static_cast<std::uint16_t>(1024 + i % 50000);
        key.vm_port = 80;
        key.protocol = WIRE_PROTOCOL_TCP;
        struct steer_fresh fresh{
            STEER_META_HEARD_VM | STEER_META_HEARD_PEER, plane.tick, 0, 0, 0, 0, 0};
        steer_session_pin(&plane, STEER_SESSIONS4, &key, &fresh);
    }
    std::uint32_t steer(std::uint32_t i) {
        wire_store32(&frame[26], peer_of(i));
        wire_store16(&frame[34], static_cast<std::uint16_t>(1024 + i % 50000));
        struct steer_packet p;
        steer_parse(&p, frame.data(), frame.data() + frame.size(),
                    static_cast<std::uint32_t>(frame.size()));
        struct steer_case work;
        return steer_from_network(&plane, &work, &p, {frame.data(), frame.data() + frame.size()})
            .verdict.why;
    }

    struct steer_plane plane;
    Bytes frame;
    std::vector<std::uint32_t> order;
};

void established_tcp(benchmark::State& state) {
    Established table(static_cast<std::uint32_t>(state.range(0)));
    std::size_t next = 0, strays = 0;
    for (auto _ : state) {
        strays += table.steer(table.order[next]) != STEER_WHY_SESSION;
        next = next + 1 == table.order.size() ? 0 : next + 1;
    }
    state.counters["untracked"] = table.plane.vms[0].untracked;
    state.counters["strays"] = static_cast<double>(strays);
}
BENCHMARK(established_tcp)->Arg(1)->Arg(1 << 16)->Arg(1 << 20);

void parse_alone(benchmark::State& state) {
    Bytes frame = tcp("10.0.0.1:4000", "10.1.0.1:80").data("");
    for (auto _ : state) {
        struct steer_packet p;
        steer_parse(&p, frame.data(), frame.data() + frame.size(),
                    static_cast<std::uint32_t>(frame.size()));
        benchmark::DoNotOptimize(p);
    }
}
BENCHMARK(parse_alone);

void new_tcp_session(benchmark::State& state) {
    Established table(1);
    std::uint32_t i = 0;
    for (auto _ : state) {
        table.pin(++i % 1000);
        struct steer_key key{};
        key.peer_be = __builtin_bswap32(Established::peer_of(i % 1000));
        key.peer_port = static_cast<std::uint16_t>(1024 + i % 1000);
        key.vm_port = 80;
        key.protocol = WIRE_PROTOCOL_TCP;
        std::uint32_t meta = 0;
        if (steer_find(&table.plane, STEER_SESSIONS4, &key, &meta))
            steer_session_forget(&table.plane, STEER_SESSIONS4, &key, meta);
    }
}
BENCHMARK(new_tcp_session);

}  // namespace
}  // namespace godwit::test

BENCHMARK_MAIN();
