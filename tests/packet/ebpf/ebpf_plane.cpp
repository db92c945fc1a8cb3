#include "tests/packet/ebpf/ebpf_plane.hpp"

#include "ebpf/layout.h"
#include "ebpf/plane.hpp"
#include "tests/packet/ebpf/ports.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <linux/pkt_cls.h>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

namespace godwit::test {
namespace {

// Longer than any story's frame.
constexpr std::size_t kFrameMax = 12000;
// What a test run of tc takes at most, and always in one piece.
constexpr std::size_t kOnePage = 3000;

[[noreturn]] void give_up(const std::string& doing) {
    throw std::runtime_error(doing + ": " + std::strerror(errno));
}

std::string bpffs() {
    return "/sys/fs/bpf/gwt" + std::to_string(getpid());
}

struct Run {
    int verdict = 0;
    Bytes frame;
};

// Nothing when the kernel refuses the frame itself: a test run of tc wants whole IP headers.
std::optional<Run> run(int program, const Bytes& frame, void* context, std::size_t context_bytes) {
    Run result;
    result.frame.resize(kFrameMax);
    bpf_test_run_opts options{};
    options.sz = sizeof(options);
    options.data_in = frame.data();
    options.data_size_in = static_cast<__u32>(frame.size());
    options.data_out = result.frame.data();
    options.data_size_out = static_cast<__u32>(result.frame.size());
    options.ctx_in = context;
    options.ctx_size_in = static_cast<__u32>(context_bytes);
    if (bpf_prog_test_run_opts(program, &options) != 0) {
        if (errno == EINVAL) return std::nullopt;
        give_up("test run of a frame of " + std::to_string(frame.size()) + " bytes");
    }
    result.verdict = static_cast<int>(options.retval);
    result.frame.resize(options.data_size_out);
    return result;
}

std::optional<Run> run_xdp(int program, const Bytes& frame, unsigned ifindex) {
    xdp_md context{};
    context.data_end = static_cast<__u32>(frame.size());
    context.ingress_ifindex = ifindex;
    return run(program, frame, &context, sizeof(context));
}

std::optional<Run> run_tc(int program, const Bytes& frame, unsigned ifindex) {
    __sk_buff context{};
    context.ifindex = ifindex;
    return run(program, frame, &context, sizeof(context));
}

}  // namespace

// Loading takes a second, so a plane is kept for the next story that wants this size, and made as new.
struct EbpfPlane::Kernel {
    std::unique_ptr<dataplane::Plane> plane;
    int stations = -1, resets = -1, direct = -1;
    std::vector<dataplane::Plane::PortPackets> before;
    std::set<std::uint16_t> managed;
    std::map<std::pair<std::uint16_t, std::uint32_t>, std::uint64_t> sent;

    static Kernel& of(const TableSizes& sizes);
    explicit Kernel(const TableSizes& sizes);
    Kernel(const Kernel&) = delete;
    ~Kernel();

    ebpf::EbpfPlane& ebpf() { return static_cast<ebpf::EbpfPlane&>(*plane); }
    int program(const char* name) { return ebpf().program_fd(name); }
    int map(const std::string& name);
    void open(const TableSizes& sizes);
    std::optional<Port> sent_to();
    void make_as_new();
    void make_direct_older(std::uint32_t ticks);
};

EbpfPlane::Kernel& EbpfPlane::Kernel::of(const TableSizes& sizes) {
    static std::map<std::array<std::uint32_t, 3>, std::unique_ptr<Kernel>> kernels;
    const std::array<std::uint32_t, 3> key{sizes.session_lines, sizes.overflow_lines,
                                           sizes.handshake_lines};
    // One at a time has the ports.
    if (!kernels.contains(key)) {
        kernels.clear();
        kernels[key] = std::make_unique<Kernel>(sizes);
    }
    kernels[key]->make_as_new();
    return *kernels[key];
}

EbpfPlane::Kernel::Kernel(const TableSizes& sizes) {
    open(sizes);
    stations = map("stations");
    resets = map("resets");
    direct = map("direct");
}

EbpfPlane::Kernel::~Kernel() {
    for (int fd : {stations, resets, direct})
        if (fd >= 0) close(fd);
    if (plane) ebpf().uninstall();
}

int EbpfPlane::Kernel::map(const std::string& name) {
    const int fd = bpf_obj_get((bpffs() + "/maps/" + name).c_str());
    if (fd < 0) give_up("find map " + name);
    return fd;
}

void EbpfPlane::Kernel::open(const TableSizes& sizes) {
    Ports& ports = Ports::instance();
    ebpf::PlaneOptions options;
    options.bpffs = bpffs();
    for (int port = 0; port < kPorts; ++port)
        options.ports.push_back(
            {ports.interface(static_cast<Port>(port)), ports.interface(static_cast<Port>(port)),
             port == kUplink ? dataplane::PortRole::uplink : dataplane::PortRole::vm});
    options.sizes = {sizes.session_lines, sizes.session_lines / 2, sizes.handshake_lines * 2};
    Result<std::unique_ptr<dataplane::Plane>> opened = ebpf::EbpfPlane::open(options);
    if (!opened) throw std::runtime_error(opened.error().text());
    plane = std::move(*opened);
    if (Result<void> started = plane->start(); !started)
        throw std::runtime_error(started.error().text());
}

// Who was sent to since the last call, by the counters that the programs keep beside the redirect.
std::optional<Port> EbpfPlane::Kernel::sent_to() {
    std::optional<Port> port;
    for (std::uint16_t vm : managed)
        for (std::uint32_t slot = 0; slot < STEER_SLOTS; ++slot) {
            const std::uint64_t packets = plane->counters(vm, slot).packets_to;
            if (packets != sent[{vm, slot}])
                port = Ports::instance().port_of(plane->record(vm).backend[slot].ifindex);
            sent[{vm, slot}] = packets;
        }
    return port;
}

void EbpfPlane::Kernel::make_as_new() {
    for (std::uint16_t vm : managed)
        if (Result<void> cleared = plane->clear_vm(vm); !cleared)
            throw std::runtime_error(cleared.error().text());
    managed.clear();
    for (unsigned table = 0; table < STEER_TABLES; ++table)
        for (steer_line& line : plane->lines(static_cast<steer_table>(table))) line = {};
    for (int fd : {stations, resets, direct}) {
        alignas(8) std::array<std::uint8_t, 64> key;
        while (bpf_map_get_next_key(fd, nullptr, key.data()) == 0)
            bpf_map_delete_elem(fd, key.data());
    }
    plane->poll_events([](const dataplane::Plane::Drained&) {});
    plane->tap()->watch() = {};
    while (plane->tap()->read(1024, [](const steer_flow&, std::span<const std::uint8_t>) {}) > 0) {
    }
    for (int port = 0; port < kPorts; ++port) Ports::instance().heard(static_cast<Port>(port));
    before = plane->packets();
    sent.clear();
}

void EbpfPlane::Kernel::make_direct_older(std::uint32_t ticks) {
    steer_key key{};
    std::vector<steer_key> all;
    for (bool more = bpf_map_get_next_key(direct, nullptr, &key) == 0; more;
         more = bpf_map_get_next_key(direct, &key, &key) == 0)
        all.push_back(key);
    for (const steer_key& one : all) {
        std::uint32_t seen = 0;
        if (bpf_map_lookup_elem(direct, &one, &seen) != 0) continue;
        seen -= ticks;
        bpf_map_update_elem(direct, &one, &seen, BPF_EXIST);
    }
}

EbpfPlane::EbpfPlane(TableSizes sizes) : kernel_(&Kernel::of(sizes)) {}
EbpfPlane::~EbpfPlane() = default;

void EbpfPlane::manage(const ManagedVm& vm) {
    dataplane::VmSetup setup;
    setup.mac = vm.mac;
    setup.vlan = vm.vlan;
    for (std::size_t slot = 0; slot < STEER_SLOTS; ++slot)
        setup.backends[slot] = {Ports::instance().ifindex(vm.ports[slot]), vm.mac_of(slot)};
    const auto hosted = [](const std::string& text) {
        const Address a = address(text);
        return dataplane::HostedAddress{static_cast<std::uint32_t>(a.family), a.words_be()};
    };
    for (const std::string& text : vm.addresses) setup.addresses.push_back(hosted(text));
    for (std::size_t slot = 0; slot < STEER_SLOTS; ++slot)
        for (const std::string& text : vm.nat[slot].value_or(ManagedVm::Nat{}).temporary)
            setup.backends[slot].temporary.push_back(hosted(text));
    kernel_->managed.insert(vm.vm);
    kernel_->sent_to();
    Result<void> told = kernel_->plane->set_vm(vm.vm, setup);
    if (!told) throw std::runtime_error(told.error().text());
}

// The one counter that moved. Several, or none, is a failure that no story expects.
std::string EbpfPlane::reason_since() {
    std::string found;
    const std::vector<dataplane::Plane::PortPackets> now = kernel_->plane->packets();
    for (std::uint32_t why = 0; why < STEER_TALLY_REASONS; ++why) {
        std::uint64_t moved = 0;
        for (std::size_t port = 0; port < now.size(); ++port)
            moved += steer_tally_of(&now[port].counted, why) -
                     steer_tally_of(&kernel_->before[port].counted, why);
        for (; moved > 0; --moved)
            found += (found.empty() ? "" : "+") + std::string(steer_why_name(why));
    }
    kernel_->before = now;
    return found.empty() ? "no reason" : found;
}

Outcome EbpfPlane::send(Port from, const Bytes& frame) {
    left_by_.clear();
    copies_.clear();
    by_wire_ = false;
    Outcome out = from == kUplink ? send_to_uplink(frame) : send_to_vm_port(from, frame);
    if (out.why.empty()) out.why = reason_since();
    const bool refused = out.why == "copy-refused" || out.why == "reset-told";
    if (out.action == STEER_ANSWER && refused) out.action = STEER_REFUSE;
    return out;
}

// Copies are heard as they leave; a test run's redirect itself is not carried out. In mode nat a copy has
// other addresses than the frame, but an answer has another sender.
void EbpfPlane::hear_copies(const Bytes& frame) {
    for (int port = 0; port < kPorts; ++port)
        for (const Bytes& copy : Ports::instance().heard(static_cast<Port>(port)))
            if (copy.size() == frame.size() && std::equal(&copy[6], &copy[14], &frame[6])) {
                left_by_.push_back(static_cast<Port>(port));
                copies_.push_back(copy);
            }
}

Outcome EbpfPlane::send_to_uplink(const Bytes& frame) {
    const unsigned ifindex = Ports::instance().ifindex(kUplink);
    Outcome out;
    std::optional<Run> xdp = run_xdp(kernel_->program("uplink"), frame, ifindex);
    if (!xdp)
        throw std::runtime_error("XDP takes no frame of " + std::to_string(frame.size()) +
                                 " bytes");
    std::optional<Port> target = kernel_->sent_to();
    out.frame = std::move(xdp->frame);
    if (xdp->verdict == XDP_DROP) return out;
    if (xdp->verdict == XDP_REDIRECT) {
        out.action = STEER_FORWARD;
        out.to = {target.value_or(kPorts)};
        return out;
    }
    if (xdp->verdict != XDP_PASS)
        throw std::runtime_error("XDP verdict " + std::to_string(xdp->verdict));
    out.action = STEER_PASS;
    std::optional<Run> slow = run_tc(kernel_->program("uplink_slow"), out.frame, ifindex);
    if (!slow && frame.size() > kOnePage) {  // XDP is asked again there
        const std::string why = reason_since();
        out = send_on_the_wire(kUplink, frame);
        out.why = why;
    }
    if (!slow) return out;
    hear_copies(frame);
    kernel_->sent_to();
    if (slow->verdict == TC_ACT_SHOT) {
        out.action = STEER_BOTH;
        out.to = left_by_;
        out.copies = copies_;
    } else if (slow->verdict == TC_ACT_REDIRECT) {
        out.action = STEER_ANSWER;
        out.frame = std::move(slow->frame);
        out.to = {kUplink};
    }
    return out;
}

// A VM's own broadcast goes out of the uplink too; a copy for both backends never does.
void EbpfPlane::name_copies(Outcome& out) {
    if (left_by_.empty()) return;
    const bool passes = std::ranges::count(left_by_, kUplink) > 0;
    out.action = passes ? STEER_PASS : left_by_.size() == 1 ? STEER_FORWARD : STEER_BOTH;
    if (!passes) {
        out.to = left_by_;
        out.copies = copies_;
    }
    if (by_wire_ || !passes) out.frame = copies_.front();
}

Outcome EbpfPlane::send_to_vm_port(Port from, const Bytes& frame) {
    Outcome out;
    std::optional<Run> tc =
        run_tc(kernel_->program("vm_port"), frame, Ports::instance().ifindex(from));
    if (!tc) return send_on_the_wire(from, frame);
    out.frame = std::move(tc->frame);
    std::optional<Port> target = kernel_->sent_to();
    hear_copies(frame);
    if (tc->verdict == TC_ACT_OK) {
        out.action = STEER_PASS;
    } else if (tc->verdict == TC_ACT_SHOT) {
        name_copies(out);
    } else if (tc->verdict == TC_ACT_REDIRECT) {
        const bool answers = !target && !std::equal(&frame[0], &frame[12], &out.frame[0]);
        out.action = target ? STEER_FORWARD : answers ? STEER_ANSWER : STEER_PASS;
        if (target) out.to = {*target};
        if (answers) out.to = {from};
    } else {
        throw std::runtime_error("tc verdict " + std::to_string(tc->verdict));
    }
    return out;
}

// The real way in: the attached program gets the frame from the other end of the veth.
Outcome EbpfPlane::send_on_the_wire(Port from, const Bytes& frame) {
    Outcome out;
    by_wire_ = true;
    out.frame = frame;
    Ports::instance().inject(from, frame);
    do out.why = reason_since();
    while (out.why == "no reason");
    // Counted first and sent then, in one RCU section: after this it has left, if it leaves.
    Result<void> left = kernel_->plane->grace_period();
    if (!left) throw std::runtime_error(left.error().text());
    hear_copies(frame);
    kernel_->sent_to();
    name_copies(out);
    return out;
}

vm_record& EbpfPlane::record(std::uint16_t vm) {
    return kernel_->plane->record(vm);
}
std::span<steer_line> EbpfPlane::lines(steer_table table) {
    return kernel_->plane->lines(table);
}
std::uint64_t EbpfPlane::reason(steer_why why) {
    return kernel_->plane->reason(why);
}
std::uint32_t EbpfPlane::ticks_per_s() const {
    return kernel_->plane->ticks_per_second();
}
const steer_config& EbpfPlane::config() {
    return kernel_->plane->config();
}
Port EbpfPlane::port_of(std::uint32_t ifindex) const {
    return Ports::instance().port_of(ifindex);
}
dataplane::Tap& EbpfPlane::tap() {
    return *kernel_->plane->tap();
}
void EbpfPlane::advance_s(std::uint32_t seconds) {
    const std::uint32_t ticks = seconds * ticks_per_s();
    make_older(ticks);
    for (std::uint16_t vm : kernel_->managed)
        for (std::uint32_t& since : record(vm).waiting_since)
            if (since != 0) since -= ticks;
    kernel_->make_direct_older(ticks);
}

steer_swept EbpfPlane::sweep() {
    std::size_t longest = 1;
    for (unsigned table = 0; table < STEER_TABLES; ++table)
        longest = std::max(longest, lines(static_cast<steer_table>(table)).size());
    Result<steer_swept> swept = kernel_->plane->sweep(static_cast<std::uint32_t>(longest));
    if (!swept) throw std::runtime_error(swept.error().text());
    return *swept;
}

unsigned EbpfPlane::drained_events() {
    kernel_->plane->poll_events([this](const dataplane::Plane::Drained&) { ++drained_events_; });
    return drained_events_;
}

std::uint64_t EbpfPlane::end_sessions(Slot slot, std::uint16_t vm) {
    Result<dataplane::Plane::ResetCount> ended =
        kernel_->plane->end_sessions(vm, slot, dataplane::Plane::Tell::peers);
    if (!ended) throw std::runtime_error(ended.error().text());
    return ended->reset;
}

bool EbpfPlane::end_untouched(steer_table table, const steer_key& key, std::uint64_t stamp) {
    Result<bool> ended = kernel_->plane->end_untouched(table, key, stamp);
    if (!ended) throw std::runtime_error(ended.error().text());
    return *ended;
}

}  // namespace godwit::test
