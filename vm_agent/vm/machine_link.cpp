// The part of Machine that makes its port, opens and closes it: a tap, or a socket that the switch comes to.
#include "vm_agent/durable_file.hpp"
#include "vm_agent/vm/machine.hpp"
#include "vm_agent/vm/tap.hpp"

#include <cstdio>
#include <filesystem>

#include <boost/asio/steady_timer.hpp>

namespace godwit::agent {

namespace asio = boost::asio;
namespace bj = json::bj;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds kLinkPatience{4000};
// DPDK looks once a second for a socket that was not there.
constexpr milliseconds kSwitchPatience{10'000}, kSwitchLookEvery{10};

Result<void> move_socket(const std::string& from, const std::string& to) {
    if (std::rename(from.c_str(), to.c_str()) == 0 || errno == ENOENT) return {};
    return fail_errno(Fault::Retry, "move the socket " + from + " to " + to);
}

// The path is a configuration's word: nothing but a socket is taken away.
Result<void> remove_socket(const std::string& path) {
    std::error_code none;
    const std::filesystem::file_status there = std::filesystem::symlink_status(path, none);
    if (!std::filesystem::exists(there)) return {};
    if (!std::filesystem::is_socket(there))
        return fail(Fault::Rejected, "make the socket " + path,
                    "something else is there: name another one in network.socket",
                    "invalid-document");
    return remove_file(path);
}

// "disconnected:unix:/run/...,server=on" without the switch.
bool has_peer(const bj::value& chardevs) {
    const bj::array* all = chardevs.if_array();
    if (!all) return false;
    for (const bj::value& one : *all) {
        boost::system::error_code none;
        const bj::value* label = one.find_pointer("/label", none);
        const bj::value* name = one.find_pointer("/filename", none);
        if (label && name && label->is_string() && name->is_string() &&
            label->get_string() == "vhost0")
            return !name->get_string().starts_with("disconnected:");
    }
    return false;
}

}  // namespace

Result<void> Machine::make_port() {
    if (has_tap()) return create_tap(paths_.tap());
    const std::filesystem::path folder = std::filesystem::path(vhost_path()).parent_path();
    std::error_code none;
    if (!std::filesystem::is_directory(folder, none))
        return fail(
            Fault::Rejected, "make the socket " + vhost_path(),
            "its folder is not there: make " + folder.string() + ", or leave out network.socket",
            "invalid-document");
    return remove_port();
}

Result<void> Machine::remove_port() {
    if (has_tap()) return delete_tap(paths_.tap());
    Result<void> removed = remove_socket(vhost_path());
    return removed ? remove_socket(paths_.vhost_fenced(record_.spec)) : removed;
}

bool Machine::is_link_up() const {
    if (has_tap()) return is_tap_up(paths_.tap());
    std::error_code none;
    return is_alive() && std::filesystem::is_socket(vhost_path(), none);
}

Task<void> Machine::set_link(bool up) {
    std::shared_ptr<Machine> self = shared_from_this();
    if (!has_tap()) {
        Result<void> done = co_await set_vhost_link(up);
        if (!done)
            co_return std::unexpected(std::move(done).error().within(
                std::string("set the link of VM ") + name() + (up ? " up" : " down")));
        co_return done;
    }
    const std::string& bridge = host_.config.bridge;
    Result<void> done = set_tap_link(paths_.tap(), bridge, up ? Link::up : Link::down);
    if (!done || !up || bridge.empty()) co_return done;
    co_return pin_mac(paths_.tap(), record_.spec.mac);
}

// QEMU sets the link up by itself whenever somebody comes to the socket. So a VM whose link is down is where
// nobody can come to: a switch that is restarted does not open what was closed.
Task<void> Machine::set_vhost_link(bool up) {
    const std::string open = vhost_path(), fenced = paths_.vhost_fenced(record_.spec);
    Result<void> done = up ? move_socket(fenced, open) : move_socket(open, fenced);
    if (!done || (!up && !is_alive())) co_return done;
    if (up) done = co_await await_switch();
    if (!done) co_return done;
    Result<std::shared_ptr<qmp::Client>> client = co_await qmp();
    if (!client) co_return std::unexpected(std::move(client).error());
    bj::object link{{"name", "net0"}, {"up", up}};
    Result<bj::value> set = co_await (*client)->execute("set_link", std::move(link));
    if (!set) co_return std::unexpected(std::move(set).error());
    co_return Result<void>{};
}

// QEMU has no event for it. Without a switch there is no backend whose link could be up.
Task<void> Machine::await_switch() {
    asio::any_io_executor executor = co_await asio::this_coro::executor;
    asio::steady_timer timer(executor);
    const auto end = std::chrono::steady_clock::now() + kSwitchPatience;
    while (std::chrono::steady_clock::now() < end) {
        Result<std::shared_ptr<qmp::Client>> client = co_await qmp();
        if (!client) co_return std::unexpected(std::move(client).error());
        Result<bj::value> chardevs = co_await (*client)->execute("query-chardev");
        if (!chardevs) co_return std::unexpected(std::move(chardevs).error());
        if (has_peer(*chardevs)) co_return Result<void>{};
        timer.expires_after(kSwitchLookEvery);
        co_await timer.async_wait(asio::use_awaitable);
    }
    co_return fail(Fault::Retry, "wait for the switch at " + vhost_path(),
                   "none has come: is it up, and does a port of it name this socket?");
}

Task<void> Machine::wait_for_link() {
    if (!has_tap()) co_return Result<void>{};  // set_link() has waited for the switch
    std::function<Result<void>()> work = [tap = paths_.tap()]() {
        return wait_until_running(tap, kLinkPatience);
    };
    Result<void> running = co_await run_on<void>(host_.pool, std::move(work));
    co_return running;
}

}  // namespace godwit::agent
