// What benches of the DPDK plane forward for: one managed VM and so many sessions of it.
#pragma once

#include "dataplane/dpdk/worker.hpp"

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace godwit::bench {

inline constexpr std::uint16_t kUplink = 0, kVmPort = 1;
inline constexpr std::uint32_t kFirstPeer = 0x14000000;  // 20.0.0.0
// Throws std::runtime_error.
void require(bool holds, const char* what);

// A VM on port 1 with clients behind port 0, and sessions 0..count-1 of them.
class World {
public:
    explicit World(std::uint32_t count);
    ~World();
    dpdk::Tables& tables() { return tables_; }
    const dpdk::Directory& directory() const { return directory_; }
    // Into a client's frame or one of the VM's, which also acknowledges `number`.
    static void write(std::uint8_t* frame, std::uint32_t session, bool from_vm,
                      std::uint32_t number = 1) {
        wire_store32(frame + (from_vm ? 30 : 26), kFirstPeer + session);
        if (from_vm) wire_store32(frame + 42, number);
    }

private:
    dpdk::Tables tables_;
    std::vector<vm_record> records_{1};
    std::vector<std::pair<void*, std::size_t>> maps_;
    dpdk::Directory directory_;
};

}  // namespace godwit::bench
