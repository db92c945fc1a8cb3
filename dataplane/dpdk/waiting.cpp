#include "dataplane/dpdk/waiting.hpp"

#include <rte_ethdev.h>
#include <rte_mbuf.h>

namespace godwit::dpdk {

Waiting::~Waiting() {
    while (count_ > 0) {
        rte_pktmbuf_free(first().frame);
        drop_first();
    }
}

// The device may have the frame already and have given it back: what it took up is remembered here.
void Waiting::drop_first() {
    buffers_ -= first().buffers;
    ++begin_;
    --count_;
}

std::uint16_t Waiting::keep(rte_mbuf** frames, std::uint16_t count, std::uint32_t tick) {
    std::uint16_t taken = 0;
    for (; taken < count && buffers_ + frames[taken]->nb_segs <= kMax; ++taken) {
        const std::uint32_t buffers = frames[taken]->nb_segs;
        kept_[(begin_ + count_++) % kMax] = {frames[taken], tick, buffers};
        buffers_ += buffers;
    }
    return taken;
}

std::uint32_t Waiting::send(std::uint16_t ethdev, std::uint32_t tick) {
    std::uint32_t dropped = 0;
    // Signed: another worker's clock may have been read a little later than this one's.
    const auto is_late = [&] {
        return static_cast<std::int32_t>(tick - first().since) >=
               static_cast<std::int32_t>(longest_);
    };
    for (; count_ > 0 && is_late(); ++dropped) {
        rte_pktmbuf_free(first().frame);
        drop_first();
    }
    while (count_ > 0 && rte_eth_tx_burst(ethdev, 0, &first().frame, 1) == 1) drop_first();
    return dropped;
}

}  // namespace godwit::dpdk
