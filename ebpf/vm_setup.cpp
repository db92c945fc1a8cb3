// A VM's identities and hosted addresses in the lookup maps, made equal to what is wanted.
#include "dataplane/table_config.hpp"
#include "ebpf/state.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <bpf/bpf.h>

namespace godwit::ebpf {
namespace {

using dataplane::HostedAddress;
using dataplane::VmSetup;

// Removes the entries that belong to `vm` and that `keep` does not want. Collect first: deleting while
// walking a hash restarts the walk.
template <typename Key, typename Value, typename Keep>
Result<void> remove_others(int map, std::uint16_t vm, Keep keep, const std::string& name) {
    std::vector<Key> gone;
    Key key{}, next{};
    const Key* from = nullptr;
    while (bpf_map_get_next_key(map, from, &next) == 0) {
        Value value{};
        if (bpf_map_lookup_elem(map, &next, &value) == 0 && (value.vm & ~STEER_TEMPORARY) == vm &&
            !keep(next))
            gone.push_back(next);
        key = next;
        from = &key;
    }
    for (const Key& one : gone)
        if (bpf_map_delete_elem(map, &one) != 0 && errno != ENOENT)
            return fail_errno(Fault::Retry, "remove an entry of " + name);
    return {};
}

template <typename Key, typename Value>
Result<void> put(int map, const Key& key, const Value& value, const std::string& name) {
    if (bpf_map_update_elem(map, &key, &value, BPF_ANY) != 0)
        return fail_errno(Fault::Retry, "write an entry of " + name);
    return {};
}

steer_identity_key identity_key(const dataplane::BackendSetup& backend) {
    steer_identity_key key{};
    key.ifindex = backend.ifindex;
    std::memcpy(key.mac, backend.mac.data(), 6);
    return key;
}

steer_address_key_v4 key_v4(const HostedAddress& address, std::uint32_t vlan) {
    return {address.words_be[0], vlan};
}
steer_address_key_v6 key_v6(const HostedAddress& address, std::uint32_t vlan) {
    steer_address_key_v6 key{};
    key.vlan = vlan;
    std::memcpy(key.address_be, address.words_be.data(), sizeof(key.address_be));
    return key;
}

bool same_bytes(const auto& a, const auto& b) {
    return std::memcmp(&a, &b, sizeof(a)) == 0;
}

std::uint16_t address_id(std::uint16_t vm, std::uint16_t index) {
    return static_cast<std::uint16_t>(vm * STEER_ADDRESSES_PER_VM + index);
}

struct AddressMaps {
    int v4, v6;
    std::uint32_t vlan;
};

Result<void> put_address(const AddressMaps& maps, const HostedAddress& address, std::uint32_t vm,
                         std::uint16_t id) {
    const steer_address value{static_cast<std::uint16_t>(vm), id};
    return address.family == 4 ? put(maps.v4, key_v4(address, maps.vlan), value, "hosted4")
                               : put(maps.v6, key_v6(address, maps.vlan), value, "hosted6");
}

// Every address that leads to the VM: hosted, and temporary of its backends.
bool leads_here(const VmSetup& setup, const auto& holds) {
    return std::ranges::any_of(setup.addresses, holds) ||
           std::ranges::any_of(setup.backends, [&](const dataplane::BackendSetup& backend) {
               return std::ranges::any_of(backend.temporary, holds);
           });
}

Result<void> add_entries(std::uint16_t vm, const VmSetup& setup, int identities, int hosted4,
                         int hosted6) {
    for (std::uint8_t slot = 0; slot < STEER_SLOTS; ++slot) {
        if (setup.backends[slot].ifindex == 0) continue;
        const steer_identity identity{vm, slot, 0};
        Result<void> added =
            put(identities, identity_key(setup.backends[slot]), identity, "identities");
        if (!added) return added;
    }
    std::uint16_t index = 0;
    for (const HostedAddress& address : setup.addresses) {
        Result<void> added =
            put_address({hosted4, hosted6, setup.vlan}, address, vm, address_id(vm, index++));
        if (!added) return added;
    }
    for (std::uint16_t slot = 0; slot < STEER_SLOTS; ++slot)
        for (const HostedAddress& address : setup.backends[slot].temporary) {
            Result<void> added = put_address({hosted4, hosted6, setup.vlan}, address,
                                             vm | STEER_TEMPORARY, address_id(vm, slot));
            if (!added) return added;
        }
    return {};
}

Result<void> remove_stale(std::uint16_t vm, const VmSetup& setup, int identities, int hosted4,
                          int hosted6) {
    Result<void> removed = remove_others<steer_identity_key, steer_identity>(
        identities, vm,
        [&](const steer_identity_key& key) {
            return std::ranges::any_of(setup.backends, [&](const dataplane::BackendSetup& backend) {
                return backend.ifindex != 0 && same_bytes(identity_key(backend), key);
            });
        },
        "identities");
    if (!removed) return removed;
    removed = remove_others<steer_address_key_v4, steer_address>(
        hosted4, vm,
        [&](const steer_address_key_v4& key) {
            return leads_here(setup, [&](const HostedAddress& address) {
                return address.family == 4 && same_bytes(key_v4(address, setup.vlan), key);
            });
        },
        "hosted4");
    if (!removed) return removed;
    return remove_others<steer_address_key_v6, steer_address>(
        hosted6, vm,
        [&](const steer_address_key_v6& key) {
            return leads_here(setup, [&](const HostedAddress& address) {
                return address.family == 6 && same_bytes(key_v6(address, setup.vlan), key);
            });
        },
        "hosted6");
}

}  // namespace

Result<void> EbpfPlane::set_vm(std::uint16_t vm, const VmSetup& setup) {
    // Before the record's flags: a packet that meets one finds the other.
    for (std::uint32_t slot = 0; slot < STEER_SLOTS; ++slot) {
        const std::uint32_t index = vm * STEER_SLOTS + slot;
        Result<void> told = put(state_->map_fd("translations"), index,
                                dataplane::translation_of(vm, setup, slot), "translations");
        if (!told) return told;
    }
    const int identities = state_->map_fd("identities");
    const int hosted4 = state_->map_fd("hosted4"), hosted6 = state_->map_fd("hosted6");
    vm_record& to = record(vm);
    to.vm = vm;
    to.vlan = setup.vlan;
    std::memcpy(to.mac, setup.mac.data(), 6);
    dataplane::write_limits(to, setup.limits, state_->options.limits,
                            state_->set().ticks_per_second);
    dataplane::write_new_flows(to, state_->options.new_flows, state_->set().ticks_per_second);
    for (std::uint32_t slot = 0; slot < STEER_SLOTS; ++slot) {
        steer_backend backend{};
        backend.ifindex = setup.backends[slot].ifindex;
        std::memcpy(backend.mac, setup.backends[slot].mac.data(), 6);
        backend.flags = dataplane::flags_of(setup, slot);
        to.backend[slot] = backend;
    }
    Result<void> added = add_entries(vm, setup, identities, hosted4, hosted6);
    if (!added) return added;
    return remove_stale(vm, setup, identities, hosted4, hosted6);
}

Result<void> EbpfPlane::clear_vm(std::uint16_t vm) {
    vm_record& gone = record(vm);
    __atomic_store_n(&gone.steer, 0, __ATOMIC_SEQ_CST);
    Result<void> removed = remove_stale(vm, {}, state_->map_fd("identities"),
                                        state_->map_fd("hosted4"), state_->map_fd("hosted6"));
    if (!removed) return removed;
    Result<void> quiet = grace_period();  // who still pins has read the word before
    if (!quiet) return quiet;
    for (std::uint32_t slot = 0; slot < STEER_SLOTS; ++slot) {
        Result<ResetCount> ended = end_sessions(vm, slot, Tell::nobody);
        if (!ended) return std::unexpected(std::move(ended).error());
    }
    gone = {};
    return {};
}

}  // namespace godwit::ebpf
