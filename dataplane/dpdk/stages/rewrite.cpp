// Carries verdicts out: translation (mode nat), answers, copies, and ordinary switching for what passes.
#include "steering/rewrite.h"

#include "dataplane/dpdk/worker.hpp"

#include "steering/translate.h"

#include "dataplane/dpdk/tunnels.hpp"

#include <rte_mbuf.h>

namespace godwit::dpdk {
namespace {

// One frame with everything that is known of it.
struct Case {
    Worker& worker;
    std::uint16_t port;  // where it came in
    rte_mbuf* frame;
    const struct steer_packet& packet;
    struct steer_outcome& outcome;
};

void drop(const Case& c, enum steer_why why) {
    c.outcome.verdict = ::steer_verdict(STEER_DROP, 0, STEER_KEEP, why);
    rte_pktmbuf_free(c.frame);
}

// A frame in several pieces is made one for a device that takes no others; where it has no room for that it is lost.
bool can_leave(const Worker& worker, std::uint32_t port, rte_mbuf* frame) {
    if (!frame || port >= worker.ports || worker.departures[port].count >= kDeparturesMax)
        return false;
    return frame->nb_segs == 1 || !worker.whole_only[port] || rte_pktmbuf_linearize(frame) == 0;
}

void depart(Worker& worker, std::uint32_t port, rte_mbuf* frame) {
    if (can_leave(worker, port, frame)) {
        Departures& leaving = worker.departures[port];
        leaving.frames[leaving.count++] = frame;
        return;
    }
    ++worker.counters.unsent;
    rte_pktmbuf_free(frame);
}

bool translate(rte_mbuf* frame, const steer_translation* names, steer_way way) {
    auto* data = rte_pktmbuf_mtod(frame, std::uint8_t*);
    return names && steer_translate(data, data + rte_pktmbuf_data_len(frame), names, way);
}

// In the backend's own names; false: no address of it can be rewritten.
bool put_in_names(Worker& worker, rte_mbuf* frame, const vm_record& vm, std::uint32_t slot) {
    return !steer_is_translated(&vm, slot) ||
           translate(frame, steer_translation_of(&worker.plane, vm.vm, slot), STEER_TOWARDS);
}

BackendCounters& counters_of(Worker& worker, const vm_record& vm, std::uint32_t slot) {
    return worker.counters.backends[vm.vm * STEER_SLOTS + (slot & 1)];
}

void to_backend(const Case& c, rte_mbuf* frame, std::uint32_t slot) {
    ++counters_of(c.worker, *c.outcome.vm, slot).to;
    depart(c.worker, c.outcome.vm->backend[slot & 1].ifindex - 1, frame);
}

// Copies are put into their backends' names one by one.
void put_in_names(const Case& c) {
    const std::uint8_t action = c.outcome.verdict.action;
    const bool leaves = action == STEER_PASS || action == STEER_FORWARD || action == STEER_BOTH;
    bool good = !c.outcome.source || !leaves || translate(c.frame, c.outcome.source, STEER_BACK);
    if (good && action == STEER_FORWARD)
        good = put_in_names(c.worker, c.frame, *c.outcome.vm, c.outcome.verdict.slot);
    if (!good)
        c.outcome.verdict = ::steer_verdict(STEER_DROP, 0, STEER_KEEP, STEER_WHY_UNTRANSLATABLE);
}

// Whole copies, because each is rewritten for its backend.
void copy_to_backends(const Case& c) {
    const std::uint64_t word = steer_load64(&c.outcome.vm->steer);
    for (std::uint32_t slot = 0; slot < STEER_SLOTS; ++slot) {
        if (!steer_slot_hears(word, slot)) continue;
        rte_mbuf* copy = rte_pktmbuf_copy(c.frame, c.frame->pool, 0, UINT32_MAX);
        if (copy && !put_in_names(c.worker, copy, *c.outcome.vm, slot)) {
            rte_pktmbuf_free(copy);
            continue;
        }
        to_backend(c, copy, slot);
    }
    rte_pktmbuf_free(c.frame);
}

// The frame gets exactly this length; what lay behind its first segment is not needed any more.
bool resize(rte_mbuf* frame, std::uint16_t bytes) {
    if (frame->nb_segs > 1) {
        rte_pktmbuf_free(frame->next);
        frame->next = nullptr;
        frame->nb_segs = 1;
        frame->pkt_len = frame->data_len;
    }
    const std::uint16_t now = frame->data_len;
    if (now >= bytes) return rte_pktmbuf_trim(frame, static_cast<std::uint16_t>(now - bytes)) == 0;
    return rte_pktmbuf_append(frame, static_cast<std::uint16_t>(bytes - now)) != nullptr;
}

void answer(const Case& c) {
    const bool nd = c.outcome.verdict.why == STEER_WHY_ND_ANSWERED;
    const std::uint16_t tags = c.packet.tag_bytes;
    if (nd && !resize(c.frame, static_cast<std::uint16_t>(tags + STEER_NA_FRAME_BYTES)))
        return drop(c, STEER_WHY_PLANE);
    auto* data = rte_pktmbuf_mtod(c.frame, std::uint8_t*);
    const std::uint8_t* end = data + rte_pktmbuf_data_len(c.frame);
    const std::uint8_t* mac = c.outcome.vm->mac;
    const bool written = nd ? steer_answer_nd_tagged(data, end, tags, mac)
                            : steer_answer_arp_tagged(data, end, tags, mac);
    if (!written) return drop(c, STEER_WHY_PLANE);
    depart(c.worker, c.port, c.frame);
}

// A verdict of a fenced frame names no slot: who sent it does.
void count_fenced(const Case& c) {
    const steer_identity* sender = steer_sender(&c.worker.plane, c.packet.source_mac);
    if (c.outcome.vm && sender && sender->vm == c.outcome.vm->vm)
        ++counters_of(c.worker, *c.outcome.vm, sender->slot).fenced;
}

void refuse(const Case& c) {
    steer_rst rst;
    const bool wide = c.packet.family == 6;
    count_fenced(c);
    const std::uint16_t tags = c.packet.tag_bytes;
    const int bytes = tags + (wide ? STEER_RST6_FRAME_BYTES : STEER_RST4_FRAME_BYTES);
    if (!resize(c.frame, static_cast<std::uint16_t>(bytes))) return drop(c, STEER_WHY_PLANE);
    steer_rst_to_sender(&rst, &c.packet, wide);
    steer_write_rst_tagged(rte_pktmbuf_mtod(c.frame, std::uint8_t*), tags, &rst);
    depart(c.worker, c.port, c.frame);
}

// ---- ordinary switching -------------------------------------------------------------------------

// A managed VM's broadcasts never reach its sibling: the bridge of the sibling's host would learn the shared
// MAC on the wrong side and cut the sibling off. (Unless each has its own.)
bool is_sibling(const vm_record* vm, std::uint32_t ifindex) {
    if (!vm || (vm->backend[0].flags | vm->backend[1].flags)) return false;
    return ifindex == vm->backend[0].ifindex || ifindex == vm->backend[1].ifindex;
}

// Copies and no references to the one frame: net_af_xdp sends a reference's own, empty memory.
void flood(const Case& c) {
    for (std::uint16_t port = 0; port < c.worker.ports; ++port)
        if (port != c.port && !is_sibling(c.outcome.vm, port + 1u) &&
            !(c.worker.tunnels && c.worker.tunnels->is_underlay(port)))
            depart(c.worker, port, rte_pktmbuf_copy(c.frame, c.frame->pool, 0, UINT32_MAX));
    rte_pktmbuf_free(c.frame);
}

// Also from what is steered: a neighbour that speaks to nobody but the VM must be found when it is answered. A
// managed VM is where its steering says, and what is dropped teaches nothing.
void learn(const Case& c) {
    const std::uint8_t action = c.outcome.verdict.action;
    if (action == STEER_DROP || action == STEER_REFUSE) return;
    if (c.worker.relays && c.port == c.worker.uplink)  // it speaks from there now
        return c.worker.stations.forget(c.packet.source_mac);
    if (!steer_sender(&c.worker.plane, c.packet.source_mac))
        c.worker.stations.learn(c.packet.source_mac, c.port, c.worker.plane.tick);
}

// Where the destination was seen; a managed VM's frame to an unknown station out of the one uplink.
std::optional<std::uint16_t> port_of_destination(const Case& c) {
    const Worker& worker = c.worker;
    if (c.packet.destination_mac[0] & 1) return std::nullopt;
    std::optional<std::uint16_t> port =
        worker.stations.find(c.packet.destination_mac, worker.plane.tick);
    const bool goes_up = c.outcome.vm || (worker.relays && c.port != worker.uplink);
    if (!port && goes_up && worker.uplink != kPortsMax) port = worker.uplink;
    return port;
}

void pass(const Case& c) {
    Worker& worker = c.worker;
    if (c.outcome.vm) ++counters_of(worker, *c.outcome.vm, c.outcome.verdict.slot).from;
    const std::optional<std::uint16_t> port = port_of_destination(c);
    if (!port) return flood(c);
    if (*port == c.port) return rte_pktmbuf_free(c.frame);  // it is on that side already
    depart(worker, *port, c.frame);
}

// ---- for who watches ----------------------------------------------------------------------------

// Where it leaves as a port's number plus one, when there is one such port.
std::uint32_t leaves_by(const Case& c) {
    const struct steer_verdict& verdict = c.outcome.verdict;
    if (verdict.action == STEER_ANSWER || verdict.action == STEER_REFUSE) return c.port + 1u;
    if (!c.outcome.vm) return 0;
    if (verdict.action == STEER_FORWARD) return c.outcome.vm->backend[verdict.slot & 1].ifindex;
    if (verdict.action != STEER_PASS) return 0;
    const std::optional<std::uint16_t> port = port_of_destination(c);
    return port ? *port + 1u : 0;
}

void show(const Case& c) {
    DpdkTap* tap = c.worker.tap;
    if (!tap || !tap->is_watched()) return;
    const std::uint32_t vm = c.outcome.vm ? c.outcome.vm->vm : STEER_FLOW_NO_VM;
    tap->look(c.worker.number, c.packet, c.outcome.verdict, vm, {c.port + 1u, leaves_by(c)},
              c.frame);
}

// ---- one frame ----------------------------------------------------------------------------------

void carry_out(const Case& c) {
    learn(c);
    put_in_names(c);
    show(c);
    switch (c.outcome.verdict.action) {
        case STEER_PASS:
            return pass(c);
        case STEER_FORWARD:
            return to_backend(c, c.frame, c.outcome.verdict.slot);
        case STEER_BOTH:
            return copy_to_backends(c);
        case STEER_ANSWER:
            return answer(c);
        case STEER_REFUSE:
            return refuse(c);
        default:
            count_fenced(c);
            return rte_pktmbuf_free(c.frame);
    }
}

}  // namespace

void rewrite_stage(Worker& worker, Burst& burst) {
    struct steer_tally& tally = worker.counters.tallies[worker.counters.number_of_port[burst.port]];
    for (std::uint16_t i = 0; i < burst.count; ++i) {
        carry_out({worker, burst.port, burst.frames[i], burst.parsed[i], burst.outcomes[i]});
        const struct steer_verdict& verdict = burst.outcomes[i].verdict;
        ++tally.packets[steer_tally_cell(verdict.action, verdict.why)];
    }
}

}  // namespace godwit::dpdk
