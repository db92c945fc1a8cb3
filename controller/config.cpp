#include "controller/config.hpp"

#include "lib/config.hpp"
#include "lib/http/address.hpp"

#include "controller/temporary.hpp"

#include <algorithm>
#include <set>

namespace godwit::controller {

namespace {

class Checker {
public:
    explicit Checker(std::vector<FieldError>& errors) : errors_(errors) {}

    void complain(std::string pointer, std::string message) {
        errors_.push_back({std::move(pointer), std::move(message)});
    }
    void id(const std::string& pointer, const std::string& id, std::set<std::string>& seen) {
        if (!is_good_id(id))
            complain(pointer, "\"" + id +
                                  "\" is not an id: lower case letters, digits, '.', '_' "
                                  "and '-', at most 63");
        if (!seen.insert(id).second) complain(pointer, "\"" + id + "\" is used twice");
    }
    void address(const std::string& pointer, const std::string& text) {
        Result<http::Address> parsed = http::parse_address(text);
        if (!parsed) complain(pointer, parsed.error().text());
    }

private:
    std::vector<FieldError>& errors_;
};

std::string at(const char* list, std::size_t index, const char* member) {
    return "/" + std::string(list) + "/" + std::to_string(index) + "/" + member;
}

void check_switches(const Config& config, Checker& checker, std::set<std::string>& ids) {
    for (std::size_t i = 0; i < config.switches.size(); ++i) {
        checker.id(at("switches", i, "id"), config.switches[i].id, ids);
        checker.address(at("switches", i, "address"), config.switches[i].address);
        const std::vector<std::string>& ranges = config.switches[i].temporary_addresses;
        for (std::size_t k = 0; k < ranges.size(); ++k) {
            const std::string complaint = complaint_about_range(ranges[k]);
            if (!complaint.empty())
                checker.complain(at("switches", i, "temporary_addresses") + "/" + std::to_string(k),
                                 complaint);
        }
    }
}

void check_hosts(const Config& config, const std::set<std::string>& switches, Checker& checker,
                 std::set<std::string>& ids) {
    for (std::size_t i = 0; i < config.hosts.size(); ++i) {
        const HostConfig& host = config.hosts[i];
        checker.id(at("hosts", i, "id"), host.id, ids);
        checker.address(at("hosts", i, "agent"), host.agent);
        if (!switches.contains(host.switch_id))
            checker.complain(at("hosts", i, "switch_id"),
                             "\"" + host.switch_id + "\" is not an id under /switches");
        if (!host.behind.empty() && !switches.contains(host.behind))
            checker.complain(at("hosts", i, "behind"),
                             "\"" + host.behind + "\" is not an id under /switches");
        if (!host.behind.empty() && host.behind == host.switch_id)
            checker.complain(at("hosts", i, "behind"),
                             "is switch_id's too: leave it out where no tunnel is on the way");
        if (host.port.empty())
            checker.complain(at("hosts", i, "port"),
                             "is empty: name a port of the switch's configuration");
    }
}

void check_vms(const Config& config, const std::set<std::string>& hosts, Checker& checker) {
    std::set<std::string> ids;
    for (std::size_t i = 0; i < config.vms.size(); ++i) {
        const VmConfig& vm = config.vms[i];
        checker.id(at("vms", i, "id"), vm.id, ids);
        if (!hosts.contains(vm.host))
            checker.complain(at("vms", i, "host"), "\"" + vm.host + "\" is not an id under /hosts");
        if (!is_method(vm.method))
            checker.complain(at("vms", i, "method"),
                             "\"" + vm.method + "\" is not a method: fork, boot, whole or steer");
    }
}

}  // namespace

bool is_good_id(std::string_view id) {
    const auto good = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
    };
    return !id.empty() && id.size() <= 63 && id.front() != '.' && std::ranges::all_of(id, good);
}

bool is_method(std::string_view method) {
    return method == "fork" || method == "boot" || method == "whole" || method == "steer";
}

void check_config(const Config& config, std::vector<FieldError>& errors) {
    Checker checker(errors);
    if (config.version != 1) checker.complain("/version", "is not 1, the only version there is");
    if (config.listen.empty()) checker.complain("/listen", "is empty: name one address at least");
    for (std::size_t i = 0; i < config.listen.size(); ++i)
        checker.address("/listen/" + std::to_string(i), config.listen[i]);
    if (config.state_dir.empty() || config.state_dir.front() != '/')
        checker.complain("/state_dir", "is not an absolute path");
    if (config.timing.poll_ms == 0) checker.complain("/timing/poll_ms", "is 0: 1 at least");
    if (config.timing.request_ms == 0) checker.complain("/timing/request_ms", "is 0: 1 at least");
    std::set<std::string> switches;
    std::set<std::string> hosts;
    check_switches(config, checker, switches);
    check_hosts(config, switches, checker, hosts);
    check_vms(config, hosts, checker);
}

Result<Config> load_config(const std::string& file) {
    return config::load<Config>(file, check_config);
}

}  // namespace godwit::controller
