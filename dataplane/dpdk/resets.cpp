#include "dataplane/dpdk/resets.hpp"

#include <algorithm>

namespace godwit::dpdk {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr std::uint32_t kEmpty = 0, kBusy = 1, kFirst = 2;

}  // namespace

// Not keyed: only sessions that existed get in, at most as many as one VM had.
std::array<Resets::Entry, Resets::kWays>& Resets::set_of(const Words& words) {
    std::uint64_t hash = 0;
    for (const std::uint32_t word : words) hash = (hash ^ word) * 0x9e3779b97f4a7c15ull;
    return sets_[(hash ^ hash >> 32) % kSets];
}

// Looked at twice: an entry that is filled anew meanwhile is not taken for ours.
Resets::Entry* Resets::find(const steer_key& key) {
    const auto wanted = std::bit_cast<Words>(key);
    for (Entry& entry : set_of(wanted)) {
        const std::uint32_t before = entry.order.load(std::memory_order_acquire);
        if (before < kFirst) continue;
        bool same = true;
        for (std::size_t i = 0; i < wanted.size(); ++i)
            same = same && entry.words[i].load(kRelaxed) == wanted[i];
        std::atomic_thread_fence(std::memory_order_acquire);
        if (same && entry.order.load(kRelaxed) == before) return &entry;
    }
    return nullptr;
}

void Resets::add(const steer_key& key) {
    if (contains(key)) return;
    const auto words = std::bit_cast<Words>(key);
    auto& set = set_of(words);
    Entry* place = &set[0];
    for (Entry& entry : set)
        if (entry.order.load(kRelaxed) < place->order.load(kRelaxed)) place = &entry;
    place->order.store(kBusy, kRelaxed);
    std::atomic_thread_fence(std::memory_order_release);  // seen before any of the words
    for (std::size_t i = 0; i < words.size(); ++i) place->words[i].store(words[i], kRelaxed);
    const std::uint32_t number = added_.fetch_add(1, kRelaxed);
    place->order.store(number % (UINT32_MAX - kFirst) + kFirst, std::memory_order_release);
}

void Resets::remove(const steer_key& key) {
    Entry* entry = find(key);
    if (entry) entry->order.store(kEmpty, kRelaxed);
}

std::vector<steer_key> Resets::all() const {
    std::vector<std::pair<std::uint32_t, steer_key>> found;
    for (const auto& set : sets_)
        for (const Entry& entry : set) {
            const std::uint32_t order = entry.order.load(std::memory_order_acquire);
            if (order < kFirst) continue;
            Words words;
            for (std::size_t i = 0; i < words.size(); ++i) words[i] = entry.words[i].load(kRelaxed);
            found.emplace_back(order, std::bit_cast<steer_key>(words));
        }
    std::ranges::sort(found, {}, &std::pair<std::uint32_t, steer_key>::first);
    std::vector<steer_key> keys;
    for (const auto& [order, key] : found) keys.push_back(key);
    return keys;
}

void Resets::repair() {
    for (auto& set : sets_)
        for (Entry& entry : set)
            if (entry.order.load(kRelaxed) == kBusy) entry.order.store(kEmpty, kRelaxed);
}

}  // namespace godwit::dpdk
