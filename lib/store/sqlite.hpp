// SQLite with values in and out and errors as values. One Database belongs to one thread at a time.
//
//     Result<sqlite::Rows> rows = db.query("SELECT phase FROM jobs WHERE id = ?", {job});
//     Result<void> done = db.transaction([&]() -> Result<void> { ... });
//
// Faults: busy, full, interrupted and I/O errors are Retry (the outcome of a commit is then unknown:
// read again); a broken constraint is Conflict; a damaged file is Corrupt; wrong SQL is Rejected.
#pragma once

#include "lib/error.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace godwit::sqlite {

// A bool is an integer, a blob a string; text is UTF-8.
class Value {
public:
    Value() = default;
    Value(std::nullptr_t) {}
    template <std::integral T>
    Value(T value) : held_(static_cast<std::int64_t>(value)) {}
    Value(double value) : held_(value) {}
    Value(std::string value) : held_(std::move(value)) {}
    Value(std::string_view value) : held_(std::string(value)) {}
    Value(const char* value) : held_(std::string(value)) {}

    bool is_null() const { return std::holds_alternative<std::monostate>(held_); }
    // Another type than the one held reads as 0, 0.0 or "".
    std::int64_t integer() const;
    double real() const;
    const std::string& text() const;

private:
    friend class Database;
    std::variant<std::monostate, std::int64_t, double, std::string> held_;
};

using Row = std::vector<Value>;
using Rows = std::vector<Row>;

class Database {
public:
    // Creates the file (mode 0600) when it is missing. WAL, synchronous=FULL, foreign keys on, 5 s
    // of waiting for another process. ":memory:" is a database without a file.
    static Result<Database> open(const std::string& file);
    Database(Database&&) noexcept;
    Database& operator=(Database&&) noexcept;
    ~Database();

    // Several statements without values: a schema.
    Result<void> script(const std::string& sql);
    // One statement with values for its '?'; a prepared statement is kept for the next time.
    Result<Rows> query(std::string_view sql, const std::vector<Value>& values = {});
    // The same for its effect: the number of rows changed.
    Result<std::int64_t> run(std::string_view sql, const std::vector<Value>& values = {});

    // BEGIN IMMEDIATE, the body, COMMIT; rolled back when the body fails or throws. Not nested.
    Result<void> transaction(const std::function<Result<void>()>& body);

    // For schema migrations: PRAGMA user_version.
    Result<std::int64_t> user_version();
    Result<void> set_user_version(std::int64_t version);

private:
    struct State;
    explicit Database(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace godwit::sqlite
