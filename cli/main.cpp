// godwit: reads the command line, builds what the command needs, runs it.
#include "lib/daemon.hpp"
#include "lib/secret.hpp"

#include "cli/commands.hpp"
#include "cli/exit_code.hpp"

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <unistd.h>

#include <CLI/CLI.hpp>

namespace {

using namespace godwit;
using namespace godwit::cli;

constexpr const char* kDefaultServer = "unix:/run/godwit/api.sock";

struct Globals {
    std::string output = "table";
    std::string server = kDefaultServer;
    std::string token_file;
    bool quiet = false;
    bool no_color = false;
};

void add_globals(CLI::App& app, Globals& globals) {
    app.add_option("-o,--output", globals.output, "table, json or yaml")
        ->check(CLI::IsMember({"table", "json", "yaml"}));
    app.add_option("--server", globals.server, "the controller, HOST:PORT or unix:PATH")
        ->envname("GODWIT_SERVER")
        ->type_name("ADDRESS")
        ->capture_default_str();
    app.add_option("--token-file", globals.token_file, "file with the bearer token, mode 0600")
        ->envname("GODWIT_TOKEN_FILE")
        ->type_name("FILE");
    app.add_flag("-q,--quiet", globals.quiet, "only results and errors");
    app.add_flag("--no-color", globals.no_color, "no colours; NO_COLOR does the same");
    app.set_version_flag("--version", "godwit " + std::string(daemon::version()));
}

Console console_of(const Globals& globals) {
    const Format format = globals.output == "json"   ? Format::json
                          : globals.output == "yaml" ? Format::yaml
                                                     : Format::table;
    // https://no-color.org: present and not empty.
    const char* no_color = std::getenv("NO_COLOR");
    return Console(format, globals.quiet, !globals.no_color && !(no_color && *no_color));
}

int run(const Globals& globals, const Command& command) {
    const Console console = console_of(globals);
    std::string token;
    if (!globals.token_file.empty()) {
        Result<std::string> secret = read_secret_file(globals.token_file);
        if (!secret) {
            console.error(secret.error());
            return kUsage;
        }
        token = std::move(*secret);
    }
    Api api(globals.server, std::move(token));
    Session session{api, console};
    return command(session);
}

}  // namespace

int main(int argc, char** argv) {
    Globals globals;
    Command chosen;
    CLI::App app("Moves running VMs without a stop.", "godwit");
    add_globals(app, globals);
    app.require_subcommand(1);
    app.footer(
        "Exit: 0 ok, 1 error, 2 usage, 3 not found, 4 conflict, 5 not allowed, 6 wait timed out,\n"
        "7 rolled back, 8 needs attention, 9 unreachable, 130 detached by ^C.");
    add_vm_commands(app, chosen);
    add_job_commands(app, chosen);
    add_inventory_commands(app, chosen);
    add_flow_commands(app, chosen);
    add_capture_command(app, chosen);
    add_region_commands(app, chosen);
    add_own_commands(app, chosen);
    try {
        // CLI11 takes the words last one first.
        std::vector<std::string> words = join_not({argv + 1, argv + argc});
        std::ranges::reverse(words);
        app.parse(std::move(words));
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? kOk : kUsage;
    }
    try {
        return run(globals, chosen);
    } catch (const std::exception& error) {
        std::cerr << "error: " << error.what() << "\n";
        return kError;
    }
}
