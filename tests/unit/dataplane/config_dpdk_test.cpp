// plane: dpdk in the YAML: devices, and every error with its place.
#include "dataplane/config.hpp"
#include "dataplane/device.hpp"

#include <fstream>
#include <unistd.h>

#include <gtest/gtest.h>

namespace godwit::test {
namespace {

using dataplane::Device;

class DpdkYaml : public testing::Test {
protected:
    ~DpdkYaml() override { unlink(file_.c_str()); }
    Result<dataplane::SwitchConfig> load(const std::string& rest) {
        std::ofstream(file_) << "apiVersion: godwit/v1\nkind: SwitchConfig\nid: sw-1\n"
                                "listen: ['unix:/run/s']\npeer_token_file: /etc/t\n"
                             << rest;
        return dataplane::load_config(file_);
    }
    // "pointer line:column message" of every error.
    std::string errors(const std::string& rest) {
        Result<dataplane::SwitchConfig> config = load(rest);
        std::string text;
        if (config) return text;
        for (const FieldError& e : config.error().fields)
            text += e.pointer + " " + std::to_string(e.line) + ":" + std::to_string(e.column) +
                    " " + e.message + "\n";
        return text;
    }

private:
    std::string file_ = "/tmp/gwt" + std::to_string(getpid()) + "-switch.yaml";
};

const std::string kPorts = "ports:\n  - {name: up, interface: eth0, role: uplink}\n";

TEST_F(DpdkYaml, OnlyThePlaneHasToChange) {
    for (const char* plane : {"ebpf", "dpdk"}) {
        Result<dataplane::SwitchConfig> config =
            load("plane: " + std::string(plane) + "\n" + kPorts);
        ASSERT_TRUE(config) << config.error().text();
        EXPECT_EQ(config->ports[0].interface, "eth0");
    }
}

TEST_F(DpdkYaml, ADeviceStandsInTheInterfacesPlace) {
    Result<dataplane::SwitchConfig> config = load(
        "plane: dpdk\ndpdk: {workers: 2, lcores: [1, 3], memory_mb: 256, hugepages: true}\nports:\n"
        "  - {name: up, device: 'af_xdp:eth0', role: uplink}\n"
        "  - {name: a, device: 'vhost-user:/run/a.sock', role: vm}\n");
    ASSERT_TRUE(config) << config.error().text();
    EXPECT_EQ(config->ports[1].device, "vhost-user:/run/a.sock");
    EXPECT_EQ(config->dpdk.lcores, (std::vector<std::uint32_t>{1, 3}));
    EXPECT_EQ(config->dpdk.workers, 2u);
}

TEST_F(DpdkYaml, EveryErrorHasItsPlace) {
    const std::string text = errors(
        "plane: dpdk\ndpdk:\n  lcores: [0, 1]\n  memory_mb: 1\n  file_prefix: a/b\n  table_dir: "
        "here\nports:\n"
        "  - {name: up, device: 'af_packet:eth0', role: uplink}\n"
        "  - {name: a, device: 'wire:eth1', role: vm}\n"
        "  - {name: b, device: 'tap:t', interface: eth2, role: vm}\n"
        "  - {name: c, role: vm}\n"
        "  - {name: d, device: 'af_packet:eth0', role: vm}\n");
    for (const char* place :
         {"/dpdk/lcores 8:11 expected none, or a CPU for each of the 1 in dpdk.workers",
          "/dpdk/memory_mb 9:14 expected 64", "/dpdk/file_prefix 10:16 becomes part",
          "/dpdk/table_dir 11:14 expected an absolute", "/ports/1/device 14:23 expected af_packet:",
          "/ports/2/interface 15:43 is said by the device", "/ports/3/interface 16:5 expected",
          "/ports/4/device 17:23 \"af_packet:eth0\" is another"})
        EXPECT_NE(text.find(place), std::string::npos) << place << "\nin\n" << text;
}

TEST_F(DpdkYaml, WorkersAreCountedAndHaveCpusOfTheirOwn) {
    for (const char* workers : {"0", "9"}) {
        const std::string text =
            errors("plane: dpdk\ndpdk:\n  workers: " + std::string(workers) + "\n" + kPorts);
        EXPECT_NE(text.find("/dpdk/workers 8:12 expected 1 to 8"), std::string::npos) << text;
    }
    const std::string text =
        errors("plane: dpdk\ndpdk:\n  workers: 2\n  lcores: [1, 1]\n" + kPorts);
    EXPECT_NE(text.find("/dpdk/lcores 9:11 names a CPU twice"), std::string::npos) << text;
    EXPECT_NE(errors("plane: dpdk\ndpdk: {workers: two}\n" + kPorts), "");
}

TEST_F(DpdkYaml, SamplingIsForBothPlanesAndIsChecked) {
    const std::string sampling =
        "sampling: {every: 5, always: [boredom], per_second: 1}\n" + kPorts;
    const std::string text = errors(sampling);
    EXPECT_EQ(errors("plane: dpdk\nsampling: {every: 5, always: [fenced]}\n" + kPorts), "");
    EXPECT_NE(text.find("/sampling/always/0 6:31 \"boredom\" is no reason; known are"),
              std::string::npos)
        << text;
    EXPECT_NE(text.find("/sampling/per_second 6:53 expected 10 to"), std::string::npos) << text;
}

TEST_F(DpdkYaml, AVmsPortTakesNoLongerPacketsThanTheUplink) {
    const std::string text = errors(
        "ports:\n  - {name: up, interface: eth0, role: uplink, mtu: 1500}\n"
        "  - {name: wide, interface: eth1, role: uplink, mtu: 9000}\n"
        "  - {name: a, interface: eth2, role: vm, mtu: 9000}\n"
        "  - {name: b, interface: eth3, role: vm, mtu: 100}\n"
        "  - {name: c, interface: eth4, role: vm}\n");
    EXPECT_NE(text.find("/ports/2/mtu 9:47 is more than an uplink's"), std::string::npos) << text;
    EXPECT_NE(text.find("/ports/3/mtu 10:47 expected 1280 to 9216"), std::string::npos) << text;
    EXPECT_EQ(text.find("/ports/1"), std::string::npos) << text;
    EXPECT_EQ(text.find("/ports/4"), std::string::npos) << text;
}

TEST_F(DpdkYaml, ADeviceIsNotForEbpf) {
    const std::string text = errors("ports:\n  - {name: up, device: 'tap:t', role: uplink}\n");
    EXPECT_NE(text.find("/ports/0/device 7:24 is for plane: dpdk"), std::string::npos) << text;
    EXPECT_NE(errors("plane: ovs\n" + kPorts).find("/plane 6:8"), std::string::npos);
}

TEST(DpdkDevice, BecomesAnArgumentOfTheEnvironment) {
    const auto argument = [](const char* text) {
        return dataplane::parse_device(text)->argument(2);
    };
    EXPECT_EQ(argument("af_packet:eth0"),
              "--vdev=net_af_packet2,iface=eth0,blocksz=4096,framesz=2048,framecnt=2048,qpairs=1");
    dataplane::Device jumbo = *dataplane::parse_device("af_packet:eth0");
    jumbo.mtu = 9000;
    EXPECT_EQ(jumbo.argument(2),
              "--vdev=net_af_packet2,iface=eth0,blocksz=12288,framesz=12288,framecnt=512,qpairs=1");
    EXPECT_EQ(argument("af_xdp:eth0"), "--vdev=net_af_xdp2,iface=eth0");
    EXPECT_EQ(argument("tap:t0"), "--vdev=net_tap2,iface=t0");
    EXPECT_EQ(argument("vhost-user:/run/a.sock"),
              "--vdev=net_vhost2,iface=/run/a.sock,queues=1,client=1");
    EXPECT_EQ(argument("memif:/run/m.sock"),
              "--vdev=net_memif2,socket=/run/m.sock,role=server,id=0,socket-abstract=no");
    EXPECT_EQ(argument("pci:0000:01:00.0"), "--allow=0000:01:00.0");
    EXPECT_EQ(dataplane::parse_device("pci:0000:01:00.0")->name(2), "0000:01:00.0");
}

TEST(DpdkDevice, WhatIsNoneIsRefused) {
    for (const char* bad :
         {"", "eth0", "wire:eth0", "af_packet:", "af_packet:a-name-that-is-too-long", "tap:a,b",
          "vhost-user:relative", "memif:", "pci:1:0.0", "pci:0000:01:00.g", "af_xdp:eth 0"})
        EXPECT_FALSE(dataplane::parse_device(bad)) << bad;
}

}  // namespace
}  // namespace godwit::test
