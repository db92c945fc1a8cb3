// Following a job to its end: by its event stream, through cut connections and restarts of the
// controller, until it is done, needs attention, the time is up, or ^C.
#pragma once

#include "cli/api.hpp"
#include "cli/console.hpp"

#include <chrono>
#include <optional>
#include <string>

namespace godwit::cli {

struct WatchOptions {
    std::optional<std::chrono::seconds> timeout;
    // How long the controller may be away before we give up.
    std::chrono::seconds patience = std::chrono::seconds(120);
};

// Shows progress on stderr, the end on stdout, and returns the exit code.
int watch_job(Api& api, const Console& console, const std::string& job, WatchOptions options);
// The end of a job: its result on stdout, or its error on stderr. Returns the exit code.
int show_end(const Console& console, const protocol::Job& job, const json::bj::value& raw);

// One line: "draining  62%  sessions 120 on host-a, 340 on host-b  copied 256.0 MiB of 1.0 GiB".
std::string progress_text(const protocol::Job& job);
// The same with a bar, cut to `width` columns.
std::string progress_bar(const protocol::Job& job, int width);

}  // namespace godwit::cli
