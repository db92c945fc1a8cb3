// What the daemons' main() functions share: command line, configuration errors, signals, systemd.
//
//     int main(int argc, char** argv) {
//         Result<daemon::CommandLine> line = ...parse_command_line(argc, argv, "godwit-agent", "...");
//         Result<Config> config = config::load<Config>(line->config_file, check);
//         if (!config) return daemon::report(config.error());
//         if (line->check) return daemon::report_good(*line);
//         ...
//         daemon::notify_ready();
#pragma once

#include "lib/error.hpp"

#include <expected>
#include <string>

#include <boost/asio/awaitable.hpp>

namespace godwit::daemon {

constexpr int kExitError = 1;
constexpr int kExitUsage = 2;  // wrong usage or configuration

struct CommandLine {
    std::string config_file;
    bool check = false;  // only look at the configuration
};

// --config FILE [--check] [--log-level L], --version, --help. The unexpected value is main's return
// value: 0 after --version and --help, kExitUsage after wrong usage (told on stderr).
std::expected<CommandLine, int> parse_command_line(int argc, const char* const* argv,
                                                   const std::string& program,
                                                   const std::string& about);
std::string_view version();

// Prints the error on stderr: "FILE:LINE:COLUMN: /pointer message" for each field, else its text.
// Returns the exit code: kExitUsage when it is Rejected, kExitError otherwise.
int report(const Error& error);
// "FILE: good" on stdout; returns 0.
int report_good(const CommandLine& line);

// Waits for SIGTERM or SIGINT; returns its number. From the first call on they no longer kill, and
// SIGPIPE is ignored.
boost::asio::awaitable<int> stop_signal();

// sd_notify(3); without NOTIFY_SOCKET they do nothing.
void notify_ready();
void notify_stopping();

}  // namespace godwit::daemon
