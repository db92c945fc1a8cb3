// Where other agents bring memory: accepts, greets, and takes a copy or a merge into a VM of this
// host.
#pragma once

#include "vm_agent/agent.hpp"

#include <boost/asio/ip/tcp.hpp>

namespace godwit::agent {

class TransferServer {
public:
    explicit TransferServer(Agent& agent);
    // "10.9.0.2:7010"; port 0 takes any. Returns the bound address.
    Result<std::string> listen(const std::string& address);
    void stop();

private:
    boost::asio::awaitable<void> accept_loop();
    boost::asio::awaitable<void> serve(std::shared_ptr<memory::FrameChannel> channel);
    // Of a session that is here already, with another connection.
    Task<void> take_up(std::shared_ptr<memory::FrameChannel> channel, memory::Caller caller);
    Task<void> converse(std::shared_ptr<memory::FrameChannel> channel);
    Task<void> take_copy(std::shared_ptr<memory::FrameChannel> channel,
                         std::shared_ptr<Machine> machine);
    Task<void> load(std::shared_ptr<memory::FrameChannel> channel, std::shared_ptr<Machine> machine,
                    std::uint64_t epoch, std::shared_ptr<memory::Descriptor> devices);
    Task<void> take_whole(std::shared_ptr<memory::FrameChannel> channel,
                          std::shared_ptr<Machine> machine);
    Task<void> take_regions(std::shared_ptr<memory::FrameChannel> channel,
                            std::shared_ptr<Machine> machine);
    Task<void> take_merge(std::shared_ptr<memory::FrameChannel> channel,
                          std::shared_ptr<Machine> machine, std::string job);

    Agent& agent_;
    boost::asio::ip::tcp::acceptor acceptor_;
    std::vector<std::weak_ptr<memory::FrameChannel>> channels_;
};

}  // namespace godwit::agent
