#include "vm_agent/vm/process.hpp"

#include "vm_agent/durable_file.hpp"
#include "vm_agent/memory/mapped_file.hpp"

#include <algorithm>
#include <charconv>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sstream>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

namespace godwit::agent {

using memory::Descriptor;
using std::chrono::milliseconds;

namespace {

class SpawnActions {
public:
    SpawnActions() {
        posix_spawn_file_actions_init(&actions_);
        posix_spawnattr_init(&attributes_);
    }
    ~SpawnActions() {
        posix_spawn_file_actions_destroy(&actions_);
        posix_spawnattr_destroy(&attributes_);
    }
    SpawnActions(const SpawnActions&) = delete;
    SpawnActions& operator=(const SpawnActions&) = delete;

    posix_spawn_file_actions_t actions_;
    posix_spawnattr_t attributes_;
};

Result<pid_t> spawn(const std::vector<std::string>& words, const std::string& log_file) {
    SpawnActions with;
    posix_spawn_file_actions_addopen(&with.actions_, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&with.actions_, 1, log_file.c_str(),
                                     O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&with.actions_, 1, 2);
    // Asio's sockets are not close-on-exec: a QEMU that inherited them would keep our ports.
    posix_spawn_file_actions_addclosefrom_np(&with.actions_, 3);
    // Its own process group and clean signals: what ends the agent does not end the guest.
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&with.attributes_, &none);
    posix_spawnattr_setsigdefault(&with.attributes_, &all);
    posix_spawnattr_setpgroup(&with.attributes_, 0);
    posix_spawnattr_setflags(
        &with.attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    std::vector<char*> argv;
    for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    pid_t pid = 0;
    errno = posix_spawn(&pid, argv[0], &with.actions_, &with.attributes_, argv.data(), environ);
    if (errno != 0) return fail_errno(Fault::Rejected, "start " + words[0]);
    return pid;
}

Descriptor open_pidfd(pid_t pid) {
    return Descriptor(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
}

// The last lines of what QEMU said: its complaint, without the command line's noise.
std::string last_words(const std::string& log_file) {
    Result<std::string> text = read_file(log_file);
    if (!text || text->empty()) return "it said nothing";
    while (!text->empty() && text->back() == '\n') text->pop_back();
    return text->size() > 1000 ? text->substr(text->size() - 1000) : *text;
}

}  // namespace

Result<void> start_detached(const std::vector<std::string>& words, const std::string& log_file,
                            std::chrono::seconds deadline) {
    const std::string doing = "start " + words[0];
    Result<pid_t> pid = spawn(words, log_file);
    if (!pid) return std::unexpected(std::move(pid).error());
    if (!wait_for_end(*pid, deadline)) {
        ::kill(*pid, SIGKILL);
        waitpid(*pid, nullptr, 0);
        return fail(Fault::Retry, doing, "it did not come up in time: " + last_words(log_file),
                    "qemu-failed");
    }
    int status = 0;
    waitpid(*pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
    return fail(Fault::Lost, doing, last_words(log_file), "qemu-failed");
}

Result<std::string> qemu_version_of(const std::string& binary) {
    const std::string doing = "ask " + binary + " for its version";
    if (access(binary.c_str(), X_OK) != 0) return fail_errno(Fault::Rejected, doing);
    Descriptor output(memfd_create("godwit-version", 0));
    const std::string file = "/proc/self/fd/" + std::to_string(output.get());
    Result<pid_t> pid = spawn({binary, "--version"}, file);
    if (!pid) return std::unexpected(std::move(pid).error());
    waitpid(*pid, nullptr, 0);
    Result<std::string> text = read_file(file);
    if (!text) return text;
    // "QEMU emulator version 7.2.22 (Debian ...)"
    constexpr std::string_view kMark = "version ";
    const std::size_t at = text->find(kMark);
    if (at == std::string::npos)
        return fail(Fault::Rejected, doing,
                    "it does not answer like QEMU: " + text->substr(0, 100));
    const std::size_t begin = at + kMark.size();
    return text->substr(begin, text->find_first_of(" \n(", begin) - begin);
}

pid_t find_process(const std::string& pid_file, const std::string& mark) {
    Result<std::string> text = read_file(pid_file);
    if (!text) return 0;
    pid_t pid = 0;
    std::from_chars(text->data(), text->data() + text->size(), pid);
    if (pid <= 1) return 0;
    Result<std::string> words = read_file("/proc/" + std::to_string(pid) + "/cmdline");
    if (!words) return 0;
    std::istringstream each(*words);
    std::string word;
    while (std::getline(each, word, '\0'))
        if (word == mark) return pid;
    return 0;
}

bool wait_for_end(pid_t pid, milliseconds deadline) {
    Descriptor pidfd = open_pidfd(pid);
    if (!pidfd) return errno == ESRCH;
    pollfd waiting{pidfd.get(), POLLIN, 0};
    int ready = 0;
    const auto end = std::chrono::steady_clock::now() + deadline;
    do {
        const auto left =
            std::chrono::ceil<milliseconds>(end - std::chrono::steady_clock::now()).count();
        ready = poll(&waiting, 1, static_cast<int>(std::max<std::int64_t>(left, 0)));
    } while (ready < 0 && errno == EINTR);
    return ready == 1;
}

Result<void> kill_process(pid_t pid, milliseconds deadline) {
    Descriptor pidfd = open_pidfd(pid);
    if (!pidfd) return {};
    if (syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0) != 0 && errno != ESRCH)
        return fail_errno(Fault::Retry, "kill process " + std::to_string(pid));
    pollfd waiting{pidfd.get(), POLLIN, 0};
    if (poll(&waiting, 1, static_cast<int>(deadline.count())) == 1) return {};
    return fail(Fault::Retry, "kill process " + std::to_string(pid), "it is still there");
}

}  // namespace godwit::agent
