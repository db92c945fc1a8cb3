#include "dataplane/dpdk/neighbour.hpp"

namespace godwit::dpdk {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

std::uint64_t packed(const dataplane::Mac& mac) {
    std::uint64_t number = 0;
    for (const std::uint8_t byte : mac) number = number << 8 | byte;
    return number << 16 | 1;
}

}  // namespace

std::optional<Neighbour::Mac> Neighbour::mac() const {
    const std::uint64_t who = who_.load(kRelaxed);
    if (who == 0) return std::nullopt;
    Mac mac;
    for (std::size_t i = 0; i < mac.size(); ++i)
        mac[i] = static_cast<std::uint8_t>(who >> (56 - 8 * i));
    return mac;
}

bool Neighbour::hear(const Mac& mac, bool answers, std::uint32_t tick) {
    if ((mac[0] & 1) != 0 || mac == Mac{}) return false;
    const std::lock_guard alone(lock_);
    const std::uint64_t known = who_.load(kRelaxed);
    if (known != packed(mac)) {
        // The known one is asked at once; if it is gone, who answers next takes its place.
        if (known != 0) is_doubted_.store(true, kRelaxed);
        if (known != 0 || !answers || asks_.load(kRelaxed) == 0) return false;
        who_.store(packed(mac), kRelaxed);
    }
    confirm(mac, tick);
    return true;
}

void Neighbour::confirm(const Mac& mac, std::uint32_t tick) {
    if (who_.load(kRelaxed) != packed(mac)) return;
    confirmed_.store(tick, kRelaxed);
    if (asks_.load(kRelaxed) != 0) asks_.store(0, kRelaxed);
    if (is_doubted_.load(kRelaxed)) is_doubted_.store(false, kRelaxed);
}

bool Neighbour::is_due(std::uint32_t tick) {
    const std::lock_guard alone(lock_);
    const std::uint32_t asks = asks_.load(kRelaxed);
    // Signed: another worker's clock may be a tick ahead.
    const auto age = static_cast<std::int32_t>(tick - confirmed_.load(kRelaxed));
    const bool fresh = who_.load(kRelaxed) != 0 && !is_doubted_.load(kRelaxed) &&
                       age < static_cast<std::int32_t>(kFresh_s * second_);
    if (fresh || (asks > 0 && tick - asked_ < second_)) return false;
    if (asks >= kAsks) {
        who_.store(0, kRelaxed);
        is_doubted_.store(false, kRelaxed);
    }
    asked_ = tick;
    asks_.store(asks + 1, kRelaxed);
    return true;
}

}  // namespace godwit::dpdk
