#include "controller/clients/devices.hpp"

#include <algorithm>

namespace godwit::controller {

Devices::Devices(boost::asio::any_io_executor executor, const Config& config,
                 const std::string& secret)
    : hosts_(config.hosts), switches_(config.switches) {
    const std::chrono::milliseconds usual(config.timing.request_ms);
    const CallTimes times{usual, std::chrono::milliseconds(config.timing.start_vm_ms)};
    for (const HostConfig& host : hosts_)
        agents_.try_emplace(host.id, executor, host.id, host.agent, secret, times);
    for (const SwitchConfig& one : switches_)
        switch_clients_.try_emplace(one.id, executor, one.id, one.address, secret, usual);
}

const HostConfig* Devices::host(const std::string& id) const {
    const auto found = std::ranges::find(hosts_, id, &HostConfig::id);
    return found == hosts_.end() ? nullptr : &*found;
}

const SwitchConfig* Devices::switch_config(const std::string& id) const {
    const auto found = std::ranges::find(switches_, id, &SwitchConfig::id);
    return found == switches_.end() ? nullptr : &*found;
}

}  // namespace godwit::controller
