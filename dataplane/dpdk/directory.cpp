#include "dataplane/dpdk/directory.hpp"

namespace godwit::dpdk {
namespace {

using dataplane::BackendSetup;
using dataplane::HostedAddress;
using dataplane::VmSetup;
struct Addresses {
    FixedMap<2, steer_address>::Entries v4;
    FixedMap<5, steer_address>::Entries v6;
};
using Senders = FixedMap<3, steer_identity>::Entries;
using Translations = FixedMap<2, steer_translation>::Entries;

void add_address(Addresses& to, std::uint32_t vlan, const HostedAddress& address, std::uint32_t vm,
                 std::size_t id) {
    const auto& w = address.words_be;
    const std::uint32_t place = vlan << 8 | address.family;
    const steer_address whose{static_cast<std::uint16_t>(vm), static_cast<std::uint16_t>(id)};
    if (address.family == 4)
        to.v4.push_back({{place, w[0]}, whose});
    else
        to.v6.push_back({{place, w[0], w[1], w[2], w[3]}, whose});
}

Addresses addresses_of(const Vms& vms) {
    Addresses all;
    for (const auto& [vm, setup] : vms) {
        const std::size_t first = std::size_t{vm} * STEER_ADDRESSES_PER_VM;
        for (std::size_t i = 0; i < setup.addresses.size(); ++i)
            add_address(all, setup.vlan, setup.addresses[i], vm, first + i);
        for (std::size_t slot = 0; slot < STEER_SLOTS; ++slot)
            for (const HostedAddress& address : setup.backends[slot].temporary)
                add_address(all, setup.vlan, address, vm | STEER_TEMPORARY, first + slot);
    }
    return all;
}

template <typename Add>
void each_backend(const Vms& vms, Add add) {
    for (const auto& [vm, setup] : vms)
        for (std::uint8_t slot = 0; slot < STEER_SLOTS; ++slot)
            if (setup.backends[slot].ifindex != 0) add(vm, setup, slot);
}

}  // namespace

Directory::Directory(const Vms& vms) {
    const Addresses addresses = addresses_of(vms);
    addresses4_ = FixedMap<2, steer_address>(addresses.v4);
    addresses6_ = FixedMap<5, steer_address>(addresses.v6);
    Senders senders;
    Translations translations;
    each_backend(vms, [&](std::uint16_t vm, const VmSetup& setup, std::uint8_t slot) {
        const BackendSetup& backend = setup.backends[slot];
        senders.push_back({sender_key(backend.ifindex, backend.mac.data()), {vm, slot, 0}});
        if (dataplane::flags_of(setup, slot) != 0)
            translations.push_back({{vm, slot}, dataplane::translation_of(vm, setup, slot)});
    });
    senders_ = FixedMap<3, steer_identity>(senders);
    translations_ = FixedMap<2, steer_translation>(translations);
}

}  // namespace godwit::dpdk
