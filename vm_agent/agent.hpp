// godwit-agent's state: the VMs of this host, who may command it, what is reserved. All methods run
// on the agent's one thread; a VM's own lock orders what changes it.
#pragma once

#include "vm_agent/fencing.hpp"
#include "vm_agent/guest/client.hpp"
#include "vm_agent/memory/session.hpp"
#include "vm_agent/operations/merge.hpp"

#include <map>

namespace godwit::agent {

class Agent {
public:
    // `host`, and what it refers to, outlive the agent.
    Agent(HostContext& host, Fencing fencing, memory::Credentials credentials);

    // Reads records and vm_dir, finds QEMUs that still run, ends what an earlier process left half
    // done: a guest paused for a copy goes on, a half patched region gets its old lines back.
    Task<void> recover();

    Fencing& fencing() { return fencing_; }
    HostContext& host() { return host_; }
    const memory::Credentials& credentials() const { return credentials_; }
    memory::Sessions& sessions() { return sessions_; }

    Task<protocol::HostStatus> host_status();
    boost::asio::awaitable<std::vector<protocol::AgentVm>> views();
    Result<std::shared_ptr<Machine>> find(const std::string& vm) const;  // Missing/unknown-vm

    Task<protocol::AgentVm> define(protocol::VmSpec spec);
    Task<protocol::AgentVm> start(std::string vm);
    Task<protocol::AgentVm> stop(std::string vm);
    // With a job: only a VM the job owns. Not there already is fine.
    Task<void> remove(std::string vm, std::string job);

    Result<protocol::Reservation> reserve(const protocol::Reservation& reservation);
    Result<void> release(const std::string& job);

    Task<protocol::AgentVm> prepare_incoming(protocol::IncomingRequest request);
    Task<protocol::AgentVm> activate(std::string vm, protocol::ActivationRequest request);
    Task<protocol::AgentVm> adopt(std::string vm, protocol::AdoptRequest request);

    Result<protocol::CopyStatus> start_copy(const std::string& vm, protocol::CopyRequest request);
    Result<protocol::CopyStatus> copy_status(const std::string& vm, const std::string& job) const;
    // Of a copy under way; Conflict/wrong-state when there is none.
    Result<protocol::CopyStatus> limit_copy(const std::string& vm,
                                            const protocol::LimitRequest& request);
    // Method whole. Returns when the copy is over: the guest stands still and the destination has
    // everything, or it runs on and the status says why.
    Task<protocol::CopyStatus> freeze(std::string vm, protocol::FreezeRequest request);
    // Returns when the guest goes on and nothing of the copy is left.
    Task<void> abort_copy(std::string vm, std::string job);

    // Before the program ends: no guest stays paused for a copy nobody makes any more.
    boost::asio::awaitable<void> end_copies();

    Task<protocol::QuiesceStatus> quiescence(std::string vm, protocol::QuiesceRequest request);
    Result<protocol::MergeStatus> start_merge(const std::string& vm,
                                              protocol::MergeRequest request);
    Result<protocol::MergeStatus> merge_status(const std::string& vm, const std::string& job) const;
    Task<void> retire(std::string vm, protocol::RetireRequest request);

    Task<protocol::AddressList> addresses(std::string vm);
    // Brings the guest's addresses about, and looks again.
    Task<protocol::AddressList> set_addresses(std::string vm, protocol::AddressRequest request);
    Task<protocol::SocketTable> sockets(std::string vm);

private:
    struct Memory {
        std::uint64_t total = 0, available = 0;
    };
    Memory memory_left(const std::string& except_job = {}) const;
    Result<void> save_reservations() const;
    Result<void> load_records();
    Result<void> load_vm_dir();
    Task<void> recover_machine(std::shared_ptr<Machine> machine);
    void forget(const std::string& vm);
    Task<void> end_copy(std::shared_ptr<CopyJob> job);
    boost::asio::awaitable<void> copy_to_end(std::string vm, std::shared_ptr<Machine> machine,
                                             std::shared_ptr<CopyJob> job);
    boost::asio::awaitable<void> merge_to_end(std::string vm, std::shared_ptr<Machine> machine,
                                              protocol::MergeRequest request);

    HostContext& host_;
    Fencing fencing_;
    memory::Credentials credentials_;
    memory::Sessions sessions_;  // in which other agents bring memory
    std::map<std::string, std::shared_ptr<Machine>> machines_;
    std::map<std::string, protocol::Reservation> reservations_;  // by job
    std::map<std::string, std::shared_ptr<CopyJob>> copies_;     // by VM, while they run
    std::map<std::string, std::string> merges_;                  // VM -> job, while they run
};

std::unexpected<Error> wrong_state(const std::string& doing, protocol::VmState now,
                                   const std::string& legal);

}  // namespace godwit::agent
