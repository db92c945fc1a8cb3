#include "vm_agent/operations/quiet.hpp"

#include "vm_agent/memory/diff.hpp"
#include "vm_agent/region/godwit_region.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace godwit::agent {

namespace asio = boost::asio;
using memory::MappedFile;
using protocol::QuiesceStatus;

namespace {

constexpr std::uint64_t kMib = 1 << 20;
// One compare that finds nothing may have fallen between two writes.
constexpr int kComparesInARow = 2;

// A region as it was at the first look, and as it is.
struct Look {
    MappedFile then, now;
};
using Looks = std::vector<Look>;

Result<MappedFile> copy_of(const MappedFile& now) {
    Result<MappedFile> copy = MappedFile::anonymous("godwit-look", now.size());
    if (!copy) return copy;
    Result<memory::Extents> extents = now.extents();
    if (!extents) return std::unexpected(std::move(extents).error());
    for (const memory::Extent& extent : *extents)
        std::memcpy(copy->data() + extent.offset, now.data() + extent.offset, extent.length);
    return copy;
}

Result<void> look_at(const Machine& machine, Looks& looks) {
    for (const protocol::RegionSpec& one : machine.record().spec.regions) {
        Result<MappedFile> now =
            MappedFile::open(machine.paths().region(one.name), one.size_mib * kMib);
        if (!now) return std::unexpected(std::move(now).error());
        Result<MappedFile> then = copy_of(*now);
        if (!then) return std::unexpected(std::move(then).error());
        looks.push_back({std::move(*then), std::move(*now)});
    }
    return {};
}

std::uint64_t word_at(const MappedFile& region, std::size_t offset) {
    auto* word = reinterpret_cast<std::uint64_t*>(region.data() + GODWIT_LABEL_BYTES + offset);
    return std::atomic_ref<std::uint64_t>(*word).load(std::memory_order_acquire);
}

// The word of an earlier migration names another epoch, and says nothing about this one.
bool says_quiet(const MappedFile& region) {
    const std::uint64_t role = word_at(region, GODWIT_ROLE_OFFSET);
    return (role & 0xff) == GODWIT_SOURCE && word_at(region, GODWIT_QUIET_OFFSET) == role;
}

Result<std::uint64_t> changed_lines(const Looks& looks) {
    std::uint64_t lines = 0;
    for (const Look& look : looks) {
        memory::Lines changed;
        Result<memory::DiffCount> count = memory::diff(look.then, look.now, changed);
        if (!count) return std::unexpected(std::move(count).error());
        lines += changed.line_count();
    }
    return lines;
}

}  // namespace

Task<QuiesceStatus> look_for_quiet(std::shared_ptr<Machine> machine, std::uint32_t window_ms) {
    auto looks = std::make_shared<Looks>();
    WorkerPool& pool = machine->host().pool;
    std::function<Result<void>()> first = [=]() { return look_at(*machine, *looks); };
    Result<void> looked = co_await run_on<void>(pool, std::move(first));
    if (!looked) co_return std::unexpected(std::move(looked).error());
    const bool said = !looks->empty() && std::ranges::all_of(*looks, says_quiet, &Look::now);
    if (said) co_return QuiesceStatus{.quiet = true, .said_by_guest = true};
    asio::any_io_executor executor = co_await asio::this_coro::executor;
    asio::steady_timer timer(executor);
    for (int compares = 0; compares < kComparesInARow; ++compares) {
        timer.expires_after(std::chrono::milliseconds(window_ms));
        co_await timer.async_wait(asio::use_awaitable);
        std::function<Result<std::uint64_t>()> compare = [looks]() {
            return changed_lines(*looks);
        };
        Result<std::uint64_t> lines = co_await run_on<std::uint64_t>(pool, std::move(compare));
        if (!lines) co_return std::unexpected(std::move(lines).error());
        if (*lines != 0) co_return QuiesceStatus{.lines_changed = *lines};
    }
    co_return QuiesceStatus{.quiet = true};
}

}  // namespace godwit::agent
