#include "controller/application.hpp"

#include "lib/http/health.hpp"
#include "lib/log.hpp"
#include "lib/secret.hpp"

#include <filesystem>

#include <boost/asio/co_spawn.hpp>

namespace godwit::controller {

namespace asio = boost::asio;

namespace {

std::unexpected<Error> passed_on(Error error) {
    return std::unexpected(std::move(error));
}

// What leaves a coroutine of the controller is a broken invariant: the process ends with it.
void spawn(const asio::any_io_executor& executor, asio::awaitable<void> work) {
    asio::co_spawn(executor, std::move(work), [](std::exception_ptr broken) {
        if (broken) std::rethrow_exception(broken);
    });
}

}  // namespace

Result<std::unique_ptr<Application>> Application::make(asio::any_io_executor executor,
                                                       Config config, std::string secret,
                                                       Clock& clock) {
    std::error_code error;
    std::filesystem::create_directories(config.state_dir, error);
    if (error) return fail(Fault::Rejected, "make " + config.state_dir, error.message());
    Result<std::unique_ptr<SqliteStore>> store =
        SqliteStore::open(config.state_dir + "/controller.db", clock);
    if (!store) return passed_on(std::move(store).error());
    std::unique_ptr<Application> made(new Application(std::move(executor), std::move(config),
                                                      std::move(secret), clock, std::move(*store)));
    Result<void> started = made->journal_.start(made->config_.minimum_token);
    if (started) started = made->make_first_token();
    if (started) started = made->register_configured_vms();
    if (!started) return passed_on(std::move(started).error());
    return made;
}

Application::Application(asio::any_io_executor executor, Config config, std::string secret,
                         Clock& clock, std::unique_ptr<SqliteStore> store)
    : executor_(executor),
      config_(std::move(config)),
      clock_(clock),
      store_(std::move(store)),
      written_(executor),
      devices_(executor, config_, secret),
      journal_(*store_, clock_, metrics_, [this] { written_.ring(); }),
      engine_(executor, devices_, journal_, config_.timing),
      caretaker_(executor, devices_, journal_, *store_, engine_, config_.timing) {}

// The secret is in the file and nowhere else; the store has its digest.
Result<void> Application::make_first_token() {
    Result<std::vector<protocol::Token>> tokens = store_->tokens();
    if (!tokens) return passed_on(std::move(tokens).error());
    if (!tokens->empty()) return {};
    const std::string file = config_.state_dir + "/admin.token";
    std::error_code gone;
    std::filesystem::remove(file, gone);  // left by a start that got no further than this
    Result<std::string> secret = create_secret_file(file);
    if (!secret) return passed_on(std::move(secret).error());
    Result<protocol::Token> made = store_->add_token(sha256_hex(*secret), "admin", "admin");
    if (!made) return passed_on(std::move(made).error());
    fresh_token_file_ = file;
    return {};
}

Result<void> Application::register_configured_vms() {
    for (const VmConfig& vm : config_.vms) {
        if (store_->vm(vm.id)) continue;  // where it is now is the store's to say
        Result<void> kept = store_->put_vm({vm.id, vm.host, vm.method, vm.labels, std::nullopt});
        if (!kept) return kept;
    }
    return {};
}

void Application::show_figures() {
    const Result<std::map<std::string, std::int64_t>> counts = store_->job_counts();
    if (!counts) return;
    for (const State state : {State::running, State::rolling_back, State::needs_attention,
                              State::succeeded, State::failed, State::cancelled}) {
        const std::string name = json::enum_name(state);
        const auto found = counts->find(name);
        metrics_.gauge("godwit_jobs", "jobs by state", {{"kind", "migration"}, {"state", name}})
            .Set(found == counts->end() ? 0.0 : static_cast<double>(found->second));
    }
    metrics_.gauge("godwit_leader", "1 while this controller may write")
        .Set(journal_.is_down() ? 0 : 1);
    metrics_.gauge("godwit_leader_epoch", "the fencing token of this start")
        .Set(static_cast<double>(journal_.token()));
    const Result<std::vector<Sweep>> sweeps = store_->sweeps();
    if (sweeps)
        metrics_.gauge("godwit_sweeps", "leftovers of ended jobs still to be removed")
            .Set(static_cast<double>(sweeps->size()));
}

Result<std::vector<std::string>> Application::start() {
    Result<std::string> secret = store_->secret();
    if (!secret) return passed_on(std::move(secret).error());
    api_ = std::make_unique<Api>(Api{*store_, engine_, caretaker_, journal_, devices_, clock_,
                                     metrics_, written_, config_.timing, executor_, *secret});
    metrics_.before_text([this] { show_figures(); });
    std::vector<http::Route> routes = api_routes(*api_);
    std::function<std::string()> not_ready = [this] { return journal_.down_reason(); };
    for (http::Route& route : http::health_routes(std::move(not_ready), metrics_))
        routes.push_back(std::move(route));
    server_ =
        std::make_unique<http::Server>(executor_, std::move(routes), api_authenticator(*store_));
    std::vector<std::string> bound;
    for (const std::string& address : config_.listen) {
        Result<std::string> one = server_->listen(address);
        if (!one) return passed_on(std::move(one).error());
        bound.push_back(std::move(*one));
    }
    spawn(executor_, work());
    return bound;
}

// First the fence and the jobs, then everything that can wait.
asio::awaitable<void> Application::work() {
    co_await engine_.recover();
    for (const SwitchConfig& one : config_.switches) spawn(executor_, caretaker_.watch(one.id));
    co_await caretaker_.tend();
}

void Application::stop() {
    if (server_) server_->stop();
}

}  // namespace godwit::controller
