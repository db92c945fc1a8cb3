#include "lib/daemon.hpp"

#include "lib/log.hpp"

#include <csignal>
#include <cstdio>
#include <iostream>

#include <CLI/CLI.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <systemd/sd-daemon.h>

#ifndef GODWIT_VERSION
#error "the build defines GODWIT_VERSION"
#endif

namespace godwit::daemon {

namespace asio = boost::asio;

std::string_view version() {
    return GODWIT_VERSION;
}

std::expected<CommandLine, int> parse_command_line(int argc, const char* const* argv,
                                                   const std::string& program,
                                                   const std::string& about) {
    CommandLine line;
    std::string level;
    CLI::App app(about, program);
    app.add_option("--config", line.config_file, "YAML file")->required()->type_name("FILE");
    app.add_flag("--check", line.check, "check the configuration and exit");
    app.add_option("--log-level", level, "trace, debug, info, warning, error or off");
    app.set_version_flag("--version", program + " " + std::string(version()));
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return std::unexpected(app.exit(error) == 0 ? 0 : kExitUsage);
    }
    if (level.empty()) return line;
    Result<log::Level> parsed = log::parse_level(level);
    if (!parsed) return std::unexpected(report(parsed.error()));
    log::set_level(*parsed);
    return line;
}

int report(const Error& error) {
    if (error.fields.empty() || error.fields.front().line == 0) {
        std::cerr << error.text() << "\n";
    } else {
        for (const FieldError& field : error.fields)
            std::cerr << error.doing << ":" << field.line << ":" << field.column << ": "
                      << (field.pointer.empty() ? "/" : field.pointer) << " " << field.message
                      << "\n";
    }
    return error.fault == Fault::Rejected ? kExitUsage : kExitError;
}

int report_good(const CommandLine& line) {
    std::cout << line.config_file << ": good\n";
    return 0;
}

asio::awaitable<int> stop_signal() {
    std::signal(SIGPIPE, SIG_IGN);
    auto executor = co_await asio::this_coro::executor;
    asio::signal_set signals(executor, SIGTERM, SIGINT);
    const int number = co_await signals.async_wait(asio::use_awaitable);
    co_return number;
}

void notify_ready() {
    sd_notify(0, "READY=1");
}

void notify_stopping() {
    sd_notify(0, "STOPPING=1");
}

}  // namespace godwit::daemon
