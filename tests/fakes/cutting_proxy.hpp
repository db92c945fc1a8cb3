// A link that is cut: forwards TCP to one address, and hangs up on both sides at given places.
#pragma once

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <poll.h>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

namespace godwit::fakes {

class CuttingProxy {
public:
    // One connection each, in turn: ended once so many bytes went towards the target, or came from
    // it. What follows the last cut is left alone.
    struct Cut {
        std::uint64_t to_target = UINT64_MAX, from_target = UINT64_MAX;
    };

    CuttingProxy(const std::string& target, std::deque<Cut> cuts) : cuts_(std::move(cuts)) {
        target_ = place(static_cast<std::uint16_t>(std::stoi(target.substr(target.find(':') + 1))));
        listener_ = socket(AF_INET, SOCK_STREAM, 0);
        sockaddr_in here = place(0);
        socklen_t size = sizeof(here);
        if (bind(listener_, reinterpret_cast<sockaddr*>(&here), size) != 0 ||
            listen(listener_, 4) != 0)
            abort();
        getsockname(listener_, reinterpret_cast<sockaddr*>(&here), &size);
        address = "127.0.0.1:" + std::to_string(ntohs(here.sin_port));
        thread_ = std::thread([this] { run(); });
    }
    ~CuttingProxy() {
        stopping_ = true;
        thread_.join();
        close(listener_);
    }

    std::string address;
    // Of all connections together.
    std::atomic<std::uint64_t> to_target = 0, from_target = 0, connections = 0;

private:
    static sockaddr_in place(std::uint16_t port) {
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_port = htons(port);
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return at;
    }

    void run() {
        while (!stopping_) {
            pollfd waiting{listener_, POLLIN, 0};
            if (poll(&waiting, 1, 20) != 1) continue;
            const int source = accept(listener_, nullptr, nullptr);
            const int target = socket(AF_INET, SOCK_STREAM, 0);
            Cut cut;
            if (!cuts_.empty()) {
                cut = cuts_.front();
                cuts_.pop_front();
            }
            ++connections;
            if (connect(target, reinterpret_cast<sockaddr*>(&target_), sizeof(target_)) == 0)
                pump(source, target, cut);
            close(source);
            close(target);
        }
    }

    void pump(int source, int target, Cut left) {
        while (!stopping_) {
            pollfd both[2] = {{source, POLLIN, 0}, {target, POLLIN, 0}};
            if (poll(both, 2, 20) <= 0) continue;
            if (both[0].revents != 0 && !pass(source, target, left.to_target, to_target)) return;
            if (both[1].revents != 0 && !pass(target, source, left.from_target, from_target))
                return;
        }
    }

    bool pass(int from, int to, std::uint64_t& left, std::atomic<std::uint64_t>& count) {
        std::array<char, 65536> bytes;
        const ssize_t got =
            recv(from, bytes.data(), std::min<std::uint64_t>(bytes.size(), left), 0);
        if (got <= 0) return false;
        for (ssize_t at = 0; at < got;) {
            const ssize_t sent =
                ::send(to, bytes.data() + at, static_cast<std::size_t>(got - at), MSG_NOSIGNAL);
            if (sent <= 0) return false;
            at += sent;
        }
        count += static_cast<std::uint64_t>(got);
        left -= static_cast<std::uint64_t>(got);
        return left > 0;
    }

    std::deque<Cut> cuts_;
    sockaddr_in target_{};
    int listener_ = -1;
    std::atomic<bool> stopping_ = false;
    std::thread thread_;
};

}  // namespace godwit::fakes
