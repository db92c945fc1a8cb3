// Drivers that leave little or nothing of a long frame in its linear part: XDP decides only where it has all that it
// looks at or rewrites. A test run says how long that part is; kernels before 6.18 do not let it. Needs root.
#include "steering/translate.h"

#include "ebpf/plane.hpp"
#include "tests/packet/ebpf/ports.hpp"
#include "tests/packet/frame.hpp"

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <linux/bpf.h>
#include <stdexcept>
#include <sys/utsname.h>
#include <unistd.h>
#include <utility>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>

namespace godwit::test {
namespace {

class Pieces : public testing::Test {
protected:
    Pieces() {
        Ports& ports = Ports::instance();
        options_.bpffs = "/sys/fs/bpf/gwtp" + std::to_string(getpid());
        for (Port port : {kUplink, kSourcePort, kDestinationPort})
            options_.ports.push_back(
                {ports.interface(port), ports.interface(port),
                 port == kUplink ? dataplane::PortRole::uplink : dataplane::PortRole::vm});
        options_.sizes = {1024, 512, 512};
        Result<std::unique_ptr<dataplane::Plane>> opened = ebpf::EbpfPlane::open(options_);
        if (!opened) throw std::runtime_error(opened.error().text());
        plane_ = std::move(*opened);
        dataplane::VmSetup vm{.mac = kVmMac,
                              .addresses = {{4, address("10.1.0.1").words_be()}},
                              .backends = {{{ports.ifindex(kSourcePort), kVmMac, {}},
                                            {ports.ifindex(kDestinationPort), kVmMac, {}}}}};
        if (!plane_->set_vm(0, vm)) throw std::runtime_error("manage a VM");
        own(0);
    }
    ~Pieces() override { static_cast<ebpf::EbpfPlane&>(*plane_).uninstall(); }

    void own(std::uint32_t slot) {
        plane_->record(0).steer = steer_word(1, slot, slot, STEER_VALID, 3);
    }
    // The verdict on a frame of which so many bytes are linear; -1: this kernel cannot.
    int verdict(const Bytes& frame, std::uint32_t linear) {
        xdp_md context{};
        context.data_end = linear;
        context.ingress_ifindex = Ports::instance().ifindex(kUplink);
        bpf_test_run_opts run{};
        run.sz = sizeof(run);
        run.data_in = frame.data();
        run.data_size_in = static_cast<__u32>(frame.size());
        run.ctx_in = &context;
        run.ctx_size_in = sizeof(context);
        const int fd = static_cast<ebpf::EbpfPlane&>(*plane_).program_fd("uplink");
        return bpf_prog_test_run_opts(fd, &run) == 0 ? static_cast<int>(run.retval) : -1;
    }
    std::uint64_t newcomers() { return plane_->reason(STEER_WHY_NEW_OWNER); }

    ebpf::PlaneOptions options_;
    std::unique_ptr<dataplane::Plane> plane_;
};

bool is_older_than(int major, int minor) {
    utsname about{};
    int is[2] = {0, 0};
    uname(&about);
    std::sscanf(about.release, "%d.%d", &is[0], &is[1]);
    return std::pair(is[0], is[1]) < std::pair(major, minor);
}

TEST_F(Pieces, XdpDecidesWhereItHasAllItLooksAt) {
    const Bytes frame = tcp("10.0.0.9:4000", "10.1.0.1:80").data(std::string(8900, 'x'));
    if (verdict(frame, 300) < 0 && errno == EINVAL && is_older_than(6, 18))
        GTEST_SKIP() << "a test run with a short linear part wants Linux 6.18";
    for (const std::uint32_t linear : {0u, 1u, 14u, 34u, 54u, STEER_REACH_BYTES - 1u}) {
        const std::uint64_t before = newcomers();
        const int what = verdict(frame, linear);
        if (linear == 0 && what < 0) continue;
        EXPECT_EQ(what, XDP_PASS) << linear << " bytes";
        EXPECT_EQ(newcomers(), before) << "tc counts it";
    }
    const std::uint64_t before = newcomers();
    EXPECT_EQ(verdict(frame, STEER_REACH_BYTES), XDP_REDIRECT);
    own(1);
    EXPECT_EQ(verdict(frame, STEER_REACH_BYTES), XDP_PASS) << "the device takes no pieces";
    EXPECT_EQ(newcomers(), before + 2);
}

}  // namespace
}  // namespace godwit::test
