// godwit-switch: builds everything and passes it down.
#include "lib/clock.hpp"
#include "lib/daemon.hpp"
#include "lib/http/auth.hpp"
#include "lib/http/health.hpp"
#include "lib/log.hpp"
#include "lib/secret.hpp"

#include "dataplane/config.hpp"
#include "dataplane/loops.hpp"
#include "dataplane/metrics.hpp"
#include "dataplane/planes.hpp"
#include "dataplane/routes.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

namespace {

using namespace godwit;
using namespace godwit::dataplane;
namespace asio = boost::asio;

asio::awaitable<void> until_stopped(asio::io_context& io, http::Server& server, EventStream& events,
                                    Flows& flows) {
    const int signal = co_await daemon::stop_signal();
    log::info("switch", "signal " + std::to_string(signal) + ": the sessions stay");
    daemon::notify_stopping();
    events.close();
    flows.close();
    server.stop();
    io.stop();
}

// A loop that ends by exception leaves a switch that no longer ages or announces: better a restart.
void rethrow(std::exception_ptr error) {
    if (error) std::rethrow_exception(error);
}

Result<void> run(const SwitchConfig& config) {
    Result<std::string> secret = read_secret_file(config.peer_token_file);
    if (!secret) return std::unexpected(std::move(secret).error().within("peer_token_file"));
    const StateFile state(config.state_dir);
    Result<Descriptor> only_one = state.lock();
    if (!only_one) return std::unexpected(std::move(only_one).error().within("state_dir"));
    Result<std::unique_ptr<Plane>> plane = open_plane(config);
    if (!plane) return std::unexpected(std::move(plane).error());

    asio::io_context io(1);
    asio::thread_pool pool(1);
    SystemClock clock;
    Metrics metrics;
    EventStream events(io.get_executor());
    Signal flipped(io.get_executor());
    Steerings steerings(**plane, state,
                        [&](const std::string& type, const protocol::VmSteering& vm) {
                            events.publish(event_of(type, vm));
                            flipped.raise();
                        });
    Result<void> started = steerings.start();
    if (started) started = plane->get()->start();
    if (!started) return started;
    Flows flows(io.get_executor(), config.id, **plane, steerings, clock, config.sampling);
    register_metrics(metrics, **plane, steerings, flows);
    Control control{config.id, json::enum_name(config.plane), **plane, steerings, events, clock};
    std::vector<http::Route> routes = control_routes(control);
    for (http::Route& route : flow_routes(flows)) routes.push_back(std::move(route));
    for (http::Route& route : http::health_routes([] { return std::string{}; }, metrics))
        routes.push_back(std::move(route));
    http::Server server(io.get_executor(), std::move(routes), http::peer_authenticator(*secret));
    for (const std::string& address : config.listen) {
        Result<std::string> bound = server.listen(address);
        if (!bound) return std::unexpected(std::move(bound).error());
        log::info("switch", "listening on " + *bound);
    }
    asio::co_spawn(io, sweep_forever(**plane, steerings, clock), rethrow);
    asio::co_spawn(io, hear_events(**plane, steerings), rethrow);
    asio::co_spawn(io, wait_out_graces(**plane, steerings, flipped, clock, pool), rethrow);
    if (flows.check_plane()) {
        asio::co_spawn(io, hear_flows(flows), rethrow);
        asio::co_spawn(io, refill_flows(flows, clock), rethrow);
    }
    asio::co_spawn(io, until_stopped(io, server, events, flows), rethrow);
    log::info("switch",
              config.id + (plane->get()->adopted() ? ": adopted the running plane" : ": ready"));
    daemon::notify_ready();
    io.run();
    pool.join();
    return {};
}

}  // namespace

int main(int argc, char** argv) {
    auto line = daemon::parse_command_line(
        argc, argv, "godwit-switch", "Godwit's access switch: hosts addresses, steers sessions");
    if (!line) return line.error();
    Result<SwitchConfig> config = load_config(line->config_file);
    if (!config) return daemon::report(config.error());
    if (line->check) return daemon::report_good(*line);
    Result<void> ended = run(*config);
    return ended ? 0 : daemon::report(ended.error());
}
