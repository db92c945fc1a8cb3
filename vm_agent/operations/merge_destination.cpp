#include "lib/log.hpp"

#include "vm_agent/durable_file.hpp"
#include "vm_agent/memory/undo.hpp"
#include "vm_agent/operations/merge.hpp"

namespace godwit::agent {

using memory::FrameType;
using memory::MappedFile;
using memory::MergePlan;
using protocol::wire::MergeEnd;
using protocol::wire::MergeOutcome;

namespace {

constexpr std::uint64_t kMib = 1 << 20;

struct RegionFiles {
    std::vector<MappedFile> bases, now;
};

Result<RegionFiles> open_regions(const Machine& machine) {
    RegionFiles files;
    for (const protocol::RegionSpec& spec : machine.record().spec.regions) {
        Result<MappedFile> base =
            MappedFile::open(machine.paths().region_base(spec.name), spec.size_mib * kMib);
        if (!base) return std::unexpected(std::move(base).error());
        Result<MappedFile> now =
            MappedFile::open(machine.paths().region(spec.name), spec.size_mib * kMib);
        if (!now) return std::unexpected(std::move(now).error());
        files.bases.push_back(std::move(*base));
        files.now.push_back(std::move(*now));
    }
    return files;
}

Result<void> same_base(const RegionFiles& files, const MergeEnd& end) {
    std::vector<const MappedFile*> pointers;
    for (const MappedFile& base : files.bases) pointers.push_back(&base);
    Result<memory::Root> root = memory::root_of(pointers);
    if (!root) return std::unexpected(std::move(root).error());
    if (memory::to_hex(*root) == end.base_root) return {};
    return fail(Fault::Corrupt, "merge", "the two hosts kept different copies of the fork",
                "memory-differs");
}

// Guest paused. Journal, patch, outcome, in this order: whichever file a crash leaves says what to
// do.
Result<MergeOutcome> patch(const Machine& machine, const std::string& job,
                           const IncomingMerge& incoming, RegionFiles& files) {
    std::vector<MergePlan> plans(files.now.size());
    MergeOutcome outcome;
    outcome.job = job;
    std::vector<memory::UndoLine> undo;
    for (std::uint32_t i = 0; i < plans.size(); ++i) {
        const memory::RegionView view{machine.record().spec.regions[i].name, files.bases[i].bytes(),
                                      files.now[i].bytes()};
        Result<void> planned =
            memory::plan_merge(view, incoming.records[i], incoming.end.on_conflict, plans[i]);
        if (!planned) return std::unexpected(std::move(planned).error());
        outcome.conflict_count += plans[i].conflict_count;
        for (protocol::Conflict& one : plans[i].conflicts)
            if (outcome.conflicts.size() < protocol::wire::kConflictsMax)
                outcome.conflicts.push_back(std::move(one));
        for (memory::UndoLine& line : memory::undo_of(i, plans[i], files.now[i].bytes()))
            undo.push_back(line);
    }
    if (outcome.conflict_count > 0) return outcome;
    Result<void> done = memory::write_undo(machine.paths().undo(), undo);
    if (!done) return std::unexpected(std::move(done).error());
    for (std::size_t i = 0; i < plans.size(); ++i) {
        memory::apply_plan(plans[i], files.now[i].bytes());
        outcome.bytes_patched += plans[i].writes.size() * protocol::wire::kLineBytes;
    }
    outcome.applied = true;
    done = replace_file(machine.paths().merged(), json::to_text(outcome));
    if (!done) return std::unexpected(std::move(done).error());
    return outcome;
}

Result<MergeOutcome> earlier_outcome(const Machine& machine, const std::string& job) {
    Result<std::string> text = read_file(machine.paths().merged());
    if (!text) return std::unexpected(std::move(text).error());
    Result<MergeOutcome> outcome =
        json::from_text<MergeOutcome>(*text, "read the outcome of an earlier merge");
    if (outcome && outcome->job != job)
        return fail(Fault::Missing, "look for an earlier merge", "it was for " + outcome->job);
    return outcome;
}

}  // namespace

Result<IncomingMerge> receive_merge(memory::FrameChannel& channel, const Machine& machine) {
    IncomingMerge incoming;
    const std::vector<protocol::RegionSpec>& regions = machine.record().spec.regions;
    incoming.records.resize(regions.size());
    while (true) {
        Result<memory::Frame> frame = channel.receive();
        if (!frame) return std::unexpected(std::move(frame).error());
        if (frame->type == FrameType::merge_end) {
            Result<MergeEnd> end = json::from_text<MergeEnd>(frame->text(), "read MERGE_END");
            if (!end) return std::unexpected(std::move(end).error());
            incoming.end = *end;
            return incoming;
        }
        if (frame->type != FrameType::merge)
            return fail(Fault::Corrupt, "merge", "neither MERGE nor MERGE_END came",
                        "malformed-frame");
        std::span<const std::byte> payload = frame->payload;
        Result<protocol::wire::BlockHead> head =
            memory::take<protocol::wire::BlockHead>(payload, "the region of a MERGE");
        if (!head) return std::unexpected(std::move(head).error());
        if (head->block >= regions.size())
            return fail(
                Fault::Corrupt, "merge",
                "region " + std::to_string(head->block) + " of " + std::to_string(regions.size()),
                "malformed-frame");
        if (head->codec != protocol::wire::Codec::raw)
            return fail(Fault::Corrupt, "merge", "a packed MERGE came", "malformed-frame");
        std::vector<std::byte>& records = incoming.records[head->block];
        // Every page once with all its lines is the most there can be.
        const std::uint64_t pages =
            regions[head->block].size_mib * kMib / protocol::wire::kPageBytes;
        if (records.size() + payload.size() >
            pages * (protocol::wire::kPageBytes + protocol::wire::kRecordHeadMax))
            return fail(Fault::Corrupt, "merge", "more lines than the region has",
                        "malformed-frame");
        records.insert(records.end(), payload.begin(), payload.end());
    }
}

Task<MergeOutcome> merge_into(std::shared_ptr<Machine> machine, std::string job,
                              std::shared_ptr<IncomingMerge> incoming) {
    Result<MergeOutcome> earlier = earlier_outcome(*machine, job);
    if (earlier || earlier.error().fault != Fault::Missing) co_return earlier;
    std::shared_ptr<RegionFiles> files = std::make_shared<RegionFiles>();
    std::function<Result<void>()> open = [=]() -> Result<void> {
        Result<RegionFiles> opened = open_regions(*machine);
        if (!opened) return std::unexpected(std::move(opened).error());
        *files = std::move(*opened);
        return same_base(*files, incoming->end);
    };
    Result<void> ready = co_await run_on<void>(machine->host().pool, std::move(open));
    if (!ready) co_return std::unexpected(std::move(ready).error());
    const bool running = machine->is_alive();
    if (running) ready = co_await machine->pause(PausedFor::merge_destination);
    Result<MergeOutcome> outcome = std::unexpected(Error{});
    if (ready) {
        std::function<Result<MergeOutcome>()> work = [=]() {
            return patch(*machine, job, *incoming, *files);
        };
        outcome = co_await run_on<MergeOutcome>(machine->host().pool, std::move(work));
    } else {
        outcome = std::unexpected(std::move(ready).error());
    }
    // Half a patch, or a patch nobody will hear of: the old lines come back before the guest goes
    // on.
    Result<void> recovered = outcome ? Result<void>{} : recover_merge(*machine);
    if (!recovered) log::error("merge", recovered.error().text());
    if (running) {
        Result<void> resumed = co_await machine->resume();
        if (!resumed) log::error("merge", resumed.error().text());
        if (outcome) outcome->pause_ms = machine->pause_ms();
    }
    if (outcome) (void)remove_file(machine->paths().undo());
    co_return outcome;
}

Result<void> recover_merge(Machine& machine) {
    const std::string undo_file = machine.paths().undo();
    Result<std::string> merged = read_file(machine.paths().merged());
    if (merged) return remove_file(undo_file);  // the patch was whole
    Result<std::vector<memory::UndoLine>> undo = memory::read_undo(undo_file);
    if (!undo && undo.error().fault == Fault::Missing) return {};
    if (!undo) return std::unexpected(std::move(undo).error());
    Result<RegionFiles> files = open_regions(machine);
    if (!files) return std::unexpected(std::move(files).error());
    for (const memory::UndoLine& line : *undo) {
        if (line.region >= files->now.size() ||
            line.offset > files->now[line.region].size() - line.bytes.size())
            return fail(Fault::Corrupt, "undo a merge", undo_file + " names no place of a region");
        std::memcpy(files->now[line.region].data() + line.offset, line.bytes.data(),
                    line.bytes.size());
    }
    return remove_file(undo_file);
}

}  // namespace godwit::agent
