#include "dataplane/flow_row.hpp"

#include "steering/wire.h"

#include "dataplane/names.hpp"

#include <algorithm>
#include <cstdio>
#include <ctime>

namespace godwit::dataplane {

const std::vector<std::string> kVerdictNames = {"pass",   "forward", "both",
                                                "answer", "drop",    "refuse"};

namespace {

constexpr std::uint64_t kNsPerS = 1'000'000'000;

std::string address_text(std::uint32_t family, const std::uint32_t* words) {
    HostedAddress address;
    address.family = family;
    std::copy_n(words, 4, address.words_be.begin());
    return to_text(address);
}

std::string mac_text(const std::uint8_t* mac) {
    char text[18];
    std::snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
                  mac[3], mac[4], mac[5]);
    return text;
}

bool is_mac(const std::string& text, const std::uint8_t* bytes) {
    const Result<Mac> mac = parse_mac(text);
    return mac && std::equal(mac->begin(), mac->end(), bytes);
}

std::string protocol_of(const steer_flow& record) {
    if (record.kind >= STEER_ARP_REQUEST && record.kind <= STEER_ARP_ANNOUNCE) return "arp";
    if (record.kind == STEER_NOT_IP) return "ethernet";
    if (record.kind == STEER_VLAN) return "vlan";
    if (record.kind >= STEER_ICMP_ERROR && record.kind <= STEER_ICMP_FOREIGN)
        return record.family == 4 ? "icmp" : "icmpv6";
    return record.family == 0 ? "unknown" : protocol_name(record.protocol);
}

// The ports of an ICMP error are those of the session it is about.
bool has_ports(const steer_flow& record) {
    if (record.kind >= STEER_ICMP_ERROR && record.kind <= STEER_ICMP_FOREIGN) return false;
    return record.protocol == WIRE_PROTOCOL_TCP || record.protocol == WIRE_PROTOCOL_UDP;
}

}  // namespace

const char* verdict_name(std::uint8_t action) {
    return action < kVerdictNames.size() ? kVerdictNames[action].c_str() : "?";
}

std::optional<steer_why> reason_of(const std::string& name) {
    for (std::uint32_t why = 0; why < STEER_WHYS; ++why)
        if (name == steer_why_name(why)) return static_cast<steer_why>(why);
    return std::nullopt;
}

std::string known_reasons() {
    std::string all;
    for (std::uint32_t why = 0; why < STEER_WHYS; ++why)
        all += std::string(all.empty() ? "" : ", ") + steer_why_name(why);
    return all;
}

std::string tcp_flags_text(std::uint8_t flags) {
    static constexpr const char* kNames[] = {"FIN", "SYN", "RST", "PSH",
                                             "ACK", "URG", "ECE", "CWR"};
    std::string text;
    for (unsigned bit = 0; bit < 8; ++bit)
        if (flags >> bit & 1) text += std::string(text.empty() ? "" : ",") + kNames[bit];
    return text;
}

std::string time_text(std::uint64_t time_ns) {
    const auto seconds = static_cast<std::time_t>(time_ns / kNsPerS);
    std::tm parts{};
    gmtime_r(&seconds, &parts);
    char text[40];
    const std::size_t end = std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
    std::snprintf(text + end, sizeof(text) - end, ".%09uZ",
                  static_cast<unsigned>(time_ns % kNsPerS));
    return text;
}

std::uint64_t wall_minus_monotonic_ns() {
    timespec wall{}, monotonic{};
    clock_gettime(CLOCK_REALTIME, &wall);
    clock_gettime(CLOCK_MONOTONIC, &monotonic);
    const auto ns = [](const timespec& at) {
        return static_cast<std::uint64_t>(at.tv_sec) * kNsPerS +
               static_cast<std::uint64_t>(at.tv_nsec);
    };
    return ns(wall) - ns(monotonic);
}

FlowNames::FlowNames(std::string switch_id, std::vector<PortState> ports,
                     const std::map<std::string, VmState>& vms)
    : switch_id_(std::move(switch_id)), ports_(std::move(ports)) {
    for (const auto& vm : vms) {
        if (vms_.size() <= vm.second.index) vms_.resize(vm.second.index + 1u);
        vms_[vm.second.index] = &vm;
    }
}

const PortState* FlowNames::port(std::uint32_t ifindex) const {
    for (const PortState& port : ports_)
        if (port.ifindex == ifindex) return &port;
    return nullptr;
}

// A forwarded frame's verdict names the receiver's slot, a passing one's the sender's. What a backend was not
// allowed to send names no slot: the sender is who is behind that port with that MAC.
std::string FlowNames::owner(const VmState& vm, const steer_flow& record) const {
    const std::uint8_t action = record.verdict.action;
    if ((action == STEER_FORWARD || action == STEER_PASS) && record.verdict.slot < vm.slots.size())
        return vm.slots[record.verdict.slot].name;
    const PortState* in = port(record.in);
    for (const SlotState& slot : vm.slots)
        if (in && in->role == PortRole::vm && slot.port == in->name &&
            is_mac(slot.mac, record.source_mac))
            return slot.name;
    return {};
}

protocol::FlowRow FlowNames::row(const steer_flow& record, std::uint64_t time_ns) const {
    protocol::FlowRow row;
    row.time = time_text(time_ns);
    row.switch_id = switch_id_;
    const PortState *in = port(record.in), *out = port(record.out);
    row.direction = in && in->role == PortRole::vm ? "out" : "in";
    if (in) row.in_port = in->name;
    if (out) row.out_port = out->name;
    if (record.vm < vms_.size() && vms_[record.vm]) {
        row.vm = vms_[record.vm]->first;
        row.owner = owner(vms_[record.vm]->second, record);
    }
    row.protocol = protocol_of(record);
    if (record.family != 0) {
        row.source = address_text(record.family, record.source);
        row.destination = address_text(record.family, record.destination);
    }
    if (has_ports(record)) {
        row.source_port = record.source_port;
        row.destination_port = record.destination_port;
    }
    if (row.protocol == "tcp") row.tcp_flags = tcp_flags_text(record.tcp_flags);
    row.length = record.length;
    row.source_mac = mac_text(record.source_mac);
    row.destination_mac = mac_text(record.destination_mac);
    row.verdict = verdict_name(record.verdict.action);
    row.reason = steer_why_name(record.verdict.why);
    return row;
}

}  // namespace godwit::dataplane
