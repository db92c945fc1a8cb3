// The session table itself: room, overflow, keys told apart, and many cores at once. The last is judged by
// what the threads leave behind, and by ThreadSanitizer.
#include "tests/packet/model_memory.hpp"

#include "steering/ending.h"
#include "steering/steer.h"

#include "dataplane/table_config.hpp"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace godwit::test {
namespace {

constexpr std::uint32_t kLines = 4096, kOverflow = 512;

class Table : public testing::Test {
protected:
    Table() { size_tables(plane, {kLines, kOverflow, 256, 2}, /*seed=*/7, /*ticks_per_s=*/100); }

    static steer_key key(std::uint32_t number) {
        steer_key k{};
        k.peer_be = number * 2654435761u;
        k.peer_port = static_cast<std::uint16_t>(number);
        k.vm_port = 80;
        k.protocol = WIRE_PROTOCOL_TCP;
        return k;
    }
    std::uint32_t pin(std::uint32_t number, steer_table table = STEER_SESSIONS4,
                      std::uint32_t owner = 0) {
        steer_key k = key(number);
        steer_fresh fresh{};
        fresh.state = steer_owner_bit(owner);
        fresh.tick = 1;
        return steer_session_pin(&plane, table, &k, &fresh);
    }
    steer_slot* find(std::uint32_t number, steer_table table = STEER_SESSIONS4) {
        steer_key k = key(number);
        std::uint32_t meta = 0;
        return steer_find(&plane, table, &k, &meta);
    }
    // Live slots, counted in the memory.
    std::uint32_t live(steer_table table = STEER_SESSIONS4) {
        std::uint32_t count = 0;
        for (struct steer_line& line : plane.tables[table]) {
            count += steer_meta_life(line.slot[0].meta) == STEER_LIVE;
            if (!steer_is_v6_table(table))
                count += steer_meta_life(line.slot[1].meta) == STEER_LIVE;
        }
        return count;
    }

    steer_plane plane;
};

TEST_F(Table, AtHalfLoadNobodyIsTurnedAwayAndEverybodyIsFound) {
    for (std::uint32_t i = 1; i <= kLines; ++i) ASSERT_EQ(pin(i), STEER_INSERTED) << i;
    for (std::uint32_t i = 1; i <= kLines; ++i) ASSERT_NE(find(i), nullptr) << i;
    EXPECT_EQ(find(kLines + 1), nullptr);
    EXPECT_EQ(plane.vms[0].sessions[0], kLines);
    EXPECT_EQ(plane.vms[0].untracked, 0u);
}

// As every plane sizes it, with peers as they come: neighbours in a few networks, and one port after another.
TEST_F(Table, ASwitchTakesAsManySessionsAsItsConfigurationSays) {
    constexpr std::uint32_t kWanted = 1 << 18;
    for (const auto table : {STEER_SESSIONS4, STEER_SESSIONS6}) {
        plane.config = dataplane::fresh_config({kWanted, kWanted, 256});
        plane.tables[table].assign(steer_lines(table, plane.config.table[table]), {});
        for (std::uint32_t i = 0; i < kWanted; ++i) {
            steer_key k = key(i);
            k.peer_be = table == STEER_SESSIONS4 ? __builtin_bswap32(0x0a000000 + i) : 0xb80d0120;
            k.peer_rest[2] = table == STEER_SESSIONS6 ? __builtin_bswap32(i) : 0;
            steer_fresh fresh{.state = 0, .tick = 1};
            ASSERT_EQ(steer_session_pin(&plane, table, &k, &fresh), STEER_INSERTED)
                << "session " << i << " of table " << table;
        }
    }
}

TEST_F(Table, WhenItIsFullTheNewcomerIsCountedAndNobodyElseIsLost) {
    std::uint32_t turned_away = 0, inside = 0;
    for (std::uint32_t i = 1; i <= 4 * kLines; ++i) {
        const std::uint32_t result = pin(i);
        turned_away += result == STEER_FULL;
        inside += result == STEER_INSERTED;
    }
    EXPECT_GT(turned_away, 0u);
    EXPECT_EQ(plane.vms[0].untracked, turned_away);
    EXPECT_EQ(plane.vms[0].sessions[0], inside);
    EXPECT_EQ(live(), inside) << "what was let in is still there";
}

// Who knew the seed could aim at a few lines and fill the overflow area with what finds no room there, until
// newcomers go untracked. Who does not know it aims at nothing.
TEST_F(Table, KeysThatMeetUnderOneSeedAreSpreadUnderAnother) {
    constexpr std::size_t kAimed = 1500;
    constexpr std::uint32_t kTarget = 64;  // lines
    std::vector<std::uint32_t> aimed;
    for (std::uint32_t number = 0; aimed.size() < kAimed; ++number) {
        const steer_key k = key(number);
        const struct steer_places at =
            steer_places(&plane.config, STEER_SESSIONS4, steer_hash(&plane.config, &k, 0));
        if (at.first < kTarget && at.second < kTarget) aimed.push_back(number);
    }
    const auto turned_away = [&] {
        std::size_t count = 0;
        for (const std::uint32_t number : aimed) count += pin(number) != STEER_INSERTED;
        return count;
    };
    EXPECT_GE(turned_away(), kAimed - 2 * (kTarget + kOverflow));
    const struct steer_config fresh = dataplane::fresh_config({}),
                              other = dataplane::fresh_config({});
    EXPECT_NE(fresh.seed[0], other.seed[0]) << "a switch of its own has a seed of its own";
    size_tables(plane, {kLines, kOverflow, 256, 2}, 8, 100);
    std::ranges::copy(fresh.seed, plane.config.seed);
    EXPECT_EQ(turned_away(), 0u);
    for (const std::uint32_t number : aimed) EXPECT_TRUE(find(number));
}

TEST_F(Table, EntriesThatWentLeaveTheirRoomAlsoInTheOverflowArea) {
    for (int round = 0; round < 3; ++round) {
        for (std::uint32_t i = 1; i <= kLines + kLines / 2; ++i) pin(i);
        plane.tick += 10'000 * 100;
        steer_sweep(&plane, STEER_SESSIONS4, 0, kLines + kOverflow);
        ASSERT_EQ(live(), 0u);
        ASSERT_EQ(plane.vms[0].sessions[0], 0u);
        plane.tick = 1;
    }
    for (std::uint32_t home = 0; home < kLines; ++home)
        ASSERT_EQ(plane.tables[STEER_SESSIONS4][home].slot[0].bucket & STEER_BUCKET_SPILLED, 0u)
            << "a home line still says that it spilled";
}

TEST_F(Table, WhatAnotherCoreHasJustClosedByALaterClockIsNotPastItsLinger) {
    std::uint32_t turned_away = 1;
    while (pin(turned_away) != STEER_FULL) ++turned_away;
    const auto close_all_at = [&](std::uint32_t tick) {
        for (struct steer_line& line : plane.tables[STEER_SESSIONS4])
            for (steer_slot& slot : line.slot) {
                if (steer_meta_life(slot.meta) == STEER_LIVE) slot.meta |= STEER_META_CLOSED;
                slot.last_tick = tick;
            }
    };
    close_all_at(3);  // and pin() is at tick 1
    EXPECT_EQ(pin(turned_away), STEER_FULL);
    close_all_at(1 - plane.vms[0].timeouts.linger);
    EXPECT_EQ(pin(turned_away), STEER_INSERTED);
}

TEST_F(Table, KeysThatDifferInOneFieldAreOtherSessions) {
    ASSERT_EQ(pin(1), STEER_INSERTED);
    for (int field = 0; field < 5; ++field) {
        steer_key k = key(1);
        if (field == 0) ++k.peer_be;
        if (field == 1) ++k.peer_port;
        if (field == 2) ++k.vm_port;
        if (field == 3) ++k.address_id;
        if (field == 4) k.protocol = WIRE_PROTOCOL_UDP;
        std::uint32_t meta = 0;
        EXPECT_EQ(steer_find(&plane, STEER_SESSIONS4, &k, &meta), nullptr) << "field " << field;
    }
}

TEST_F(Table, AReaderThatHeldASlotWhileItWasReusedCannotChangeIt) {
    ASSERT_EQ(pin(1), STEER_INSERTED);
    steer_slot* slot = find(1);
    const std::uint32_t stale = slot->meta;
    ASSERT_TRUE(steer_remove(&plane, STEER_SESSIONS4, slot, stale));
    ASSERT_EQ(pin(1), STEER_INSERTED);
    ASSERT_EQ(find(1), slot) << "the same place again";
    EXPECT_NE(steer_cas32(&slot->meta, stale, stale | STEER_META_CLOSED), stale);
    EXPECT_FALSE(steer_remove(&plane, STEER_SESSIONS4, slot, stale));
}

// It goes on, and a peer that is told would end it.
TEST_F(Table, ASessionThatChangesWhileItIsEndedIsNeitherEndedNorTold) {
    ASSERT_EQ(pin(1), STEER_INSERTED);
    steer_slot* slot = find(1);
    struct steer_line* line = nullptr;
    for (struct steer_line& one : plane.tables[STEER_SESSIONS4])
        if (slot == &one.slot[0] || slot == &one.slot[1]) line = &one;
    plane.on_reset_add = [slot] { slot->meta |= STEER_META_FIN_PEER; };
    struct steer_ending ending{0, 0, 1, 0, 0};
    steer_end_slot(&plane, STEER_SESSIONS4, line, slot, &ending);
    EXPECT_NE(find(1), nullptr);
    EXPECT_EQ(ending.reset, 0u);
    EXPECT_TRUE(steer_resets_unused(&plane));
    plane.on_reset_add = {};
    steer_end_slot(&plane, STEER_SESSIONS4, line, slot, &ending);
    EXPECT_EQ(find(1), nullptr);
    EXPECT_EQ(ending.reset, 1u);
    EXPECT_FALSE(steer_resets_unused(&plane));
}

// Two owners race for the same keys: each key ends with one entry, and the counters say who won.
TEST_F(Table, OfManyCoresTheFirstPinWinsAndTheCountersAreExact) {
    constexpr std::uint32_t kKeys = 2000, kThreads = 4;
    std::atomic<std::uint32_t> ready{0}, inserted{0};
    std::vector<std::thread> cores;
    for (std::uint32_t core = 0; core < kThreads; ++core)
        cores.emplace_back([&, core] {
            ++ready;
            while (ready < kThreads) std::this_thread::yield();
            for (std::uint32_t i = 1; i <= kKeys; ++i) {
                std::uint32_t result = pin(i, STEER_SESSIONS4, core & 1);
                while (result == STEER_CONTENDED) result = pin(i, STEER_SESSIONS4, core & 1);
                inserted += result == STEER_INSERTED;
            }
        });
    for (std::thread& core : cores) core.join();
    EXPECT_EQ(inserted, kKeys);
    EXPECT_EQ(live(), kKeys) << "no key has two entries";
    std::uint32_t owned[2] = {0, 0};
    for (std::uint32_t i = 1; i <= kKeys; ++i) ++owned[steer_meta_owner(find(i)->meta)];
    EXPECT_EQ(plane.vms[0].sessions[0], owned[0]);
    EXPECT_EQ(plane.vms[0].sessions[1], owned[1]);
}

// Cores that pin, end and sweep at the same time: in the end memory and counters agree.
TEST_F(Table, EndingAndPinningAtOnceNeverCountsTwice) {
    constexpr std::uint32_t kKeys = 500, kRounds = 200;
    std::vector<std::thread> cores;
    for (std::uint32_t core = 0; core < 4; ++core)
        cores.emplace_back([&, core] {
            for (std::uint32_t round = 0; round < kRounds; ++round)
                for (std::uint32_t i = 1; i <= kKeys; ++i) {
                    if ((i + round + core) % 3 != 0) {
                        pin(i, STEER_SESSIONS4, core & 1);
                        continue;
                    }
                    steer_key k = key(i);
                    std::uint32_t meta = 0;
                    steer_slot* slot = steer_find(&plane, STEER_SESSIONS4, &k, &meta);
                    if (slot)
                        steer_session_remove(&plane, &plane.vms[0], STEER_SESSIONS4, slot, meta);
                }
        });
    for (std::thread& core : cores) core.join();
    EXPECT_EQ(plane.vms[0].sessions[0] + plane.vms[0].sessions[1], live());
}

TEST(QuicSlot, IsHeldOnlyWhileItIsWhatWasFound) {
    const std::uint32_t found = STEER_LIVE | STEER_META_CLOSED | STEER_META_OWNER;
    const std::uint32_t filled_anew = steer_meta_next_generation(found) | STEER_LIVE;
    steer_slot slot{};
    for (const std::uint32_t now :
         {filled_anew, found & ~STEER_LIFE_MASK, found ^ STEER_META_OWNER}) {
        slot.meta = now;
        EXPECT_FALSE(steer_quic_hold(&slot, found));
        EXPECT_EQ(slot.meta, now);
    }
    slot.meta = (found & ~STEER_LIFE_MASK) | STEER_BUSY;
    EXPECT_FALSE(steer_quic_hold(&slot, slot.meta)) << "somebody is at it";
    slot.meta = found;
    EXPECT_TRUE(steer_quic_hold(&slot, found));
    EXPECT_EQ(slot.meta, (found & ~STEER_LIFE_MASK) | STEER_BUSY) << "nobody takes or reads it";
}

// QUIC's ids make room for sessions at any moment, also after somebody has found one and before he writes to it.
TEST_F(Table, AnIdIsNeverWrittenWhereASessionIsNow) {
    constexpr std::uint32_t kKeys = 4, kRounds = 200'000, kOfSession = 0x5e55'5e55,
                            kOfId = 0x1d1d'1d1d;
    size_tables(plane, {2, 2, 256, 2}, /*seed=*/7, /*ticks_per_s=*/100);
    plane.vms[0].timeouts.linger = 0;
    plane.vms[0].steer = steer_word(1, 0, 0, STEER_VALID, 3);
    std::atomic<std::uint32_t> looked{0}, wrong{0};
    const auto keep_ids = [&] {
        for (std::uint32_t i = 0; i < kRounds * kKeys; ++i) {
            steer_key id = key(i % kKeys + 1), tuple = key(1);
            id.protocol = STEER_PROTOCOL_QUIC_ID;
            tuple.peer_be = kOfId;
            steer_quic_keep(&plane, STEER_SESSIONS4, &id, &tuple, 0);
        }
    };
    const auto pin_sessions = [&](std::uint32_t first) {
        for (std::uint32_t i = 0; i < kRounds * kKeys; ++i) {
            steer_key k = key(first + i % kKeys);
            steer_fresh fresh{.tick = 1, .vm_edge = kOfSession};
            if (steer_session_pin(&plane, STEER_SESSIONS4, &k, &fresh) != STEER_INSERTED) continue;
            std::uint32_t meta = 0;
            steer_slot* slot = steer_find(&plane, STEER_SESSIONS4, &k, &meta);
            ++looked;
            wrong += !slot || steer_load32(&slot->vm_edge) != kOfSession;
            if (slot) steer_session_remove(&plane, &plane.vms[0], STEER_SESSIONS4, slot, meta);
        }
    };
    std::thread cores[] = {std::thread(keep_ids), std::thread(keep_ids),
                           std::thread(pin_sessions, 1000u), std::thread(pin_sessions, 2000u)};
    for (std::thread& core : cores) core.join();
    EXPECT_GT(looked, 1000u);
    EXPECT_EQ(wrong, 0u);
}

}  // namespace
}  // namespace godwit::test
