// A peer that dies in the middle of a sentence.
#pragma once

#include <cstdlib>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

namespace godwit::fakes {

// A listener that takes one connection, reads a little, says `words` and hangs up.
class CuttingListener {
public:
    explicit CuttingListener(std::string words) {
        fd_ = socket(AF_INET, SOCK_STREAM, 0);
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof(at);
        if (bind(fd_, reinterpret_cast<sockaddr*>(&at), size) != 0 || listen(fd_, 4) != 0) abort();
        getsockname(fd_, reinterpret_cast<sockaddr*>(&at), &size);
        address = "127.0.0.1:" + std::to_string(ntohs(at.sin_port));
        thread_ = std::thread([this, words] {
            const int peer = accept(fd_, nullptr, nullptr);
            char chunk[4096];
            (void)!recv(peer, chunk, sizeof(chunk), 0);
            (void)!::send(peer, words.data(), words.size(), MSG_NOSIGNAL);
            close(peer);
        });
    }
    ~CuttingListener() {
        thread_.join();
        close(fd_);
    }

    std::string address;

private:
    int fd_ = -1;
    std::thread thread_;
};

}  // namespace godwit::fakes
