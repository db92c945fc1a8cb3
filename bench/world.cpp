#include "bench/world.hpp"

#include "dataplane/table_config.hpp"
#include "tests/packet/frame.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>
#include <string>
#include <sys/mman.h>

namespace godwit::bench {

void require(bool holds, const char* what) {
    if (!holds) throw std::runtime_error(std::string("the bench itself is wrong: ") + what);
}

World::World(std::uint32_t count) {
    tables_.config = dataplane::fresh_config({std::max(count, 1024u), 1024, 4096});
    for (unsigned t = 0; t < STEER_TABLES; ++t) {
        const std::size_t all =
            steer_lines(static_cast<enum steer_table>(t), tables_.config.table[t]);
        void* memory = mmap(nullptr, all * sizeof(struct steer_line), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (memory == MAP_FAILED) throw std::runtime_error("no memory for the bench");
        maps_.emplace_back(memory, all * sizeof(struct steer_line));
        tables_.lines[t] = {static_cast<struct steer_line*>(memory), all};
    }
    tables_.vms = records_;
    dpdk::Vms vms;
    vms[0].mac = test::kVmMac;
    vms[0].addresses = {{4, test::address("10.1.0.1").words_be()}};
    vms[0].backends[0] = {kVmPort + 1u, test::kVmMac, {}};
    directory_ = dpdk::Directory(vms);
    vm_record& vm = records_[0];
    std::memcpy(vm.mac, test::kVmMac.data(), 6);
    vm.backend[0].ifindex = kVmPort + 1;
    std::memcpy(vm.backend[0].mac, test::kVmMac.data(), 6);
    vm.timeouts = {1u << 30, 1u << 30, 1u << 30, 1u << 30, 1u << 30, 1u << 30, 1u << 30, 1u << 30};
    vm.steer = steer_word_next(0, 0, false, 0, false, 1);
    steer_plane plane{.tables = &tables_, .directory = &directory_};
    for (std::uint32_t i = 0; i < count; ++i) {
        steer_key key{std::byteswap(kFirstPeer + i), 4000, 80, 0, WIRE_PROTOCOL_TCP, 0, {}};
        steer_fresh fresh{STEER_META_HEARD_VM | STEER_META_HEARD_PEER, 1, 1, 1, 0, 0, 0};
        require(steer_session_pin(&plane, STEER_SESSIONS4, &key, &fresh) == STEER_INSERTED,
                "a session found no place");
    }
}

World::~World() {
    for (const auto& [memory, bytes] : maps_) munmap(memory, bytes);
}

}  // namespace godwit::bench
