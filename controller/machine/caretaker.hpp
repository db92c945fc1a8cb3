// What goes on without a job: steady steering of registered VMs, so that the switch tracks their
// sessions before any migration; leftovers of jobs that have ended; the switches' events.
#pragma once

#include "controller/machine/engine.hpp"
#include "controller/store/sqlite_store.hpp"

#include <map>
#include <set>
#include <string>

namespace godwit::controller {

class Caretaker {
public:
    // All outlive the caretaker.
    Caretaker(boost::asio::any_io_executor executor, Devices& devices, Journal& journal,
              SqliteStore& registry, Engine& engine, TimingConfig timing);

    // Loops until its executor goes.
    boost::asio::awaitable<void> tend();
    boost::asio::awaitable<void> watch(std::string switch_id);

    // One round of each, also asked for by routes and tests.
    boost::asio::awaitable<void> keep_steady();
    boost::asio::awaitable<void> sweep();
    // Looks now instead of at the end of the interval.
    void hurry() { bell_.ring(); }
    // True while a steady steering of this VM is on its way to the switch: a migration waits for
    // it, because the two would otherwise arrive in any order.
    bool is_putting(const std::string& vm) const { return putting_.contains(vm); }

private:
    Task<void> refresh_spec(VmRow& vm);
    Task<void> keep_one(VmRow vm, const std::map<std::string, protocol::VmSteering>& seen);
    Task<void> sweep_one(Sweep sweep);
    bool is_left_alone(const std::string& vm);

    boost::asio::any_io_executor executor_;
    Devices& devices_;
    Journal& journal_;
    SqliteStore& registry_;
    Engine& engine_;
    TimingConfig timing_;
    Bell bell_;
    std::set<std::string> putting_;
    std::uint64_t steady_puts_ = 0;
};

}  // namespace godwit::controller
