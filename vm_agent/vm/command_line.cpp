#include "vm_agent/vm/command_line.hpp"

#include "vm_agent/vm/disks.hpp"

namespace godwit::agent {

namespace {

// In a comma-separated option value a comma is written twice (QEMU's QemuOpts).
std::string escaped(const std::string& text) {
    std::string out;
    for (char c : text) out += c == ',' ? std::string(",,") : std::string(1, c);
    return out;
}

std::string socket_chardev(const std::string& id, const std::string& path) {
    return "socket,id=" + id + ",path=" + escaped(path) + ",server=on,wait=off";
}

using Words = std::vector<std::string>;

void add(Words& words, std::initializer_list<std::string> more) {
    words.insert(words.end(), more);
}

// RAM and regions are shared files: the agent reads and patches them from outside, and
// x-ignore-shared leaves them out of QEMU's own stream.
void add_memory(Words& words, const protocol::VmSpec& spec, const VmPaths& paths) {
    std::uint64_t most = spec.memory_mib;
    for (const protocol::RegionSpec& region : spec.regions) most += region.size_mib;
    // virtio-pmem is a memory device: it lives between -m and maxmem, and wants room to align.
    add(words, {"-m", "size=" + std::to_string(spec.memory_mib) +
                          "M,slots=" + std::to_string(spec.regions.size() + 1) +
                          ",maxmem=" + std::to_string(most + 1024) + "M"});
    add(words, {"-object", "memory-backend-file,id=ram0,size=" + std::to_string(spec.memory_mib) +
                               "M,mem-path=" + escaped(paths.ram()) + ",share=on"});
}

void add_regions(Words& words, const protocol::VmSpec& spec, const VmPaths& paths) {
    for (std::size_t i = 0; i < spec.regions.size(); ++i) {
        const std::string number = std::to_string(i);
        add(words, {"-object", "memory-backend-file,id=region" + number +
                                   ",size=" + std::to_string(spec.regions[i].size_mib) +
                                   "M,mem-path=" + escaped(paths.region(spec.regions[i].name)) +
                                   ",share=on"});
        add(words, {"-device", "virtio-pmem-pci,memdev=region" + number + ",id=pmem" + number});
    }
}

void add_network(Words& words, const std::string& accelerator, const protocol::VmSpec& spec,
                 const VmPaths& paths) {
    std::string device = "virtio-net-pci,netdev=net0,id=nic0,romfile=,mac=" + spec.mac;
    if (spec.network.kind == protocol::NetworkKind::tap) {
        add(words, {"-netdev", "tap,id=net0,ifname=" + paths.tap() + ",script=no,downscript=no"});
    } else {
        add(words, {"-chardev", socket_chardev("vhost0", paths.vhost(spec))});
        add(words, {"-netdev", "vhost-user,id=net0,chardev=vhost0"});
        // QEMU 7.2 under TCG segfaults with vhost-user and MSI-X.
        if (accelerator == "tcg") device += ",vectors=0";
    }
    add(words, {"-device", device});
}

void add_devices(Words& words, const std::string& accelerator, const protocol::VmSpec& spec,
                 const VmPaths& paths) {
    add(words, {"-device", "virtio-rng-pci,id=rng0"});
    add_network(words, accelerator, spec, paths);
    if (!spec.guest_agent) return;
    add(words, {"-device", "virtio-serial-pci,id=serial0"});
    add(words, {"-chardev", socket_chardev("qga", paths.guest_agent())});
    add(words, {"-device", "virtserialport,chardev=qga,id=qga0,name=org.qemu.guest_agent.0"});
}

// An incoming QEMU opens the chain without a lock and reads it anew when it is let run, so the source may
// write meanwhile.
void add_disks(Words& words, const VmRecord& record) {
    for (std::size_t i = 0; i < record.spec.disks.size(); ++i) {
        const std::string number = std::to_string(i);
        const protocol::DiskSpec& disk = record.spec.disks[i];
        const std::string format = disk.writable ? disk.format : "qcow2";
        add(words,
            {"-blockdev", "driver=" + format + ",node-name=disk" + number +
                              ",file.driver=file,file.filename=" + escaped(top_of(record, i))});
        add(words, {"-device", "virtio-blk-pci,drive=disk" + number + ",id=vdisk" + number});
    }
}

}  // namespace

std::vector<std::string> qemu_command_line(const QemuConfig& qemu, const std::string& accelerator,
                                           const VmRecord& record, const VmPaths& paths,
                                           BootMode mode) {
    const protocol::VmSpec& spec = record.spec;
    Words words{qemu.binary, "-name", escaped(spec.id), "-nodefaults", "-no-user-config",
                "-display",  "none",  "-accel",         accelerator};
    add(words, {"-machine", spec.machine + ",memory-backend=ram0", "-cpu", spec.cpu, "-smp",
                std::to_string(spec.vcpus)});
    add_memory(words, spec, paths);
    add(words, {"-qmp", "unix:" + escaped(paths.qmp()) + ",server=on,wait=off"});
    add(words, {"-chardev", "file,id=console,append=on,path=" + escaped(paths.console()), "-serial",
                "chardev:console"});
    add_devices(words, accelerator, spec, paths);
    add_regions(words, spec, paths);
    add_disks(words, record);
    add(words, {"-kernel", spec.kernel});
    if (!spec.initrd.empty()) add(words, {"-initrd", spec.initrd});
    if (!spec.append.empty()) add(words, {"-append", spec.append});
    if (mode == BootMode::incoming) add(words, {"-incoming", "defer", "-S"});
    // QEMU leaves our process group by itself and tells us on stderr what failed until it has.
    add(words, {"-pidfile", paths.pid(), "-daemonize"});
    return words;
}

}  // namespace godwit::agent
