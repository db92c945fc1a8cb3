#include "lib/store/sqlite.hpp"

#include "tests/fakes/temporary_directory.hpp"

#include <sys/stat.h>

#include <gtest/gtest.h>

namespace {

using namespace godwit;

struct Store : testing::Test {
    fakes::TemporaryDirectory directory;
    std::string file = directory.file("s.db");
    sqlite::Database db = std::move(sqlite::Database::open(file)).value();
    void SetUp() override {
        ASSERT_TRUE(db.script("CREATE TABLE t(id TEXT PRIMARY KEY, n INTEGER, r REAL, x TEXT)"));
    }
    std::int64_t count() { return db.query("SELECT count(*) FROM t")->at(0).at(0).integer(); }
};

TEST_F(Store, KeepsValuesOfEveryType) {
    const std::string bytes("a\0b", 3);
    ASSERT_TRUE(db.run("INSERT INTO t VALUES(?,?,?,?)", {"k", 7u, 1.5, bytes}));
    ASSERT_TRUE(db.run("INSERT INTO t VALUES(?,?,?,?)", {"l", INT64_MIN, nullptr, nullptr}));
    sqlite::Rows rows = *db.query("SELECT n, r, x FROM t ORDER BY id");
    EXPECT_EQ(rows[0][0].integer(), 7);
    EXPECT_EQ(rows[0][1].real(), 1.5);
    EXPECT_EQ(rows[0][2].text(), bytes);
    EXPECT_EQ(rows[1][0].integer(), INT64_MIN);
    EXPECT_TRUE(rows[1][1].is_null());
}

TEST_F(Store, RunTellsHowManyRowsChanged) {
    ASSERT_TRUE(db.run("INSERT INTO t(id,n) VALUES('a',1),('b',2),('c',3)"));
    EXPECT_EQ(*db.run("UPDATE t SET n=0 WHERE n>?", {1}), 2);
    EXPECT_EQ(*db.run("UPDATE t SET n=0 WHERE n>?", {1}), 0);
}

TEST_F(Store, ABrokenConstraintIsAConflict) {
    ASSERT_TRUE(db.run("INSERT INTO t(id) VALUES('a')"));
    EXPECT_EQ(db.run("INSERT INTO t(id) VALUES('a')").error().fault, Fault::Conflict);
    // The kept statement is usable after its failure.
    EXPECT_TRUE(db.run("INSERT INTO t(id) VALUES('b')"));
}

TEST_F(Store, WrongSqlAndAWrongNumberOfValuesAreRejected) {
    EXPECT_EQ(db.query("SELEC 1").error().fault, Fault::Rejected);
    EXPECT_EQ(db.query("SELECT ?", {}).error().fault, Fault::Rejected);
    EXPECT_EQ(db.query("").error().fault, Fault::Rejected);
}

TEST_F(Store, ATransactionIsAllOrNothing) {
    Result<void> failed = db.transaction([&]() -> Result<void> {
        EXPECT_TRUE(db.run("INSERT INTO t(id) VALUES('a')"));
        return fail(Fault::Conflict, "test", "changed my mind");
    });
    EXPECT_EQ(failed.error().cause, "changed my mind");
    EXPECT_EQ(count(), 0);
    EXPECT_THROW((void)db.transaction([&]() -> Result<void> {
        EXPECT_TRUE(db.run("INSERT INTO t(id) VALUES('a')"));
        throw std::runtime_error("x");
    }),
                 std::runtime_error);
    EXPECT_EQ(count(), 0);
    ASSERT_TRUE(db.transaction([&]() -> Result<void> {
        EXPECT_TRUE(db.run("INSERT INTO t(id) VALUES('a')"));
        return {};
    }));
    EXPECT_EQ(count(), 1);
}

TEST_F(Store, WhatIsCommittedIsThereAfterReopening) {
    ASSERT_TRUE(db.run("INSERT INTO t(id) VALUES('a')"));
    ASSERT_TRUE(db.set_user_version(3));
    sqlite::Database again = std::move(sqlite::Database::open(file)).value();
    EXPECT_EQ(again.query("SELECT id FROM t")->at(0).at(0).text(), "a");
    EXPECT_EQ(*again.user_version(), 3);
    EXPECT_EQ(again.query("PRAGMA journal_mode")->at(0).at(0).text(), "wal");
    EXPECT_EQ(again.query("PRAGMA synchronous")->at(0).at(0).integer(), 2);
}

TEST_F(Store, OnlyTheOwnerMayReadTheFile) {
    struct stat now{};
    ASSERT_EQ(stat(file.c_str(), &now), 0);
    EXPECT_EQ(now.st_mode & 0777, 0600u);
}

TEST(StoreFile, GarbageIsCorruptAndAMissingFolderIsRejected) {
    fakes::TemporaryDirectory directory;
    const std::string file = directory.write("g.db", std::string(8192, 'x'));
    EXPECT_EQ(sqlite::Database::open(file).error().fault, Fault::Corrupt);
    EXPECT_EQ(sqlite::Database::open("/nonexistent/s.db").error().fault, Fault::Rejected);
}

}  // namespace
