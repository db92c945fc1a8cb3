// Runs steer_packet() over model_memory.hpp and carries the verdict out as a plane would.
#include "tests/packet/model_plane.hpp"

#include "tests/packet/model_memory.hpp"

#include "steering/ending.h"
#include "steering/rewrite.h"
#include "steering/steer.h"
#include "steering/translate.h"

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

// Everything that leads to the VM, so that it can be managed anew in another way.
void ModelPlane::forget(std::uint16_t vm) {
    std::erase_if(memory_->senders, [&](const auto& one) { return one.second.vm == vm; });
    std::erase_if(memory_->hosted,
                  [&](const auto& one) { return (one.second.vm & ~STEER_TEMPORARY) == vm; });
    std::erase_if(memory_->translations, [&](const auto& one) { return one.first.first == vm; });
}

void ModelPlane::manage(const ManagedVm& vm) {
    forget(vm.vm);
    vm_record& record = memory_->vms.at(vm.vm);
    std::memcpy(record.mac, vm.mac.data(), 6);
    record.vlan = vm.vlan;
    const auto host = [&](const Address& a, std::uint32_t owner, std::uint32_t index) {
        const std::array<std::uint32_t, 4> w = a.words_be();
        const auto id = static_cast<std::uint16_t>(vm.vm * STEER_ADDRESSES_PER_VM + index);
        memory_->hosted[{static_cast<std::uint32_t>(a.family) | vm.vlan << 8, w[0], w[1], w[2],
                         w[3]}] = {static_cast<std::uint16_t>(owner), id};
        return id;
    };
    struct steer_translation hosted{};
    std::uint32_t index = 0;
    for (const std::string& text : vm.addresses) {
        const Address a = address(text);
        const std::uint16_t id = host(a, vm.vm, index++);
        (a.family == 4 ? hosted.address_id4 : hosted.address_id6) = id;
        std::memcpy(a.family == 4 ? &hosted.hosted4_be : hosted.hosted6_be, a.bytes.data(),
                    a.family == 4 ? 4 : 16);
    }
    for (std::uint8_t slot = 0; slot < STEER_SLOTS; ++slot) {
        const Mac mac = vm.mac_of(slot);
        record.backend[slot].ifindex = ifindex_of(vm.ports[slot]);
        record.backend[slot].flags = vm.nat[slot]                  ? STEER_BACKEND_NAT
                                     : mac != vm.mac_of(1u - slot) ? STEER_BACKEND_MAC
                                                                   : 0;
        std::memcpy(record.backend[slot].mac, mac.data(), 6);
        memory_->senders[{ifindex_of(vm.ports[slot]), mac}] = {vm.vm, slot, 0};
        struct steer_translation& names = memory_->translations[{vm.vm, slot}];
        if (vm.nat[slot]) names = hosted;
        std::memcpy(names.mac, mac.data(), 6);
        if (!vm.nat[slot]) continue;
        for (const std::string& text : vm.nat[slot]->temporary) {
            const Address a = address(text);
            host(a, vm.vm | STEER_TEMPORARY, slot);
            std::memcpy(a.family == 4 ? &names.temporary4_be : names.temporary6_be, a.bytes.data(),
                        a.family == 4 ? 4 : 16);
        }
    }
}

bool ModelPlane::rewrite(Bytes& frame, const struct steer_translation* names, bool back) {
    std::uint8_t* data = frame.data();
    return names &&
           steer_translate(data, data + frame.size(), names, back ? STEER_BACK : STEER_TOWARDS);
}

// One frame for one backend, in its names.
std::optional<Bytes> ModelPlane::frame_for(const vm_record& vm, unsigned slot, Bytes frame) {
    if (steer_is_translated(&vm, slot) &&
        !rewrite(frame, steer_translation_of(memory_.get(), vm.vm, slot), false))
        return std::nullopt;
    return frame;
}

// What FORWARD and BOTH send.
void ModelPlane::carry_out(Outcome& out, const vm_record& vm, unsigned slot) {
    const auto port = [&](unsigned at) { return static_cast<Port>(vm.backend[at].ifindex - 10); };
    if (out.action == STEER_BOTH) {
        for (unsigned at = 0; at < STEER_SLOTS; ++at) {
            const std::optional<Bytes> copy = frame_for(vm, at, out.frame);
            if (!copy) continue;
            out.to.push_back(port(at));
            out.copies.push_back(*copy);
        }
        return;
    }
    std::optional<Bytes> frame = frame_for(vm, slot, out.frame);
    if (!frame) {
        out.action = STEER_DROP;
        out.why = steer_why_name(STEER_WHY_UNTRANSLATABLE);
        return;
    }
    out.frame = std::move(*frame);
    out.to = {port(slot)};
}

Outcome ModelPlane::send(Port from, const Bytes& frame) {
    struct steer_packet p;
    Outcome out;
    out.frame = frame;
    memory_->ifindex = ifindex_of(from);
    const std::uint8_t* data = out.frame.data();
    steer_parse(&p, data, data + out.frame.size(), static_cast<std::uint32_t>(out.frame.size()));
    struct steer_case work;
    struct steer_outcome outcome =
        steer_is_told(memory_.get(), &p)
            ? steer_outcome(nullptr,
                            ::steer_verdict(STEER_REFUSE, 0, STEER_KEEP, STEER_WHY_RESET_TOLD))
            : ::steer_packet(memory_.get(), &work, &p, {data, data + out.frame.size()});
    struct steer_verdict v = outcome.verdict;
    const bool leaves =
        v.action == STEER_PASS || v.action == STEER_FORWARD || v.action == STEER_BOTH;
    if (outcome.source && leaves && !rewrite(out.frame, outcome.source, true))
        v = steer_fenced(STEER_WHY_UNTRANSLATABLE);
    out.action = static_cast<steer_action>(v.action);
    out.why = steer_why_name(v.why);
    if (out.action == STEER_FORWARD || out.action == STEER_BOTH)
        carry_out(out, *outcome.vm, v.slot);
    ++memory_->reasons[out.why == "untranslatable" ? STEER_WHY_UNTRANSLATABLE : v.why];
    if (out.action == STEER_REFUSE) {
        struct steer_rst rst;
        steer_rst_to_sender(&rst, &p, p.family == 6);
        out.frame.resize(p.tag_bytes +
                         (p.family == 6 ? STEER_RST6_FRAME_BYTES : STEER_RST4_FRAME_BYTES));
        steer_write_rst_tagged(out.frame.data(), p.tag_bytes, &rst);
        out.to = {from};
    }
    if (out.action != STEER_ANSWER) return out;
    out.to = {from};
    bool nd = v.why == STEER_WHY_ND_ANSWERED;
    if (nd) out.frame.resize(p.tag_bytes + STEER_NA_FRAME_BYTES);
    std::uint8_t* bytes = out.frame.data();
    bool answered =
        nd ? steer_answer_nd_tagged(bytes, bytes + out.frame.size(), p.tag_bytes, outcome.vm->mac)
           : steer_answer_arp_tagged(bytes, bytes + out.frame.size(), p.tag_bytes, outcome.vm->mac);
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

std::uint64_t ModelPlane::end_sessions(Slot slot, std::uint16_t vm) {
    struct steer_ending ending{vm, slot, 1, 0, 0};
    for (unsigned t = 0; t < STEER_TABLES; ++t)
        for (std::uint32_t i = 0; i < memory_->tables[t].size(); ++i)
            steer_end_line(memory_.get(), static_cast<enum steer_table>(t), i, &ending);
    return ending.reset;
}

bool ModelPlane::end_untouched(steer_table table, const steer_key& key, std::uint64_t stamp) {
    return steer_end_untouched(memory_.get(), table, &key, stamp) != 0;
}

}  // namespace godwit::test
