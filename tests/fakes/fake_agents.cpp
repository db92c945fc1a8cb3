// The agents' half of the fake world.
#include "tests/fakes/fake_answers.hpp"
#include "tests/fakes/fake_world.hpp"

#include <algorithm>

namespace godwit::fakes {

http::Response FakeWorld::put_incoming(FakeHost& host, const http::Request& request) {
    const IncomingRequest wanted = read<IncomingRequest>(request);
    const std::string name = request.params.at("vm");
    const auto found = host.vms.find(name);
    if (found != host.vms.end() && found->second.owner_job != wanted.command.job)
        return problem(Fault::Conflict, "another's VM", "not-owner");
    if (found == host.vms.end()) {
        AgentVm vm;
        vm.vm = name;
        vm.state = wanted.method == "boot" ? VmState::defined : VmState::incoming;
        vm.owner_job = wanted.command.job;
        vm.spec = wanted.spec;
        host.vms[name] = vm;
        host.addresses_seen = false;
        host.guest_addresses.reset();
    }
    return http::json_response(200, host.vms[name]);
}

http::Response FakeWorld::put_copy(FakeHost& host, const http::Request& request) {
    const CopyRequest wanted = read<CopyRequest>(request);
    const std::string name = request.params.at("vm");
    CopyStatus& status = host.copies[name];
    if (status.job == wanted.command.job) return http::json_response(200, status);
    status = {};
    status.job = wanted.command.job;
    status.bytes_total = 300;
    status.bandwidth_mib_s = wanted.bandwidth_mib_s.value_or(0);
    status.bytes_per_s = 50;
    host.copy_destination = wanted.destination;
    host.copy_method = wanted.method;
    if (copy_fails) {
        status.state = OperationState::failed;
        status.error = "the disk of the destination is full";
    }
    return http::json_response(200, status);
}

http::Response FakeWorld::get_copy(FakeHost& host, const http::Request& request) {
    const auto found = host.copies.find(request.params.at("vm"));
    if (found == host.copies.end() || found->second.job != request.query_or("job", ""))
        return problem(Fault::Missing, "no such copy", "unknown-job");
    CopyStatus& status = found->second;
    if (status.state == OperationState::running) {
        status.bytes_copied += 100;
        status.bytes_on_wire = status.bytes_copied + 10;
        if (status.bytes_copied >= status.bytes_total && host.copy_method == "whole") {
            status.stage = "ready";
        } else if (status.bytes_copied >= status.bytes_total) {
            status.state = OperationState::done;
            status.pause_ms = 40;
            hosts.at(host.copy_destination).vms.at(request.params.at("vm")).state = VmState::paused;
        }
    }
    return http::json_response(200, status);
}

http::Response FakeWorld::put_bandwidth(FakeHost& host, const http::Request& request) {
    const protocol::LimitRequest wanted = read<protocol::LimitRequest>(request);
    CopyStatus& status = host.copies[request.params.at("vm")];
    if (status.state != OperationState::running)
        return problem(Fault::Conflict, "no copy", "wrong-state");
    status.bandwidth_mib_s = wanted.bandwidth_mib_s;
    return http::json_response(200, status);
}

http::Response FakeWorld::put_freeze(FakeHost& host, const http::Request& request) {
    const std::string vm = request.params.at("vm");
    CopyStatus& status = host.copies[vm];
    if (status.state != OperationState::running) return http::json_response(200, status);
    if (status.stage != "ready") return problem(Fault::Conflict, "not ready", "wrong-state");
    status.state = freeze_problem.empty() ? OperationState::done : OperationState::failed;
    status.problem = freeze_problem;
    status.error = freeze_problem.empty() ? "" : "it could not be stopped";
    if (!freeze_problem.empty()) return http::json_response(200, status);
    status.stage = "loaded";
    status.pause_ms = static_cast<double>(stood_still_ms);
    status.root = "00ff";
    host.vms.at(vm).state = VmState::paused;
    hosts.at(host.copy_destination).loaded = true;
    if (destination_dies_loaded)
        hosts.at(host.copy_destination).vms.at(vm).state = VmState::stopped;
    return http::json_response(200, status);
}

http::Response FakeWorld::abort_copy(FakeHost& host, const http::Request& request) {
    const std::string vm = request.params.at("vm");
    const auto found = host.copies.find(vm);
    if (found == host.copies.end()) return problem(Fault::Missing, "no copy", "unknown-job");
    host.copies.erase(found);
    host.merges.erase(vm);
    for (auto& [name, other] : hosts)
        if (&other != &host && other.loaded && other.vms.contains(vm) &&
            other.vms.at(vm).state == VmState::running)
            violate("the source was let go while the VM runs on " + name);
    if (host.vms.contains(vm)) host.vms.at(vm).state = VmState::running;
    return ok();
}

http::Response FakeWorld::put_activation(const std::string& name, const http::Request& request) {
    const ActivationRequest wanted = read<ActivationRequest>(request);
    const std::string vm = request.params.at("vm");
    const auto found = hosts[name].vms.find(vm);
    if (found == hosts[name].vms.end()) return unknown_vm();
    const bool ready = found->second.state == VmState::paused ||
                       found->second.state == VmState::running ||
                       (wanted.role == "sole" && hosts[name].loaded);
    if (!ready) return problem(Fault::Conflict, "no memory yet", "wrong-state");
    const auto names_it = [&](const BackendSteering& one) { return host_of(one.name) == name; };
    if (!managed.contains(vm) || std::ranges::none_of(managed[vm].steering.backends, names_it))
        violate("the clone ran before the switch knew whom to fence");
    for (const auto& [other, host] : hosts)
        if (wanted.role == "sole" && other != name && host.vms.contains(vm) &&
            host.vms.at(vm).state == VmState::running)
            violate("the VM was let run while it runs on " + other);
    if (wanted.role == "sole" && managed[vm].steering.owner != name)
        violate("the VM spoke before its sessions were its own");
    if (dies_in_activation) {
        found->second.state = VmState::stopped;
        found->second.let_run = *dies_in_activation == DiesInActivation::after_running;
        return problem(Fault::Conflict, "it has ended", "wrong-state");
    }
    found->second.let_run = true;
    found->second.state = VmState::running;
    found->second.link_up = true;
    found->second.role = wanted.role;
    return http::json_response(200, found->second);
}

http::Response FakeWorld::put_addresses(FakeHost& host, const http::Request& request) {
    const AddressRequest wanted = read<AddressRequest>(request);
    const auto vm = host.vms.find(request.params.at("vm"));
    if (vm == host.vms.end()) return unknown_vm();
    if (vm->second.state != VmState::running || host.refusals_of_addresses > 0) {
        --host.refusals_of_addresses;
        return problem(Fault::Lost, "the guest does not answer", "guest-silent");
    }
    std::vector<std::string> has = host.guest_addresses.value_or(vm->second.spec->addresses);
    std::erase_if(has, [&](const std::string& one) {
        return std::ranges::find(wanted.absent, one) != wanted.absent.end();
    });
    for (const std::string& one : wanted.present) {
        const std::string alone = one.substr(0, one.find('/'));
        if (std::ranges::find(has, alone) == has.end()) has.push_back(alone);
    }
    host.guest_addresses = has;
    return http::json_response(200, AddressList{has});
}

http::Response FakeWorld::put_merge(FakeHost& host, const http::Request& request) {
    const MergeRequest wanted = read<MergeRequest>(request);
    const std::string vm = request.params.at("vm");
    MergeStatus& status = host.merges[vm];
    if (status.job == wanted.command.job && status.state == OperationState::done)
        return http::json_response(200, status);
    status = {};
    status.job = wanted.command.job;
    status.state = OperationState::running;
    host.vms.at(vm).state = VmState::paused;
    if (merge_conflicts && wanted.on_conflict == OnConflict::fail) {
        status.state = OperationState::failed;
        status.conflicts = {{"sessions", 4096, "slot-3", "00", "01", "02"}};
    }
    return http::json_response(200, status);
}

http::Response FakeWorld::put_retirement(const std::string& name, const http::Request& request) {
    const RetireRequest wanted = read<RetireRequest>(request);
    const std::string vm = request.params.at("vm");
    if (sessions_of(name) > 0)
        violate("the source was retired while it owned " + std::to_string(sessions_of(name)) +
                " sessions");
    const bool somebody_runs = std::ranges::any_of(hosts, [&](const auto& other) {
        return other.first != name && other.second.vms.contains(vm) &&
               other.second.vms.at(vm).state == VmState::running;
    });
    if (!somebody_runs) violate("the source was retired and the VM runs nowhere");
    if (!hosts[name].vms.contains(vm)) return unknown_vm();
    hosts[name].copies.erase(vm);
    hosts[name].merges.erase(vm);
    if (wanted.source_after == SourceAfter::delete_) hosts[name].vms.erase(vm);
    if (wanted.source_after == SourceAfter::stop) hosts[name].vms[vm].state = VmState::defined;
    return ok();
}

http::Response FakeWorld::delete_vm(const std::string& name, const http::Request& request) {
    const std::string vm = request.params.at("vm");
    const auto found = hosts[name].vms.find(vm);
    if (found == hosts[name].vms.end()) return unknown_vm();
    if (found->second.owner_job != request.query_or("job", ""))
        return problem(Fault::Conflict, "another's VM", "not-owner");
    if (sessions_of(name) > 0)
        violate(name + " was destroyed while it owned " + std::to_string(sessions_of(name)) +
                " sessions");
    hosts[name].vms.erase(found);
    hosts[name].loaded = false;
    return ok();
}

std::vector<http::Route> FakeWorld::agent_routes(const std::string& name) {
    FakeHost& host = hosts[name];
    const auto at = [&host](const http::Request& r) { return host.vms.find(r.params.at("vm")); };
    const auto status = [name, &host](const http::Request&) {
        HostStatus shown{name, "1", host.qemu_version, host.accelerator, host.token};
        shown.memory_total_bytes = shown.memory_available_bytes = host.memory_available;
        shown.transfer_address = name;
        for (const auto& [id, vm] : host.vms) shown.vms.push_back(vm);
        return http::json_response(200, shown);
    };
    const auto vm = [&host, at](const http::Request& r) {
        return at(r) == host.vms.end() ? unknown_vm() : http::json_response(200, at(r)->second);
    };
    const auto reserve = [&host](const http::Request& r) {
        host.reservations[r.params.at("job")] = read<Reservation>(r);
        return http::json_response(200, host.reservations[r.params.at("job")]);
    };
    const auto release = [&host](const http::Request& r) {
        return host.reservations.erase(r.params.at("job"))
                   ? ok()
                   : problem(Fault::Missing, "no lease", "unknown-job");
    };
    const auto addresses = [&host, at](const http::Request& r) {
        if (at(r) == host.vms.end() || at(r)->second.state != VmState::running)
            return problem(Fault::Conflict, "it does not run", "wrong-state");
        host.addresses_seen = true;
        return http::json_response(
            200, AddressList{host.guest_addresses.value_or(at(r)->second.spec->addresses)});
    };
    const auto sockets = [&host](const http::Request&) {
        SocketTable table{host.guest_sockets, {}, {22, 80}, host.guest_tcp};
        if (host.guest_sockets > 0) table.peers = {"10.0.0.9:4000"};
        if (host.looks_until_listening > 0) {
            --host.looks_until_listening;
            table.tcp_listening = {22};
        }
        return http::json_response(200, table);
    };
    const auto regions = [at, &host](const http::Request& r) {
        if (at(r) == host.vms.end()) return unknown_vm();
        RegionList list;
        for (const RegionSpec& one : at(r)->second.spec->regions) {
            list.regions.emplace_back().region = one.name;
            list.regions.back().bytes = std::uint64_t{one.size_mib} << 20;
        }
        return http::json_response(200, list);
    };
    const auto quiesce = [&host](const http::Request& r) {
        host.quiet_window_ms = read<protocol::QuiesceRequest>(r).window_ms;
        host.looks_until_quiet -= host.looks_until_quiet > 0;
        const bool quiet = host.guest_says_quiet || host.looks_until_quiet == 0;
        return http::json_response(200, QuiesceStatus{quiet, host.guest_says_quiet, 1});
    };
    const auto merge_status = [&host](const http::Request& r) {
        const auto found = host.merges.find(r.params.at("vm"));
        if (found == host.merges.end()) return problem(Fault::Missing, "no merge", "unknown-job");
        if (found->second.state == OperationState::running) {
            found->second.state = OperationState::done;
            found->second.bytes_compared = 1 << 20;
            found->second.bytes_patched = 128;
        }
        return http::json_response(200, found->second);
    };
    const auto adopt = [&host, at](const http::Request& r) {
        if (at(r) == host.vms.end()) return unknown_vm();
        at(r)->second.owner_job.reset();
        at(r)->second.role = "sole";
        return http::json_response(200, at(r)->second);
    };
    const auto fence = [&host](const http::Request&) {
        return http::json_response(200, Fence{host.token});
    };
    return {
        route(name, "PUT", "/v1/fence", fence),
        route(name, "GET", "/v1/host", status),
        route(name, "GET", "/v1/vms/{vm}", vm),
        route(name, "DELETE", "/v1/vms/{vm}",
              [this, name](const http::Request& r) { return delete_vm(name, r); }),
        route(name, "PUT", "/v1/reservations/{job}", reserve),
        route(name, "DELETE", "/v1/reservations/{job}", release),
        route(name, "PUT", "/v1/vms/{vm}/incoming",
              [this, &host](const http::Request& r) { return put_incoming(host, r); }),
        route(name, "PUT", "/v1/vms/{vm}/copy",
              [this, &host](const http::Request& r) { return put_copy(host, r); }),
        route(name, "GET", "/v1/vms/{vm}/copy",
              [this, &host](const http::Request& r) { return get_copy(host, r); }),
        route(name, "DELETE", "/v1/vms/{vm}/copy",
              [this, &host](const http::Request& r) { return abort_copy(host, r); }),
        route(name, "PUT", "/v1/vms/{vm}/freeze",
              [this, &host](const http::Request& r) { return put_freeze(host, r); }),
        route(name, "PUT", "/v1/vms/{vm}/bandwidth",
              [this, &host](const http::Request& r) { return put_bandwidth(host, r); }),
        route(name, "PUT", "/v1/vms/{vm}/activation",
              [this, name](const http::Request& r) { return put_activation(name, r); }),
        route(name, "GET", "/v1/vms/{vm}/addresses", addresses),
        route(name, "PUT", "/v1/vms/{vm}/addresses",
              [this, &host](const http::Request& r) { return put_addresses(host, r); }),
        route(name, "GET", "/v1/vms/{vm}/sockets", sockets),
        route(name, "GET", "/v1/vms/{vm}/regions", regions),
        route(name, "PUT", "/v1/vms/{vm}/quiescence", quiesce),
        route(name, "PUT", "/v1/vms/{vm}/merge",
              [this, &host](const http::Request& r) { return put_merge(host, r); }),
        route(name, "GET", "/v1/vms/{vm}/merge", merge_status),
        route(name, "PUT", "/v1/vms/{vm}/retirement",
              [this, name](const http::Request& r) { return put_retirement(name, r); }),
        route(name, "PUT", "/v1/vms/{vm}/adoption", adopt),
    };
}

}  // namespace godwit::fakes
