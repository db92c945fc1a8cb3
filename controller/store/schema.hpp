// The schema of the controller's SQLite file, by PRAGMA user_version.
#pragma once

#include "lib/store/sqlite.hpp"

namespace godwit::controller {

// Creates or upgrades. Corrupt when the file was written by a newer version.
Result<void> migrate_schema(sqlite::Database& database);

}  // namespace godwit::controller
