// The commands of `godwit`: each file adds its own to the application and says what they do.
#pragma once

#include "cli/api.hpp"
#include "cli/console.hpp"

#include <functional>
#include <string>

#include <CLI/CLI.hpp>

namespace godwit::cli {

// What a command works with once the whole command line is read. Lives for one command.
struct Session {
    Api& api;
    const Console& console;
};
using Command = std::function<int(Session&)>;

// `chosen` becomes the command the user wrote; options are kept alive by the closures.
void add_vm_commands(CLI::App& app, Command& chosen);
void add_region_commands(CLI::App& app, Command& chosen);
void add_job_commands(CLI::App& app, Command& chosen);
void add_inventory_commands(CLI::App& app, Command& chosen);  // host, switch, sessions, status
void add_flow_commands(CLI::App& app, Command& chosen);  // flows, switch sampling; after inventory
void add_capture_command(CLI::App& app, Command& chosen);
void add_own_commands(CLI::App& app, Command& chosen);  // completion, version

// A group such as `vm`, one of whose subcommands must follow.
CLI::App* add_group(CLI::App& app, const std::string& name, const std::string& about);
// A subcommand that runs `command`. Global options may follow it.
CLI::App* add_command(CLI::App& group, const std::string& name, const std::string& about,
                      Command& chosen, Command command);

// Prints the error and returns its exit code.
int failed(const Session& session, const Error& error);
// "10", "10s", "5m", "2h" in seconds.
Result<std::uint32_t> parse_duration(const std::string& text);
// For add_option(...)->check(): the same as a CLI11 validator.
CLI::Validator duration_check();

// All pages of a list, the items under `key` in one array.
Result<json::bj::array> all_pages(Api& api, const std::string& path, const std::string& key);

// `only`, or every switch the controller knows.
Result<std::vector<std::string>> switch_ids(Session& session, const std::string& only);

// "--not --reason X" means "--not-reason X", as people know it from other tools.
std::vector<std::string> join_not(std::vector<std::string> words);

std::string bash_completion(const CLI::App& app);

}  // namespace godwit::cli
