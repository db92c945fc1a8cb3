// The shipped examples load; what is wrong is told all at once, with its place; and the command
// line QEMU gets.
#include "tests/fakes/temporary_directory.hpp"
#include "vm_agent/vm/command_line.hpp"

#include <algorithm>
#include <fstream>

#include <gtest/gtest.h>

namespace {

using namespace godwit;
using fakes::TemporaryDirectory;
using namespace godwit::agent;

TEST(AgentConfig, ShippedExamplesLoad) {
    Result<Config> config = load_config(GODWIT_CONFIGS "/agent.yaml");
    ASSERT_TRUE(config) << config.error().text();
    EXPECT_EQ(config->id, "host-a");
    EXPECT_EQ(config->transfer_address, config->transfer_listen);
    Result<VmFile> vm = load_vm_file(GODWIT_CONFIGS "/vm-web-1.yaml");
    ASSERT_TRUE(vm) << vm.error().text();
    EXPECT_EQ(vm->spec.regions.at(0).name, "sessions");
}

std::string errors_of(const std::string& text, bool vm = false) {
    TemporaryDirectory folder;
    const std::string file = folder.file("c.yaml");
    std::ofstream(file) << text;
    if (vm) {
        Result<VmFile> loaded = load_vm_file(file);
        return loaded ? "" : loaded.error().text();
    }
    Result<Config> loaded = load_config(file);
    return loaded ? "" : loaded.error().text();
}

TEST(AgentConfig, EveryErrorIsToldWithItsLine) {
    const std::string said = errors_of(
        "apiVersion: godwit/v2\nkind: Agent\nid: Host A\nlisten: [nowhere]\npeer_token_file: /t\n"
        "transfer_listen: \"127.0.0.1:7010\"\nstate_dir: relative\ntap_prefix: much-too-long\n"
        "tls:\n  certificate: /c\n  key: /k\n");
    for (const char* part : {":1:", "/apiVersion", ":3:", "/id", ":4:", "/listen/0",
                             ":7:", "/state_dir", ":8:", "/tap_prefix", ":10:", "/tls/ca"})
        EXPECT_NE(said.find(part), std::string::npos) << part << " in\n" << said;
}

TEST(AgentConfig, PlainTcpIsAChoiceAndNoAccident) {
    const std::string head =
        "apiVersion: godwit/v1\nkind: Agent\nid: host-a\nlisten: [\"127.0.0.1:1\"]\n"
        "peer_token_file: /t\ntransfer_listen: \"127.0.0.1:7010\"\n";
    EXPECT_NE(errors_of(head).find("/tls"), std::string::npos);
    EXPECT_EQ(errors_of(head + "tls: {mode: off}\n"), "");
    EXPECT_EQ(errors_of(head + "tls: {certificate: /c, key: /k, ca: /a}\n"), "");
    EXPECT_NE(errors_of(head + "tls: {mode: off, key: /k}\n").find("/tls/key"), std::string::npos);
}

TEST(VmFile, EveryErrorIsToldWithItsField) {
    const std::string said = errors_of(
        "apiVersion: godwit/v1\nkind: Vm\nspec:\n  id: ../../etc\n  machine: microvm\n  cpu: \"max "
        "-S\"\n  vcpus: 0\n"
        "  memory_mib: 7\n  mac: \"01:00:00:00:00:01\"\n  addresses: [\"10.1.0.10/24\"]\n  disks: "
        "[{base: d.img}, {base: /d, format: vmdk}]\n"
        "  temporary_addresses: [10.1.0.31, \"fd00::31/64\"]\n  vlans: [0]\n"
        "  regions: [{name: a, size_mib: 2}, {name: a}]\n",
        true);
    for (const char* part :
         {"/spec/id", "/spec/machine", "/spec/cpu", "/spec/vcpus", "/spec/memory_mib", "/spec/mac",
          "/spec/addresses/0", "/spec/disks/0/base", "/spec/disks/1/format", "/spec/kernel",
          "/spec/temporary_addresses/0", "/spec/temporary_addresses ", "/spec/vlans/0",
          "/spec/regions/0/size_mib", "/spec/regions/1/name"})
        EXPECT_NE(said.find(part), std::string::npos) << part << " in\n" << said;
}

protocol::VmSpec example() {
    return load_vm_file(GODWIT_CONFIGS "/vm-web-1.yaml")->spec;
}

std::vector<std::string> words_for(const std::string& host, BootMode mode,
                                   const protocol::NetworkSpec& network = {},
                                   const std::string& accelerator = "tcg") {
    Config config;
    config.id = host;
    config.run_dir = "/run/" + host;
    config.shm_dir = "/shm,with comma";
    VmRecord record;
    record.spec = example();
    record.spec.network = network;
    record.spec.disks = {{"/base", "raw"}, {"/own", "raw", true}};
    record.disks = {{{"/one"}, {"/two,three"}}, {}};
    return qemu_command_line(config.qemu, accelerator, record, VmPaths(config, record.spec.id),
                             mode);
}

bool has(const std::vector<std::string>& words, const std::string& word) {
    return std::ranges::find(words, word) != words.end();
}

TEST(CommandLine, MemoryIsSharedAndRegionsAreTheirOwnDevices) {
    const std::vector<std::string> words = words_for("host-a", BootMode::boot);
    EXPECT_TRUE(has(words, "q35,memory-backend=ram0"));
    EXPECT_TRUE(has(words,
                    "memory-backend-file,id=ram0,size=256M,mem-path=/shm,,with comma/"
                    "godwit.host-a.web-1.ram,share=on"));
    EXPECT_TRUE(has(words, "virtio-pmem-pci,memdev=region0,id=pmem0"));
    EXPECT_FALSE(has(words, "-incoming"));
}

TEST(CommandLine, DiskIsItsLastOverlayOrTheWritableImage) {
    const std::vector<std::string> words = words_for("host-a", BootMode::boot);
    EXPECT_TRUE(
        has(words, "driver=qcow2,node-name=disk0,file.driver=file,file.filename=/two,,three"));
    EXPECT_TRUE(has(words, "driver=raw,node-name=disk1,file.driver=file,file.filename=/own"));
    EXPECT_TRUE(has(words, "virtio-blk-pci,drive=disk0,id=vdisk0"));
}

TEST(CommandLine, BothHostsBuildTheSameDevices) {
    auto devices = [](std::vector<std::string> words) {
        std::vector<std::string> found;
        for (std::size_t i = 0; i + 1 < words.size(); ++i)
            if (words[i] == "-device" || words[i] == "-machine" || words[i] == "-cpu" ||
                words[i] == "-m")
                found.push_back(words[i + 1]);
        return found;
    };
    const std::vector<std::string> there = words_for("host-b", BootMode::incoming);
    EXPECT_EQ(devices(words_for("host-a", BootMode::boot)), devices(there));
    EXPECT_TRUE(has(there, "-incoming"));
    EXPECT_TRUE(has(there, "-S"));
}

TEST(VmFile, NetworkIsATapOrASocketAndNoMixture) {
    const std::string head =
        "apiVersion: godwit/v1\nkind: Vm\nspec:\n  id: web-1\n  kernel: /k\n  mac: "
        "\"52:54:00:00:00:01\"\n"
        "  addresses: []\n  network: ";
    EXPECT_EQ(errors_of(head + "{kind: tap}\n", true), "");
    EXPECT_EQ(errors_of(head + "{kind: vhost-user}\n", true), "");
    EXPECT_EQ(errors_of(head + "{kind: vhost-user, socket: /run/web-1.sock}\n", true), "");
    for (const std::string wrong :
         {"{socket: /run/web-1.sock}", "{kind: vhost-user, socket: web-1.sock}",
          "{kind: vhost-user, socket: /run/}"})
        EXPECT_NE(errors_of(head + wrong + "\n", true).find("/spec/network/socket"),
                  std::string::npos)
            << wrong;
    const std::string longest = "/" + std::string(99, 's');
    EXPECT_EQ(errors_of(head + "{kind: vhost-user, socket: " + longest + "}\n", true), "");
    EXPECT_NE(errors_of(head + "{kind: vhost-user, socket: " + longest + "s}\n", true), "");
    EXPECT_NE(errors_of(head + "{kind: bridge}\n", true).find("/spec/network/kind"),
              std::string::npos);
}

TEST(CommandLine, AVhostUserVmListensForItsSwitch) {
    const protocol::NetworkSpec network{protocol::NetworkKind::vhost_user, ""};
    const std::vector<std::string> words = words_for("host-a", BootMode::boot, network);
    EXPECT_TRUE(has(words, "socket,id=vhost0,path=/run/host-a/web-1.vhost,server=on,wait=off"));
    EXPECT_TRUE(has(words, "vhost-user,id=net0,chardev=vhost0"));
    EXPECT_FALSE(std::ranges::any_of(
        words, [](const std::string& word) { return word.starts_with("tap,"); }));
    const std::string device = "virtio-net-pci,netdev=net0,id=nic0,romfile=,mac=52:54:00:00:00:01";
    EXPECT_TRUE(has(words, device + ",vectors=0")) << "MSI-X under TCG";
    EXPECT_TRUE(has(words_for("host-a", BootMode::boot, network, "kvm"), device));
    EXPECT_TRUE(
        has(words_for("host-b", BootMode::boot, {protocol::NetworkKind::vhost_user, "/run/x.sock"}),
            "socket,id=vhost0,path=/run/x.sock,server=on,wait=off"));
}

TEST(Paths, TapNamesFitAndTwoHostsNeverMeet) {
    Config a, b;
    a.id = "host-a";
    b.id = "host-b";
    a.tap_prefix = "godwitx";
    const VmPaths one(a, "web-1"), two(b, "web-1"), other(a, "web-2");
    EXPECT_LE(one.tap().size(), 15u);
    EXPECT_NE(one.tap(), other.tap());
    EXPECT_NE(one.ram(), two.ram());
}

}  // namespace
