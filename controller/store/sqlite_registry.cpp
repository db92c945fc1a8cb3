// The other half of SqliteStore: VMs, leftovers, tokens, audit.
#include "lib/id.hpp"
#include "lib/secret.hpp"

#include "controller/store/sqlite_store.hpp"

namespace godwit::controller {

namespace {

std::unexpected<Error> passed_on(Error error) {
    return std::unexpected(std::move(error));
}

Result<void> only_effect(Result<std::int64_t> changed) {
    if (!changed) return passed_on(std::move(changed).error());
    return {};
}

Result<VmRow> parse_vm(const sqlite::Row& row) {
    VmRow vm{row.at(0).text(), row.at(1).text(), row.at(2).text(), {}, std::nullopt};
    auto labels = json::from_text<std::map<std::string, std::string>>(row.at(3).text(), "labels");
    if (!labels) return passed_on(std::move(labels).error());
    vm.labels = std::move(*labels);
    if (row.at(4).is_null()) return vm;
    Result<protocol::VmSpec> spec = json::from_text<protocol::VmSpec>(row.at(4).text(), "spec");
    if (!spec) return passed_on(std::move(spec).error());
    vm.spec = std::move(*spec);
    return vm;
}

}  // namespace

Result<std::vector<Sweep>> SqliteStore::sweeps() {
    Result<sqlite::Rows> rows = database_.query(
        "SELECT id, job, vm, part, record, attempts, last_error FROM sweeps ORDER BY id");
    if (!rows) return passed_on(std::move(rows).error());
    std::vector<Sweep> sweeps;
    for (const sqlite::Row& row : *rows)
        sweeps.push_back({row.at(0).integer(), row.at(1).text(), row.at(2).text(), row.at(3).text(),
                          row.at(4).text(), static_cast<std::uint32_t>(row.at(5).integer()),
                          row.at(6).text()});
    return sweeps;
}

Result<void> SqliteStore::sweep_done(std::int64_t id) {
    return only_effect(database_.run("DELETE FROM sweeps WHERE id = ?", {id}));
}

Result<void> SqliteStore::sweep_failed(std::int64_t id, const std::string& error) {
    return only_effect(database_.run(
        "UPDATE sweeps SET attempts = attempts + 1, last_error = ? WHERE id = ?", {error, id}));
}

Result<bool> SqliteStore::has_sweep(const std::string& vm) {
    Result<sqlite::Rows> rows = database_.query("SELECT 1 FROM sweeps WHERE vm = ? LIMIT 1", {vm});
    if (!rows) return passed_on(std::move(rows).error());
    return !rows->empty();
}

Result<void> SqliteStore::put_vm(const VmRow& vm) {
    const sqlite::Value spec = vm.spec ? sqlite::Value(json::to_text(*vm.spec)) : sqlite::Value();
    return only_effect(database_.run(
        "INSERT INTO vms (id, host, method, labels, spec, created_at) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (id) DO UPDATE SET host = excluded.host, method = excluded.method, "
        "labels = excluded.labels, spec = coalesce(excluded.spec, spec)",
        {vm.id, vm.host, vm.method, json::to_text(vm.labels), spec, now()}));
}

Result<void> SqliteStore::remember_spec(const std::string& vm, const protocol::VmSpec& spec) {
    return only_effect(
        database_.run("UPDATE vms SET spec = ? WHERE id = ?", {json::to_text(spec), vm}));
}

Result<void> SqliteStore::remove_vm(const std::string& id) {
    return database_.transaction([&]() -> Result<void> {
        Result<std::optional<std::string>> busy = active_job(id);
        if (!busy) return passed_on(std::move(busy).error());
        if (*busy) {
            Error error{Fault::Conflict, "unregister " + id, "job " + **busy + " is moving it",
                        "vm-busy"};
            error.instance = "/v1/jobs/" + **busy;
            return std::unexpected(std::move(error));
        }
        return only_effect(database_.run("DELETE FROM vms WHERE id = ?", {id}));
    });
}

Result<VmRow> SqliteStore::vm(const std::string& id) {
    Result<sqlite::Rows> rows =
        database_.query("SELECT id, host, method, labels, spec FROM vms WHERE id = ?", {id});
    if (!rows) return passed_on(std::move(rows).error());
    if (rows->empty())
        return fail(Fault::Missing, "VM " + id, "it is not registered: PUT /v1/vms/" + id,
                    "unknown-vm");
    return parse_vm(rows->at(0));
}

Result<std::vector<VmRow>> SqliteStore::vms(const std::string& after, int limit) {
    Result<sqlite::Rows> rows = database_.query(
        "SELECT id, host, method, labels, spec FROM vms WHERE id > ? ORDER BY id LIMIT ?",
        {after, limit});
    if (!rows) return passed_on(std::move(rows).error());
    std::vector<VmRow> vms;
    for (const sqlite::Row& row : *rows) {
        Result<VmRow> vm = parse_vm(row);
        if (!vm) return passed_on(std::move(vm).error());
        vms.push_back(std::move(*vm));
    }
    return vms;
}

Result<std::string> SqliteStore::secret() {
    auto made = database_.run("INSERT OR IGNORE INTO meta (key, value) VALUES ('secret', ?)",
                              {random_token()});
    if (!made) return passed_on(std::move(made).error());
    Result<sqlite::Rows> rows = database_.query("SELECT value FROM meta WHERE key = 'secret'");
    if (!rows) return passed_on(std::move(rows).error());
    return rows->at(0).at(0).text();
}

Result<protocol::Token> SqliteStore::add_token(const std::string& sha256,
                                               const std::string& principal,
                                               const std::string& role) {
    protocol::Token made{new_id("t-", clock_.now()), principal, role, now(), std::nullopt};
    auto row = database_.run(
        "INSERT INTO tokens (id, sha256, principal, role, created_at) VALUES (?, ?, ?, ?, ?)",
        {made.id, sha256, principal, role, made.created_at});
    if (!row) return passed_on(std::move(row).error());
    return made;
}

Result<void> SqliteStore::remove_token(const std::string& id) {
    auto row = database_.run("DELETE FROM tokens WHERE id = ?", {id});
    if (!row) return passed_on(std::move(row).error());
    if (*row == 0)
        return fail(Fault::Missing, "token " + id, "there is no such token", "unknown-token");
    return {};
}

Result<std::vector<protocol::Token>> SqliteStore::tokens() {
    Result<sqlite::Rows> rows =
        database_.query("SELECT id, principal, role, created_at FROM tokens ORDER BY id");
    if (!rows) return passed_on(std::move(rows).error());
    std::vector<protocol::Token> tokens;
    for (const sqlite::Row& row : *rows)
        tokens.push_back(
            {row.at(0).text(), row.at(1).text(), row.at(2).text(), row.at(3).text(), std::nullopt});
    return tokens;
}

Result<http::Identity> SqliteStore::identify(const std::string& sha256) {
    Result<sqlite::Rows> rows =
        database_.query("SELECT principal, role FROM tokens WHERE sha256 = ?", {sha256});
    if (!rows) return passed_on(std::move(rows).error());
    if (rows->empty()) return http::Identity{};
    return http::Identity{rows->at(0).at(0).text(), rows->at(0).at(1).text()};
}

Result<void> SqliteStore::audit(const protocol::AuditEntry& row) {
    return only_effect(database_.run(
        "INSERT INTO audit (at, principal, role, peer, method, path, status) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        {now(), row.principal, row.role, row.peer, row.method, row.path, row.status}));
}

Result<std::vector<protocol::AuditEntry>> SqliteStore::audit_rows(int limit) {
    Result<sqlite::Rows> rows = database_.query(
        "SELECT at, principal, role, peer, method, path, status FROM audit "
        "ORDER BY sequence DESC LIMIT ?",
        {limit});
    if (!rows) return passed_on(std::move(rows).error());
    std::vector<protocol::AuditEntry> found;
    for (const sqlite::Row& row : *rows)
        found.push_back({row.at(0).text(), row.at(1).text(), row.at(2).text(), row.at(3).text(),
                         row.at(4).text(), row.at(5).text(),
                         static_cast<int>(row.at(6).integer())});
    return found;
}

}  // namespace godwit::controller
