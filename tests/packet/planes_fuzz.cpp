// One traffic through the model, the stages of the DPDK plane and, for root, the eBPF programs: with every frame
// each does the same as the model, and what they remember afterwards is the same. An input is the choices that
// the traffic is made by (traffic.hpp).
#include "tests/packet/dpdk/dpdk_plane.hpp"
#include "tests/packet/ebpf/ebpf_plane.hpp"
#include "tests/packet/model_plane.hpp"
#include "tests/packet/traffic.hpp"

#include <cstdio>
#include <cstdlib>
#include <unistd.h>

namespace godwit::test {
namespace {

// The kernel's clock goes on while the others stand. No limit is a multiple of this, so nothing is ever as old as
// its limit to the tick, and expires in the kernel alone.
constexpr unsigned kStep_s = 7;

// Ended in order, so that what the planes made in the kernel is removed; libFuzzer keeps the input.
[[noreturn]] void differ(const char* plane, const char* what) {
    std::fprintf(stderr, "%s and the model differ: %s\n", plane, what);
    std::exit(1);
}

struct Count {
    unsigned long long worlds = 0, frames = 0, rewritten = 0;
    ~Count() {
        std::fprintf(stderr, "%llu frames in %llu worlds, %llu rewritten, %s\n", frames, worlds,
                     rewritten,
                     geteuid() == 0 ? "three planes" : "model and DPDK only: eBPF needs root");
    }
};

struct World {
    std::unique_ptr<EbpfPlane> ebpf = geteuid() == 0 ? std::make_unique<EbpfPlane>() : nullptr;
    ModelPlane model = ebpf ? ModelPlane(ebpf->config()) : ModelPlane();
    DpdkPlane dpdk = ebpf ? DpdkPlane(ebpf->config()) : DpdkPlane();

    template <typename Do>
    void each(Do&& what) {
        what(model);
        what(dpdk);
        if (ebpf) what(*ebpf);
    }

    // Whether the frame left otherwise than it came.
    bool send(const Sent& sent) {
        const Outcome should = model.send(sent.from, sent.frame);
        const bool rewritten = should.action != STEER_ANSWER && should.frame != sent.frame;
        Outcome is = dpdk.send(sent.from, sent.frame);
        // What would leave by the port it came from goes nowhere, and is not seen.
        if (is.action == STEER_PASS && dpdk.left().empty()) is.frame = should.frame;
        if (auto same = agree(sent, is, should); !same) differ("DPDK", same.message());
        if (!ebpf) return rewritten;
        is = ebpf->send(sent.from, sent.frame);
        if (auto same = agree(sent, is, should, ebpf->went_by_wire()); !same)
            differ("eBPF", same.message());
        return rewritten;
    }

    void compare(const char* name, Plane& plane) {
        if (plane.audit() != model.audit()) differ(name, "the entries");
        if (plane.drained_events() != model.drained_events()) differ(name, "drained events");
        for (Slot slot : {kSource, kDestination}) {
            if (plane.sessions(slot) != plane.audit()[slot])
                differ(name, "the counters of sessions");
            if (plane.handshakes(slot) != plane.audit()[slot + 2u])
                differ(name, "the counters of handshakes");
        }
    }
};

void live(Choices& choices, Count& count) {
    Traffic traffic(choices);
    World world;
    const ManagedVm vm = traffic.vm();
    world.each([&](Plane& plane) {
        plane.manage(vm);
        plane.steer(steady(kSource));
    });
    while (!choices.is_used_up()) {
        const unsigned what = traffic.below(64);
        if (what == 0) {
            const Plan plan = traffic.plan();
            world.each([&](Plane& plane) { plane.steer(plan); });
        } else if (what == 1) {
            const unsigned seconds = kStep_s * traffic.below(400 / kStep_s);
            world.each([&](Plane& plane) {
                plane.advance_s(seconds);
                plane.sweep();
            });
        } else if (what == 2) {
            const Slot slot = traffic.below(2) ? kSource : kDestination;
            world.each([&](Plane& plane) { plane.end_sessions(slot); });
        } else {
            count.rewritten += world.send(traffic.next()) ? 1 : 0;
            ++count.frames;
        }
    }
    world.compare("DPDK", world.dpdk);
    if (world.ebpf) world.compare("eBPF", *world.ebpf);
    ++count.worlds;
}

}  // namespace
}  // namespace godwit::test

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    static godwit::test::Count count;
    godwit::test::Choices choices({bytes, size});
    godwit::test::live(choices, count);
    return 0;
}
