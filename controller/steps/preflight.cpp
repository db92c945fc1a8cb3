// preflight: everything that could go wrong later is asked now. Changes nothing but the token that
// the devices know.
#include "controller/steps/step.hpp"
#include "controller/steps/tunnel.hpp"
#include "controller/temporary.hpp"

#include <algorithm>

namespace godwit::controller {

namespace {

std::unexpected<Error> refuse(const JobRun& run, std::string cause, std::string slug) {
    return fail(Fault::Rejected, "preflight of " + run.job.vm, std::move(cause), std::move(slug));
}

std::uint64_t bytes_needed(const protocol::VmSpec& spec) {
    std::uint64_t mib = spec.memory_mib;
    for (const protocol::RegionSpec& region : spec.regions) mib += region.size_mib;
    return mib << 20;
}

Task<void> raise_tokens(JobRun& run) {
    const std::uint64_t token = run.journal.token();
    Result<protocol::Fence> source = co_await run.source().fence(token);
    if (!source) co_return std::unexpected(std::move(source).error());
    Result<protocol::Fence> destination = co_await run.destination().fence(token);
    if (!destination) co_return std::unexpected(std::move(destination).error());
    const HostConfig* host = run.devices.host(run.job.source);
    Result<protocol::Fence> at_switch =
        co_await run.devices.switch_of(host->switch_id).fence(token);
    if (!at_switch) co_return std::unexpected(std::move(at_switch).error());
    co_return Result<void>{};
}

Result<void> check_ports(JobRun& run) {
    const HostConfig& source = *run.devices.host(run.job.source);
    const HostConfig& destination = *run.devices.host(run.job.destination);
    if (source.switch_id != destination.switch_id)
        return refuse(run,
                      source.id + " is behind switch " + source.switch_id + ", " + destination.id +
                          " behind " + destination.switch_id + ", and one switch steers: let " +
                          source.switch_id +
                          " reach it by a tunnel (a port with vxlan), and say so under hosts: " +
                          destination.id + " has switch_id " + source.switch_id +
                          ", the tunnel as port, and behind: " + destination.switch_id,
                      "different-switch");
    const std::string way = complaint_about_way(destination, run.job.request.steering);
    if (!way.empty()) return refuse(run, way, "unsupported-steering");
    run.job.facts.switch_id = source.switch_id;
    return {};
}

// What tells the two apart at the switch: the port, or in mode nat the MAC.
Result<void> check_pair(const JobRun& run) {
    const protocol::Backend &source = run.job.facts.source,
                            &destination = run.job.facts.destination;
    if (source.port == destination.port && !is_nat(source) && !arrives_by_nat(run.job))
        return refuse(run,
                      "both hosts are behind port " + source.port + " of " +
                          run.job.facts.switch_id + ": steering " + run.job.request.steering +
                          " needs two ports (two hosts behind another switch need a tunnel each)",
                      "same-port");
    return {};
}

// A clone has the MAC and the addresses of its source, and a VM that moves as a whole keeps them.
Result<void> check_addresses_move(const JobRun& run) {
    if (!is_nat(run.job.facts.source)) return {};
    if (run.job.method == "fork" || run.job.method == "whole")
        return refuse(run,
                      "it is reached by nat on " + run.job.source + ", and method " +
                          run.job.method + " would take its temporary addresses along: use boot",
                      "reached-by-nat");
    if (run.job.request.source_after == protocol::SourceAfter::keep)
        return refuse(run,
                      "it is reached by nat on " + run.job.source +
                          ", and its temporary addresses are given back: it cannot be kept there",
                      "reached-by-nat");
    return {};
}

// A VM that comes back from mode nat has the hosted addresses, but not the source's MAC. What it is called in
// mode nat is leased in the next phase; here it is found out whether there is anything to lease.
Result<void> name_destination(JobRun& run) {
    Facts& facts = run.job.facts;
    facts.destination = {
        run.job.destination, run.devices.host(run.job.destination)->port,
        is_nat(facts.source) ? own_mac(facts.spec.addresses.front()) : facts.spec.mac};
    if (!arrives_by_nat(run.job) || !moves_memory(run.job)) return {};
    auto candidates = temporary_candidates(
        run.devices.switch_config(facts.switch_id)->temporary_addresses, facts.spec.addresses);
    if (!candidates)
        return std::unexpected(std::move(candidates).error().within("preflight of " + run.job.vm));
    return {};
}

Task<void> look_at_source(JobRun& run) {
    Result<protocol::AgentVm> vm = co_await run.source().vm(run.job.vm);
    if (!vm) co_return std::unexpected(std::move(vm).error());
    if (vm->state != protocol::VmState::running)
        co_return refuse(run,
                         "it is " + json::enum_name(vm->state) + " on " + run.job.source +
                             ", only a running VM is moved",
                         "not-running");
    if (!vm->spec || vm->spec->addresses.empty() || vm->spec->mac.empty())
        co_return refuse(
            run,
            "the agent of " + run.job.source + " tells no specification with MAC and addresses",
            "no-specification");
    for (const protocol::DiskSpec& disk : vm->spec->disks)
        if (disk.writable && moves_memory(run.job))
            co_return refuse(
                run,
                "disk " + disk.base +
                    " is writable itself, and source and destination would both write it: leave "
                    "writable out, so that it is the read-only base of an overlay for each, or "
                    "use method steer",
                "shared-disk");
    if (boots_fresh(run.job) && vm->spec->regions.empty())
        co_return refuse(run,
                         "it has no regions, and method boot moves nothing else: use method steer, "
                         "or give it a region",
                         "no-regions");
    if (boots_fresh(run.job) && !vm->spec->guest_agent)
        co_return refuse(run,
                         "without a guest agent nobody can tell when the fresh VM is ready: set "
                         "guest_agent, or use method fork",
                         "no-guest-agent");
    run.job.facts.spec = *vm->spec;
    run.job.facts.source = backend_of(*run.devices.host(run.job.source), *vm->spec);
    Result<void> movable = check_addresses_move(run);
    if (!movable) co_return movable;
    co_return name_destination(run);
}

Result<void> check_same_qemu(const JobRun& run, const protocol::HostStatus& source,
                             const protocol::HostStatus& destination) {
    if (source.accelerator != destination.accelerator)
        return refuse(run,
                      run.job.source + " runs " + source.accelerator + ", " + run.job.destination +
                          " runs " + destination.accelerator +
                          ": device state moves between equal accelerators only",
                      "incompatible-host");
    if (source.qemu_version != destination.qemu_version)
        return refuse(run,
                      run.job.source + " has QEMU " + source.qemu_version + ", " +
                          run.job.destination + " has " + destination.qemu_version +
                          ": machine type " + run.job.facts.spec.machine +
                          " is the same on equal versions only",
                      "incompatible-host");
    return {};
}

// A VM of this name at the destination would be in the way of a clone, and is needed to steer.
Result<void> check_resident(JobRun& run, const protocol::HostStatus& host) {
    const auto resident = std::ranges::find(host.vms, run.job.vm, &protocol::AgentVm::vm);
    const bool there = resident != host.vms.end();
    if (moves_memory(run.job)) {
        const bool ours = there && resident->owner_job == run.job.id;
        const bool absent = !there || resident->state == protocol::VmState::unknown;
        if (absent || ours) return {};
        return refuse(run,
                      run.job.destination + " already has a VM of this name (" +
                          json::enum_name(resident->state) + "): delete it there first",
                      "destination-occupied");
    }
    if (!there || resident->state != protocol::VmState::running)
        return refuse(run, "method steer needs a running VM of this name on " + run.job.destination,
                      "destination-missing");
    if (!resident->spec) return {};
    const bool has_own = !resident->spec->temporary_addresses.empty();
    if (has_own != arrives_by_nat(run.job))
        return refuse(run,
                      "its description on " + run.job.destination + " has " +
                          (has_own ? "temporary_addresses: ask for steering nat"
                                   : "no temporary_addresses, which steering nat needs there"),
                      "temporary-address");
    run.job.facts.temporary_addresses = resident->spec->temporary_addresses;
    run.job.facts.destination = backend_of(*run.devices.host(run.job.destination), *resident->spec);
    return {};
}

Task<void> look_at_destination(JobRun& run) {
    Result<protocol::HostStatus> destination = co_await run.destination().host();
    if (!destination) co_return std::unexpected(std::move(destination).error());
    Result<void> resident = check_resident(run, *destination);
    if (resident) resident = check_pair(run);
    if (!resident) co_return resident;
    run.job.facts.destination_transfer = destination->transfer_address;
    if (!moves_memory(run.job)) co_return Result<void>{};
    Result<protocol::HostStatus> source = co_await run.source().host();
    if (!source) co_return std::unexpected(std::move(source).error());
    const std::uint64_t needed = bytes_needed(run.job.facts.spec);
    if (destination->memory_available_bytes < needed)
        co_return refuse(run,
                         run.job.destination + " has " +
                             std::to_string(destination->memory_available_bytes >> 20) +
                             " MiB free, " + std::to_string(needed >> 20) + " MiB are needed",
                         "no-memory");
    if (boots_fresh(run.job)) co_return Result<void>{};  // no device state moves
    co_return check_same_qemu(run, *source, *destination);
}

// Up to half of its slots a table turns nobody away; a migration keeps the ended sessions of the source for a while,
// and whoever finds no room then is not tracked and breaks at the handover.
Result<void> check_tables(const JobRun& run, const protocol::SwitchStats& stats) {
    struct Fill {
        const char* name;
        std::uint64_t used, capacity;
    };
    for (const Fill& table : {Fill{"sessions_v4", stats.table_used, stats.table_capacity},
                              Fill{"sessions_v6", stats.table_used_v6, stats.table_capacity_v6}})
        if (table.used * 2 > table.capacity)
            return refuse(
                run,
                "the session table of switch " + run.job.facts.switch_id + " has " +
                    std::to_string(table.used) + " entries in " + std::to_string(table.capacity) +
                    " slots, and when more than half are taken newcomers may go untracked: "
                    "raise tables." +
                    table.name +
                    " in its YAML and start it with empty tables, or wait until sessions "
                    "have ended (force: true goes on)",
                "table-pressure");
    return {};
}

Task<void> look_at_switch(JobRun& run) {
    Result<protocol::SwitchStatus> status = co_await run.access_switch().status();
    if (!status) co_return std::unexpected(std::move(status).error());
    for (const std::string& port : {run.job.facts.source.port, run.job.facts.destination.port}) {
        const auto found = std::ranges::find(status->ports, port, &protocol::PortStatus::name);
        if (found == status->ports.end())
            co_return refuse(run, "switch " + run.job.facts.switch_id + " has no port " + port,
                             "unknown-port");
    }
    Result<void> tunnel = co_await check_tunnel(run, *status);
    if (!tunnel) co_return tunnel;
    if (!run.job.request.force) {
        Result<void> room = check_tables(run, status->stats);
        if (!room) co_return std::unexpected(std::move(room).error());
    }
    Result<protocol::VmSteering> seen = co_await run.access_switch().steering(run.job.vm);
    // Not managed yet: hosting makes it so, and nothing was tracked before.
    if (!seen && seen.error().fault == Fault::Missing) co_return Result<void>{};
    if (!seen) co_return std::unexpected(std::move(seen).error());
    if (seen->untracked > 0 && !run.job.request.force)
        co_return refuse(run,
                         std::to_string(seen->untracked) +
                             " sessions are not tracked, because "
                             "the switch's table was full; they would break (force: true goes on)",
                         "untracked-sessions");
    co_return Result<void>{};
}

Task<void> apply(JobRun& run) {
    Result<void> tokens = co_await raise_tokens(run);
    if (!tokens) co_return tokens;
    Result<void> checked = co_await check_preflight(run);
    co_return checked;
}

}  // namespace

Task<void> check_preflight(JobRun& run) {
    Result<void> ports = check_ports(run);
    if (!ports) co_return ports;
    Result<void> source = co_await look_at_source(run);
    if (!source) co_return source;
    Result<void> destination = co_await look_at_destination(run);
    if (!destination) co_return destination;
    Result<void> at_switch = co_await look_at_switch(run);
    co_return at_switch;
}

const Step kPreflight{.apply = apply};

}  // namespace godwit::controller
