// Runs steer_packet() over model_memory.hpp and carries the verdict out as a plane would.
#include "tests/packet/model_plane.hpp"

#include "tests/packet/model_memory.hpp"

#include "steering/rewrite.h"
#include "steering/steer.h"

namespace godwit::test {
namespace {

constexpr std::uint32_t kVms = 4;
std::uint32_t ifindex_of(Port port) {
    return 10 + port;
}

}  // namespace

ModelPlane::ModelPlane(TableSizes sizes, std::uint32_t seed)
    : memory_(std::make_unique<steer_plane>()) {
    size_tables(*memory_, {sizes.session_lines, sizes.overflow_lines, sizes.handshake_lines, kVms},
                seed, kTicksPerSecond);
}
ModelPlane::ModelPlane(const struct steer_config& config) : ModelPlane() {
    memory_->config = config;
    for (unsigned t = 0; t < STEER_TABLES; ++t)
        memory_->tables[t].assign(steer_lines(static_cast<enum steer_table>(t), config.table[t]),
                                  {});
}
ModelPlane::~ModelPlane() = default;

void ModelPlane::manage(const ManagedVm& vm) {
    vm_record& record = memory_->vms.at(vm.vm);
    std::memcpy(record.mac, vm.mac.data(), 6);
    for (std::uint8_t slot = 0; slot < STEER_SLOTS; ++slot) {
        record.backend[slot].ifindex = ifindex_of(vm.ports[slot]);
        std::memcpy(record.backend[slot].mac, vm.mac.data(), 6);
        memory_->senders[{ifindex_of(vm.ports[slot]), vm.mac}] = {vm.vm, slot, 0};
    }
    std::uint16_t index = 0;
    for (const std::string& text : vm.addresses) {
        Address a = address(text);
        std::array<std::uint32_t, 4> w = a.words_be();
        auto id = static_cast<std::uint16_t>(vm.vm * STEER_ADDRESSES_PER_VM + index++);
        memory_->hosted[{static_cast<std::uint32_t>(a.family), w[0], w[1], w[2], w[3]}] = {vm.vm,
                                                                                           id};
    }
}

Outcome ModelPlane::send(Port from, const Bytes& frame) {
    struct steer_packet p;
    Outcome out;
    out.frame = frame;
    memory_->ifindex = ifindex_of(from);
    const std::uint8_t* data = out.frame.data();
    steer_parse(&p, data, data + out.frame.size(), static_cast<std::uint32_t>(out.frame.size()));
    struct steer_outcome outcome = ::steer_packet(memory_.get(), &p);
    struct steer_verdict v = outcome.verdict;
    auto port = [&](unsigned slot) {
        return static_cast<Port>(outcome.vm->backend[slot].ifindex - 10);
    };
    out.action = static_cast<steer_action>(v.action);
    out.why = steer_why_name(v.why);
    ++memory_->reasons[v.why];
    if (out.action == STEER_FORWARD) out.to = {port(v.slot)};
    if (out.action == STEER_BOTH) out.to = {port(0), port(1)};
    if (out.action == STEER_REFUSE) {
        struct steer_rst rst;
        steer_rst_to_sender(&rst, &p, p.family == 6);
        out.frame.resize(p.family == 6 ? STEER_RST6_FRAME_BYTES : STEER_RST4_FRAME_BYTES);
        steer_write_rst(out.frame.data(), &rst);
        out.to = {from};
    }
    if (out.action != STEER_ANSWER) return out;
    out.to = {from};
    bool nd = v.why == STEER_WHY_ND_ANSWERED;
    if (nd) out.frame.resize(STEER_NA_FRAME_BYTES);
    std::uint8_t* bytes = out.frame.data();
    bool answered = nd ? steer_answer_nd(bytes, bytes + out.frame.size(), outcome.vm->mac)
                       : steer_answer_arp(bytes, bytes + out.frame.size(), outcome.vm->mac);
    if (!answered) out.action = STEER_DROP;
    return out;
}

vm_record& ModelPlane::record(std::uint16_t vm) {
    return memory_->vms.at(vm);
}
std::span<struct steer_line> ModelPlane::lines(steer_table table) {
    return memory_->tables[table];
}
std::uint64_t ModelPlane::reason(steer_why why) {
    return memory_->reasons[why];
}
unsigned ModelPlane::drained_events() {
    return memory_->drained_events;
}
void ModelPlane::advance_s(std::uint32_t seconds) {
    memory_->tick += seconds * kTicksPerSecond;
}
void ModelPlane::advance_ticks(std::uint32_t ticks) {
    memory_->tick += ticks;
}

steer_swept ModelPlane::sweep() {
    steer_swept total{0, 0, 0};
    for (unsigned t = 0; t < STEER_TABLES; ++t) {
        auto table = static_cast<enum steer_table>(t);
        auto count = static_cast<std::uint32_t>(memory_->tables[t].size());
        steer_swept swept = steer_sweep(memory_.get(), table, 0, count);
        total.live += swept.live;
        total.closed += swept.closed;
        total.removed += swept.removed;
    }
    return total;
}

}  // namespace godwit::test
