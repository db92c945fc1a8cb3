#include "lib/log.hpp"

#include "vm_agent/memory/handshake.hpp"
#include "vm_agent/operations/merge.hpp"
#include "vm_agent/region/godwit_region.h"

#include <boost/asio/steady_timer.hpp>

namespace godwit::agent {

namespace asio = boost::asio;
using memory::FrameChannel;
using memory::FrameType;
using memory::Image;
using protocol::OperationState;
using protocol::wire::MergeOutcome;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds kConnectDeadline{5000};
constexpr milliseconds kFrameDeadline{30'000};
constexpr std::uint64_t kMib = 1 << 20;
constexpr int kMergeTries = 5;
constexpr milliseconds kMergeEvery{1000};

struct MergeWork {
    std::vector<memory::Lines> lines;  // one per region
    std::uint64_t bytes_compared = 0, bytes_changed = 0;
    std::string base_root;
    bool paused_here = false;  // by this very call, not by an earlier one that met a conflict
    bool sent_whole = false;   // from here on the destination may have patched
    std::uint64_t resumes = 0, bytes_resent = 0;
    MergeOutcome outcome;

    void forget_comparison() {
        lines.clear();
        bytes_compared = bytes_changed = 0;
    }
};

// Lines the host owns (label area, role word), and the source's word that it is quiet, are no business
// of a merge.
void keep_mergeable(const memory::Lines& all, std::uint64_t limit, memory::Lines& kept) {
    std::vector<std::byte> page(protocol::wire::kPageBytes);
    (void)memory::for_each_record(
        all.bytes(), limit,
        [&](const protocol::wire::LineRecord& record, const std::byte* lines) -> Result<void> {
            if (record.offset < GODWIT_LABEL_BYTES) return {};
            const protocol::wire::LineRecord placed{0, record.mask};
            memory::apply_record(placed, lines, page.data());
            std::uint64_t mask = record.mask;
            if (record.offset == GODWIT_LABEL_BYTES)
                mask &= ~(1ull << (GODWIT_ROLE_OFFSET / 64) | 1ull << (GODWIT_QUIET_OFFSET / 64));
            if (mask != 0) kept.add(record.offset, mask, page.data());
            return {};
        });
}

Result<void> compare_region(const Machine& machine, const protocol::RegionSpec& spec,
                            MergeWork& work, std::vector<memory::MappedFile>& bases) {
    Result<memory::MappedFile> base =
        memory::MappedFile::open(machine.paths().region_base(spec.name), spec.size_mib * kMib);
    if (!base) return std::unexpected(std::move(base).error());
    Result<memory::MappedFile> now =
        memory::MappedFile::open(machine.paths().region(spec.name), spec.size_mib * kMib);
    if (!now) return std::unexpected(std::move(now).error());
    memory::Lines all;
    Result<memory::DiffCount> count = memory::diff(*base, *now, all);
    if (!count) return std::unexpected(std::move(count).error());
    memory::Lines& kept = work.lines.emplace_back();
    keep_mergeable(all, now->size(), kept);
    work.bytes_compared += count->bytes_compared;
    work.bytes_changed += kept.line_count() * protocol::wire::kLineBytes;
    bases.push_back(std::move(*base));
    return {};
}

Result<void> compare(const Machine& machine, MergeWork& work) {
    std::vector<memory::MappedFile> bases;
    for (const protocol::RegionSpec& spec : machine.record().spec.regions) {
        Result<void> compared = compare_region(machine, spec, work, bases);
        if (!compared)
            return std::unexpected(
                std::move(compared).error().within("compare region " + spec.name));
    }
    std::vector<const memory::MappedFile*> pointers;
    for (const memory::MappedFile& base : bases) pointers.push_back(&base);
    Result<memory::Root> root = memory::root_of(pointers);
    if (!root) return std::unexpected(std::move(root).error());
    work.base_root = memory::to_hex(*root);
    return {};
}

Result<void> send_lines(FrameChannel& channel, const MergeWork& work) {
    for (std::uint32_t region = 0; region < work.lines.size(); ++region) {
        const protocol::wire::BlockHead head{region, protocol::wire::Codec::raw};
        for (std::span<const std::byte> piece :
             memory::split_records(work.lines[region].bytes(), protocol::wire::kChunkBytes)) {
            Result<void> sent = channel.send(FrameType::merge, memory::bytes_of(head), piece);
            if (!sent) return std::unexpected(channel.reason_of(std::move(sent).error()));
        }
    }
    return {};
}

Result<void> tell(FrameChannel& channel, const protocol::MergeRequest& request, MergeWork& work) {
    Result<void> sent = send_lines(channel, work);
    if (!sent) return sent;
    const protocol::wire::MergeEnd end{request.on_conflict, work.base_root};
    work.sent_whole = true;
    sent = channel.send_text(FrameType::merge_end, json::to_text(end));
    if (!sent) return std::unexpected(channel.reason_of(std::move(sent).error()));
    Result<memory::Frame> merged = channel.expect(FrameType::merged);
    if (!merged) return std::unexpected(std::move(merged).error());
    Result<MergeOutcome> outcome =
        json::from_text<MergeOutcome>(merged->text(), "read the outcome of the merge");
    if (!outcome) return std::unexpected(std::move(outcome).error());
    work.outcome = std::move(*outcome);
    return {};
}

Result<void> exchange(const protocol::MergeRequest& request, const protocol::wire::Hello& hello,
                      const memory::Credentials& credentials, MergeWork& work) {
    const memory::Peer peer{request.destination, request.destination_host};
    Result<std::unique_ptr<FrameChannel>> channel =
        FrameChannel::connect(peer, credentials.tls, kConnectDeadline);
    if (!channel) return std::unexpected(std::move(channel).error());
    (*channel)->set_deadline(kConnectDeadline);
    Result<void> begun = memory::begin_session(**channel, peer, credentials, hello);
    if (!begun) return begun;
    (*channel)->set_deadline(kFrameDeadline);
    Result<void> told = tell(**channel, request, work);
    work.resumes += (*channel)->resumes();
    work.bytes_resent += (*channel)->bytes_resent();
    return told;
}

Task<void> merge_steps(std::shared_ptr<Machine> machine, protocol::MergeRequest request,
                       memory::Credentials credentials, std::shared_ptr<MergeWork> work) {
    Result<void> done;
    // A source whose QEMU has died left its region behind: that can be merged as well.
    if (machine->is_alive() && machine->record().paused_for != PausedFor::merge_source) {
        work->paused_here = true;
        done = co_await machine->pause(PausedFor::merge_source);
    }
    const bool copied = machine->record().copy && !machine->record().copy->root.empty();
    if (!done || !copied || machine->record().spec.regions.empty()) co_return done;
    const protocol::wire::Hello hello =
        hello_for(*machine, protocol::wire::Purpose::merge, request.command);
    // Asked again it is answered, not done twice: a destination whose agent restarts costs a
    // second.
    asio::any_io_executor executor = co_await asio::this_coro::executor;
    asio::steady_timer timer(executor);
    for (int tries = 0; tries < kMergeTries; ++tries) {
        std::function<Result<void>()> there = [=]() -> Result<void> {
            work->forget_comparison();
            Result<void> compared = compare(*machine, *work);
            return compared ? exchange(request, hello, credentials, *work) : compared;
        };
        done = co_await run_on<void>(machine->host().pool, std::move(there));
        if (done || done.error().fault != Fault::Lost) break;
        timer.expires_after(kMergeEvery);
        co_await timer.async_wait(asio::use_awaitable);
    }
    co_return done;
}

}  // namespace

boost::asio::awaitable<void> run_merge(std::shared_ptr<Machine> machine,
                                       protocol::MergeRequest request,
                                       memory::Credentials credentials) {
    std::shared_ptr<MergeWork> work = std::make_shared<MergeWork>();
    Result<void> done = co_await merge_steps(machine, request, std::move(credentials), work);
    protocol::MergeStatus status;
    status.job = request.command.job;
    status.bytes_compared = work->bytes_compared;
    status.bytes_changed = work->bytes_changed;
    status.bytes_patched = work->outcome.bytes_patched;
    status.resumes = work->resumes;
    status.bytes_resent = work->bytes_resent;
    status.pause_ms = work->outcome.pause_ms;
    status.conflicts = work->outcome.conflicts;
    status.state = OperationState::failed;
    if (!done) {
        status.error = done.error().text();
        // Nothing reached the destination for sure: the source need not stand still for it.
        if (work->paused_here && !work->sent_whole && machine->is_alive()) {
            Result<void> resumed = co_await machine->resume();
            if (!resumed) status.error += "; and " + resumed.error().text();
        }
    } else if (work->outcome.conflict_count > 0 && !work->outcome.applied) {
        status.error = std::to_string(work->outcome.conflict_count) +
                       " lines changed on both sides to different bytes; nothing was patched, the "
                       "source stays paused";
    } else {
        status.state = OperationState::done;
    }
    machine->record().merge = status;
    Result<void> kept = machine->save();
    if (!kept) log::error("merge", kept.error().text());
    log::info("merge", machine->name() + " for " + status.job + ": " +
                           json::enum_name(status.state) + ", " +
                           std::to_string(status.bytes_changed) + " bytes changed, " +
                           std::to_string(status.bytes_patched) + " patched " + status.error);
}

}  // namespace godwit::agent
