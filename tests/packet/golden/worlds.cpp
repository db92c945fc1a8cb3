// The VMs that a trace can name, and what can be decided about them.
#include "tests/packet/golden/trace.hpp"

#include <sstream>
#include <stdexcept>

namespace godwit::test {
namespace {

// The addresses of the patent's example (CN102932409A [0073]-[0075]): 10.9.1.10 is hosted, .30 and .31 are temporary.
ManagedVm patents_vm() {
    ManagedVm vm;
    vm.addresses = {"10.9.1.10", "2001:db8:9::10"};
    vm.nat[kSource] = {{0x52, 0x54, 0, 0, 0, 0x30}, {"10.9.1.30", "2001:db8:9::30"}};
    vm.nat[kDestination] = {{0x52, 0x54, 0, 0, 0, 0x31}, {"10.9.1.31", "2001:db8:9::31"}};
    return vm;
}

ManagedVm vm_named(std::istringstream& words) {
    std::string kind;
    words >> kind;
    ManagedVm vm;
    if (kind == "nat") return patents_vm();
    if (kind == "vlan")
        for (std::uint32_t tag = 0; words >> tag;) vm.vlan = vm.vlan << 12 | tag;
    else if (kind != "l2")
        throw std::runtime_error("no such VM: " + kind);
    return vm;
}

Slot slot_named(std::istringstream& words) {
    std::string name;
    words >> name;
    if (name != "source" && name != "destination")
        throw std::runtime_error("no such slot: " + name);
    return name == "source" ? kSource : kDestination;
}

}  // namespace

void command(Plane& plane, const std::string& line) {
    std::istringstream words(line);
    std::string what;
    words >> what;
    if (what == "manage") {
        plane.manage(vm_named(words));
    } else if (what == "steady") {
        plane.steer(steady(slot_named(words)));
    } else if (what == "hosted") {
        plane.steer(hosted(slot_named(words)));
    } else if (what == "flipped") {
        const Slot from = slot_named(words);
        plane.steer(flipped(from, slot_named(words)));
    } else if (what == "advance") {
        std::uint32_t seconds = 0;
        words >> seconds;
        plane.advance_s(seconds);
        plane.sweep();
    } else {
        throw std::runtime_error("no such command: " + line);
    }
}

}  // namespace godwit::test
