// What a new process finds pinned: it adopts what fits, refuses what does not, begins again where a start was
// cut short, and lets go of ports that are no longer its own. Needs root.
#include "ebpf/layout.h"
#include "ebpf/plane.hpp"
#include "tests/packet/ebpf/ports.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>

namespace godwit::test {
namespace {

class Adoption : public testing::Test {
protected:
    ~Adoption() override {
        std::error_code error;
        std::filesystem::remove_all(options.bpffs + "/links", error);
        std::filesystem::remove_all(options.bpffs + "/maps", error);
        std::filesystem::remove(options.bpffs, error);
    }
    Adoption() {
        Ports& ports = Ports::instance();
        options.bpffs = "/sys/fs/bpf/gwta" + std::to_string(getpid());
        for (Port port : {kUplink, kSourcePort, kDestinationPort})
            options.ports.push_back(
                {ports.interface(port), ports.interface(port),
                 port == kUplink ? dataplane::PortRole::uplink : dataplane::PortRole::vm});
        options.sizes = {1024, 512, 512};
    }

    std::unique_ptr<dataplane::Plane> open() {
        Result<std::unique_ptr<dataplane::Plane>> plane = ebpf::EbpfPlane::open(options);
        if (!plane) throw std::runtime_error(plane.error().text());
        Result<void> started = plane->get()->start();
        if (!started) throw std::runtime_error(started.error().text());
        return std::move(*plane);
    }
    static bool adopted(dataplane::Plane& plane) {
        return static_cast<ebpf::EbpfPlane&>(plane).adopted();
    }

    void write_layout(std::uint32_t layout) {
        const std::string pin = options.bpffs + "/maps/settings";
        const int map = bpf_obj_get(pin.c_str());
        const std::uint32_t zero = 0;
        plane_settings settings{};
        const bool read = map >= 0 && bpf_map_lookup_elem(map, &zero, &settings) == 0;
        settings.layout = layout;
        const bool written = read && bpf_map_update_elem(map, &zero, &settings, BPF_ANY) == 0;
        const int problem = errno;
        if (map >= 0) close(map);
        if (!written) throw std::runtime_error("write " + pin + ": " + std::strerror(problem));
    }
    void count(std::uint32_t number, std::uint32_t cell, std::uint64_t packets) {
        const int map = bpf_obj_get((options.bpffs + "/maps/tallies").c_str());
        std::vector<steer_tally> per_cpu(static_cast<std::size_t>(libbpf_num_possible_cpus()));
        per_cpu.back().packets[cell] = packets;
        EXPECT_EQ(bpf_map_update_elem(map, &number, per_cpu.data(), BPF_ANY), 0);
        close(map);
    }
    bool has_link(Port port, const std::string& kind) {
        return std::filesystem::exists(options.bpffs + "/links/" +
                                       Ports::instance().interface(port) + "-" + kind);
    }

    ebpf::PlaneOptions options;
};

TEST_F(Adoption, TablesOutliveTheProcess) {
    std::uint32_t seed = 0;
    {
        auto plane = open();
        plane->record(3).untracked = 7;
        seed = plane->config().seed[0];
    }
    options.sizes = {4096, 512, 512};  // an adopted table keeps its size
    auto plane = open();
    EXPECT_TRUE(adopted(*plane));
    EXPECT_EQ(plane->record(3).untracked, 7u);
    EXPECT_EQ(plane->config().seed[0], seed) << "or no session would be found any more";
    EXPECT_NE(seed, 0u);
}

// By name, wherever a port stands; what is gone is not lost for the sums.
TEST_F(Adoption, PacketsOfAPortGoOnBeingCountedUnderItsName) {
    open();
    const std::uint32_t cell = steer_tally_cell(STEER_DROP, STEER_WHY_FENCED);
    for (std::uint32_t number : {1u, 2u, 3u}) count(number, cell, number);
    std::swap(options.ports[0], options.ports[1]);
    options.ports.pop_back();
    for (int start = 0; start < 2; ++start) {
        const auto packets = open()->packets();
        ASSERT_EQ(packets.size(), 3u);
        EXPECT_EQ(packets[0].port, Ports::instance().interface(kSourcePort));
        EXPECT_EQ(packets[0].counted.packets[cell], 2u);
        EXPECT_EQ(packets[1].counted.packets[cell], 1u);
        EXPECT_EQ(packets[2].port, "");
        EXPECT_EQ(packets[2].counted.packets[cell], 3u) << "the third port's, counted once";
    }
}

TEST_F(Adoption, StartThatWasCutShortIsBegunAgain) {
    open();
    std::filesystem::remove_all(options.bpffs + "/links");
    write_layout(0);
    options.sizes = {4096, 512, 512};
    EXPECT_FALSE(adopted(*open()));
    std::filesystem::remove(options.bpffs + "/maps/settings");  // killed even earlier
    options.sizes = {1024, 512, 512};
    EXPECT_FALSE(adopted(*open()));
    EXPECT_TRUE(adopted(*open()));
}

TEST_F(Adoption, AnotherLayoutIsRefusedAndThePinIsNamed) {
    open();
    write_layout(GODWIT_LAYOUT + 1);
    Result<std::unique_ptr<dataplane::Plane>> plane = ebpf::EbpfPlane::open(options);
    ASSERT_FALSE(plane);
    EXPECT_NE(plane.error().text().find(options.bpffs + "/maps/settings"), std::string::npos);
    EXPECT_TRUE(has_link(kUplink, "xdp")) << "what runs goes on";
}

TEST_F(Adoption, PortThatIsNoLongerConfiguredIsLetGo) {
    open();
    EXPECT_TRUE(has_link(kUplink, "xdp"));
    EXPECT_TRUE(has_link(kDestinationPort, "tc"));
    options.ports.pop_back();
    options.ports[0].role = dataplane::PortRole::vm;
    open();
    EXPECT_FALSE(has_link(kDestinationPort, "tc"));
    EXPECT_FALSE(has_link(kUplink, "xdp"));
    EXPECT_TRUE(has_link(kUplink, "tc"));
}

}  // namespace
}  // namespace godwit::test
