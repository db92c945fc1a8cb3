#include "tests/unit/cli/process.hpp"

#include <cstdlib>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdexcept>
#include <sys/wait.h>
#include <unistd.h>

namespace godwit::tests {

namespace {

[[noreturn]] void become(const std::vector<std::string>& command,
                         const std::vector<std::string>& environment) {
    for (const char* name : {"GODWIT_SERVER", "GODWIT_TOKEN_FILE", "NO_COLOR"}) unsetenv(name);
    for (const std::string& entry : environment) putenv(const_cast<char*>(entry.c_str()));
    std::vector<char*> words;
    for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);  // another thread may just be accepting
    execv(words[0], words.data());
    _exit(127);
}

void close_fd(int& fd) {
    if (fd >= 0) close(fd);
    fd = -1;
}

}  // namespace

Process::Process(std::vector<std::string> command, std::vector<std::string> environment,
                 Output output) {
    if (output == Output::terminal) {
        winsize size{.ws_row = 24, .ws_col = 200, .ws_xpixel = 0, .ws_ypixel = 0};
        pid_ = forkpty(&err_fd_, nullptr, nullptr, &size);
        if (pid_ == 0) become(command, environment);
        if (pid_ < 0) throw std::runtime_error("forkpty");
        return;
    }
    int out_pipe[2], err_pipe[2];
    if (pipe2(out_pipe, O_CLOEXEC) != 0 || pipe2(err_pipe, O_CLOEXEC) != 0)
        throw std::runtime_error("pipe");
    pid_ = fork();
    if (pid_ == 0) {
        dup2(out_pipe[1], STDOUT_FILENO);
        dup2(err_pipe[1], STDERR_FILENO);
        become(command, environment);
    }
    close(out_pipe[1]);
    close(err_pipe[1]);
    out_fd_ = out_pipe[0];
    err_fd_ = err_pipe[0];
}

Process::~Process() {
    if (pid_ > 0) {
        kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
    }
    close_fd(out_fd_);
    close_fd(err_fd_);
}

bool Process::read_some() {
    pollfd both[2] = {{out_fd_, POLLIN, 0}, {err_fd_, POLLIN, 0}};
    if (out_fd_ < 0 && err_fd_ < 0) return false;
    if (poll(both, 2, -1) < 0) return false;
    char chunk[4096];
    const auto take = [&chunk](pollfd ready, int& fd, std::string& to) {
        if (ready.revents == 0) return;
        const ssize_t got = read(fd, chunk, sizeof(chunk));
        if (got <= 0) return close_fd(fd);  // a terminal ends with EIO
        to.append(chunk, static_cast<std::size_t>(got));
    };
    take(both[0], out_fd_, out);
    take(both[1], err_fd_, err);
    return true;
}

bool Process::wait_for(const std::string& text) {
    while (err.find(text) == err.npos)
        if (!read_some()) return false;
    return true;
}
bool Process::wait_for_out(const std::string& text) {
    while (out.find(text) == out.npos)
        if (!read_some()) return false;
    return true;
}

void Process::signal(int number) {
    kill(pid_, number);
}

int Process::wait() {
    while (read_some()) continue;
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace godwit::tests
