// One VM on this host: its record, its QEMU, its port and its files. Every effect is written into
// the record before it is made, so that a restarted agent finds "maybe happened" and looks.
#pragma once

#include "vm_agent/qmp/client.hpp"
#include "vm_agent/vm/command_line.hpp"
#include "vm_agent/vm/lock.hpp"
#include "vm_agent/vm/record.hpp"
#include "vm_agent/worker_pool.hpp"

#include <functional>
#include <memory>
#include <string>

#include <boost/asio/any_io_executor.hpp>

namespace godwit::agent {

// What all VMs of an agent share; outlives them.
struct HostContext {
    const Config& config;
    boost::asio::any_io_executor executor;  // the agent's one thread
    WorkerPool& pool;
    std::string accelerator;
    std::string qemu_version;
};

// A region is to a VM what a disk is: it stays when the VM only stops.
enum class Sweep { keep_regions, everything };

class Machine : public std::enable_shared_from_this<Machine> {
public:
    Machine(HostContext& host, VmRecord record);

    VmRecord& record() { return record_; }
    const VmRecord& record() const { return record_; }
    const VmPaths& paths() const { return paths_; }
    HostContext& host() { return host_; }
    const std::string& name() const { return record_.spec.id; }
    // Held by whoever changes this VM; long copies hold it only around their steps.
    Lock& lock() { return lock_; }
    Result<void> save() const;

    // A process with our command line exists, whether or not it answers.
    bool is_alive() const;
    // What QEMU says, else `unknown` when it is there and silent.
    Task<protocol::VmState> state();
    Task<protocol::AgentVm> view();

    // Idempotent. `boot` starts the guest with its link up; `incoming` an empty QEMU with its link
    // down.
    Task<void> start(BootMode mode);
    // Asks the guest through QGA and ACPI, then kills; sweeps.
    Task<void> stop(Sweep sweep);
    // At once, without asking the guest.
    Task<void> destroy(Sweep sweep);
    // Files, tap and sockets of a VM whose QEMU is gone.
    Result<void> sweep(Sweep what);
    Result<void> remove_bases();

    Task<void> pause(PausedFor why);
    // Undoes pause(): observed running through QMP before the record forgets it.
    Task<void> resume();
    // Of a VM without QEMU: its tap only. Down is a fence: nothing passes in or out, also after the switch was
    // restarted. Up on vhost-user returns when the switch is there.
    Task<void> set_link(bool up);
    // From the pause on the source writes an overlay that was made before (method fork); what it wrote until
    // then is still, and the clone's to build on. Named and saved first: a restarted agent finds both.
    Task<void> make_next_overlays();
    Task<void> turn_to_next_overlays();
    Task<void> wait_for_link();  // until what is set up really passes frames
    bool is_link_up() const;
    // x-ignore-shared and events; on both sides, before any device state is written or read.
    Task<void> prepare_migration(bool incoming);
    // Device state of the paused VM into `fd`; the file's size is the stream's.
    Task<void> save_devices(int fd);
    Task<void> load_devices(int fd);
    // Of the last pause() and resume(): from before QEMU was told to stop until it had gone on.
    double pause_ms() const { return pause_ms_; }
    // How long the paused VM has stood still until now; known to a restarted agent as well.
    double standstill_ms() const;
    // The role word in every region's header; atomic for a running guest.
    Result<void> write_role(const std::string& role, std::uint64_t epoch);
    // The highest epoch any region's role word knows.
    Result<std::uint64_t> region_epoch() const;

    Task<std::shared_ptr<qmp::Client>> qmp();
    void set_detail(std::string detail) { detail_ = std::move(detail); }

private:
    Task<void> make_memory();
    bool has_tap() const { return record_.spec.network.kind == protocol::NetworkKind::tap; }
    std::string vhost_path() const { return paths_.vhost(record_.spec); }
    Result<void> make_port();    // what QEMU opens
    Result<void> remove_port();  // fine when it is not there
    Task<void> set_vhost_link(bool up);
    Task<void> await_switch();
    Task<void> make_disks();
    Task<void> ask_to_leave(pid_t pid);
    Task<bool> wait_gone(pid_t pid, std::chrono::milliseconds deadline);
    Task<std::string> query_status();
    Task<void> await_settled();
    Task<void> await_migration(std::string doing, std::function<Task<void>()> begin);

    HostContext& host_;
    VmRecord record_;
    VmPaths paths_;
    Lock lock_, qmp_lock_;
    std::shared_ptr<qmp::Client> qmp_;
    std::string detail_;
    std::chrono::steady_clock::time_point paused_at_{};
    double pause_ms_ = 0;
};

}  // namespace godwit::agent
