// godwit-agent: builds everything, passes it down, runs until it is told to stop. QEMUs stay.
#include "lib/daemon.hpp"
#include "lib/http/auth.hpp"
#include "lib/http/health.hpp"
#include "lib/log.hpp"
#include "lib/metrics.hpp"
#include "lib/secret.hpp"

#include "vm_agent/routes.hpp"
#include "vm_agent/transfer.hpp"
#include "vm_agent/vm/process.hpp"

#include <filesystem>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

namespace godwit::agent {
namespace {

namespace asio = boost::asio;
constexpr std::size_t kWorkers = 20;  // conversations with other agents, and local work beside them

struct Program {
    asio::io_context context{1};
    WorkerPool pool{kWorkers};
    Metrics metrics;
    Config config;
};

Result<void> listen(http::Server& server, const Config& config) {
    for (const std::string& address : config.listen) {
        Result<std::string> bound = server.listen(address);
        if (!bound) return std::unexpected(std::move(bound).error());
        log::info("agent", "REST at " + *bound);
    }
    return {};
}

asio::awaitable<void> run(Program& program, Agent& agent, http::Server& server,
                          TransferServer& transfer, int& exit_code) {
    Result<void> ready = co_await agent.recover();
    if (ready) ready = listen(server, program.config);
    if (ready) {
        Result<std::string> bound = transfer.listen(program.config.transfer_listen);
        if (!bound) ready = std::unexpected(std::move(bound).error());
        if (bound) log::info("agent", "memory from other agents at " + *bound);
    }
    if (!ready) {
        exit_code = daemon::report(ready.error());
    } else {
        daemon::notify_ready();
        co_await daemon::stop_signal();
        daemon::notify_stopping();
    }
    server.stop();
    co_await agent.end_copies();
    transfer.stop();
    program.context.stop();
}

// None when the configuration says off: memory then crosses the network in the clear.
Result<std::shared_ptr<const tls::Context>> load_tls(const Config& config) {
    if (config.tls.mode == TlsMode::on)
        return tls::Context::load({config.tls.certificate, config.tls.key, config.tls.ca});
    log::warning("agent", "tls is off: guest memory crosses the network unencrypted");
    return std::shared_ptr<const tls::Context>();
}

int serve(Program& program) {
    const Config& config = program.config;
    Result<std::string> secret = read_secret_file(config.peer_token_file);
    if (!secret) return daemon::report(secret.error());
    Result<std::shared_ptr<const tls::Context>> context = load_tls(config);
    if (!context) return daemon::report(context.error());
    std::error_code failed;
    std::filesystem::create_directories(config.state_dir, failed);
    Result<Fencing> fencing = Fencing::open(config.state_dir + "/fence.json");
    if (!fencing) return daemon::report(fencing.error());
    Result<std::string> qemu = qemu_version_of(config.qemu.binary);
    if (!qemu) return daemon::report(qemu.error());
    std::string accelerator = json::enum_name(config.qemu.accelerator);
    if (config.qemu.accelerator == Accelerator::automatic) accelerator = probe_accelerator();
    HostContext host{config, program.context.get_executor(), program.pool, accelerator, *qemu};
    log::info("agent", config.id + ": QEMU " + *qemu + " with " + accelerator);

    Agent agent(host, std::move(*fencing), {*secret, std::move(*context)});
    TransferServer transfer(agent);
    std::vector<http::Route> routes = agent_routes(agent);
    for (http::Route& route : http::health_routes([] { return std::string(); }, program.metrics))
        routes.push_back(std::move(route));
    http::Server server(host.executor, std::move(routes), http::peer_authenticator(*secret));
    int exit_code = 0;
    asio::co_spawn(program.context, run(program, agent, server, transfer, exit_code),
                   asio::detached);
    program.context.run();
    program.pool.stop();
    program.pool.join();
    return exit_code;
}

}  // namespace
}  // namespace godwit::agent

int main(int argc, char** argv) {
    using namespace godwit;
    const auto line = daemon::parse_command_line(
        argc, argv, "godwit-agent", "Runs the VMs of one host and moves their memory to another.");
    if (!line) return line.error();
    agent::Program program;
    Result<agent::Config> config = agent::load_config(line->config_file);
    if (!config) return daemon::report(config.error());
    if (line->check) return daemon::report_good(*line);
    program.config = std::move(*config);
    return agent::serve(program);
}
