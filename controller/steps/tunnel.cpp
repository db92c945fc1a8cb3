#include "controller/steps/tunnel.hpp"

#include <algorithm>

namespace godwit::controller {

namespace {

std::unexpected<Error> refuse(const JobRun& run, std::string cause, std::string slug) {
    return fail(Fault::Rejected, "preflight of " + run.job.vm, std::move(cause), std::move(slug));
}

// The same tunnel, seen from its other end.
bool is_other_end(const protocol::PortStatus& port, const protocol::TunnelStatus& of) {
    return port.vxlan && port.vxlan->vni == of.vni && port.vxlan->udp_port == of.udp_port &&
           port.vxlan->local == of.remote && port.vxlan->remote == of.local;
}

std::string written(const std::string& local, const std::string& remote,
                    const protocol::TunnelStatus& as) {
    return "vxlan: {local: " + local + ", remote: " + remote + ", vni: " + std::to_string(as.vni) +
           ", udp_port: " + std::to_string(as.udp_port) + ", underlay: ...}";
}

}  // namespace

std::string complaint_about_way(const HostConfig& host, const std::string& steering) {
    if (steering == "vxlan" && host.behind.empty())
        return host.id + " is behind " + host.switch_id +
               " itself, there is no tunnel on the way: use l2";
    if (steering == "l2" && !host.behind.empty())
        return host.id + " is behind " + host.behind + ", and " + host.switch_id +
               " reaches it by the tunnel " + host.port + ": use vxlan";
    return {};
}

Task<void> check_tunnel(JobRun& run, protocol::SwitchStatus at) {
    const HostConfig& host = *run.devices.host(run.job.destination);
    if (host.behind.empty()) co_return Result<void>{};
    const auto near = std::ranges::find(at.ports, host.port, &protocol::PortStatus::name);
    if (near == at.ports.end() || !near->vxlan)
        co_return refuse(run,
                         "port " + host.port + " of switch " + host.switch_id +
                             " is no tunnel, and " + host.id + " is behind " + host.behind +
                             ": give the port vxlan: {local, remote, vni, underlay} there",
                         "no-tunnel");
    Result<protocol::SwitchStatus> other = co_await run.devices.switch_of(host.behind).status();
    if (!other) co_return std::unexpected(std::move(other).error());
    const auto far = std::ranges::find_if(other->ports, [&](const protocol::PortStatus& port) {
        return is_other_end(port, *near->vxlan);
    });
    if (far == other->ports.end())
        co_return refuse(run,
                         "no port of switch " + host.behind + " is the other end of tunnel " +
                             host.port + " of " + host.switch_id +
                             ": it needs one with role: "
                             "uplink and " +
                             written(near->vxlan->remote, near->vxlan->local, *near->vxlan),
                         "no-tunnel");
    for (const auto& [end, name] : {std::pair(*near, host.switch_id), std::pair(*far, host.behind)})
        if (!end.up)
            co_return refuse(run, "tunnel " + end.name + " of switch " + name + " is down",
                             "tunnel-down");
    co_return Result<void>{};
}

}  // namespace godwit::controller
