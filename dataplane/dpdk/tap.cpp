#include "dataplane/dpdk/tap.hpp"

#include "dataplane/dpdk/hooks.hpp"

#include <algorithm>
#include <cstring>
#include <rte_mbuf.h>
#include <rte_random.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

namespace godwit::dpdk {
namespace {

std::uint64_t now_ns() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec);
}

// The frame's first bytes, also where they lie in several segments.
void copy_bytes(const rte_mbuf* frame, std::byte* to, std::uint32_t bytes) {
    const void* data = rte_pktmbuf_read(frame, 0, bytes, to);
    if (data != to) std::memcpy(to, data, bytes);
}

}  // namespace

steer_flow* FlowRing::reserve(std::size_t captured) {
    const std::size_t entry =
        (sizeof(Word) + sizeof(steer_flow) + captured + sizeof(Word) - 1) & ~(sizeof(Word) - 1);
    const std::uint64_t head = head_.load(std::memory_order_relaxed), ring = mask_ + 1;
    const std::uint64_t to_end = ring - (head & mask_);
    const std::uint64_t padding = entry > to_end ? to_end : 0;
    if (head + padding + entry - tail_.load(std::memory_order_acquire) > ring) return nullptr;
    if (padding > 0) *reinterpret_cast<Word*>(at(head)) = kPadding | padding;
    *reinterpret_cast<Word*>(at(head + padding)) = entry;
    next_ = head + padding + entry;
    return reinterpret_cast<steer_flow*>(at(head + padding) + sizeof(Word));
}

std::uint64_t FlowRing::next_time_ns() {
    std::uint64_t tail = tail_.load(std::memory_order_relaxed);
    const std::uint64_t head = head_.load(std::memory_order_acquire);
    if (tail == head) return UINT64_MAX;
    const Word length = *reinterpret_cast<const Word*>(at(tail));
    if (length & kPadding)
        tail += length & ~kPadding;  // a record follows: they are published as one
    return reinterpret_cast<const steer_flow*>(at(tail) + sizeof(Word))->time_ns;
}

std::size_t FlowRing::read(std::size_t most, const dataplane::Tap::OnFlow& on_flow) {
    std::size_t count = 0;
    std::uint64_t tail = tail_.load(std::memory_order_relaxed);
    while (count < most && tail != head_.load(std::memory_order_acquire)) {
        const Word length = *reinterpret_cast<const Word*>(at(tail));
        if (!(length & kPadding)) {
            const auto* flow = reinterpret_cast<const steer_flow*>(at(tail) + sizeof(Word));
            on_flow(*flow, {reinterpret_cast<const std::uint8_t*>(flow + 1), flow->captured});
            ++count;
        }
        tail += length & ~kPadding;
        tail_.store(tail, std::memory_order_release);
    }
    return count;
}

DpdkTap::DpdkTap(int readable, std::size_t ring_bytes, unsigned workers) : readable_(readable) {
    for (unsigned worker = 0; worker < workers; ++worker)
        writers_.push_back(std::make_unique<Writer>(ring_bytes));
}

Result<std::unique_ptr<DpdkTap>> DpdkTap::make(std::size_t ring_bytes, unsigned workers) {
    const int readable = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (readable < 0) return fail_errno(Fault::Retry, "make an eventfd");
    return std::unique_ptr<DpdkTap>(new DpdkTap(readable, ring_bytes, workers));
}

DpdkTap::~DpdkTap() {
    close(readable_);
}

FlowRing& DpdkTap::oldest() {
    FlowRing* oldest = &writers_[0]->ring;
    std::uint64_t time_ns = oldest->next_time_ns();
    for (const auto& writer : writers_) {
        const std::uint64_t here_ns = writer->ring.next_time_ns();
        if (here_ns >= time_ns) continue;
        oldest = &writer->ring;
        time_ns = here_ns;
    }
    return *oldest;
}

bool DpdkTap::empty() const {
    return std::ranges::all_of(writers_, [](const auto& writer) { return writer->ring.empty(); });
}

std::size_t DpdkTap::read(std::size_t most, const OnFlow& on_flow) {
    eventfd_t raised = 0;
    (void)eventfd_read(readable_, &raised);
    told_.store(false);  // before the look: what is written after it is told again
    std::size_t count = 0;
    while (count < most && oldest().read(1, on_flow) == 1) ++count;
    if (!empty() && !told_.exchange(true)) eventfd_write(readable_, 1);
    return count;
}

void DpdkTap::look(unsigned worker, const struct steer_packet& packet,
                   const struct steer_verdict& verdict, std::uint32_t vm, Ports ports,
                   const rte_mbuf* frame) {
    Writer& writer = *writers_[worker];
    const auto chance = static_cast<std::uint32_t>(rte_rand());
    const std::uint32_t wanted = steer_wanted(&watch_, &packet, verdict.why, vm, chance);
    if (wanted == 0) return;
    const std::uint32_t length = rte_pktmbuf_pkt_len(frame);
    const std::uint32_t captured = std::min(steer_snap(&watch_, wanted), length);
    steer_flow* flow = writer.ring.reserve(captured);
    if (!flow) return steer_unwritten(&watch_, wanted);
    steer_describe(flow, &packet, steer_verdict_number(verdict), vm);
    flow->time_ns = now_ns();
    flow->in = ports.in;
    flow->out = ports.out;
    flow->length = length;
    flow->captured = static_cast<std::uint16_t>(captured);
    flow->wanted = static_cast<std::uint8_t>(wanted);
    if (captured > 0) copy_bytes(frame, reinterpret_cast<std::byte*>(flow + 1), captured);
    writer.ring.publish();
    writer.untold = true;
}

void DpdkTap::tell(unsigned worker) {
    if (!writers_[worker]->untold) return;
    writers_[worker]->untold = false;
    if (!told_.exchange(true)) eventfd_write(readable_, 1);
}

}  // namespace godwit::dpdk
