// Two hosts, a switch and one VM in memory, behind real HTTP: what the controller's clients talk to
// in tests. It behaves (memory is copied, sessions open, end and are fenced, tokens are compared),
// it records, and it complains when something happens that must never happen.
#pragma once

#include "lib/http/server.hpp"

#include "protocol/agent_api.hpp"
#include "protocol/flow_api.hpp"
#include "protocol/switch_api.hpp"

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>

namespace godwit::fakes {

enum class Mishap {
    refuse,  // 503, nothing done
    hang,    // nothing done, no answer
    lost,    // done, no answer
};

// Strikes `times` requests whose "METHOD /path" contains `request`, on one device.
struct Trouble {
    std::string device;  // "host-a", "host-b", "switch"
    std::string request;
    Mishap mishap = Mishap::refuse;
    int times = 1;
};

struct FakeHost {
    std::map<std::string, protocol::AgentVm> vms;
    std::map<std::string, protocol::Reservation> reservations;  // by job
    std::map<std::string, protocol::CopyStatus> copies;         // by VM
    std::map<std::string, protocol::MergeStatus> merges;        // by VM
    std::string copy_destination, copy_method;
    bool loaded = false;  // has everything of a VM that moves as a whole
    std::uint64_t token = 0;
    std::uint64_t memory_available = std::uint64_t{4} << 30;
    std::string qemu_version = "7.2.0";
    std::string accelerator = "tcg";
    bool addresses_seen = false;  // somebody looked and they were there
    int looks_until_quiet = 1;
    bool guest_says_quiet = false;
    std::uint32_t quiet_window_ms = 0;  // as it was asked for
    int looks_until_listening = 0;
    std::uint64_t guest_sockets = 0;
    // What its guest has been given; before that, what its description says it comes up with.
    std::optional<std::vector<std::string>> guest_addresses;
    int refusals_of_addresses = 0;  // the guest is still starting, or never lets itself be told
    std::vector<protocol::TcpSocket> guest_tcp;  // the guest's connections, in any state
};

enum class DiesInActivation { before_running, after_running };

struct FakeVm {
    protocol::VmSteering steering;
    std::set<std::string> resets;  // job/step done before
};

class FakeWorld {
public:
    // `io` runs the servers; it outlives the world. web-1 runs on host-a with `sessions` sessions.
    explicit FakeWorld(boost::asio::io_context& io, std::string secret = "secret");
    ~FakeWorld();

    std::string address(const std::string& device) const { return addresses_.at(device); }
    // A device that does not answer, and one that is back at its old address.
    void die(const std::string& device);
    void revive(const std::string& device);

    std::map<std::string, FakeHost> hosts;
    std::map<std::string, FakeVm> managed;
    std::uint64_t switch_token = 0;
    std::vector<Trouble> troubles;
    std::vector<std::string> violations;  // empty, or something that must never happen did
    std::vector<std::string> calls;       // "switch PUT /v1/vms/web-1/steering j-1 steering 3"
    int announcements = 0;

    // How many of a previous owner's sessions end between two looks at the switch.
    std::map<std::string, std::uint64_t> ending = {{"host-a", 2}, {"host-b", 2}};
    std::uint64_t opened_at_flip = 3;  // newcomers of the new owner
    std::uint64_t opened_once_drained =
        0;  // the source opens so many right after it was seen drained
    std::uint64_t sessions_on_hosting = 6;
    bool copy_fails = false;
    bool destination_dies_loaded = false;
    // Its QEMU ends when it is activated: before its first instruction, or later.
    std::optional<DiesInActivation> dies_in_activation;
    std::string freeze_problem;        // not empty: the guest runs on, and this is why
    std::int64_t stood_still_ms = 40;  // when the freeze is over
    bool merge_conflicts = false;      // under on_conflict = fail
    std::uint64_t untracked = 0;
    protocol::SwitchStats stats;  // how full the switch's tables are
    // The TCP sessions of a backend as the switch lists them, and as the guest behind it has them.
    std::vector<protocol::SessionRow> listed(const std::string& backend) const;
    std::vector<protocol::TcpSocket> sockets_of(const std::string& backend) const;
    // Switch sw-1's port-b is this tunnel; and as switch sw-2 ("far-switch") has its end, if it has one.
    std::optional<protocol::TunnelStatus> tunnel, far_end;
    bool tunnel_up = true;
    bool packets_pass = false;  // between two looks at the list, on every session

    // What is left of jobs on hosts and switch, in words.
    std::vector<std::string> leftovers() const;
    std::uint64_t sessions_of(const std::string& host) const;
    int count_calls(const std::string& part) const;

private:
    friend class FakeAgent;
    friend class FakeSwitch;
    using Effect = std::function<http::Response(const http::Request&)>;

    http::Route route(std::string device, std::string method, std::string pattern, Effect effect);
    boost::asio::awaitable<http::Response> answer(std::string device, const Effect* effect,
                                                  http::Request request);
    std::optional<Mishap> strike(const std::string& device, const http::Request& request);
    std::vector<http::Route> agent_routes(const std::string& host);
    std::vector<http::Route> switch_routes();
    std::vector<http::Route> looking_routes();
    std::vector<http::Route> far_switch_routes();
    void listen(const std::string& device);
    void violate(std::string what) { violations.push_back(std::move(what)); }

    http::Response put_steering(const http::Request& request);
    std::optional<http::Response> refused_by_switch(const protocol::Steering& wanted,
                                                    const protocol::VmSteering& now);
    http::Response put_addresses(FakeHost& host, const http::Request& request);
    http::Response get_steering(const http::Request& request);
    http::Response reset_sessions(const http::Request& request);
    http::Response end_lost(const http::Request& request);
    http::Response put_incoming(FakeHost& host, const http::Request& request);
    http::Response put_copy(FakeHost& host, const http::Request& request);
    http::Response get_copy(FakeHost& host, const http::Request& request);
    http::Response put_bandwidth(FakeHost& host, const http::Request& request);
    http::Response put_freeze(FakeHost& host, const http::Request& request);
    http::Response abort_copy(FakeHost& host, const http::Request& request);
    http::Response put_activation(const std::string& name, const http::Request& request);
    http::Response put_merge(FakeHost& host, const http::Request& request);
    http::Response put_retirement(const std::string& name, const http::Request& request);
    http::Response delete_vm(const std::string& name, const http::Request& request);
    void live(protocol::VmSteering& steering);
    void check_answered(const protocol::VmSteering& steering);
    bool is_stale(std::uint64_t& highest, std::uint64_t token);

    boost::asio::io_context& io_;
    std::uint64_t stamp_ = 7;
    std::string secret_;
    std::map<std::string, std::unique_ptr<http::Server>> servers_;
    std::map<std::string, std::string> addresses_;
    std::deque<Effect> effects_;
};

}  // namespace godwit::fakes
