// godwit completion bash, godwit version. The completion is written from the commands themselves,
// so it cannot fall behind them.
#include "lib/daemon.hpp"

#include "cli/commands.hpp"
#include "cli/exit_code.hpp"

#include <CLI/CLI.hpp>

namespace godwit::cli {

namespace bj = json::bj;

namespace {

void add_words(const CLI::App& app, std::string& words) {
    for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; }))
        words += sub->get_name() + " ";
    for (const CLI::Option* option : app.get_options())
        for (const std::string& name : option->get_lnames()) words += "--" + name + " ";
}

void add_cases(const CLI::App& app, const std::string& path, std::string& cases) {
    std::string words;
    add_words(app, words);
    cases += "        \"" + path + "\") words=\"" + words + "\" ;;\n";
    for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; }))
        add_cases(*sub, path + " " + sub->get_name(), cases);
}

int show_version(Session& session) {
    Result<bj::value> raw = session.api.get("/v1/status");
    std::string server;
    if (raw) {
        auto status = understood<protocol::ControllerStatus>(*raw, "read the controller's status");
        if (status) server = status->version;
    }
    if (session.console.format() == Format::table) {
        session.console.line("godwit " + std::string(daemon::version()));
        session.console.line("godwit-controller " + (server.empty() ? "does not answer" : server));
        return kOk;
    }
    bj::object versions{{"godwit", daemon::version()}};
    versions["controller"] = server.empty() ? bj::value(nullptr) : bj::value(server);
    session.console.value(std::move(versions));
    return kOk;
}

}  // namespace

std::string bash_completion(const CLI::App& app) {
    std::string cases;
    add_cases(app, "godwit", cases);
    return "# bash completion for godwit: source <(godwit completion bash)\n"
           "_godwit() {\n"
           "    local path=godwit words= word\n"
           "    for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
           "        case $word in -*) ;; *) case \" $(_godwit_words \"$path\") \" in\n"
           "            *\" $word \"*) path=\"$path $word\" ;; esac ;; esac\n"
           "    done\n"
           "    COMPREPLY=($(compgen -W \"$(_godwit_words \"$path\") $(_godwit_words godwit | "
           "tr ' ' '\\n' | grep ^--)\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n"
           "}\n"
           "_godwit_words() {\n"
           "    local words=\n"
           "    case \"$1\" in\n" +
           cases +
           "    esac\n"
           "    echo \"$words\"\n"
           "}\n"
           "complete -F _godwit godwit\n";
}

void add_own_commands(CLI::App& app, Command& chosen) {
    CLI::App* completion = add_group(app, "completion", "Completion for shells");
    const CLI::App* root = &app;
    add_command(*completion, "bash", "For bash: source <(godwit completion bash)", chosen,
                [root](Session& session) {
                    session.console.line(bash_completion(*root));
                    return kOk;
                });
    add_command(app, "version", "Versions of this program and of the controller", chosen,
                show_version);
}

}  // namespace godwit::cli
