// Whole regions, written by the library on both sides of a fork in any order, and merged: every class ends
// as its rule says, conflicts are exactly the lines both sides changed to different bytes, and asked
// again the merge has nothing left to do. What is expected is told from what was written, not from the
// bytes the merge looks at.
#include "vm_agent/memory/diff.hpp"
#include "vm_agent/memory/merge.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <sys/mman.h>

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

namespace {

using namespace godwit::memory;
using godwit::protocol::OnConflict;

constexpr std::size_t kDataBytes = 16 << 10;
constexpr std::size_t kFileBytes = GODWIT_LABEL_BYTES + kDataBytes;
enum Class : unsigned { kOwned, kKept, kCounted, kHighest, kStrict, kSlots, kLog, kClasses };
constexpr std::uint32_t kRecords = 6, kSlotCount = 10, kRoom = 12;
const godwit_class_spec kSpecs[kClasses] = {
    {"owned", GODWIT_SOURCE_WINS, GODWIT_FIXED, 64, kRecords},
    {"kept", GODWIT_DESTINATION_WINS, GODWIT_FIXED, 64, kRecords},
    {"counted", GODWIT_ADD_DELTA, GODWIT_FIXED, 64, kRecords},
    {"highest", GODWIT_MAX, GODWIT_FIXED, 64, kRecords},
    {"strict", GODWIT_FAIL, GODWIT_FIXED, 64, kRecords},
    {"slots", GODWIT_SOURCE_WINS, GODWIT_ALLOCATED, 40, kSlotCount},
    {"log", GODWIT_APPEND, GODWIT_LOG, 100, kRoom},
};

// One write of the application: before the fork, then on either side.
enum Where : unsigned { kBefore, kSource, kClone };
struct Write {
    unsigned where, what;  // what: a Class, or kClasses: free a slot
    unsigned record, word;
    std::uint64_t value;
};

rc::Gen<std::vector<Write>> writes() {
    return rc::gen::container<std::vector<Write>>(rc::gen::build<Write>(
        rc::gen::set(&Write::where, rc::gen::inRange(0u, 3u)),
        rc::gen::set(&Write::what, rc::gen::inRange(0u, kClasses + 1u)),
        rc::gen::set(&Write::record, rc::gen::inRange(0u, kRecords)),
        rc::gen::set(&Write::word, rc::gen::inRange(0u, 8u)),
        // Few different ones, so that sides agree now and then; the largest, so that sums wrap.
        rc::gen::set(&Write::value, rc::gen::element<std::uint64_t>(1, 2, 3, ~0ull))));
}

// A region as one guest maps it.
class Guest {
public:
    Guest() : fd_(memfd_create("gwt-region", MFD_CLOEXEC)) {
        const std::string path = "/proc/self/fd/" + std::to_string(fd_);
        if (ftruncate(fd_, kDataBytes) != 0 ||
            godwit_region_open(&region, path.c_str(), kSpecs, kClasses) != 0)
            throw std::runtime_error("cannot make a region");
    }
    ~Guest() {
        godwit_region_close(&region);
        close(fd_);
    }
    Guest(const Guest&) = delete;

    void become(godwit_role role, std::uint64_t epoch) {
        region.page->role.word = godwit_role_word(epoch, role);
    }
    std::uint64_t* record(unsigned of, std::uint64_t index) {
        return static_cast<std::uint64_t*>(godwit_slot_payload(&region, of, index));
    }
    std::vector<std::byte> file() const {
        std::vector<std::byte> bytes(kFileBytes);
        std::memcpy(bytes.data() + GODWIT_LABEL_BYTES, region.page, kDataBytes);
        return bytes;
    }
    void load(const std::vector<std::byte>& file) {
        std::memcpy(region.page, file.data() + GODWIT_LABEL_BYTES, kDataBytes);
    }

    godwit_region region{};

private:
    int fd_;
};

// What the application did on one side, in its own words.
struct Told {
    std::map<std::pair<unsigned, unsigned>, std::uint64_t> added, raised;  // by record and word
    std::set<std::uint64_t> live;                                          // tags of slots
    std::vector<std::uint64_t> logged;
};

class World {
public:
    explicit World(const std::vector<Write>& all) {
        for (const Write& write : all)
            if (write.where == kBefore) make(guests_[kBefore], told[kBefore], write);
        base = guests_[kBefore].file();
        for (unsigned side : {kSource, kClone}) {
            guests_[side].load(base);
            guests_[side].become(side == kSource ? GODWIT_SOURCE : GODWIT_CLONE, 1);
        }
        told[kSource].live = told[kBefore].live;
        for (const Write& write : all)
            if (write.where != kBefore) make(guests_[write.where], told[write.where], write);
        source = guests_[kSource].file();
        destination = guests_[kClone].file();
    }

    MergePlan plan(OnConflict on_conflict) {
        Lines lines;
        for (std::uint64_t at = GODWIT_LABEL_BYTES; at < kFileBytes; at += kPageBytes) {
            std::uint64_t mask = page_compare(Kernel::scalar)(base.data() + at, source.data() + at);
            if (at == GODWIT_LABEL_BYTES) mask &= ~2ull;  // the role word is the host's
            if (mask != 0) lines.add(at, mask, source.data() + at);
        }
        MergePlan made;
        const RegionView view{"r", base, destination};
        RC_ASSERT(plan_merge(view, lines.bytes(), on_conflict, made).has_value());
        return made;
    }
    bool log_fits() const {
        return told[kBefore].logged.size() + told[kSource].logged.size() +
                   told[kClone].logged.size() <=
               kRoom;
    }
    // Of a fixed class, as it lies in the file.
    static std::uint64_t place(unsigned of, unsigned record) {
        std::uint64_t at = GODWIT_LABEL_BYTES + GODWIT_HEADER_BYTES + record * 64;
        for (unsigned before = 0; before < of; ++before) at += 64ull * kRecords;
        return at;
    }
    Line line(const std::vector<std::byte>& image, unsigned of, unsigned record) const {
        Line bytes;
        std::memcpy(bytes.data(), image.data() + place(of, record), 64);
        return bytes;
    }
    // The merged destination, read by the library again.
    Guest& merged() {
        guests_[kClone].load(destination);
        guests_[kClone].become(GODWIT_SOLE, 1);
        return guests_[kClone];
    }

    std::vector<std::byte> base, source, destination;
    Told told[3];

private:
    void make(Guest& guest, Told& side, const Write& write) {
        const auto key = std::pair(write.record, write.word);
        switch (write.what) {
            case kCounted:
                guest.record(kCounted, write.record)[write.word] += write.value;
                side.added[key] += write.value;
                break;
            case kHighest: {
                std::uint64_t& highest = guest.record(kHighest, write.record)[write.word];
                highest = std::max(highest, write.value);
                side.raised[key] = std::max(side.raised[key], write.value);
                break;
            }
            case kSlots:
                if (godwit_slot_allocate(&guest.region, kSlots, next_tag_) >= 0)
                    side.live.insert(next_tag_);
                ++next_tag_;
                break;
            case kLog:
                if (godwit_log_append(&guest.region, kLog, &next_tag_, 8) >= 0)
                    side.logged.push_back(next_tag_);
                ++next_tag_;
                break;
            case kClasses:
                free_one(guest, side, write.record);
                break;
            default:
                guest.record(write.what, write.record)[write.word] = write.value;
        }
    }
    static void free_one(Guest& guest, Told& side, unsigned from) {
        for (std::uint64_t i = from; i < kSlotCount; ++i) {
            const std::uint64_t tag = godwit_slot_tag(&guest.region, kSlots, i);
            if (godwit_slot_free(&guest.region, kSlots, i) != 0) continue;
            side.live.erase(tag);
            return;
        }
    }

    Guest guests_[3];
    std::uint64_t next_tag_ = 1000;
};

// Who may write: the one that changed the line, and for both the winner.
Line plain(const World& world, const std::vector<std::byte>& before, unsigned of, unsigned record,
           Where winner) {
    const Line base = world.line(world.base, of, record);
    const Line source = world.line(world.source, of, record);
    const Line clone = world.line(before, of, record);
    if (source == base) return clone;
    if (clone == base) return source;
    return winner == kSource ? source : clone;
}

std::set<std::uint64_t> places(const MergePlan& plan) {
    std::set<std::uint64_t> offsets;
    for (const godwit::protocol::Conflict& one : plan.conflicts) offsets.insert(one.offset);
    return offsets;
}

RC_GTEST_PROP(MergedRegion, ConflictsAreExactlyTheLinesBothSidesChangedDifferently, ()) {
    World world(*writes());
    std::set<std::uint64_t> expected;
    for (unsigned i = 0; i < kRecords; ++i) {
        const Line base = world.line(world.base, kStrict, i);
        const Line source = world.line(world.source, kStrict, i);
        const Line clone = world.line(world.destination, kStrict, i);
        if (source != base && clone != base && source != clone)
            expected.insert(World::place(kStrict, i));
    }
    const bool appended = !world.told[kSource].logged.empty();
    const std::uint64_t slot_bytes = 64 + 64;
    if (appended && !world.log_fits())
        expected.insert(World::place(kSlots, 0) + slot_bytes * kSlotCount);
    const MergePlan plan = world.plan(OnConflict::fail);
    RC_ASSERT(places(plan) == expected);
    RC_ASSERT(plan.conflict_count == expected.size());
}

RC_GTEST_PROP(MergedRegion, EveryClassEndsAsItsRuleSays, ()) {
    World world(*writes());
    RC_PRE(world.log_fits());
    const std::vector<std::byte> before = world.destination;
    apply_plan(world.plan(OnConflict::source_wins), world.destination);
    for (unsigned i = 0; i < kRecords; ++i) {
        for (unsigned of : {kOwned, kStrict})
            RC_ASSERT(world.line(world.destination, of, i) == plain(world, before, of, i, kSource));
        RC_ASSERT(world.line(world.destination, kKept, i) ==
                  plain(world, before, kKept, i, kClone));
    }
    Guest& merged = world.merged();
    const auto sum = [&](auto Told::* what, auto key, auto combine) {
        std::uint64_t all = 0;
        for (Told& side : world.told) all = combine(all, (side.*what)[key]);
        return all;
    };
    for (unsigned i = 0; i < kRecords; ++i)
        for (unsigned word = 0; word < 8; ++word) {
            const auto key = std::pair(i, word);
            RC_ASSERT(merged.record(kCounted, i)[word] == sum(&Told::added, key, std::plus<>()));
            RC_ASSERT(merged.record(kHighest, i)[word] ==
                      sum(&Told::raised, key, [](auto a, auto b) { return std::max(a, b); }));
        }
}

RC_GTEST_PROP(MergedRegion, SlotsOfBothSidesAreThereOnce, ()) {
    World world(*writes());
    RC_PRE(world.log_fits());
    apply_plan(world.plan(OnConflict::source_wins), world.destination);
    std::multiset<std::uint64_t> found,
        expected(world.told[kSource].live.begin(), world.told[kSource].live.end());
    expected.insert(world.told[kClone].live.begin(), world.told[kClone].live.end());
    Guest& merged = world.merged();
    for (std::uint64_t i = 0; i < kSlotCount; ++i)
        if (godwit_slot_in_use(&merged.region, kSlots, i))
            found.insert(godwit_slot_tag(&merged.region, kSlots, i));
    RC_ASSERT(found == expected);
}

RC_GTEST_PROP(MergedRegion, LogHasEveryRecordOnceAndTheSourcesLast, ()) {
    World world(*writes());
    RC_PRE(world.log_fits());
    apply_plan(world.plan(OnConflict::fail), world.destination);
    std::vector<std::uint64_t> expected, found;
    for (Where side : {kBefore, kClone, kSource})
        expected.insert(expected.end(), world.told[side].logged.begin(),
                        world.told[side].logged.end());
    Guest& merged = world.merged();
    for (std::uint64_t i = 0; i < godwit_log_count(&merged.region, kLog); ++i) {
        std::uint32_t length = 0;
        const void* record = godwit_log_record(&merged.region, kLog, i, &length);
        RC_ASSERT(static_cast<bool>(record));
        RC_ASSERT(length == 8u);
        std::uint64_t tag = 0;
        std::memcpy(&tag, record, 8);
        found.push_back(tag);
    }
    RC_ASSERT(found == expected);
}

// After a merge both sides' common state is what was merged: the source has nothing to add to it.
RC_GTEST_PROP(MergedRegion, NothingIsLeftToMergeAfterwards, ()) {
    World world(*writes());
    RC_PRE(world.log_fits());
    apply_plan(world.plan(OnConflict::source_wins), world.destination);
    const std::vector<std::byte> once = world.destination;
    world.base = world.source;
    const MergePlan again = world.plan(OnConflict::fail);
    RC_ASSERT(again.writes.empty());
    RC_ASSERT(again.conflict_count == 0u);
    RC_ASSERT(world.destination == once);
}

}  // namespace
