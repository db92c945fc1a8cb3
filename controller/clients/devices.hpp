// Every agent and switch of the configuration, by id.
#pragma once

#include "controller/clients/agent.hpp"
#include "controller/clients/switch.hpp"
#include "controller/config.hpp"

#include <map>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

namespace godwit::controller {

class Devices {
public:
    Devices(boost::asio::any_io_executor executor, const Config& config, const std::string& secret);

    const HostConfig* host(const std::string& id) const;  // null when unknown
    const std::vector<HostConfig>& hosts() const { return hosts_; }
    const std::vector<SwitchConfig>& switches() const { return switches_; }
    const SwitchConfig* switch_config(const std::string& id) const;  // null when unknown
    bool has_switch(const std::string& id) const { return switch_clients_.contains(id); }
    // The id must be known: records name hosts that the configuration still has (checked at start).
    AgentClient& agent(const std::string& host) { return agents_.at(host); }
    SwitchClient& switch_of(const std::string& id) { return switch_clients_.at(id); }

private:
    std::vector<HostConfig> hosts_;
    std::vector<SwitchConfig> switches_;
    std::map<std::string, AgentClient> agents_;
    std::map<std::string, SwitchClient> switch_clients_;
};

}  // namespace godwit::controller
