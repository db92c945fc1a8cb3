#include "lib/store/sqlite.hpp"

#include <fcntl.h>
#include <map>
#include <unistd.h>

#include <sqlite3.h>

namespace godwit::sqlite {

namespace {

constexpr int kBusyMs = 5000;

Fault fault_of(int code) {
    switch (code & 0xff) {
        case SQLITE_CONSTRAINT:
            return Fault::Conflict;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
            return Fault::Corrupt;
        case SQLITE_ERROR:
        case SQLITE_MISUSE:
        case SQLITE_RANGE:
        case SQLITE_MISMATCH:
            return Fault::Rejected;
        case SQLITE_PERM:
        case SQLITE_READONLY:
        case SQLITE_AUTH:
            return Fault::Denied;
        default:
            return Fault::Retry;
    }
}

struct CloseDatabase {
    void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
};
struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using StatementPtr = std::unique_ptr<sqlite3_stmt, Finalize>;

// A statement in use; its values and its read lock are given back at the end of the scope.
class InUse {
public:
    explicit InUse(sqlite3_stmt* statement) : statement_(statement) {}
    ~InUse() {
        sqlite3_reset(statement_);
        sqlite3_clear_bindings(statement_);
    }
    InUse(const InUse&) = delete;
    InUse& operator=(const InUse&) = delete;

private:
    sqlite3_stmt* statement_;
};

Value column(sqlite3_stmt* statement, int index) {
    switch (sqlite3_column_type(statement, index)) {
        case SQLITE_INTEGER:
            return sqlite3_column_int64(statement, index);
        case SQLITE_FLOAT:
            return sqlite3_column_double(statement, index);
        case SQLITE_NULL:
            return nullptr;
        default: {
            const auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement, index));
            const int size = sqlite3_column_bytes(statement, index);
            return std::string(bytes ? bytes : "", static_cast<std::size_t>(size));
        }
    }
}

}  // namespace

std::int64_t Value::integer() const {
    const auto* value = std::get_if<std::int64_t>(&held_);
    return value ? *value : 0;
}

double Value::real() const {
    if (const auto* value = std::get_if<double>(&held_)) return *value;
    return static_cast<double>(integer());
}

const std::string& Value::text() const {
    static const std::string kEmpty;
    const auto* value = std::get_if<std::string>(&held_);
    return value ? *value : kEmpty;
}

struct Database::State {
    std::unique_ptr<sqlite3, CloseDatabase> database;
    std::string file;
    std::map<std::string, StatementPtr, std::less<>> prepared = {};

    std::unexpected<Error> error(int code, std::string_view doing) const {
        return fail(fault_of(code), "store " + file + ": " + std::string(doing.substr(0, 120)),
                    sqlite3_errmsg(database.get()));
    }

    Result<sqlite3_stmt*> prepare(std::string_view sql) {
        const auto known = prepared.find(sql);
        if (known != prepared.end()) return known->second.get();
        sqlite3_stmt* raw = nullptr;
        const int code =
            sqlite3_prepare_v3(database.get(), sql.data(), static_cast<int>(sql.size()),
                               SQLITE_PREPARE_PERSISTENT, &raw, nullptr);
        if (code != SQLITE_OK) return error(code, sql);
        if (!raw) return fail(Fault::Rejected, "store " + file, "the statement is empty");
        prepared.emplace(std::string(sql), StatementPtr(raw));
        return raw;
    }

    // The bytes stay where they are until the statement is reset, so SQLite need not copy them.
    static int bind(sqlite3_stmt* statement, int index, const Value& value,
                    const std::variant<std::monostate, std::int64_t, double, std::string>& held) {
        if (const auto* number = std::get_if<std::int64_t>(&held))
            return sqlite3_bind_int64(statement, index, *number);
        if (const auto* real = std::get_if<double>(&held))
            return sqlite3_bind_double(statement, index, *real);
        if (value.is_null()) return sqlite3_bind_null(statement, index);
        const std::string& text = value.text();
        return sqlite3_bind_text64(statement, index, text.data(), text.size(), SQLITE_STATIC,
                                   SQLITE_UTF8);
    }
};

Database::Database(std::unique_ptr<State> state) : state_(std::move(state)) {}
Database::Database(Database&&) noexcept = default;
Database& Database::operator=(Database&&) noexcept = default;
Database::~Database() = default;

Result<Database> Database::open(const std::string& file) {
    // SQLite would create it readable for all; jobs and digests are nobody's business.
    if (file != ":memory:") {
        const int fd = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0) return fail_errno(Fault::Rejected, "open store " + file);
        ::close(fd);
    }
    sqlite3* raw = nullptr;
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    const int code = sqlite3_open_v2(file.c_str(), &raw, flags, nullptr);
    auto state = std::make_unique<State>();
    state->database.reset(raw);
    state->file = file;
    if (code != SQLITE_OK) return state->error(code, "open");
    sqlite3_extended_result_codes(raw, 1);
    sqlite3_busy_timeout(raw, kBusyMs);
    Database database(std::move(state));
    Result<void> ready = database.script(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
        "PRAGMA trusted_schema=OFF; SELECT count(*) FROM sqlite_schema;");
    if (!ready) return std::unexpected(std::move(ready).error());
    return database;
}

Result<void> Database::script(const std::string& sql) {
    const int code = sqlite3_exec(state_->database.get(), sql.c_str(), nullptr, nullptr, nullptr);
    if (code != SQLITE_OK) return state_->error(code, sql);
    return {};
}

Result<Rows> Database::query(std::string_view sql, const std::vector<Value>& values) {
    Result<sqlite3_stmt*> prepared = state_->prepare(sql);
    if (!prepared) return std::unexpected(std::move(prepared).error());
    sqlite3_stmt* statement = *prepared;
    InUse scope(statement);
    if (static_cast<std::size_t>(sqlite3_bind_parameter_count(statement)) != values.size())
        return fail(Fault::Rejected, "store " + state_->file + ": " + std::string(sql),
                    "the number of values differs from the number of '?'");
    int index = 0;
    for (const Value& value : values) {
        const int code = State::bind(statement, ++index, value, value.held_);
        if (code != SQLITE_OK) return state_->error(code, sql);
    }
    Rows rows;
    const int columns = sqlite3_column_count(statement);
    int code = sqlite3_step(statement);
    for (; code == SQLITE_ROW; code = sqlite3_step(statement)) {
        Row& row = rows.emplace_back();
        for (int i = 0; i < columns; ++i) row.push_back(column(statement, i));
    }
    if (code != SQLITE_DONE) return state_->error(code, sql);
    return rows;
}

Result<std::int64_t> Database::run(std::string_view sql, const std::vector<Value>& values) {
    Result<Rows> rows = query(sql, values);
    if (!rows) return std::unexpected(std::move(rows).error());
    return sqlite3_changes64(state_->database.get());
}

Result<void> Database::transaction(const std::function<Result<void>()>& body) {
    // IMMEDIATE takes the write lock now: a body that reads first can then not fail at its first
    // write.
    Result<void> begun = script("BEGIN IMMEDIATE");
    if (!begun) return begun;
    struct Undo {
        sqlite3* database;
        ~Undo() {
            if (database && !sqlite3_get_autocommit(database))
                sqlite3_exec(database, "ROLLBACK", nullptr, nullptr, nullptr);
        }
    } undo{state_->database.get()};
    Result<void> done = body();
    if (!done) return done;
    return script("COMMIT");
}

Result<std::int64_t> Database::user_version() {
    Result<Rows> rows = query("PRAGMA user_version");
    if (!rows) return std::unexpected(std::move(rows).error());
    return rows->at(0).at(0).integer();
}

Result<void> Database::set_user_version(std::int64_t version) {
    return script("PRAGMA user_version=" + std::to_string(version));
}

}  // namespace godwit::sqlite
