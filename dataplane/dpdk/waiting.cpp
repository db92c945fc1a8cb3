#include "dataplane/dpdk/waiting.hpp"

#include <algorithm>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

namespace godwit::dpdk {

Waiting::~Waiting() {
    while (count_ > 0) {
        rte_pktmbuf_free(first().frame);
        drop_first();
    }
}

void Waiting::drop_first() {
    ++begin_;
    --count_;
}

std::uint16_t Waiting::keep(rte_mbuf** frames, std::uint16_t count, std::uint32_t tick) {
    const auto taken = static_cast<std::uint16_t>(std::min<std::uint32_t>(count, kMax - count_));
    for (std::uint16_t i = 0; i < taken; ++i) kept_[(begin_ + count_++) % kMax] = {frames[i], tick};
    return taken;
}

std::uint32_t Waiting::send(std::uint16_t ethdev, std::uint32_t tick) {
    std::uint32_t dropped = 0;
    for (; count_ > 0 && tick - first().since >= longest_; ++dropped) {
        rte_pktmbuf_free(first().frame);
        drop_first();
    }
    while (count_ > 0 && rte_eth_tx_burst(ethdev, 0, &first().frame, 1) == 1) drop_first();
    return dropped;
}

}  // namespace godwit::dpdk
