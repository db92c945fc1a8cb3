// The leases of SqliteStore: who has which temporary address. Each public function is one transaction.
#include "controller/store/sqlite_store.hpp"

namespace godwit::controller {

namespace {

std::unexpected<Error> passed_on(Error error) {
    return std::unexpected(std::move(error));
}

std::string address_alone(const std::string& with_prefix) {
    return with_prefix.substr(0, with_prefix.find('/'));
}

}  // namespace

Result<std::vector<std::string>> SqliteStore::lease(
    const std::string& job, const std::string& vm,
    const std::vector<std::vector<std::string>>& candidates) {
    std::vector<std::string> leased;
    Result<void> done = database_.transaction([&]() -> Result<void> {
        leased.clear();
        for (std::size_t place = 0; place < candidates.size(); ++place) {
            Result<std::string> one =
                lease_one(job, vm, static_cast<std::int64_t>(place), candidates[place]);
            if (!one) return passed_on(std::move(one).error());
            leased.push_back(std::move(*one));
        }
        return {};
    });
    if (!done) return passed_on(std::move(done).error());
    return leased;
}

// The key is the address without its prefix length: two ranges may overlap.
Result<std::string> SqliteStore::lease_one(const std::string& job, const std::string& vm,
                                           std::int64_t place,
                                           const std::vector<std::string>& candidates) {
    for (const std::string& candidate : candidates) {
        Result<sqlite::Rows> mine = database_.query(
            "SELECT 1 FROM temporary_addresses WHERE address = ? AND job = ? AND place = ?",
            {address_alone(candidate), job, place});
        if (!mine) return passed_on(std::move(mine).error());
        if (!mine->empty()) return candidate;
    }
    for (const std::string& candidate : candidates) {
        Result<std::int64_t> taken = database_.run(
            "INSERT OR IGNORE INTO temporary_addresses (address, vm, job, place) "
            "VALUES (?, ?, ?, ?)",
            {address_alone(candidate), vm, job, place});
        if (!taken) return passed_on(std::move(taken).error());
        if (*taken > 0) return candidate;
    }
    return fail(Fault::Rejected, "lease a temporary address for " + vm,
                "all " + std::to_string(candidates.size()) + " from " + candidates.front() +
                    " on are lent: a VM keeps its own as long as it is reached by nat",
                "no-temporary-address");
}

Result<void> SqliteStore::end_lease(const std::string& job) {
    auto ended = database_.run("DELETE FROM temporary_addresses WHERE job = ?", {job});
    if (!ended) return passed_on(std::move(ended).error());
    return {};
}

Result<void> SqliteStore::end_other_leases(const std::string& vm, const std::string& job) {
    auto ended =
        database_.run("DELETE FROM temporary_addresses WHERE vm = ? AND job != ?", {vm, job});
    if (!ended) return passed_on(std::move(ended).error());
    return {};
}

}  // namespace godwit::controller
