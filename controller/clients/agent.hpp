// One godwit-agent, by the messages of protocol/agent_api.hpp. Errors carry the host's name; Retry
// means the outcome is unknown.
#pragma once

#include "lib/http/client.hpp"

#include "protocol/agent_api.hpp"
#include "protocol/region_api.hpp"

#include <chrono>
#include <memory>
#include <string>

#include <boost/asio/any_io_executor.hpp>

namespace godwit::controller {

struct CallTimes {
    std::chrono::milliseconds usual{5'000};
    std::chrono::milliseconds starting_vm{60'000};  // QEMU starts, stops, or loads
};

class AgentClient {
public:
    AgentClient(boost::asio::any_io_executor executor, std::string host, std::string address,
                std::string secret, CallTimes times);

    Task<protocol::Fence> fence(std::uint64_t token);
    Task<protocol::HostStatus> host();
    Task<protocol::AgentVm> vm(std::string vm);
    Task<void> remove(std::string vm, protocol::Command command);
    Task<void> reserve(protocol::Reservation reservation);
    Task<void> release(protocol::Command command);
    Task<protocol::AgentVm> incoming(std::string vm, protocol::IncomingRequest request);
    Task<protocol::CopyStatus> copy(std::string vm, protocol::CopyRequest request);
    Task<protocol::CopyStatus> copy_status(std::string vm, std::string job);
    Task<protocol::CopyStatus> limit(std::string vm, protocol::LimitRequest request);
    Task<protocol::CopyStatus> freeze(std::string vm, protocol::FreezeRequest request);
    Task<void> abort_copy(std::string vm, protocol::Command command);
    Task<protocol::AgentVm> activate(std::string vm, protocol::ActivationRequest request);
    Task<protocol::AddressList> addresses(std::string vm);
    Task<protocol::AddressList> set_addresses(std::string vm, protocol::AddressRequest request);
    Task<protocol::SocketTable> sockets(std::string vm);
    Task<protocol::RegionList> regions(std::string vm);
    Task<protocol::QuiesceStatus> quiesce(std::string vm, protocol::QuiesceRequest request);
    Task<protocol::MergeStatus> merge(std::string vm, protocol::MergeRequest request);
    Task<protocol::MergeStatus> merge_status(std::string vm, std::string job);
    Task<void> retire(std::string vm, protocol::RetireRequest request);
    Task<void> adopt(std::string vm, protocol::AdoptRequest request);

private:
    template <typename T, typename Body>
    Task<T> put(std::string path, Body body, std::chrono::milliseconds deadline);
    template <typename T>
    Task<T> get(std::string path);
    template <typename Body>
    Task<void> put_only(std::string path, Body body, std::chrono::milliseconds deadline);
    Task<void> erase(std::string path);

    std::string name_;  // "agent host-a"
    CallTimes times_;
    http::Client client_;
};

}  // namespace godwit::controller
