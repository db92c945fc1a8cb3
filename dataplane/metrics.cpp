#include "dataplane/metrics.hpp"

#include "dataplane/config.hpp"
#include "dataplane/flow_row.hpp"
#include "dataplane/packet_counts.hpp"
#include "dataplane/sessions.hpp"

namespace godwit::dataplane {
namespace {

// Ports are configuration and reasons are code, so there is an end to the labels.
void refresh_packets(Metrics& metrics, Plane& plane) {
    each_count(plane.packets(), [&](const Plane::PortPackets& of, std::uint8_t action,
                                    std::uint32_t why, std::uint64_t packets) {
        prometheus::Counter& counter =
            metrics.counter("godwit_switch_packets_total", "Packets by port, verdict and reason",
                            {{"port", of.port},
                             {"verdict", verdict_name(action)},
                             {"reason", steer_why_name(why)}});
        // The plane counts, also while no process runs; this one follows.
        const auto now = static_cast<double>(packets);
        if (now > counter.Value()) counter.Increment(now - counter.Value());
    });
}

// What the interfaces count: with the reasons it tells whether a port's packets reach the programs at all.
void refresh_ports(Metrics& metrics, Plane& plane) {
    for (const PortState& port : plane.ports()) {
        const Metrics::Labels labels = {{"port", port.name}, {"role", json::enum_name(port.role)}};
        const auto follow = [&](const char* name, const char* help, std::uint64_t now) {
            prometheus::Counter& counter = metrics.counter(name, help, labels);
            const double more = static_cast<double>(now) - counter.Value();
            if (more > 0) counter.Increment(more);
        };
        follow("godwit_switch_port_packets_total", "Packets that came in by the port",
               port.packets);
        follow("godwit_switch_port_dropped_total", "Packets the port had to drop", port.drops);
        metrics.gauge("godwit_switch_port_up", "1 while the port has a carrier", labels)
            .Set(port.up ? 1 : 0);
    }
}

void refresh_tables(Metrics& metrics, Plane& plane) {
    for (const auto& [table, family] :
         {std::pair{STEER_SESSIONS4, "4"}, std::pair{STEER_SESSIONS6, "6"}}) {
        metrics
            .gauge("godwit_switch_table_entries", "Entries of the session table",
                   {{"family", family}})
            .Set(static_cast<double>(used_slots(plane, table)));
        metrics
            .gauge("godwit_switch_table_capacity", "Slots of the session table",
                   {{"family", family}})
            .Set(static_cast<double>(capacity(plane, table)));
    }
}

// Sums: a VM's id is no label.
void refresh_vms(Metrics& metrics, Steerings& steerings) {
    double owner = 0, previous = 0, draining = 0, untracked = 0;
    for (const protocol::VmSteering& vm : steerings.all()) {
        for (const protocol::BackendSteering& backend : vm.backends)
            (backend.name == vm.owner ? owner : previous) += static_cast<double>(backend.sessions);
        draining += vm.previous ? 1 : 0;
        untracked += static_cast<double>(vm.untracked);
    }
    metrics.gauge("godwit_steering_sessions", "Live sessions", {{"target", "owner"}}).Set(owner);
    metrics.gauge("godwit_steering_sessions", "Live sessions", {{"target", "previous"}})
        .Set(previous);
    metrics.gauge("godwit_steering_draining", "VMs that drain").Set(draining);
    metrics.gauge("godwit_steering_untracked", "Newcomers that found the table full")
        .Set(untracked);
}

void refresh_flows(Metrics& metrics, const Flows& flows) {
    const protocol::FlowSamplingStatus status = flows.sampling();
    const auto follow = [&](const char* name, const char* help, std::uint64_t now) {
        prometheus::Counter& counter = metrics.counter(name, help);
        counter.Increment(static_cast<double>(now) - counter.Value());
    };
    follow("godwit_switch_flow_records_total", "Packets written down for who follows",
           status.recorded);
    follow("godwit_switch_flow_records_lost_total",
           "Packets that were to be written down and found no room or budget", status.lost);
    metrics.gauge("godwit_switch_flow_followers", "Readers of flows")
        .Set(static_cast<double>(status.followers));
}

}  // namespace

void register_metrics(Metrics& metrics, Plane& plane, Steerings& steerings, const Flows& flows) {
    Metrics* to = &metrics;
    Plane* from = &plane;
    Steerings* of = &steerings;
    metrics.before_text([to, from, of, in = &flows] {
        refresh_flows(*to, *in);
        refresh_ports(*to, *from);
        refresh_packets(*to, *from);
        refresh_tables(*to, *from);
        refresh_vms(*to, *of);
    });
}

}  // namespace godwit::dataplane
