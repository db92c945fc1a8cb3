// godwit-controller: reads its configuration, builds the application, runs it until a signal.
#include "lib/daemon.hpp"
#include "lib/log.hpp"
#include "lib/secret.hpp"

#include "controller/application.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

namespace {

using namespace godwit;

// kill -9 is a way to stop, too: jobs go on from the store at the next start.
boost::asio::awaitable<void> until_signal(boost::asio::io_context& io,
                                          controller::Application& application) {
    const int number = co_await daemon::stop_signal();
    log::info("controller", "signal " + std::to_string(number) + ", stopping");
    daemon::notify_stopping();
    application.stop();
    io.stop();
}

int serve(controller::Config config) {
    Result<std::string> secret = read_secret_file(config.peer_token_file);
    if (!secret) return daemon::report(secret.error());
    boost::asio::io_context io(1);
    SystemClock clock;
    Result<std::unique_ptr<controller::Application>> application = controller::Application::make(
        io.get_executor(), std::move(config), std::move(*secret), clock);
    if (!application) return daemon::report(application.error());
    Result<std::vector<std::string>> bound = (*application)->start();
    if (!bound) return daemon::report(bound.error());
    for (const std::string& address : *bound) log::info("controller", "listening on " + address);
    const std::string& token_file = (*application)->fresh_token_file();
    if (!token_file.empty()) log::info("controller", "the admin's token is in " + token_file);
    boost::asio::co_spawn(io, until_signal(io, **application), [](std::exception_ptr broken) {
        if (broken) std::rethrow_exception(broken);
    });
    daemon::notify_ready();
    io.run();
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const auto line = daemon::parse_command_line(argc, argv, "godwit-controller",
                                                 "REST API and durable jobs of Godwit");
    if (!line) return line.error();
    Result<controller::Config> config = controller::load_config(line->config_file);
    if (!config) return daemon::report(config.error());
    if (line->check) return daemon::report_good(*line);
    return serve(std::move(*config));
}
