#include "ebpf/attach.hpp"

#include "ebpf/maps.hpp"

#include <cerrno>
#include <cstring>
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

namespace godwit::ebpf {
namespace {

// BPF_TCX_INGRESS, Linux 6.6; the headers of Debian 12 do not know it yet.
constexpr unsigned kTcxIngress = 46;
constexpr unsigned kFilterHandle = 0x60d; /* ours, so that a later process replaces and not adds */
constexpr unsigned kFilterPriority = 1;

// What BPF_LINK_CREATE reads for XDP and tcx: libbpf 1.1 has no call for the latter.
int create_link(int program_fd, unsigned ifindex, unsigned type) {
    union bpf_attr attr;
    std::memset(&attr, 0, sizeof(attr));
    attr.link_create.prog_fd = static_cast<__u32>(program_fd);
    attr.link_create.target_ifindex = ifindex;
    attr.link_create.attach_type = type;
    return static_cast<int>(syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof(attr)));
}

bool is_link_on(int link_fd, unsigned ifindex) {
    bpf_link_info info{};
    __u32 bytes = sizeof(info);
    // A link whose interface is gone says ifindex 0. xdp.ifindex and tcx.ifindex lie at the same place.
    return bpf_obj_get_info_by_fd(link_fd, &info, &bytes) == 0 && info.xdp.ifindex == ifindex;
}

// True when a pinned link runs on this interface and has the new program now.
bool take_over(int program_fd, unsigned ifindex, const std::string& pin) {
    Fd link(bpf_obj_get(pin.c_str()));
    if (!link) return false;
    if (is_link_on(link.get(), ifindex) && bpf_link_update(link.get(), program_fd, nullptr) == 0)
        return true;
    unlink(pin.c_str());
    return false;
}

Result<void> pin_link(int link_fd, const std::string& pin) {
    if (bpf_obj_pin(link_fd, pin.c_str()) != 0) return fail_errno(Fault::Retry, "pin " + pin);
    return {};
}

Result<std::string> attach_filter(int program_fd, unsigned ifindex) {
    bpf_tc_hook hook{};
    hook.sz = sizeof(hook);
    hook.ifindex = static_cast<int>(ifindex);
    hook.attach_point = BPF_TC_INGRESS;
    const int made = bpf_tc_hook_create(&hook);
    if (made != 0 && made != -EEXIST) {
        errno = -made;
        return fail_errno(Fault::Rejected, "add clsact to interface " + std::to_string(ifindex));
    }
    bpf_tc_opts options{};
    options.sz = sizeof(options);
    options.prog_fd = program_fd;
    options.handle = kFilterHandle;
    options.priority = kFilterPriority;
    options.flags = BPF_TC_F_REPLACE;
    const int attached = bpf_tc_attach(&hook, &options);
    if (attached != 0) {
        errno = -attached;
        return fail_errno(Fault::Rejected, "attach to tc of interface " + std::to_string(ifindex));
    }
    return std::string("clsact");
}

}  // namespace

Result<std::string> attach_xdp(int program_fd, unsigned ifindex, const std::string& pin) {
    if (take_over(program_fd, ifindex, pin)) return std::string("xdp");
    Fd link(create_link(program_fd, ifindex, BPF_XDP));
    if (!link)
        return fail_errno(Fault::Rejected, "attach XDP to interface " + std::to_string(ifindex) +
                                               " (is another XDP program on it?)");
    Result<void> pinned = pin_link(link.get(), pin);
    if (!pinned) return std::unexpected(std::move(pinned).error());
    return std::string("xdp");
}

Result<std::string> attach_tc(int program_fd, unsigned ifindex, const std::string& pin) {
    if (take_over(program_fd, ifindex, pin)) return std::string("tcx");
    Fd link(create_link(program_fd, ifindex, kTcxIngress));
    if (!link) return attach_filter(program_fd, ifindex);
    Result<void> pinned = pin_link(link.get(), pin);
    if (!pinned) return std::unexpected(std::move(pinned).error());
    return std::string("tcx");
}

void detach_tc_filter(unsigned ifindex) {
    bpf_tc_hook hook{};
    hook.sz = sizeof(hook);
    hook.ifindex = static_cast<int>(ifindex);
    hook.attach_point = BPF_TC_INGRESS;
    bpf_tc_opts options{};
    options.sz = sizeof(options);
    options.handle = kFilterHandle;
    options.priority = kFilterPriority;
    bpf_tc_detach(&hook, &options);
}

}  // namespace godwit::ebpf
