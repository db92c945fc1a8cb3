// What the workers write down for who watches (steering/flow.h): rings of records in plain memory, one for each worker,
// who writes, and one thread that reads all. Not shared with another process: what an old one was watching ends with it.
#pragma once

#include "lib/error.hpp"
#include "steering/flow.h"

#include "dataplane/tap.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

struct rte_mbuf;

namespace godwit::dpdk {

// Records with the bytes behind them, each in one piece. put() is for one thread, read() for one other.
class FlowRing {
public:
    // A power of two, and room for more than two records of STEER_SNAP_MAX bytes: one may have to begin anew.
    explicit FlowRing(std::size_t bytes) : memory_(bytes / sizeof(Word)), mask_(bytes - 1) {}

    // Room for a record and so many bytes behind it, to be filled and then published; NULL: there is none.
    steer_flow* reserve(std::size_t captured);
    void publish() { head_.store(next_, std::memory_order_release); }

    // When the next record to be read was written; the latest time there is when there is none. For the reader.
    std::uint64_t next_time_ns();
    bool empty() const {
        return head_.load(std::memory_order_acquire) == tail_.load(std::memory_order_relaxed);
    }
    std::size_t read(std::size_t most, const dataplane::Tap::OnFlow& on_flow);

private:
    using Word = std::uint64_t;
    static constexpr Word kPadding = Word{1}
                                     << 63;  // in an entry's length: nothing, up to the ring's end
    std::byte* at(std::uint64_t place) {
        return reinterpret_cast<std::byte*>(memory_.data()) + (place & mask_);
    }
    std::vector<Word> memory_;
    std::uint64_t mask_, next_ = 0;  // next_: what head_ becomes
    alignas(64) std::atomic<std::uint64_t> head_{0};
    alignas(64) std::atomic<std::uint64_t> tail_{0};
};

class DpdkTap final : public dataplane::Tap {
public:
    static constexpr std::size_t kRingBytes = 4 << 20;
    static Result<std::unique_ptr<DpdkTap>> make(std::size_t ring_bytes = kRingBytes,
                                                 unsigned workers = 1);
    ~DpdkTap() override;
    DpdkTap(const DpdkTap&) = delete;
    DpdkTap& operator=(const DpdkTap&) = delete;

    steer_watch& watch() override { return watch_; }
    int readable_fd() override { return readable_; }
    std::size_t read(std::size_t most, const OnFlow& on_flow) override;

    // ---- each worker's, with its own number ----
    bool is_watched() const { return steer_load32(&watch_.on) != 0; }
    // Writes the packet down when somebody wants it. `vm`: STEER_FLOW_NO_VM if nobody's; `in`, `out`: a port's
    // number plus one, 0: none or several.
    struct Ports {
        std::uint32_t in, out;
    };
    void look(unsigned worker, const struct steer_packet& packet,
              const struct steer_verdict& verdict, std::uint32_t vm, Ports ports,
              const rte_mbuf* frame);
    // Makes readable_fd() readable; a system call only when the reader does not know yet.
    void tell(unsigned worker);

private:
    struct Writer {
        explicit Writer(std::size_t bytes) : ring(bytes) {}
        FlowRing ring;
        bool untold = false;
    };
    DpdkTap(int readable, std::size_t ring_bytes, unsigned workers);
    FlowRing& oldest();
    bool empty() const;
    steer_watch watch_{};
    std::vector<std::unique_ptr<Writer>> writers_;
    int readable_;
    std::atomic<bool> told_{false};
};

}  // namespace godwit::dpdk
