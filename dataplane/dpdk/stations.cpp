#include "dataplane/dpdk/stations.hpp"

namespace godwit::dpdk {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

std::uint64_t number_of(const std::uint8_t* mac) {
    std::uint64_t number = 0;
    for (int i = 0; i < 6; ++i) number = number << 8 | mac[i];
    return number;
}

}  // namespace

void Stations::learn(const std::uint8_t* mac, std::uint16_t port, std::uint32_t tick) {
    if (mac[0] & 1) return;
    const std::uint64_t number = number_of(mac), who = number << 16 | (port + 1u);
    Set& set = sets_[set_of(number)];
    Station* place = &set[0];
    for (Station& station : set) {
        const std::uint64_t known = station.who.load(kRelaxed);
        if (known >> 16 == number && known != 0) {
            if (known != who) station.who.store(who, kRelaxed);
            if (station.seen.load(kRelaxed) != tick) station.seen.store(tick, kRelaxed);
            return;
        }
        const bool empty_now = place->who.load(kRelaxed) == 0;
        const bool older = tick - station.seen.load(kRelaxed) > tick - place->seen.load(kRelaxed);
        if (!empty_now && (known == 0 || older)) place = &station;
    }
    place->seen.store(tick, kRelaxed);
    place->who.store(who, kRelaxed);
}

void Stations::forget(const std::uint8_t* mac) {
    const std::uint64_t number = number_of(mac);
    for (Station& station : sets_[set_of(number)]) {
        const std::uint64_t known = station.who.load(kRelaxed);
        if (known != 0 && known >> 16 == number) station.who.store(0, kRelaxed);
    }
}

std::optional<std::uint16_t> Stations::find(const std::uint8_t* mac, std::uint32_t tick) const {
    const std::uint64_t number = number_of(mac);
    for (const Station& station : sets_[set_of(number)]) {
        const std::uint64_t known = station.who.load(kRelaxed);
        if (known == 0 || known >> 16 != number) continue;
        if (tick - station.seen.load(kRelaxed) >= ageing_) return std::nullopt;
        return static_cast<std::uint16_t>((known & 0xffff) - 1);
    }
    return std::nullopt;
}

}  // namespace godwit::dpdk
